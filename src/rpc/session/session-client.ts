import { crc32 } from "node:zlib";
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import type { Timers } from "../../base/timers.ts";
import { type ErrorCode, FsError, TidemarkError } from "../../domain/errors.ts";
import type { InodeId, Lsn } from "../../domain/ids.ts";
import type {
  Invalidation,
  MappedPiece,
  MetadataApi,
  ReplyOf,
  Request,
  RequestContext,
} from "../../domain/metadata-api.ts";
import type { CacheHolder, SessionGrant, SessionOpen } from "../../domain/session-api.ts";
import { wide } from "../codec/values.ts";
import type { Invalidations, SessionResponse } from "../gen/tidemark/v1/session_pb.ts";
import { fromAnswer, fromInvalidation, type SlotMoment } from "./answer-codec.ts";
import { type MountCall, toCall } from "./call-codec.ts";
import { Connection } from "./connection.ts";
import { PINGS_PER_LEASE } from "./limits.ts";
import { PendingCalls } from "./pending-calls.ts";
import type { SessionRequestShape, SessionStream, SessionStreams } from "./session-streams.ts";

/** What a caller gets while the service is away: it waits, as long as it takes, or is told EIO after a while (NFS's words for it). */
export type Patience = { readonly kind: "hard" } | { readonly kind: "soft"; readonly timeoutMs: number };

export type SessionClientOptions = {
  readonly streams: SessionStreams;
  readonly request: SessionOpen;
  /** Told of what others change; its promise is the acknowledgement. */
  readonly cache: CacheHolder;
  readonly patience: Patience;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
  /** 0 ≤ x < 1, for delays that differ from gateway to gateway. */
  readonly randomFraction: () => number;
  /** How long the first connection may take; absent: for ever (a gateway that is started again goes on waiting). */
  readonly openTimeoutMs?: number;
  /** Gives up what `open` waits for, with CANCELLED. */
  readonly signal?: AbortSignal;
};

/** Delays between tries to connect: the first at once, then doubled up to the maximum, so that thousands of gateways don't come back in one second. */
const RECONNECT_MS = 50;
const RECONNECT_MAX_MS = 2_000;

/** How often callers that have waited too long are looked for, on soft mounts. */
const PATIENCE_CHECK_MS = 250;

/** A Hello that was answered with one of these is refused for good; whatever else (a full disk, too many sessions) may be over the next time. */
const FINAL: ReadonlySet<ErrorCode> = new Set([
  "PERMISSION_DENIED",
  "NOT_FOUND",
  "FAILED_PRECONDITION",
  "INVALID_ARGUMENT",
  "UNSUPPORTED",
]);

/** Words of grpc-js when a message could not be encoded. */
const UNSENDABLE = "serialization failure";

type AnyReply = ReplyOf<Request>;

/**
 * The gateway's end of a session: the service as a MetadataApi. Calls are numbered and go out at once; when the stream breaks they are sent again, under their numbers, on the next one. What that means for
 * the caller is only time (`patience`).
 */
export class SessionClient implements MetadataApi {
  readonly #options: SessionClientOptions;
  readonly #calls: PendingCalls;
  readonly #listeners = new Set<(invalidation: Invalidation) => void>();
  readonly #endListeners = new Set<(reason: string) => void>();
  readonly #opened = Promise.withResolvers<SessionGrant>();
  #grant: SessionGrant | undefined;
  #connection: Connection | undefined;
  #token: string;
  /** Of the last Hello, and of the last one that was welcome. */
  #presentedToken: string;
  #goodToken: string | undefined;
  #state: "connecting" | "connected" | "reconnecting" | "ended" = "connecting";
  #endReason: string | undefined;
  #failures = 0;
  /** What the last try to connect ended with. */
  #whyNot = "";
  #lateUntilMs = 0;
  #awaySinceMs: number | undefined;
  #stopTimers: (() => void)[] = [];
  /** Odd: the kernel's own numbers are even. For changes that no kernel asked for. */
  #ownUnique: number;
  /** Tells the service this process from the one before. */
  readonly #process: number;
  #goodbye: PromiseWithResolvers<void> | undefined;

  private constructor(options: SessionClientOptions) {
    this.#options = options;
    this.#token = options.request.token;
    this.#presentedToken = this.#token;
    this.#calls = new PendingCalls({ clock: options.clock });
    this.#ownUnique = Math.floor(options.randomFraction() * 2 ** 40) * 2 + 1;
    this.#process =
      Math.floor(options.randomFraction() * 2 ** 32) * 2 ** 20 + Math.floor(options.randomFraction() * 2 ** 20) + 1;
  }

