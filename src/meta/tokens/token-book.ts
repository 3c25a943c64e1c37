import { compareTimestamps } from "../../base/clock.ts";
import { TidemarkError } from "../../domain/errors.ts";
import type { AppId } from "../../domain/ids.ts";
import type { RequestContext } from "../../domain/metadata-api.ts";
import { RECORD_OP } from "../../domain/record-op.ts";
import type { TokenId } from "../../domain/token.ts";
import type { EngineCore } from "../core.ts";
import { encodeJson } from "../rows.ts";
import { appEpochKey, type EpochRow, globalEpochKey, loadTokens, type TokenRow, tokenKey } from "./token-rows.ts";

/** Tokens that are known at a time: each is about 1 KB of memory. */
const TOKENS_MAX = 100_000;

/** How long a token is listed after it has expired, so that one can see what there was; the audit log has it for ever. */
const KEPT_AFTER_EXPIRY_SEC = 7 * 86_400;

/** Expired tokens forgotten with each new one: more than come, so that their number falls. */
const FORGOTTEN_AT_A_TIME = 8;

/** The tokens that a service made, and the epochs from which on they are good: rows of the system app, kept in memory. Each change is a record first. */
export class TokenBook {
  readonly #core: EngineCore;
  readonly #tokens: Map<TokenId, TokenRow>;
  readonly #appEpochs: Map<AppId, EpochRow>;
  #globalEpoch: EpochRow | undefined;

  constructor(core: EngineCore) {
    this.#core = core;
    const { tokens, appEpochs, globalEpoch } = loadTokens(core);
    this.#tokens = tokens;
    this.#appEpochs = appEpochs;
    this.#globalEpoch = globalEpoch;
  }

  find(id: TokenId): TokenRow | undefined {
    return this.#tokens.get(id);
  }

  /** Newest first. */
  list(): TokenRow[] {
    return [...this.#tokens.values()].sort((left, right) => compareTimestamps(right.issuedAt, left.issuedAt));
  }

  /** The epochs of an app's new tokens. */
  epochs(appId: AppId): { readonly ep: number; readonly gep: number } {
    return { ep: this.#appEpochs.get(appId)?.epoch ?? 0, gep: this.#globalEpoch?.epoch ?? 0 };
  }

  /** By name, with its app, or with all. */
  isRevoked({ claims, revokedAt }: TokenRow): boolean {
    const { ep, gep } = this.epochs(claims.app);
    return revokedAt !== undefined || claims.ep < ep || claims.gep < gep;
  }

  put(row: TokenRow, context: RequestContext): void {
    const tx = this.#core.begin(context);
    tx.row(tokenKey(row.claims.jti), encodeJson(row));
    const op = row.revokedAt === undefined ? RECORD_OP.TOKEN_SET : RECORD_OP.TOKEN_REVOKE;
    // On a full disk it must be possible to take rights back.
    tx.commit(op, encodeJson(row), { useReserve: row.revokedAt !== undefined });
    this.#tokens.set(row.claims.jti, row);
  }

  /** What the app has by now is revoked. */
  raiseApp(appId: AppId, context: RequestContext): void {
    const row = { epoch: this.epochs(appId).ep + 1, since: this.#core.clock.now() };
    this.#putEpoch(appEpochKey(appId), { app: appId, ...row }, context);
    this.#appEpochs.set(appId, row);
  }

  /** What there is by now is revoked. */
  raiseAll(context: RequestContext): void {
    const row = { epoch: (this.#globalEpoch?.epoch ?? 0) + 1, since: this.#core.clock.now() };
    this.#putEpoch(globalEpochKey(), row, context);
    this.#globalEpoch = row;
  }

  /** Makes room for another one: a few of those that expired long ago are forgotten. Throws FAILED_PRECONDITION when there are too many. */
  makeRoom(context: RequestContext): void {
    const beforeSec = this.#core.clock.now().sec - KEPT_AFTER_EXPIRY_SEC;
    const old: TokenId[] = [];
    for (const [id, { claims }] of this.#tokens) {
      if (claims.exp < beforeSec) old.push(id);
      if (old.length === FORGOTTEN_AT_A_TIME) break;
    }
    if (old.length > 0) {
      const tx = this.#core.begin(context);
      for (const id of old) tx.row(tokenKey(id), null);
      tx.commit(RECORD_OP.TOKEN_SET, encodeJson({ forgotten: old }));
      for (const id of old) this.#tokens.delete(id);
    }
    if (this.#tokens.size < TOKENS_MAX) return;
    const message = `${TOKENS_MAX} tokens are known, a week after their end too: make fewer, with longer lives`;
    throw new TidemarkError("FAILED_PRECONDITION", message);
  }

  #putEpoch(key: Buffer, row: EpochRow & { readonly app?: AppId }, context: RequestContext): void {
    const tx = this.#core.begin(context);
    tx.row(key, encodeJson(row));
    tx.commit(RECORD_OP.TOKEN_REVOKE, encodeJson(row), { useReserve: true });
  }
}
