import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import type { Timers } from "../../base/timers.ts";
import { FsError, TidemarkError } from "../../domain/errors.ts";
import { LIVE, type Lsn } from "../../domain/ids.ts";
import {
  type Invalidation,
  isChange,
  type MetadataApi,
  type ReplyOf,
  type Request,
  type RequestContext,
} from "../../domain/metadata-api.ts";
import type { CacheHolder, SessionGrant, SessionOpen } from "../../domain/session-api.ts";
import { SessionClient } from "../../rpc/session/session-client.ts";
import type { SessionStreams } from "../../rpc/session/session-streams.ts";
import type { GatewayMount, KeptGrant } from "./mount-state.ts";
import type { TokenFile } from "./token-file.ts";

/**
 * The session of a mount, for as long as the mount lives: a SessionClient bears broken connections by itself; this also bears a process that begins while the service is away, and a token that has run
 * out and is replaced.
 *
 * Invariants:
 * 1. A grant is kept (`onGrant`) before anything is answered under it.
 * 2. A change that the kernel sends again is carried out only in the session in which it was sent before, where it is recognised; in another it is refused with EIO, as nobody knows whether it was done.
 * 3. With shared locks the session is never replaced by another: programs would go on without the locks they hold.
 */

/** How often it is looked whether the token was replaced. */
const TOKEN_CHECK_MS = 2_000;

/** A mount that was refused asks again each so many checks: a minute. */
const REFUSED_CHECKS = 30;

/** The service is waited for this long to say goodbye to. */
const GOODBYE_MS = 5_000;

export type GatewaySessionOptions = {
  readonly streams: SessionStreams;
  readonly mount: GatewayMount;
  readonly tokenFile: TokenFile;
  /** What the process before was granted; absent for a new mount. */
  readonly former?: KeptGrant | undefined;
  readonly cache: CacheHolder;
  /** Keeps what was granted, for the next process. */
  readonly onGrant: (grant: SessionGrant) => Promise<void>;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
  readonly randomFraction: () => number;
};

/** How a session is, for people. */
export type SessionState =
  | { readonly kind: "connected" | "reconnecting"; readonly sinceSec: number }
  /** The service does not let it go on: calls fail until that changes (another token), or the mount ends. */
  | { readonly kind: "refused"; readonly sinceSec: number; readonly reason: string };

type Held =
  | { readonly kind: "opening" }
  | { readonly kind: "open"; readonly client: SessionClient }
  | { readonly kind: "refused"; readonly reason: string }
  | { readonly kind: "closed" };

export class GatewaySession implements MetadataApi {
  readonly #options: GatewaySessionOptions;
  #held: Held = { kind: "opening" };
  /** Resolves when `#held` is no longer "opening". */
  #settled = Promise.withResolvers<void>();
  /** A client that is being opened, or is open, uses it. */
  #usedToken = "";
  #kept: KeptGrant | SessionGrant | undefined;
  /** Keeps I2: it is not the session of the process before. */
  #replaced = false;
  /** A new session is asked for, in place of the one that was kept. */
  #anew = false;
  #shown: SessionState;
  #stopChecking: () => void = () => {};
  #refusedChecks = 0;
  readonly #closing = new AbortController();

  private constructor(options: GatewaySessionOptions) {
    this.#options = options;
    this.#kept = options.former;
    this.#shown = { kind: "reconnecting", sinceSec: options.clock.now().sec };
  }

  /** Opens the first session of a mount. Throws TidemarkError: what the service refused with, UNAVAILABLE when it can't be reached within `timeoutMs`. */
  static async open(
    options: GatewaySessionOptions,
    { timeoutMs }: { readonly timeoutMs: number },
  ): Promise<GatewaySession> {
    const session = new GatewaySession(options);
    await session.#open({ openTimeoutMs: timeoutMs });
    session.#checkToken();
    return session;
  }

  /** Goes on with the session of the process before, when the service lets it: what is asked meanwhile waits. */
  static goOn(options: GatewaySessionOptions & { readonly former: KeptGrant }): GatewaySession {
    const session = new GatewaySession(options);
    void session.#reopen();
    session.#checkToken();
    return session;
  }

