import type { JWTPayload } from "jose";
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import type { Timers } from "../../base/timers.ts";
import { TidemarkError } from "../../domain/errors.ts";
import type { AppId, InodeId, ShareId } from "../../domain/ids.ts";
import type { RequestContext } from "../../domain/metadata-api.ts";
import type { Peer } from "../../domain/session-api.ts";
import { TOKEN_AUDIENCE, type TokenId, type TokenRights, type TokenState } from "../../domain/token.ts";
import type { Audit } from "../audit.ts";
import type { EngineCore } from "../core.ts";
import { SERVICE_CONTEXT } from "../open-app.ts";
import { TokenBook } from "./token-book.ts";
import { expiredAt, TokenGrant, utcText } from "./token-grant.ts";
import { refusal, signToken, verifyToken } from "./token-jws.ts";
import { TokenKeys } from "./token-keys.ts";
import type { TokenClaims, TokenRow } from "./token-rows.ts";
import { OTHER_APP, OTHER_SHARE, orRefuse } from "./whose.ts";

/** How often open grants are looked at, whether their token has expired: what asks for nothing is told within this. */
const SWEEP_MS = 1_000;

/** What a token is exchanged for, and by whom. */
export type Exchange = {
  readonly appId: AppId;
  readonly shareId: ShareId;
  /** The root of the share. */
  readonly shareRoot: InodeId;
  readonly peer: Peer;
};

/** A token that one call came with: the grant ends with the call. */
export type CallGrant = { readonly grant: TokenGrant; readonly claims: TokenClaims };

/** A token that was made under another makes none. */
const LINEAGE_MAX = 2;

/** Tokens made under one that have not expired: all tokens of a service have room together (`TokenBook`). */
const CHILDREN_MAX = 1_000;

/** Of a call under a token for a whole app: it names its share itself, if it is about one. */
const NO_SHARE = "" as ShareId;
const NO_ROOT = 0 as InodeId;

export type TokensParts = {
  /** The core of the system app. */
  readonly core: EngineCore;
  readonly dataFolder: string;
  /** The id of the data folder: who issues. */
  readonly serviceId: string;
  readonly newId: () => string;
  readonly audit: Audit;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
};

/**
 * The tokens of a service: made, verified once for each session, taken back.
 *
 * T1  A token is good only if this service signed it, its row says the same, and it is neither expired nor revoked. Whatever can't be decided is refused.
 * T2  Revoking ends every grant of what is revoked in the turn of its record: a request that comes after it is refused.
 */
export class Tokens {
  readonly #parts: TokensParts;
  readonly #keys: TokenKeys;
  readonly #book: TokenBook;
  readonly #grants = new Set<TokenGrant>();
  #stopSweep: () => void;

  private constructor(parts: TokensParts, keys: TokenKeys) {
    this.#parts = parts;
    this.#keys = keys;
    this.#book = new TokenBook(parts.core);
    this.#stopSweep = parts.timers.after(SWEEP_MS, () => this.#sweep());
  }

  static async open(parts: TokensParts): Promise<Tokens> {
    return new Tokens(parts, await TokenKeys.open(parts));
  }

  close(): void {
    this.#stopSweep();
  }

  /** Makes a token of these rights, which the caller has checked. Durable when it resolves. Throws FAILED_PRECONDITION when there are too many. */
  async create(
    rights: TokenRights,
    { lifetimeMs, context = SERVICE_CONTEXT }: { readonly lifetimeMs: number; readonly context?: RequestContext },
  ): Promise<{ readonly token: string; readonly row: TokenRow }> {
    const { core, serviceId, newId, clock } = this.#parts;
    const key = await this.#keys.signing();
    this.#book.makeRoom(context);
    const now = clock.now();
    const { appId, shareId, root, ops, identity, node, certificateThumbprint, parent } = rights;
    const claims: TokenClaims = {
      iss: serviceId,
      aud: TOKEN_AUDIENCE,
      jti: newId() as TokenId,
      iat: now.sec,
      nbf: now.sec,
      exp: Math.ceil(now.sec + now.nsec / 1e9 + lifetimeMs / 1000),
      app: appId,
      ...(shareId === undefined ? {} : { shr: shareId }),
      ...(root === undefined ? {} : { root }),
      ops,
      idm: identity,
      ...this.#book.epochs(appId),
      ...(node === undefined ? {} : { node }),
      ...(certificateThumbprint === undefined ? {} : { cnf: { "x5t#S256": certificateThumbprint } }),
      ...(parent === undefined ? {} : { par: parent }),
    };
    this.#checkParent(claims);
    const row: TokenRow = { claims, keyId: key.id, issuedAt: now };
    const token = await signToken(claims, key);
    this.#book.put(row, context);
    await core.journal.sync(core.lastLsn);
    return { token, row };
  }

