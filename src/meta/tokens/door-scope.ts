import type { AdminApi } from "../../domain/admin-api.ts";
import type { ReadRequestAt } from "../../domain/admin-reading.ts";
import type { RestoreInfo, RestoreRequest } from "../../domain/admin-restore.ts";
import type { TokenRequest, TokenSelection } from "../../domain/admin-token.ts";
import { TidemarkError } from "../../domain/errors.ts";
import type { AppId, InodeId, MountId, ShareId } from "../../domain/ids.ts";
import { type AppRef, formatAppRef, type SharePath } from "../../domain/share-path.ts";
import type { TokenIdentity } from "../../domain/token.ts";
import type { TokenDoor } from "../../domain/token-doors.ts";
import type { OpenApp } from "../open-app.ts";
import { findShare } from "../reading/find-share.ts";
import type { MetadataService } from "../service.ts";
import type { ShareRow } from "../shares.ts";
import { Subtree } from "./subtree.ts";
import { refusal } from "./token-jws.ts";
import type { CallGrant } from "./tokens.ts";
import { OTHER_SHARE, orRefuse } from "./whose.ts";

/** A call as it may be carried out, and what may be told of its answer, or of each page of it. */
export type Narrowed = { readonly request: unknown; readonly shown: (answer: unknown) => unknown };

type Held = CallGrant & {
  readonly app: OpenApp;
  /** The app by its id: names may be given to others meanwhile. */
  readonly ref: AppRef;
};

/** Restores that are looked through for those of a token. */
const RESTORES_LOOKED_AT = 1_000;

/** No kernel asks. */
const NO_MOUNT = 0 as MountId;

/** What a token is for, compared with what a call is about. */
export class DoorScope {
  readonly #api: AdminApi;
  readonly #service: Pick<MetadataService, "find" | "nameOf">;

  constructor(parts: { readonly api: AdminApi; readonly service: Pick<MetadataService, "find" | "nameOf"> }) {
    this.#api = parts.api;
    this.#service = parts.service;
  }