  /** What was granted last. */
  get grant(): KeptGrant | SessionGrant {
    if (this.#held.kind === "open") return this.#held.client.grant;
    if (this.#kept === undefined) throw new TidemarkError("INTERNAL", "nothing was granted yet");
    return this.#kept;
  }

  /** How long a kernel may use an answer that is given now. */
  get validityMs(): number {
    return this.#held.kind === "open" ? this.#held.client.validityMs : 0;
  }

  get state(): SessionState {
    this.#observe();
    return this.#shown;
  }

  execute<R extends Request>(request: R, context: RequestContext): ReplyOf<R> | Promise<ReplyOf<R>> {
    if (context.resent && this.#replaced && isChange(request)) throw REPLACED;
    if (this.#held.kind === "open") return this.#held.client.execute(request, context);
    // The service counts what the kernel knows anew when it hears of it again.
    if (request.op === "forget") return undefined as ReplyOf<R>;
    return this.#whenOpen(context.signal).then(() => this.execute(request, context));
  }

  subscribe(_listener: (invalidation: Invalidation) => void): () => void {
    throw new TidemarkError("INTERNAL", "the news of a session go to its cache");
  }

  /** What a name in `.tidemark` means now. Rejects with FsError. */
  async findMoment(name: string): Promise<{ readonly slot: number; readonly lsn: Lsn } | undefined> {
    return await (await this.#whenOpen(undefined)).findMoment(name);
  }

  /** The app's snapshots. Rejects with FsError. */
  async snapshotNames(): Promise<readonly string[]> {
    return await (await this.#whenOpen(undefined)).snapshotNames();
  }

  /** The mount is over: the service gives up its locks and orphans, now if it is there, else when it has waited long enough. */
  async close(): Promise<void> {
    const held = this.#end();
    if (held.kind === "open") {
      await Promise.race([held.client.close(), this.#options.timers.wait(GOODBYE_MS)]);
      held.client.detach();
    }
    this.#options.streams.close();
  }

  #end(): Held {
    const held = this.#held;
    this.#stopChecking();
    this.#hold({ kind: "closed" });
    this.#closing.abort();
    return held;
  }

  #hold(held: Held): void {
    this.#held = held;
    if (held.kind === "opening") this.#settled = Promise.withResolvers<void>();
    else this.#settled.resolve();
    this.#observe();
  }

  /** The client, when there is one. Rejects with FsError: EINTR, EIO, EACCES. */
  async #whenOpen(signal: AbortSignal | undefined): Promise<SessionClient> {
    const { mount, timers } = this.#options;
    const given = Promise.withResolvers<never>();
    given.promise.catch(() => {});
    const interrupt = (): void => given.reject(FsError.of("EINTR"));
    const { patience } = mount;
    const stop = patience.kind === "hard" ? () => {} : timers.after(patience.timeoutMs, () => given.reject(AWAY));
    signal?.addEventListener("abort", interrupt);
    if (signal?.aborted === true) interrupt();
    try {
      while (this.#held.kind === "opening") await Promise.race([this.#settled.promise, given.promise]);
    } finally {
      stop();
      signal?.removeEventListener("abort", interrupt);
    }
    const held = this.#held as Exclude<Held, { kind: "opening" }>;
    if (held.kind === "open") return held.client;
    throw held.kind === "refused" ? new FsError("EACCES", held.reason) : FsError.of("EIO");
  }

  /** Opens a session, or goes on with the one that was kept. Throws TidemarkError. */
  async #open({ openTimeoutMs }: { readonly openTimeoutMs?: number }): Promise<void> {
    const { streams, cache, mount, clock, timers, log, randomFraction, tokenFile } = this.#options;
    tokenFile.hasChanged();
    this.#usedToken = tokenFile.read();
    const client = await SessionClient.open({
      streams,
      request: this.#request(),
      cache,
      patience: mount.patience,
      clock,
      timers,
      log,
      randomFraction,
      signal: this.#closing.signal,
      ...(openTimeoutMs === undefined ? {} : { openTimeoutMs }),
    });
    if (this.#held.kind === "closed") return client.detach();
    if (this.#kept !== undefined && client.grant.id !== this.#kept.id) this.#replaced = true;
    this.#kept = client.grant;
    await this.#options.onGrant(client.grant);
    this.#hold({ kind: "open", client });
    client.onEnded((reason) => this.#ended(client, reason));
  }

  #request(): SessionOpen {
    const { app, share, at, readOnly, locks, target } = this.#options.mount;
    const kept = this.#kept;
    const asked = { app, share, at, readOnly, locks, target, token: this.#usedToken };
    if (kept === undefined) return asked;
    // A view stays the one it is, whatever its name has come to mean.
    const moment = kept.at === LIVE ? at : ({ kind: "lsn", lsn: kept.at } as const);
    return this.#anew ? { ...asked, at: moment, kernelMounted: true } : { ...asked, at: moment, resume: kept.id };
  }

  /** Opens again, for as long as it takes. Never rejects. */
  async #reopen(): Promise<void> {
    const { log, mount } = this.#options;
    this.#anew = this.#replaced;
    for (;;) {
      try {
        await this.#readableToken();
        if (this.#isClosed) return;
        await this.#open({});
        return;
      } catch (error) {
        if (this.#isClosed) return;
        if (isOver(error) && !this.#anew && mount.locks === "kernel") {
          log.warn(
            "the service does not know the session any more: a new one is opened; changes that were under way when this gateway ended fail",
          );
          this.#anew = true;
          continue;
        }
        this.#refuse(error instanceof Error ? error.message : String(error));
        return;
      }
    }
  }

  get #isClosed(): boolean {
    return this.#held.kind === "closed";
  }

  /** Resolves when the token's file can be read. That it can't be says nothing about the session. */
  async #readableToken(): Promise<void> {
    const { tokenFile, timers, log } = this.#options;
    for (let said = false; !this.#isClosed; said = true) {
      try {
        tokenFile.read();
        return;
      } catch (error) {
        if (!said) log.error("the token can't be read: waiting for it", { error: (error as Error).message });
        await timers.wait(TOKEN_CHECK_MS);
      }
    }
  }

  #ended(client: SessionClient, reason: string): void {
    if (this.#held.kind !== "open" || this.#held.client !== client) return;
    this.#refuse(reason);
    // It may be there already.
    this.#tryNewToken();
  }

  #refuse(reason: string): void {
    this.#options.log.error("the service does not let this mount go on: calls fail", { reason });
    this.#hold({ kind: "refused", reason });
  }

  #checkToken(): void {
    this.#stopChecking = this.#options.timers.after(TOKEN_CHECK_MS, () => {
      this.#observe();
      if (this.#options.tokenFile.hasChanged()) this.#tryNewToken();
      else if (this.#held.kind === "refused" && ++this.#refusedChecks % REFUSED_CHECKS === 0) this.#askAgain();
      if (this.#held.kind !== "closed") this.#checkToken();
    });
  }

  #tryNewToken(): void {
    const { log, tokenFile } = this.#options;
    let token: string;
    try {
      token = tokenFile.read();
    } catch (error) {
      log.warn("the token can't be read: going on with the one before", { error: (error as Error).message });
      return;
    }
    if (token === this.#usedToken) return;
    if (this.#held.kind === "open") {
      this.#usedToken = token;
      this.#held.client.renewToken(token);
      log.info("the token was replaced");
    } else if (this.#held.kind === "refused") {
      log.info("the token was replaced: asking the service again");
      this.#askAgain();
    }
  }

  /** What was refused may be allowed by now. */
  #askAgain(): void {
    this.#hold({ kind: "opening" });
    void this.#reopen();
  }

  #observe(): void {
    const held = this.#held;
    const connected = held.kind === "open" && held.client.state === "connected";
    const kind = held.kind === "refused" ? "refused" : connected ? "connected" : "reconnecting";
    if (kind === this.#shown.kind) return;
    const sinceSec = this.#options.clock.now().sec;
    this.#shown =
      held.kind === "refused"
        ? { kind: "refused", sinceSec, reason: held.reason }
        : { kind: kind as "connected", sinceSec };
  }
}

const AWAY = new FsError("EIO", "the service is away");
const REPLACED = new FsError("EIO", "the session in which this was asked is over");

/** The session is not there to go on with (any more). */
function isOver(error: unknown): boolean {
  return error instanceof TidemarkError && error.code === "NOT_FOUND";
}