  /**
   * Verifies a token for a session or mount of a share. Throws PERMISSION_DENIED, which says why, and is in the audit log. The grant is to be released when the session ends.
   */
  async exchange(token: string, exchange: Exchange): Promise<TokenGrant> {
    try {
      const { row } = await this.#verify(token);
      return this.#grant(row, exchange);
    } catch (error) {
      if (error instanceof TidemarkError) this.#refused(error, exchange);
      throw error;
    }
  }

  /**
   * As `exchange`, for an app and a share that are asked for by name. The token is looked at first, and whether there is an app or share that it is not for is not told: who has no token for
   * them can't find out what there is. Throws as `exchange`, NOT_FOUND.
   */
  async exchangeNamed<A extends { readonly id: AppId }, S extends { readonly id: ShareId; readonly root: InodeId }>(
    token: string,
    { peer, findApp, findShare }: { readonly peer: Peer; readonly findApp: () => A; readonly findShare: (app: A) => S },
  ): Promise<{ readonly grant: TokenGrant; readonly app: A; readonly share: S }> {
    let appId: AppId | undefined;
    try {
      const { row } = await this.#verify(token);
      const { claims } = row;
      const app = orRefuse(findApp, OTHER_APP);
      appId = app.id;
      if (claims.app !== app.id) throw refusal(OTHER_APP);
      const share = claims.shr === undefined ? findShare(app) : orRefuse(() => findShare(app), OTHER_SHARE);
      const exchange = { appId, shareId: share.id, shareRoot: share.root, peer };
      return { grant: this.#grant(row, exchange), app, share };
    } catch (error) {
      if (error instanceof TidemarkError && error.code === "PERMISSION_DENIED") this.#refused(error, { appId, peer });
      throw error;
    }
  }

  /** As `exchange`, for one call of the admin API: it is for the app that the token says, and what of it is asked for the caller compares. Throws PERMISSION_DENIED. */
  async exchangeForCall(token: string, { peer }: { readonly peer: Peer }): Promise<CallGrant> {
    let appId: AppId | undefined;
    try {
      const { row } = await this.#verify(token);
      const { claims } = row;
      appId = claims.app;
      const place = { shareId: claims.shr ?? NO_SHARE, shareRoot: claims.root ?? NO_ROOT };
      return { grant: this.#grant(row, { appId, ...place, peer }), claims };
    } catch (error) {
      if (error instanceof TidemarkError) this.#refused(error, { appId, peer });
      throw error;
    }
  }

  /** Goes on with a session or mount that was granted before, in this process or one before it, by the token's id. Throws as `exchange`. */
  resume(id: TokenId, exchange: Exchange): TokenGrant {
    try {
      return this.#grant(this.#known(id), exchange);
    } catch (error) {
      if (error instanceof TidemarkError) this.#refused(error, exchange);
      throw error;
    }
  }

  /** As `resume`, for a mount that lives on whatever became of its token: then under a grant that has ended, and allows nothing. */
  goOn(id: TokenId, exchange: Exchange): TokenGrant {
    try {
      return this.resume(id, exchange);
    } catch (error) {
      if (!(error instanceof TidemarkError)) throw error;
      const { appId, shareId, shareRoot } = exchange;
      const claims = this.#book.find(id)?.claims;
      const grant = new TokenGrant({
        ...{ id, keyId: "", appId, shareId, root: claims?.root ?? shareRoot, wholeShare: claims?.root === undefined },
        ops: claims?.ops ?? [],
        identity: claims?.idm ?? { kind: "claimed", squashRoot: true },
        expiresAtSec: 0,
        clock: this.#parts.clock,
        onRelease: () => {},
      });
      grant.end(String(error.data["reason"] ?? error.message));
      return grant;
    }
  }

  /** What a token is that this service made, good or not. Throws PERMISSION_DENIED. */
  async inspect(token: string): Promise<TokenRow> {
    return (await this.#verify(token, { acceptExpired: true })).row;
  }

  /** Tokens that are known, newest first. */
  list(): TokenRow[] {
    return this.#book.list();
  }

  /** A token that was made under another is good as long as that is. */
  stateOf(row: TokenRow): TokenState {
    const lineage = this.#lineage(row.claims.jti);
    for (const each of lineage) {
      if (this.#book.isRevoked(each)) return "revoked";
      if (this.#keys.find(each.keyId)?.row.revokedAt !== undefined) return "key-revoked";
      if (each.claims.exp <= this.#parts.clock.now().sec) return "expired";
    }
    // T1: one above is not known any more: what is forgotten had expired, or was revoked.
    return lineage.at(-1)?.claims.par === undefined ? "valid" : "expired";
  }

  /** The token itself, or the first of those under which it was made. */
  eldest(id: TokenId): TokenId {
    return this.#lineage(id).at(-1)?.claims.jti ?? id;
  }

  /** The row of a token that is known. */
  row(id: TokenId): TokenRow | undefined {
    return this.#book.find(id);
  }

  /** Open sessions and mounts of a token. */
  sessionCount(id: TokenId): number {
    let count = 0;
    for (const grant of this.#grants) if (grant.id === id) count++;
    return count;
  }

  /** Takes one token back, and those that were made under it. The record is durable when it resolves, its effect is there at once. */
  async revoke(row: TokenRow, context: RequestContext): Promise<Revoked> {
    const { jti } = row.claims;
    const isUnder = (id: TokenId): boolean => this.#lineage(id).some(({ claims }) => claims.jti === jti);
    const revoked = this.#countValid(({ claims }) => isUnder(claims.jti));
    if (row.revokedAt === undefined) this.#book.put({ ...row, revokedAt: this.#parts.clock.now() }, context);
    return this.#ended({ revoked, reason: "it was revoked", matches: ({ id }) => isUnder(id) });
  }

  /** Takes all tokens of an app back that there are now. */
  async revokeApp(appId: AppId, context: RequestContext): Promise<Revoked> {
    const revoked = this.#countValid((row) => row.claims.app === appId);
    this.#book.raiseApp(appId, context);
    return this.#ended({
      revoked,
      reason: "all tokens of its app were revoked",
      matches: (grant) => grant.appId === appId,
    });
  }

  /** Takes all tokens back that there are now. */
  async revokeAll(context: RequestContext): Promise<Revoked> {
    const revoked = this.#countValid(() => true);
    this.#book.raiseAll(context);
    return this.#ended({ revoked, reason: "all tokens were revoked", matches: () => true });
  }

  /** See `TokenKeys.rotate`. */
  async rotateKeys(
    options: { readonly revokeOld: boolean },
    context: RequestContext,
  ): Promise<Revoked & { readonly keyId: string }> {
    const valid = this.list().filter((row) => this.stateOf(row) === "valid");
    const rotated = this.#keys.rotate(options, context);
    // What was to be revoked ends even if a new key can't be made.
    const { id, revoked } = await rotated.catch(async (error: unknown) => {
      await this.#endKeys(valid.map((row) => row.keyId));
      throw error;
    });
    const count = valid.filter((row) => revoked.includes(row.keyId)).length;
    const { ended } = await this.#endKeys(revoked);
    return { keyId: id, revoked: count, ended };
  }

  /** The token, and those under which it was made. One outlives none of them (`#checkParent`), so what is forgotten had expired with all that were made under it. */
  #lineage(id: TokenId): TokenRow[] {
    const rows: TokenRow[] = [];
    for (let next: TokenId | undefined = id; next !== undefined && rows.length <= LINEAGE_MAX; ) {
      const row = this.#book.find(next);
      if (row === undefined) break;
      rows.push(row);
      next = row.claims.par;
    }
    return rows;
  }

  #checkParent({ par, exp }: TokenClaims): void {
    if (par === undefined) return;
    const [parent, ...above] = this.#lineage(par);
    if (parent === undefined || exp > parent.claims.exp) {
      const message = `it would outlive the token that it is made with${parent === undefined ? "" : `, which ends at ${utcText(parent.claims.exp)}`}`;
      throw new TidemarkError("INVALID_ARGUMENT", message);
    }
    if (above.length > LINEAGE_MAX - 2)
      throw new TidemarkError("FAILED_PRECONDITION", "a token that was made with another one makes none itself");
    const nowSec = this.#parts.clock.now().sec;
    const children = this.#book.list().filter(({ claims }) => claims.par === par && claims.exp > nowSec);
    if (children.length >= CHILDREN_MAX)
      throw new TidemarkError(
        "FAILED_PRECONDITION",
        `${CHILDREN_MAX} tokens of this one are known: wait until some expire`,
      );
  }

  #endKeys(keyIds: readonly string[]): Promise<Revoked> {
    const gone = new Set(keyIds.filter((id) => this.#keys.find(id)?.row.revokedAt !== undefined));
    return this.#ended({
      revoked: 0,
      reason: "the key that signed it was revoked",
      matches: ({ id }) => this.#lineage(id).some(({ keyId }) => gone.has(keyId)),
    });
  }

  async #verify(token: string, options: { readonly acceptExpired?: boolean } = {}): Promise<{ row: TokenRow }> {
    const { serviceId, clock } = this.#parts;
    const { payload, keyId } = await verifyToken(token, {
      issuer: serviceId,
      find: (id) => this.#keys.find(id),
      nowSec: clock.now().sec,
      ...options,
    });
    const row = this.#known(String(payload.jti) as TokenId);
    if (row.keyId !== keyId || !isSame(payload, row.claims)) throw refusal("it is not what this service issued");
    return { row };
  }

  #known(id: TokenId): TokenRow {
    const row = this.#book.find(id);
    if (row === undefined)
      throw refusal(
        "this service does not know it: it expired long ago, or was made by a service that is not this one",
      );
    return row;
  }

