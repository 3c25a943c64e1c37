import type { Clock } from "../../base/clock.ts";
import type { ViewsOption } from "../../domain/admin-catalogue.ts";
import type { AppId, InodeId, ShareId } from "../../domain/ids.ts";
import { CHANGING_OPS, type TokenId, type TokenIdentity, type TokenOp } from "../../domain/token.ts";

/** How often the wall clock is asked whether a token has expired. In between only the monotonic clock is, which costs nothing. */
const WALL_CLOCK_MS = 500;

export type TokenGrantParts = {
  readonly id: TokenId;
  readonly keyId: string;
  readonly appId: AppId;
  readonly shareId: ShareId;
  readonly root: InodeId;
  /** The root is the share's. */
  readonly wholeShare: boolean;
  readonly ops: readonly TokenOp[];
  readonly identity: TokenIdentity;
  readonly expiresAtSec: number;
  readonly clock: Clock;
  readonly onRelease: (grant: TokenGrant) => void;
};

/** What a token was exchanged for: its rights on one share, in memory, for one session or mount, until it ends. */
export class TokenGrant {
  readonly id: TokenId;
  readonly keyId: string;
  readonly appId: AppId;
  readonly shareId: ShareId;
  readonly root: InodeId;
  readonly wholeShare: boolean;
  readonly ops: ReadonlySet<TokenOp>;
  readonly identity: TokenIdentity;
  readonly expiresAtSec: number;
  readonly #parts: TokenGrantParts;
  readonly #listeners = new Set<(reason: string) => void>();
  /** A wall clock that is set back does not make a token live longer. */
  readonly #deadlineMs: number;
  #askWallClockAtMs: number;
  #ended: string | undefined;

  constructor(parts: TokenGrantParts) {
    const { clock } = parts;
    this.#parts = parts;
    this.id = parts.id;
    this.keyId = parts.keyId;
    this.appId = parts.appId;
    this.shareId = parts.shareId;
    this.root = parts.root;
    this.wholeShare = parts.wholeShare;
    this.ops = new Set(parts.ops);
    this.identity = parts.identity;
    this.expiresAtSec = parts.expiresAtSec;
    const nowMs = clock.monotonicMs();
    const now = clock.now();
    this.#deadlineMs = nowMs + (parts.expiresAtSec - now.sec) * 1000 - now.nsec / 1e6;
    this.#askWallClockAtMs = Math.min(nowMs + WALL_CLOCK_MS, this.#deadlineMs);
  }

  has(op: TokenOp): boolean {
    return this.ops.has(op);
  }

  /** Nothing can be changed under it. */
  get readOnly(): boolean {
    return !CHANGING_OPS.some((op) => this.ops.has(op));
  }

  /** Who checks modes and access lists: where everybody is one user of the share, a kernel that goes by the numbers it sees would refuse what that one may. */
  get access(): "kernel" | "service" {
    return this.identity.kind === "all" ? "service" : "kernel";
  }

  /**
   * Who may look into `.tidemark` on its mount, where the share lets `option`: the past of the whole share takes history. Where the service checks access, "root" means that it alone decides: for one user
   * who is root here, or where users may look.
   */
  viewsOf(option: ViewsOption): ViewsOption {
    if (!this.wholeShare || !this.has("history") || option === "off") return "off";
    if (this.identity.kind !== "all") return option;
    return option === "users" || this.identity.uid === 0 ? "root" : "off";
  }

  /** Why it is not good any more, fit to be shown; undefined while it is. Asked with every request. */
  get ended(): string | undefined {
    if (this.#ended !== undefined) return this.#ended;
    const nowMs = this.#parts.clock.monotonicMs();
    return nowMs < this.#askWallClockAtMs ? undefined : this.#checkTime(nowMs);
  }

  /** Ends it: what asks from now on is refused, and listeners are told, once. */
  end(reason: string): void {
    if (this.#ended !== undefined) return;
    this.#ended = reason;
    const listeners = [...this.#listeners];
    this.#listeners.clear();
    for (const listener of listeners) listener(reason);
  }

  /** Calls `listener` once when it is revoked or has expired; at once if it has. Answers how to stop. Not for what `release` ends. */
  onEnded(listener: (reason: string) => void): () => void {
    if (this.#ended !== undefined) {
      listener(this.#ended);
      return () => {};
    }
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** The session or mount is over: nothing is told of its end any more, so nothing is good under it any more either. */
  release(): void {
    this.#listeners.clear();
    this.#ended ??= "its session is over";
    this.#parts.onRelease(this);
  }

  #checkTime(nowMs: number): string | undefined {
    this.#askWallClockAtMs = Math.min(nowMs + WALL_CLOCK_MS, this.#deadlineMs);
    if (nowMs >= this.#deadlineMs || this.#parts.clock.now().sec >= this.expiresAtSec)
      this.end(expiredAt(this.expiresAtSec));
    return this.#ended;
  }
}

/** Why a token that has expired is refused. */
export function expiredAt(expiresAtSec: number): string {
  return `it expired at ${utcText(expiresAtSec)}`;
}

/** "2026-11-21T10:00:00Z" */
export function utcText(sec: number): string {
  return new Date(sec * 1000).toISOString().replace(".000Z", "Z");
}
