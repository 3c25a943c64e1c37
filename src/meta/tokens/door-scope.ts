import type { AdminApi } from "../../domain/admin-api.ts";
import type { ReadRequestAt } from "../../domain/admin-reading.ts";
import type { RestoreInfo, RestoreRequest } from "../../domain/admin-restore.ts";
import type { TokenRequest, TokenSelection } from "../../domain/admin-token.ts";
import { TidemarkError } from "../../domain/errors.ts";
import type { AppId, InodeId, MountId, ShareId } from "../../domain/ids.ts";
import { joinNames, pathNames } from "../../domain/names.ts";
import { type AppRef, formatAppRef, ID_PREFIX, type SharePath } from "../../domain/share-path.ts";
import type { TokenId, TokenIdentity } from "../../domain/token.ts";
import type { TokenDoor } from "../../domain/token-doors.ts";
import type { OpenApp } from "../open-app.ts";
import { findShare } from "../reading/find-share.ts";
import type { MetadataService } from "../service.ts";
import type { ShareRow } from "../shares.ts";
import { Subtree } from "./subtree.ts";
import { refusal } from "./token-jws.ts";
import type { CallGrant, Tokens } from "./tokens.ts";
import { OTHER_SHARE, orRefuse } from "./whose.ts";

/** A call as it may be carried out, and what may be told of its answer, or of each page of it. */
export type Narrowed = { readonly request: unknown; readonly shown: (answer: unknown) => unknown };

type Held = CallGrant & {
  readonly app: OpenApp;
  readonly isDeleted: boolean;
  /** The app by its id: names may be given to others meanwhile. */
  readonly ref: AppRef;
};

/** Restores that are looked through for those of a token. */
const RESTORES_LOOKED_AT = 1_000;

/** No kernel asks. */
const NO_MOUNT = 0 as MountId;

export type DoorScopeParts = {
  readonly api: AdminApi;
  readonly service: Pick<MetadataService, "find" | "nameOf" | "isDeleted">;
  readonly tokens: Pick<Tokens, "list">;
};

/** What a token is for, compared with what a call is about. */
export class DoorScope {
  readonly #api: AdminApi;
  readonly #service: DoorScopeParts["service"];
  readonly #tokens: DoorScopeParts["tokens"];

  constructor(parts: DoorScopeParts) {
    this.#api = parts.api;
    this.#service = parts.service;
    this.#tokens = parts.tokens;
  }