  /**
   * Opens a session, or goes on with the one that `request.resume` names. Throws TidemarkError: what the service refused with, or UNAVAILABLE when it was not reached within `openTimeoutMs`.
   */
  static async open(options: SessionClientOptions): Promise<SessionClient> {
    const client = new SessionClient(options);
    const { timers, openTimeoutMs, streams } = options;
    if (openTimeoutMs !== undefined) {
      const give = timers.after(openTimeoutMs, () =>
        client.#finish(
          new TidemarkError("UNAVAILABLE", `the service at ${streams.address} is not reachable${client.#whyNot}`),
        ),
      );
      client.#stopTimers.push(give);
      client.#opened.promise.then(give, give);
    }
    const cancel = (): void => client.detach();
    options.signal?.addEventListener("abort", cancel);
    client.#connect();
    try {
      await client.#opened.promise;
    } finally {
      options.signal?.removeEventListener("abort", cancel);
    }
    if (options.patience.kind === "soft") client.#watchPatience(options.patience.timeoutMs);
    return client;
  }

  /** What the service granted, last. */
  get grant(): SessionGrant {
    if (this.#grant === undefined) throw new TidemarkError("INTERNAL", "the session is not open yet");
    return this.#grant;
  }

  get state(): "connecting" | "connected" | "reconnecting" | "ended" {
    return this.#state;
  }

  /** How long a kernel may use an answer that is given now: half a lease; 0 for a while after an answer came late, since the lease counts from when the service gave it. */
  get validityMs(): number {
    return this.#options.clock.monotonicMs() < this.#lateUntilMs ? 0 : this.grant.leaseMs / 2;
  }

  execute<R extends Request>(request: R, context: RequestContext): ReplyOf<R> | Promise<ReplyOf<R>> {
    const reply = this.#ask(request, context);
    // Nobody waits for it, and it can't fail in a way that anybody could act on.
    if (request.op === "forget") {
      reply.catch(() => {});
      return undefined as ReplyOf<R>;
    }
    return reply as Promise<ReplyOf<R>>;
  }

  subscribe(listener: (invalidation: Invalidation) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** What a name in `.tidemark` means now. Rejects with FsError. */
  async findMoment(name: string): Promise<{ readonly slot: number; readonly lsn: Lsn } | undefined> {
    const found = (await this.#ask({ op: "findMoment", name }, NOBODY)) as unknown as SlotMoment | undefined;
    return found as { readonly slot: number; readonly lsn: Lsn } | undefined;
  }

  /** The app's snapshots. Rejects with FsError. */
  async snapshotNames(): Promise<readonly string[]> {
    return (await this.#ask({ op: "snapshotNames" }, NOBODY)) as unknown as readonly string[];
  }

  /** Where the bytes of a range are, see FileMap in session.proto. Rejects with FsError. */
  async map(ino: InodeId, offset: bigint, length: number, at: Lsn): Promise<readonly MappedPiece[]> {
    return await (this.execute({ op: "map", ino, offset, length, at }, NOBODY) as Promise<readonly MappedPiece[]>);
  }

  /** Presents another token of the same rights, at once: the session goes on with it over a new connection. */
  renewToken(token: string): void {
    if (token === this.#token) return;
    this.#token = token;
    if (this.#state === "connected") this.#connection?.abandon("another token is to be presented");
  }

  /** Hears why, when the service has ended the session for good: every call fails from then on. Answers how to stop. */
  onEnded(listener: (reason: string) => void): () => void {
    this.#endListeners.add(listener);
    if (this.#endReason !== undefined) listener(this.#endReason);
    return () => this.#endListeners.delete(listener);
  }

  /** Says goodbye: the mount is over, and so are its locks and the orphans it held. Waits for the service only if it is there. */
  async close(): Promise<void> {
    if (this.#state !== "connected" || this.#connection === undefined) return this.detach();
    this.#goodbye = Promise.withResolvers<void>();
    this.#connection.send({ message: { case: "goodbye", value: {} } });
    await this.#goodbye.promise;
    this.detach();
  }

  /** Leaves without a word: the mount lives on, and the next process goes on with the session. */
  detach(): void {
    this.#finish(new TidemarkError("CANCELLED", "the gateway is stopping"));
  }

  #ask(request: Request | MountCall, context: RequestContext): Promise<AnyReply> {
    if (this.#state === "ended") return Promise.reject(this.#endedError());
    const { uid, gid, pid } = context.actor;
    let message: ReturnType<typeof toCall>;
    try {
      message = withChecksum(request);
    } catch (error) {
      return Promise.reject(error);
    }
    const call = {
      op: request.op,
      unique: context.unique === 0 ? this.#nextUnique() : context.unique,
      again: context.resent,
      uid,
      gid,
      pid,
      request: message,
    };
    const { number, promise } = this.#calls.add(call, (sent) => this.#send(sent));
    const { signal } = context;
    if (signal === undefined) return promise;
    const interrupt = (): void => this.#interrupt(number);
    signal.addEventListener("abort", interrupt);
    if (signal.aborted) interrupt();
    return promise.finally(() => signal.removeEventListener("abort", interrupt));
  }

  /** A caller was interrupted: the service ends the wait, if there is one; while it is away the caller need not wait for it. */
  #interrupt(number: number): void {
    if (this.#state !== "connected") {
      this.#calls.fail(number, FsError.of("EINTR"));
      return;
    }
    this.#connection?.send({ message: { case: "cancel", value: { number: wide(number) } } });
    this.#calls.interrupted.add(number);
  }

  #nextUnique(): number {
    this.#ownUnique += 2;
    return this.#ownUnique;
  }

  #send(message: SessionRequestShape): void {
    if (this.#state === "connected") this.#connection?.send(message);
  }

  #connect(): void {
    if (this.#state === "ended") return;
    const { streams, clock, timers, request } = this.#options;
    this.#presentedToken = this.#token;
    let stream: SessionStream;
    try {
      stream = streams.open();
    } catch (error) {
      this.#broken(new TidemarkError("UNAVAILABLE", error instanceof Error ? error.message : String(error)));
      return;
    }
    this.#connection = new Connection({
      stream,
      address: streams.address,
      hello: { ...request, token: this.#token, ...(this.#grant === undefined ? {} : { resume: this.#grant.id }) },
      received: this.#calls.received,
      beyond: this.#calls.beyond,
      process: this.#process,
      clock,
      timers,
      onWelcome: (grant) => this.#welcomed(grant),
      onMessage: (message) => this.#take(message),
      onBroken: (error) => this.#broken(error),
    });
  }

  #welcomed(grant: SessionGrant): void {
    if (this.#state === "ended") return;
    const first = this.#grant === undefined;
    this.#grant = grant;
    this.#goodToken = this.#presentedToken;
    this.#failures = 0;
    this.#state = "connected";
    if (this.#awaySinceMs !== undefined) {
      const awayMs = Math.round(this.#options.clock.monotonicMs() - this.#awaySinceMs);
      this.#options.log.info("connected to the service again", { awayMs, service: this.#options.streams.address });
    }
    this.#awaySinceMs = undefined;
    this.#calls.sendAgain((message) => this.#send(message));
    this.#pingRegularly(this.#connection);
    if (first) this.#opened.resolve(grant);
  }

  #pingRegularly(connection: Connection | undefined): void {
    const cancel = this.#options.timers.after(this.grant.leaseMs / PINGS_PER_LEASE, () => {
      if (connection === undefined || connection !== this.#connection || this.#state !== "connected") return;
      if (connection.silentMs() >= this.grant.leaseMs / 2) {
        connection.abandon("nothing was heard of the service for half a lease");
        return;
      }
      connection.send({ message: { case: "ping", value: { number: 1n, received: wide(this.#calls.received) } } });
      this.#pingRegularly(connection);
    });
    this.#stopTimers = [cancel];
  }

  #take({ message }: SessionResponse): void {
    switch (message.case) {
      case "answer":
        this.#answered(Number(message.value.number), message.value.answer);
        return;
      case "invalidations":
        this.#invalidated(message.value);
        return;
      case "farewell":
        if (this.#goodbye !== undefined) this.#goodbye.resolve();
        else if (message.value.final)
          this.#finish(new TidemarkError("FAILED_PRECONDITION", message.value.reason), "EACCES");
        return;
      default:
        // Pongs, and what a newer service says.
        return;
    }
  }

  #answered(number: number, answer: Parameters<typeof fromAnswer>[1]): void {
    const call = this.#calls.take(number);
    if (call === undefined) return;
    const { leaseMs } = this.grant;
    const nowMs = this.#options.clock.monotonicMs();
    if (nowMs - call.sentMs > leaseMs / 2) this.#lateUntilMs = nowMs + leaseMs;
    try {
      call.resolve(fromAnswer(call.op, answer) as AnyReply);
    } catch (error) {
      call.reject(error instanceof FsError ? error : FsError.of("EIO"));
    }
  }

  #invalidated({ number, invalidations, doubtful }: Invalidations): void {
    const connection = this.#connection;
    const acknowledge = (): void => connection?.send({ message: { case: "acknowledge", value: { number } } });
    const waits: Promise<void>[] = [];
    for (const message of invalidations) {
      const invalidation = fromInvalidation(message);
      if (invalidation === undefined) continue;
      for (const listener of this.#listeners) listener(invalidation);
      const told = this.#options.cache.tell(invalidation, { doubtful });
      if (told instanceof Promise) waits.push(told);
    }
    connection?.acknowledgeInOrder(waits.length === 0 ? undefined : Promise.all(waits), acknowledge);
  }

  /** The stream is gone. Refused for good at the first connection: the caller is told; later: the session has ended. */
  #broken(error: TidemarkError): void {
    this.#connection = undefined;
    this.#options.streams.reset();
    if (this.#state === "ended") return;
    if (this.#goodbye !== undefined) {
      this.#goodbye.resolve();
      return;
    }
    if (FINAL.has(error.code) && !this.#hasAnotherToken()) {
      this.#finish(error, "EACCES");
      return;
    }
    this.#whyNot = `: ${error.message}`;
    const { clock, timers, log, randomFraction, streams } = this.#options;
    if (error.message.includes(UNSENDABLE)) {
      // Ours, and it would be sent again and again.
      log.error("a call can't be put on the wire: what waits is answered EIO", { error: error.message });
      this.#calls.abandonAll(new FsError("EIO", error.message));
    }
    if (this.#state === "connected") {
      this.#awaySinceMs = clock.monotonicMs();
      log.warn("the connection to the service is lost: waiting for it", {
        service: streams.address,
        error: error.message,
      });
    }
    this.#state = this.#grant === undefined ? "connecting" : "reconnecting";
    for (const number of this.#calls.interrupted) this.#calls.fail(number, FsError.of("EINTR"));
    const delayMs = this.#failures === 0 ? 0 : Math.min(RECONNECT_MS * 2 ** (this.#failures - 1), RECONNECT_MAX_MS);
    this.#failures++;
    this.#stopTimers = [timers.after(delayMs * (1 - randomFraction() / 2), () => this.#connect())];
  }

  /** Whether there is another token to try than the one that was refused: one that came meanwhile, or, when a new one was refused, the one that was good before. */
  #hasAnotherToken(): boolean {
    if (this.#token !== this.#presentedToken) return true;
    if (this.#goodToken === undefined || this.#goodToken === this.#token) return false;
    this.#options.log.warn("the new token is refused: going on with the one before");
    this.#token = this.#goodToken;
    return true;
  }

  #watchPatience(timeoutMs: number): void {
    this.#options.timers.after(PATIENCE_CHECK_MS, () => {
      if (this.#state === "ended") return;
      if (this.#awaySinceMs !== undefined) {
        const beforeMs = this.#options.clock.monotonicMs() - timeoutMs;
        this.#calls.failOlder(
          Math.max(beforeMs, 0),
          this.#awaySinceMs <= beforeMs,
          new FsError("EIO", "the service is away"),
        );
      }
      this.#watchPatience(timeoutMs);
    });
  }

  /** Nothing is asked any more: every call that waits fails, and every later one. */
  #finish(error: TidemarkError, errno: "EIO" | "EACCES" = "EIO"): void {
    if (this.#state === "ended") return;
    this.#state = "ended";
    for (const stop of this.#stopTimers) stop();
    this.#connection?.abandon("the session has ended");
    this.#connection = undefined;
    this.#options.streams.close();
    this.#calls.failAll(new FsError(errno, error.message));
    this.#opened.reject(error);
    this.#opened.promise.catch(() => {});
    this.#goodbye?.resolve();
    this.#endReason = error.message;
    if (error.code !== "CANCELLED") for (const listener of this.#endListeners) listener(error.message);
  }

  #endedError(): FsError {
    return new FsError("EIO", this.#endReason ?? "the session has ended");
  }
}

/** For calls that are about the mount itself. */
const NOBODY: RequestContext = {
  actor: { mountId: 0 as never, uid: 0, gid: 0, pid: 0, label: "" },
  unique: 0,
  resent: false,
};

/** The message of a request; data are copied and summed now, as the kernel's buffer is only borrowed. */
function withChecksum(request: Request | MountCall): ReturnType<typeof toCall> {
  if (request.op !== "write") return toCall(request);
  const data = Buffer.from(request.data);
  const shape = toCall({ ...request, data });
  if (shape.case !== "write") return shape;
  return { case: "write", value: { ...shape.value, crc32: crc32(data) } } as ReturnType<typeof toCall>;
}