  /** Throws PERMISSION_DENIED, with its reason in `data`; NOT_FOUND. */
  async narrow(
    door: TokenDoor,
    { request, called, app }: { readonly request: object; readonly called: CallGrant; readonly app: OpenApp },
  ): Promise<Narrowed> {
    const held: Held = { ...called, app, ref: { ...this.#service.nameOf(app.id), id: app.id } };
    const own = this.#withOwnApp(door, request, held);
    switch (door.subject) {
      case "listed":
        return { request: own, shown: (answer) => listed(door.call, answer, held) };
      case "app":
        requireWholeApp(held);
        return { request: await this.#administered(door.call, own, held), shown: whole };
      case "share":
        requireOwnUsers(held);
        return { request: await this.#ofShare(own, held), shown: whole };
      case "place":
        requireOwnUsers(held);
        return { request: await this.#ofPlace(door, own as PlaceRequest, held), shown: whole };
    }
  }

  /** The request, about the token's app. One that names another is refused; whether there is such an app is not told. */
  #withOwnApp({ call }: TokenDoor, request: object, { app, ref }: Held): object {
    const { app: named, path, source } = request as { app?: AppRef; path?: unknown; source?: SharePath };
    for (const each of [named, isSharePath(path) ? path.app : undefined, source?.app]) {
      if (each !== undefined) this.#requireOwn(each, ref, app);
    }
    if (isSharePath(path)) return { ...request, path: { ...path, app: ref } };
    if (source !== undefined) return { ...request, source: { ...source, app: ref } };
    return call === "catalogue.listApps" ? request : { ...request, app: ref };
  }

  #requireOwn(named: AppRef, ref: AppRef, app: OpenApp): void {
    const why = `it is for the app ${formatAppRef({ namespace: ref.namespace, name: ref.name })}`;
    if (orRefuse(() => this.#service.find(named), why).id !== app.id) throw refusal(why);
  }

  async #administered(call: string, request: object, { ref, grant }: Held): Promise<object> {
    if (call === "tokens.createToken") return { ...(request as TokenRequest), parent: grant.id };
    if (call !== "tokens.revokeTokens") return request;
    const selection = request as TokenSelection;
    if (selection.kind === "app") return selection;
    if (selection.kind === "all") throw refusal("it is for one app, and all tokens are more than that");
    for await (const page of this.#api.tokens.listTokens({ app: ref, all: true })) {
      const found = page.filter(({ id }) => id.startsWith(selection.id));
      if (found.length > 0) return { kind: "id", id: found.length === 1 ? found[0]?.id : selection.id };
    }
    throw new TidemarkError("NOT_FOUND", `the app has no token "${selection.id}"`);
  }

  async #ofShare(request: object, held: Held): Promise<object> {
    if (!("kind" in request)) {
      const { path } = request as { path: SharePath };
      return { ...request, path: wholeShare(path, held) };
    }
    const restore = request as RestoreRequest;
    if (restore.kind === "undo") return { ...restore, ...(await this.#undone(restore, held)) };
    const { source, target } = restore;
    if (target === undefined) return { ...restore, source: wholeShare(source, held) };
    this.#requireOwn(target.app, held.ref, held.app);
    return { ...restore, source: wholeShare(source, held), target: wholeShare(target, held) };
  }

  /** With a token for one share: what was restored under that token, and nothing else of the app. */
  async #undone(
    { restoreId }: Extract<RestoreRequest, { kind: "undo" }>,
    held: Held,
  ): Promise<{ readonly restoreId?: string }> {
    const { claims, ref } = held;
    if (claims.shr === undefined) return restoreId === undefined ? {} : { restoreId };
    const all = await this.#api.restores.listRestores({ app: ref, countMax: RESTORES_LOOKED_AT });
    const found = ownRestores(all, held).find(({ id, state }) =>
      restoreId === undefined ? state !== "undone" && state !== "running" : id === restoreId,
    );
    if (found === undefined) throw refusal("it is for one share, and undoes only what was restored under it");
    return { restoreId: found.id };
  }

  async #ofPlace(door: TokenDoor, request: PlaceRequest, held: Held): Promise<object> {
    const { path, share } = ownShare(request.path, held);
    if (door.past && request.at !== undefined && request.at.kind !== "now" && !held.grant.has("history"))
      throw refusal("the past takes history");
    if (share === undefined) return { ...request, path };
    const root = held.claims.root ?? share.root;
    // The feed finds out by itself what is below a directory, for each record.
    if (request.at === undefined) return { ...request, path, within: root };
    if (root === share.root) return { ...request, path };
    return { ...request, path, at: await this.#inside({ path, at: request.at }, root, held.app) };
  }

  /** D2: the moment at which the place is inside. What is outside is not there, whether there is something or not. */
  async #inside(request: ReadRequestAt, root: InodeId, { core }: OpenApp): Promise<ReadRequestAt["at"]> {
    const found = await this.#api.reading.resolve(request).catch((error: unknown) => {
      if (error instanceof TidemarkError && error.code === "NOT_FOUND") return undefined;
      throw error;
    });
    const subtree = new Subtree(core, { root, mount: NO_MOUNT });
    try {
      if (found !== undefined && subtree.has(found.ino, found.at.lsn)) return { kind: "lsn", lsn: found.at.lsn };
    } finally {
      subtree.close();
    }
    throw new TidemarkError("NOT_FOUND", "the directory of the token has no such place at that moment");
  }
}

/** Requests of reading, which name a moment, and of the change feed, which do not. */
type PlaceRequest = { readonly path: SharePath; readonly at?: ReadRequestAt["at"] };

/** A path that a request is about; of the request for a token `path` is that of a directory. */
function isSharePath(path: unknown): path is SharePath {
  return typeof path === "object" && path !== null && "app" in path;
}

const whole = (answer: unknown): unknown => answer;

/** Of a list of several things, those that the token is for. */
function listed(call: string, answer: unknown, held: Held): unknown {
  const { app, claims } = held;
  switch (call) {
    case "catalogue.listApps":
      return (answer as { id: AppId }[]).filter(({ id }) => id === app.id);
    case "catalogue.listShares":
      return (answer as { id: ShareId }[]).filter(({ id }) => claims.shr === undefined || id === claims.shr);
    case "restores.listRestores":
      return claims.shr === undefined ? answer : ownRestores(answer as readonly RestoreInfo[], held);
    default:
      return answer;
  }
}

function ownRestores(all: readonly RestoreInfo[], { grant }: Held): readonly RestoreInfo[] {
  return all.filter(({ actor }) => actor.label === `token ${grant.id}`);
}

function requireWholeApp({ claims }: Held): void {
  if (claims.shr !== undefined) throw refusal("it is for one share, and this takes the whole app");
}

/** Here nothing looks at modes and access lists, as a mount does: who is held to them, is held to a mount. */
function requireOwnUsers({ claims }: Held): void {
  if (!isUnmapped(claims.idm))
    throw refusal("its users are mapped to others, and what those may see and change is decided on mounts only");
}

function isUnmapped(identity: TokenIdentity): boolean {
  return identity.kind === "all" ? identity.uid === 0 : identity.kind === "claimed" && !identity.squashRoot;
}

/** The path as the token's share has it. Without a share: of the whole app. */
function ownShare(path: SharePath, held: Held): { readonly path: SharePath; readonly share?: ShareRow } {
  const { claims, ref, app } = held;
  const { share: named } = path;
  if (named === undefined) requireWholeApp(held);
  if (named === undefined || claims.shr === undefined) return { path: { ...path, app: ref } };
  const share = orRefuse(() => findShare(app.core, named), OTHER_SHARE);
  if (share.id !== claims.shr) throw refusal(OTHER_SHARE);
  return { path: { app: ref, share: { name: share.name, id: share.id }, path: path.path }, share };
}

function wholeShare(wanted: SharePath, held: Held): SharePath {
  const { path, share } = ownShare(wanted, held);
  const { root } = held.claims;
  if (share !== undefined && root !== undefined && root !== share.root)
    throw refusal("it is for one directory, and this takes the whole share");
  return path;
}
