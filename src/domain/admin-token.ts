import type { Timestamp } from "../base/clock.ts";
import type { CallOptions, Pages } from "./admin-call.ts";
import type { AppId, Lsn, ShareId } from "./ids.ts";
import type { AppRef, ShareRef } from "./share-path.ts";
import type { TokenBinding, TokenId, TokenIdentity, TokenOp, TokenState } from "./token.ts";

/** What a new token is to allow. */
export type TokenRequest = TokenBinding & {
  readonly app: AppRef;
  /** Absent: every share of the app. */
  readonly share?: ShareRef;
  /** A directory of the share: names joined by "/", empty for its root. */
  readonly path: Buffer;
  readonly ops: readonly TokenOp[];
  readonly lifetimeMs: number;
  readonly identity: TokenIdentity;
  /** The token under which it is made, over the network: it is not for more than that, and ends with it. The service says this, no caller does. */
  readonly parent?: TokenId;
};

/** A token as the service knows it: never its text. */
export type TokenInfo = TokenBinding & {
  readonly id: TokenId;
  readonly app: { readonly id: AppId; readonly namespace: string; readonly name: string };
  readonly share?: { readonly id: ShareId; readonly name: string };
  /** Where the directory is now, names joined by "/"; absent: the whole share. Empty when it is nowhere any more (`isGone`). */
  readonly path?: Buffer;
  readonly isGone?: boolean;
  readonly ops: readonly TokenOp[];
  readonly identity: TokenIdentity;
  readonly issuedAt: Timestamp;
  readonly expiresAt: Timestamp;
  readonly state: TokenState;
  /** The token under which it was made. */
  readonly parent?: TokenId;
  /** Sessions and mounts that it was exchanged for and that are open. */
  readonly sessionCount: number;
};

/** Which tokens are revoked: one, an app's, or all there are. */
export type TokenSelection =
  | { readonly kind: "id"; readonly id: string }
  | { readonly kind: "app"; readonly app: AppRef }
  | { readonly kind: "all" };

/** Tokens. The mutations are durable before they answer. */
export interface TokenApi {
  /** Makes a token and signs it. Its text is in this answer and nowhere else. NOT_FOUND for the app, share or directory; INVALID_ARGUMENT. */
  createToken(
    request: TokenRequest,
    options?: CallOptions,
  ): Promise<{ readonly token: string; readonly info: TokenInfo }>;
  /** Newest first. `all`: also those that expired or were revoked, as long as they are known (a week). */
  listTokens(request: { app?: AppRef; all: boolean }, options?: CallOptions): Pages<TokenInfo>;
  /** Verifies a token as an exchange would and says what it is; of one that is not valid any more, too. PERMISSION_DENIED for one that this service did not make. */
  inspectToken(request: { token: string }, options?: CallOptions): Promise<TokenInfo>;
  /** Takes tokens back, with effect on open sessions at their next request. Answers how many valid ones there were. */
  revokeTokens(
    request: TokenSelection,
    options?: CallOptions,
  ): Promise<{ readonly revoked: number; readonly ended: number }>;
  /** A new key signs from now on. `revokeOld`: what earlier ones signed ends, as if revoked; else it stays valid until it expires. */
  rotateTokenKeys(
    request: { revokeOld: boolean },
    options?: CallOptions,
  ): Promise<{ readonly keyId: string; readonly revoked: number; readonly ended: number }>;
}

/** One entry of the audit log. */
export type AuditEntry = {
  readonly lsn: Lsn;
  readonly time: Timestamp;
  /** `refused`: somebody was not allowed to do something. `act`: an administrative act, done or failed. */
  readonly kind: "refused" | "act";
  /** "cli token create", "token 3f2a…", "10.0.0.2:40312". */
  readonly who: string;
  /** The operation: "write", "exchange", "catalogue.deleteApp". */
  readonly what: string;
  /** On what: a path, an app, an inode. */
  readonly on: string;
  /** Why it was refused, or the code with which an act failed; empty for an act that was done. */
  readonly why: string;
  /** How many times since the last entry of the same; 1 for an act. */
  readonly count: number;
  readonly app?: { readonly id: AppId; readonly namespace: string; readonly name: string };
};

/** The audit log: in the journal of the service itself, so it is in order and can't be changed afterwards. */
export interface AuditApi {
  /** Oldest first, from `since` on. `app`: what concerns that app. */
  listAudit(
    request: { since?: Timestamp; app?: AppRef; refusedOnly: boolean },
    options?: CallOptions,
  ): Pages<AuditEntry>;
}