  /** Throws PERMISSION_DENIED, with its reason in `data`; NOT_FOUND. */
  async narrow(
    door: TokenDoor,
    { request, called, app }: { readonly request: object; readonly called: CallGrant; readonly app: OpenApp },
  ): Promise<Narrowed> {
    const isDeleted = this.#service.isDeleted(app.id);
    const held: Held = { ...called, app, isDeleted, ref: { ...this.#service.nameOf(app.id), id: app.id } };
    const own = this.#withOwnApp(door, request, held);
    if (isDeleted && CHANGING.test(door.call)) throw gone("app");
    switch (door.subject) {
      case "listed":
        return { request: own, shown: (answer) => listed(door.call, answer, held) };
      case "app":
        requireWholeApp(held);
        return { request: await this.#administered(door.call, { own, held, request }), shown: whole };
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

  /** What an admin of one app may do with that app alone: names, repositories and tokens of others are none of its business. */
  async #administered(
    call: string,
    { own, held, request }: { readonly own: object; readonly held: Held; readonly request: object },
  ): Promise<object> {
    const { grant } = held;
    switch (call) {
      case "tokens.createToken":
        return { ...(own as TokenRequest), parent: grant.id };
      case "tokens.revokeTokens":
        return { kind: "id", id: this.#madeUnder(grant.id, request as TokenSelection) };
      case "catalogue.updateApp":
        if ("name" in own) throw refusal("it is for the app as it is called, and its name is for root to change");
        return own;
      case "backups.enableBackup":
        await this.#requireOwnRepository((own as { repository: string }).repository, held.ref);
        return own;
      default:
        return own;
    }
  }

  /** The token itself, or one that was made with it, by the beginning of its id. */
  #madeUnder(id: TokenId, selection: TokenSelection): TokenId {
    if (selection.kind !== "id") throw refusal("it takes back only itself and what was made with it, by its id");
    const own = this.#tokens.list().filter(({ claims }) => claims.jti === id || claims.par === id);
    const found = own.filter(({ claims }) => claims.jti.startsWith(selection.id));
    const [first, second] = ID_PREFIX.test(selection.id) ? found : [];
    if (first === undefined || second !== undefined)
      throw refusal(`no one token that was made with it has an id that begins with "${selection.id}"`);
    return first.claims.jti;
  }

  async #requireOwnRepository(repository: string, app: AppRef): Promise<void> {
    for await (const page of this.#api.backups.backupStatus({ app }))
      if (page.some((status) => status.repository === repository)) return;
    throw refusal("to which repository an app goes is for root to say");
  }

  async #ofShare(request: object, held: Held): Promise<object> {
    if (!("kind" in request)) {
      const { path } = request as { path: SharePath };
      return { ...request, path: wholeShare(path, held).path };
    }
    const restore = request as RestoreRequest;
    if (restore.kind === "undo") return { ...restore, ...(await this.#undone(restore, held)) };
    const { source, target } = restore;
    const from = wholeShare(source, held);
    requireAlive(from, held);
    if (target === undefined) return { ...restore, source: from.path };
    this.#requireOwn(target.app, held.ref, held.app);
    const to = wholeShare(target, held);
    requireAlive(to, held);
    return { ...restore, source: from.path, target: to.path };
  }

  /** With a token for one share: what was restored under that token, and nothing else of the app. */
  async #undone(
    { restoreId }: Extract<RestoreRequest, { kind: "undo" }>,
    held: Held,
  ): Promise<{ readonly restoreId?: string }> {
    const { claims, ref } = held;
    const all = await this.#api.restores.listRestores({ app: ref, countMax: RESTORES_LOOKED_AT });
    const own = claims.shr === undefined ? all : ownRestores(all, held);
    const found = own.find(({ id, state }) =>
      restoreId === undefined ? state !== "undone" && state !== "running" : id === restoreId,
    );
    if (found === undefined && claims.shr !== undefined)
      throw refusal("it is for one share, and undoes only what was restored under it");
    if (found?.path.share === undefined) requireAdmin(held);
    return found === undefined ? { ...(restoreId === undefined ? {} : { restoreId }) } : { restoreId: found.id };
  }

  async #ofPlace(door: TokenDoor, request: PlaceRequest, held: Held): Promise<object> {
    const { path, share } = ownShare(request.path, held);
    // What was deleted is only in the past.
    const isPast = request.at?.kind !== "now" || held.isDeleted || share?.deletedAt !== undefined;
    if (door.past && isPast && !held.grant.has("history")) throw refusal("the past takes history");
    if (share === undefined || held.claims.shr === undefined) return { ...request, path };
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
      if (found !== undefined) {
        const { lsn } = found.at;
        // A name that is outside is not told, also of a file that has another one inside: on a mount it can't be looked up either.
        const names = pathNames(request.path.path);
        const above = { ...request.path, path: joinNames(names.slice(0, -1)) };
        const at = { kind: "lsn", lsn } as const;
        const isRoot = found.ino === root || names.length === 0;
        const holder = isRoot ? found : await this.#api.reading.resolve({ path: above, at });
        if (subtree.has(holder.ino, lsn) && subtree.has(found.ino, lsn)) return at;
      }
    } finally {
      subtree.close();
    }
    const why = "the directory of the token has no such place at that moment";
    throw new TidemarkError("NOT_FOUND", why, { data: { reason: why } });
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

/** What makes or changes something. Whether a share is deleted is looked at where it is known. */
const CHANGING =
  /^(restores\.(plan|execute)|snapshots\.createSnapshot|catalogue\.(update|create|delete|undelete)|backups\.enable|retention\.(set|clear)|tokens\.create)/;

function gone(what: "app" | "share"): TidemarkError {
  return new TidemarkError("FAILED_PRECONDITION", `the ${what} is deleted: root undeletes it first`);
}

function requireAdmin({ grant }: Held): void {
  if (!grant.has("admin"))
    throw refusal("a whole app is put back with its shares, those that are deleted since, too: that takes admin");
}

/** A restore would bring it back. */
function requireAlive({ share }: OwnShare, held: Held): void {
  if (share === undefined) requireAdmin(held);
  else if (share.deletedAt !== undefined) throw gone("share");
}

type OwnShare = { readonly path: SharePath; readonly share?: ShareRow };

/** The path as the token's share has it, by ids. Without a share: of the whole app. */
function ownShare(path: SharePath, held: Held): OwnShare {
  const { claims, ref, app } = held;
  const { share: named } = path;
  if (named === undefined) {
    requireWholeApp(held);
    return { path: { ...path, app: ref } };
  }
  const find = (): ShareRow => findShare(app.core, named);
  const share = claims.shr === undefined ? find() : orRefuse(find, OTHER_SHARE);
  if (claims.shr !== undefined && share.id !== claims.shr) throw refusal(OTHER_SHARE);
  return { path: { app: ref, share: { name: share.name, id: share.id }, path: path.path }, share };
}

function wholeShare(wanted: SharePath, held: Held): OwnShare {
  const own = ownShare(wanted, held);
  const { root } = held.claims;
  if (own.share !== undefined && root !== undefined && root !== own.share.root)
    throw refusal("it is for one directory, and this takes the whole share");
  return own;
}
