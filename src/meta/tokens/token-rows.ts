import type { Timestamp } from "../../base/clock.ts";
import type { AppId, InodeId, ShareId } from "../../domain/ids.ts";
import type { TokenId, TokenIdentity, TokenOp } from "../../domain/token.ts";
import type { EngineCore } from "../core.ts";
import { plainKey, TABLE } from "../keys.ts";
import { decodeJson } from "../rows.ts";
import { rowsOfTable } from "../table-rows.ts";

/**
 * Rows of tokens in the system app (FORMAT.md, "Tokens"). TABLE.TOKEN: 1 and the token's id, 2 and an app's id, or 3 alone; TABLE.TOKEN_KEY: the key's id.
 */

/** What a token says, in this order: what is signed is these bytes. Names are those of RFC 7519 and RFC 7800 where they have one. */
export type TokenClaims = {
  /** The service: the id of its data folder. */
  readonly iss: string;
  readonly aud: string;
  readonly jti: TokenId;
  readonly iat: number;
  readonly nbf: number;
  readonly exp: number;
  readonly app: AppId;
  readonly shr?: ShareId;
  readonly root?: InodeId;
  readonly ops: readonly TokenOp[];
  /** Who its users are. */
  readonly idm: TokenIdentity;
  /** Epochs of the app and of all: a revocation raises them. */
  readonly ep: number;
  readonly gep: number;
  readonly node?: string;
  readonly cnf?: { readonly "x5t#S256": string };
  /** The token under which it was made: when that ends, so does this one. */
  readonly par?: TokenId;
};

/** A token that was made. The service decides by this row; the token proves that somebody was given it. */
export type TokenRow = {
  readonly claims: TokenClaims;
  readonly keyId: string;
  readonly issuedAt: Timestamp;
  readonly revokedAt?: Timestamp;
};

/** A key that signs or signed. Only its public half. */
export type TokenKeyRow = {
  readonly id: string;
  /** The public key, as a JWK's `x` has it. */
  readonly x: string;
  readonly createdAt: Timestamp;
  /** Signs no more; what it signed is good until it expires. */
  readonly retiredAt?: Timestamp;
  /** What it signed is good no more. */
  readonly revokedAt?: Timestamp;
};

export type EpochRow = { readonly epoch: number; readonly since: Timestamp };

const TOKEN_ROW = 1;
const APP_EPOCH_ROW = 2;
const GLOBAL_EPOCH_ROW = 3;

export function tokenKey(id: TokenId): Buffer {
  return kind(TOKEN_ROW, Buffer.from(id, "hex"));
}

export function appEpochKey(appId: AppId): Buffer {
  return kind(APP_EPOCH_ROW, Buffer.from(appId, "hex"));
}

export function globalEpochKey(): Buffer {
  return kind(GLOBAL_EPOCH_ROW);
}

export function tokenKeyKey(id: string): Buffer {
  return plainKey(TABLE.TOKEN_KEY, Buffer.from(id, "utf8"));
}

function kind(number: number, rest: Uint8Array = Buffer.alloc(0)): Buffer {
  return plainKey(TABLE.TOKEN, Buffer.concat([Buffer.from([number]), rest]));
}

/** All that is known of tokens when a data folder is opened. */
export type LoadedTokens = {
  readonly tokens: Map<TokenId, TokenRow>;
  readonly appEpochs: Map<AppId, EpochRow>;
  readonly globalEpoch: EpochRow | undefined;
};

export function loadTokens(core: EngineCore): LoadedTokens {
  const tokens = new Map<TokenId, TokenRow>();
  const appEpochs = new Map<AppId, EpochRow>();
  let globalEpoch: EpochRow | undefined;
  for (const { key, value } of rowsOfTable(core, TABLE.TOKEN)) {
    if (key[1] === TOKEN_ROW) {
      const row = decodeJson<TokenRow>(value);
      tokens.set(row.claims.jti, row);
    } else if (key[1] === APP_EPOCH_ROW) appEpochs.set(key.subarray(2).toString("hex") as AppId, decodeJson(value));
    else if (key[1] === GLOBAL_EPOCH_ROW) globalEpoch = decodeJson(value);
  }
  return { tokens, appEpochs, globalEpoch };
}

export function loadTokenKeys(core: EngineCore): Map<string, TokenKeyRow> {
  const keys = new Map<string, TokenKeyRow>();
  for (const { value } of rowsOfTable(core, TABLE.TOKEN_KEY)) {
    const row = decodeJson<TokenKeyRow>(value);
    keys.set(row.id, row);
  }
  return keys;
}
