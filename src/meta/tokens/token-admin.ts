import { type CallOptions, PAGE_ITEMS_MAX, type Pages } from "../../domain/admin-call.ts";
import type {
  AuditApi,
  AuditEntry,
  TokenApi,
  TokenInfo,
  TokenRequest,
  TokenSelection,
} from "../../domain/admin-token.ts";
import { TidemarkError } from "../../domain/errors.ts";
import { type AppId, type InodeId, LIVE } from "../../domain/ids.ts";
import { isDirectory } from "../../domain/inode.ts";
import { joinNames, pathNames } from "../../domain/names.ts";
import { type AppRef, formatAppRef, formatSharePath, ID_PREFIX } from "../../domain/share-path.ts";
import {
  ID_PAIRS_MAX,
  type IdPair,
  TOKEN_LIFETIME_MS_MAX,
  TOKEN_LIFETIME_MS_MIN,
  TOKEN_OP_NAMES,
  type TokenId,
  type TokenIdentity,
  type TokenRights,
} from "../../domain/token.ts";
import type { Audit } from "../audit.ts";
import { contextOf } from "../catalogue-api.ts";
import type { EngineCore } from "../core.ts";
import { findShare } from "../reading/find-share.ts";
import { DEPTH_MAX, lookupPath, nameAt } from "../reading/paths.ts";
import type { MetadataService } from "../service.ts";
import { type ShareRow, sharesAt } from "../shares.ts";
import { rightsUnder } from "./rights-under.ts";
import type { TokenRow } from "./token-rows.ts";
import type { Tokens } from "./tokens.ts";

/** uid_t, less (uid_t)-1, which means "leave it". */
const NUMBER_MAX = 2 ** 32 - 2;

/** DNS's longest name. */
const NODE_CHARS_MAX = 253;

/** SHA-256 in base64url without padding. */
const THUMBPRINT = /^[A-Za-z0-9_-]{43}$/;

/** The administration of tokens, and the reading of the audit log. */
export class TokenAdmin implements TokenApi, AuditApi {
  readonly #service: MetadataService;
  readonly #tokens: Tokens;
  readonly #audit: Audit;

  constructor(service: MetadataService, { tokens, audit }: { readonly tokens: Tokens; readonly audit: Audit }) {
    this.#service = service;
    this.#tokens = tokens;
    this.#audit = audit;
  }