  #grant(row: TokenRow, { appId, shareId, shareRoot, peer }: Exchange): TokenGrant {
    const { claims, keyId } = row;
    const why = this.#whyNot(row) ?? whyNotThere(claims, { appId, shareId }) ?? whyNotBy(claims, peer);
    if (why !== undefined) throw refusal(why);
    const grant = new TokenGrant({
      id: claims.jti,
      keyId,
      appId,
      shareId,
      root: claims.root ?? shareRoot,
      wholeShare: claims.root === undefined || claims.root === shareRoot,
      ops: claims.ops,
      identity: claims.idm,
      expiresAtSec: claims.exp,
      clock: this.#parts.clock,
      onRelease: (released) => this.#grants.delete(released),
    });
    this.#grants.add(grant);
    return grant;
  }

  #whyNot(row: TokenRow): string | undefined {
    const state = this.stateOf(row);
    switch (state) {
      case "valid":
        return undefined;
      case "expired":
        return expiredAt(row.claims.exp);
      case "revoked":
        return "it was revoked";
      case "key-revoked":
        return "the key that signed it was revoked";
    }
  }

  #refused(
    error: TidemarkError,
    { appId, shareId, peer }: { readonly appId: AppId | undefined; readonly shareId?: ShareId; readonly peer: Peer },
  ): void {
    const why = String(error.data["reason"] ?? error.code);
    const host = peer.address.replace(/:\d+$/, "");
    const who = peer.node === "" ? host : `node ${peer.node} (${host})`;
    this.#parts.audit.refused({
      who,
      what: "exchange",
      on: () => (shareId === undefined ? "" : `share ${shareId.slice(0, 8)}`),
      why,
      ...(appId === undefined ? {} : { appId }),
    });
  }

  /** T2. */
  async #ended(end: {
    readonly revoked: number;
    readonly reason: string;
    readonly matches: (grant: TokenGrant) => boolean;
  }): Promise<Revoked> {
    const grants = [...this.#grants].filter(end.matches);
    for (const grant of grants) {
      grant.end(end.reason);
      this.#grants.delete(grant);
    }
    const { core } = this.#parts;
    await core.journal.sync(core.lastLsn);
    return { revoked: end.revoked, ended: grants.length };
  }

  /** Ends what has expired and did not ask since. */
  #sweep(): void {
    const { clock, timers } = this.#parts;
    this.#stopSweep = timers.after(SWEEP_MS, () => this.#sweep());
    const nowSec = clock.now().sec;
    for (const grant of [...this.#grants]) {
      const reason = grant.expiresAtSec <= nowSec ? expiredAt(grant.expiresAtSec) : grant.ended;
      if (reason === undefined) continue;
      grant.end(reason);
      this.#grants.delete(grant);
    }
  }

  #countValid(matches: (row: TokenRow) => boolean): number {
    let count = 0;
    for (const row of this.#book.list()) if (matches(row) && this.stateOf(row) === "valid") count++;
    return count;
  }
}

/** How many valid tokens were taken back, and how many sessions and mounts that ended. */
export type Revoked = { readonly revoked: number; readonly ended: number };

function whyNotThere(claims: TokenClaims, { appId, shareId }: Pick<Exchange, "appId" | "shareId">): string | undefined {
  if (claims.app !== appId) return OTHER_APP;
  return claims.shr === undefined || claims.shr === shareId ? undefined : OTHER_SHARE;
}

function whyNotBy(claims: TokenClaims, peer: Peer): string | undefined {
  if (claims.node !== undefined && claims.node !== peer.node) {
    const who = peer.node === "" ? "who asks has proven no name" : `this is the node "${peer.node}"`;
    return `it is for the node "${claims.node}" alone, and ${who}`;
  }
  if (claims.cnf !== undefined && claims.cnf["x5t#S256"] !== peer.certificateThumbprint)
    return "it is bound to another certificate than the one it was presented with";
  return undefined;
}

/** Whether what was signed is what the row has, in the same order: the row's JSON made it. */
function isSame(payload: JWTPayload, claims: TokenClaims): boolean {
  return JSON.stringify(payload) === JSON.stringify(claims);
}