  async createToken(
    request: TokenRequest,
    options?: CallOptions,
  ): Promise<{ readonly token: string; readonly info: TokenInfo }> {
    const { lifetimeMs } = request;
    if (!(lifetimeMs >= TOKEN_LIFETIME_MS_MIN && lifetimeMs <= TOKEN_LIFETIME_MS_MAX)) {
      const message = `a token lives from ${TOKEN_LIFETIME_MS_MIN / 1000} s to ${TOKEN_LIFETIME_MS_MAX / 86_400_000} days`;
      throw new TidemarkError("INVALID_ARGUMENT", message);
    }
    const context = contextOf(options);
    const { token, row } = await this.#tokens.create(this.#rights(request), { lifetimeMs, context });
    return { token, info: this.#info(row) };
  }

  async *listTokens(request: { app?: AppRef; all: boolean }): Pages<TokenInfo> {
    const appId = request.app === undefined ? undefined : this.#service.catalogue.find(request.app).id;
    const rows = this.#tokens
      .list()
      .filter((row) => appId === undefined || row.claims.app === appId)
      .filter((row) => request.all || this.#tokens.stateOf(row) === "valid");
    for (let at = 0; at < rows.length; at += PAGE_ITEMS_MAX)
      yield rows.slice(at, at + PAGE_ITEMS_MAX).map((row) => this.#info(row));
  }

  async inspectToken({ token }: { token: string }): Promise<TokenInfo> {
    return this.#info(await this.#tokens.inspect(token));
  }

  async revokeTokens(selection: TokenSelection, options?: CallOptions): Promise<{ revoked: number; ended: number }> {
    const context = contextOf(options);
    switch (selection.kind) {
      case "id":
        return this.#tokens.revoke(this.#find(selection.id), context);
      case "app":
        return this.#tokens.revokeApp(this.#service.catalogue.find(selection.app).id, context);
      case "all":
        return this.#tokens.revokeAll(context);
    }
  }

  async rotateTokenKeys(
    request: { revokeOld: boolean },
    options?: CallOptions,
  ): Promise<{ keyId: string; revoked: number; ended: number }> {
    return this.#tokens.rotateKeys(request, contextOf(options));
  }

  async *listAudit(
    { app, ...request }: Parameters<AuditApi["listAudit"]>[0],
    options?: CallOptions,
  ): Pages<AuditEntry> {
    const appId = app === undefined ? undefined : this.#service.catalogue.find(app).id;
    for await (const page of this.#audit.list({ ...request, ...(appId === undefined ? {} : { appId }) }, options))
      yield page.map(({ appId: id, ...entry }) => ({ ...entry, ...this.#appOf(id) }));
  }

  #appOf(id: AppId | undefined): Pick<AuditEntry, "app"> {
    const row = id === undefined ? undefined : this.#service.catalogue.app(id);
    return row === undefined ? {} : { app: { id: row.id, namespace: row.namespace, name: row.name } };
  }

  /** What a request means, in ids. Throws NOT_FOUND, INVALID_ARGUMENT. */
  #rights(request: TokenRequest): TokenRights {
    const { node, certificateThumbprint, identity } = request;
    checkIdentity(identity);
    const ops = TOKEN_OP_NAMES.filter((op) => request.ops.includes(op));
    if (ops.length === 0)
      throw new TidemarkError(
        "INVALID_ARGUMENT",
        `a token allows something: one or more of ${TOKEN_OP_NAMES.join(", ")}`,
      );
    if (node !== undefined && (node === "" || node.length > NODE_CHARS_MAX))
      throw new TidemarkError("INVALID_ARGUMENT", `a node's name has 1 to ${NODE_CHARS_MAX} characters`);
    if (certificateThumbprint !== undefined && !THUMBPRINT.test(certificateThumbprint)) {
      const message = "a certificate is named by its SHA-256 in base64url: 43 characters";
      throw new TidemarkError("INVALID_ARGUMENT", message);
    }
    const rights: TokenRights = {
      ...this.#place(request),
      ops,
      identity,
      ...(node === undefined ? {} : { node }),
      ...(certificateThumbprint === undefined ? {} : { certificateThumbprint }),
    };
    return request.parent === undefined ? rights : this.#under(request.parent, rights);
  }

  #under(parent: TokenId, rights: TokenRights): TokenRights {
    const row = this.#tokens.row(parent);
    if (row === undefined) throw new TidemarkError("NOT_FOUND", "the token to make it under is not known any more");
    return rightsUnder(row.claims, rights);
  }

  #place({ app: ref, share: shareRef, path }: TokenRequest): Pick<TokenRights, "appId" | "shareId" | "root"> {
    const row = this.#service.catalogue.find(ref);
    if (row.deletedAt !== undefined)
      throw new TidemarkError("NOT_FOUND", `app "${formatAppRef(ref)}" is deleted: undelete it first`);
    const { core } = this.#service.find(ref);
    if (shareRef === undefined) {
      if (path.length > 0) throw new TidemarkError("INVALID_ARGUMENT", "a directory is one of a share: name that, too");
      return { appId: row.id };
    }
    const share = findShare(core, shareRef);
    if (share.deletedAt !== undefined)
      throw new TidemarkError("NOT_FOUND", `share "${share.name}" is deleted: undelete it first`);
    if (path.length === 0) return { appId: row.id, shareId: share.id };
    const inode = lookupPath(core, share.root, pathNames(path), LIVE);
    const place = formatSharePath({ app: ref, share: shareRef, path });
    if (inode === undefined) throw new TidemarkError("NOT_FOUND", `there is nothing at "${place}"`);
    if (!isDirectory(inode.mode)) {
      const message = `"${place}" is no directory: a token is for a directory with all that is below it`;
      throw new TidemarkError("INVALID_ARGUMENT", message);
    }
    return { appId: row.id, shareId: share.id, root: inode.ino };
  }

  #find(id: string): TokenRow {
    const found = ID_PREFIX.test(id) ? this.#tokens.list().filter((row) => row.claims.jti.startsWith(id)) : [];
    const [first, second] = found;
    if (first === undefined)
      throw new TidemarkError("NOT_FOUND", `there is no token "${id}": \`tidemark token list\` shows their ids`);
    if (second === undefined) return first;
    throw new TidemarkError("INVALID_ARGUMENT", `"${id}" means several tokens: give more digits of the id`);
  }

  #info(row: TokenRow): TokenInfo {
    const { claims, issuedAt } = row;
    const app = this.#service.get(claims.app);
    const shares = app === undefined ? [] : sharesAt(app.core, app.core.lastLsn);
    const share = shares.find(({ id }) => id === claims.shr);
    const thumbprint = claims.cnf?.["x5t#S256"];
    return {
      id: claims.jti,
      app: this.#appOf(claims.app).app ?? { id: claims.app, namespace: "", name: "" },
      ...(share === undefined ? {} : { share: { id: share.id, name: share.name } }),
      ...(claims.root === undefined || app === undefined ? {} : placeNow(app.core, share, claims.root)),
      ops: claims.ops,
      identity: claims.idm,
      issuedAt,
      expiresAt: { sec: claims.exp, nsec: 0 },
      state: this.#tokens.stateOf(row),
      sessionCount: this.#tokens.sessionCount(claims.jti),
      ...(claims.node === undefined ? {} : { node: claims.node }),
      ...(claims.par === undefined ? {} : { parent: claims.par }),
      ...(thumbprint === undefined ? {} : { certificateThumbprint: thumbprint }),
    };
  }
}

/** Where the directory of a token is now. */
function placeNow(core: EngineCore, share: ShareRow | undefined, root: InodeId): Pick<TokenInfo, "path" | "isGone"> {
  const names: Buffer[] = [];
  for (let ino = root; names.length < DEPTH_MAX; ) {
    if (ino === share?.root) return { path: joinNames(names.reverse()) };
    const name = nameAt(core, ino, core.lastLsn);
    if (name === undefined) break;
    names.push(name.name);
    ino = name.parent;
  }
  return { path: Buffer.alloc(0), isGone: true };
}

function checkIdentity(identity: TokenIdentity): void {
  switch (identity.kind) {
    case "claimed":
      return;
    case "all":
      for (const id of [identity.uid, identity.gid]) checkNumber(id);
      return;
    case "list":
      checkPairs("users", identity.uids);
      checkPairs("groups", identity.gids);
  }
}

function checkPairs(what: string, pairs: readonly IdPair[]): void {
  if (pairs.length > ID_PAIRS_MAX)
    throw new TidemarkError("INVALID_ARGUMENT", `${pairs.length} ${what} are mapped: at most ${ID_PAIRS_MAX}`);
  for (const { there, here } of pairs) for (const id of [there, here]) checkNumber(id);
  if (new Set(pairs.map(({ there }) => there)).size < pairs.length)
    throw new TidemarkError("INVALID_ARGUMENT", `one of the ${what} is mapped twice`);
}

function checkNumber(id: number): void {
  if (!Number.isInteger(id) || id < 0 || id > NUMBER_MAX)
    throw new TidemarkError("INVALID_ARGUMENT", `${id} is no number of a user or group: expected 0 to ${NUMBER_MAX}`);
}
