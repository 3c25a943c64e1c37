import { crc32 } from "node:zlib";
import type { Clock } from "../../base/clock.ts";
import type { Timers } from "../../base/timers.ts";
import { ERRNO, FsError, TidemarkError } from "../../domain/errors.ts";
import type { Invalidation, Request, RequestContext } from "../../domain/metadata-api.ts";
import type { HostedSession } from "../../domain/session-api.ts";
import { safeNumber, wide } from "../codec/values.ts";
import type { Call } from "../gen/tidemark/v1/session_pb.ts";
import { type AnswerShape, type SessionReplies, toAnswer, toInvalidation } from "./answer-codec.ts";
import { fromCall, type MountCall } from "./call-codec.ts";
import { CALLS_MAX, NEWS_MAX } from "./limits.ts";
import { NumberRanges } from "./number-ranges.ts";
import type { SessionResponseShape } from "./session-streams.ts";

/** Where messages to the gateway go: the stream that is connected now. */
export interface Outlet {
  send(message: SessionResponseShape): void;
  /** Ends the stream; the gateway may come again unless `final`. */
  farewell(reason: string, final: boolean): void;
}

export type LiveSessionParts = {
  readonly hosted: HostedSession;
  readonly clock: Clock;
  readonly timers: Timers;
  /** A call failed with something that is no errno. */
  readonly onDefect: (error: unknown) => void;
  /** The session is over: forget it. */
  readonly onOver: () => void;
};

/** Answers that are not kept: asking again answers as well, and they may be large. What a listing tells a kernel of is then counted twice, which only keeps orphans for longer. */
const ASKED_AGAIN: ReadonlySet<(Request | MountCall)["op"]> = new Set([
  "read",
  "map",
  "readdir",
  "readlink",
  "getxattr",
  "listxattr",
  "lseek",
  "statfs",
  "getlk",
]);

/** Pieces of one map: 2 MiB of message. */
const MAP_PIECES_MAX = 100_000;

/** A cache that gets this reads without a map. */
const TRY_PLAINLY: AnswerShape = { case: "failure", value: { errno: ERRNO.EAGAIN } };

const LOCKS_LOST = "the lease ran out while locks were held: they were given to others";

/** Which answers have arrived, as the gateway says: up to one, and beyond it. */
export type Received = {
  readonly received: bigint;
  readonly beyond: readonly { readonly from: bigint; readonly to: bigint }[];
};

type News = {
  readonly number: number;
  /** When it was sent first on the stream that is there now. */
  sinceMs: number;
  readonly what: Invalidation;
  readonly doubtful: boolean;
  done(): void;
};

/**
 * One session at the service, from its first stream to its last.
 *
 * Invariants
 * S1  A call is carried out once: a number that was seen is answered from `#answers`, or by the run under way, or (file data) read again.
 * S2  Nothing is answered once the lease is being waited for (`#cutOff`): so it ends `leaseMs` after the last thing that was sent.
 * S3  A process of the gateway that goes on after another has died numbers its calls anew. They are carried out when nothing runs any more that the other asked: a change that is sent again then finds
 *     the record of the first, or that there is none.
 * S4  News is done when it was acknowledged, or when the lease is over: `tell` resolves within two leases, whatever the gateway does.
 */
export class LiveSession {
  readonly #parts: LiveSessionParts;
  readonly #answers = new Map<number, AnswerShape>();
  readonly #running = new Map<number, AbortController>();
  /** What is being carried out, also for a process before. */
  readonly #runs = new Set<Promise<void>>();
  /** Hello.process of the gateway's process. */
  #process: number | undefined;
  /** How many there were before. */
  #generation = 0;
  /** Resolves when nothing runs any more for the process before (S3). */
  #formerSettled: Promise<unknown> | undefined;
  readonly #news: News[] = [];
  readonly #detach: () => void;
  readonly #hosted: HostedSession;
  #outlet: Outlet | undefined;
  /** Calls whose answers have arrived, or were given by the process before. */
  #received = new NumberRanges();
  #newsNumber = 0;
  #sentMs: number;
  #heardMs: number;
  /** Until then the gateway may not come back: what its kernel was told is good that long. */
  #cutOffUntilMs = 0;
  #leaseOver = false;
  #over = false;
  #cancelCheck: () => void = () => {};

  constructor(parts: LiveSessionParts) {
    this.#parts = parts;
    this.#hosted = parts.hosted;
    this.#sentMs = parts.clock.monotonicMs();
    this.#heardMs = this.#sentMs;
    this.#detach = parts.hosted.attach({ tell: (what, options) => this.#tell(what, options?.doubtful ?? false) });
    parts.hosted.onEnded((reason) => this.finish(reason));
    this.#check();
  }

  get hosted(): HostedSession {
    return this.#hosted;
  }

  get connected(): boolean {
    return this.#outlet !== undefined;
  }

  /** How long a gateway that comes back now has to wait first; 0: welcome. */
  get waitMs(): number {
    return Math.max(0, this.#cutOffUntilMs - this.#parts.clock.monotonicMs());
  }

  /** A gateway has come. `process`: Hello.process; another than before has asked nothing yet. Throws INVALID_ARGUMENT. */
  goOn(received: Received, process: number): void {
    if (this.#process !== undefined && this.#process !== process) this.#startAnew();
    this.#process = process;
    this.#forget(received);
  }

  /** A stream is there, the first or a later one; one that still seems to be there is dead. Call after the welcome was sent: news goes out at once. */
  connect(outlet: Outlet): void {
    this.#outlet?.farewell("the gateway has opened another stream", false);
    // One that was cut off comes back when nothing it was told is good any more.
    if (this.#cutOffUntilMs > 0 && !this.#leaseOver) this.#endLease();
    if (this.#over) {
      outlet.farewell(LOCKS_LOST, true);
      return;
    }
    this.#cutOffUntilMs = 0;
    this.#outlet = outlet;
    this.#leaseOver = false;
    this.#heardMs = this.#parts.clock.monotonicMs();
    this.#sentMs = this.#heardMs;
    for (const news of this.#news) {
      news.sinceMs = this.#heardMs;
      this.#sendNews(news);
    }
  }

  /** The stream broke. What runs goes on; the answers are kept. */
  disconnect(outlet: Outlet): void {
    if (this.#outlet === outlet) this.#outlet = undefined;
  }

  /** Anything came from the gateway. Throws INVALID_ARGUMENT. */
  heard(received: Received | undefined): void {
    this.#heardMs = this.#parts.clock.monotonicMs();
    if (received !== undefined) this.#forget(received);
  }

  /** Carries out a call, or answers it again. Throws INVALID_ARGUMENT for one that breaks the protocol. */
  call(call: Call): void {
    this.heard({ received: call.received, beyond: [] });
    const number = safeNumber(call.number, "number");
    const known = this.#answers.get(number);
    if (known !== undefined) {
      this.#send({ message: answer(number, known) });
      return;
    }
    if (this.#running.has(number)) return;
    if (number === 0 || this.#received.has(number))
      throw new TidemarkError("INVALID_ARGUMENT", `call ${number} is out of turn: its answer was received`);
    if (this.#answers.size + this.#running.size >= CALLS_MAX)
      throw new TidemarkError("INVALID_ARGUMENT", `call ${number} is out of turn: ${CALLS_MAX} are under way`);
    const controller = new AbortController();
    this.#running.set(number, controller);
    const generation = this.#generation;
    if (this.#formerSettled === undefined) this.#run(number, call, { generation, signal: controller.signal });
    else void this.#formerSettled.then(() => this.#run(number, call, { generation, signal: controller.signal }));
  }

  /** Answers that have arrived are not needed any more. */
  #forget({ received, beyond }: Received): void {
    if (beyond.length > CALLS_MAX + 1)
      throw new TidemarkError("INVALID_ARGUMENT", `${beyond.length} ranges of answers: more than there can be`);
    const dense = safeNumber(received, "received");
    if (dense <= this.#received.dense && beyond.length === 0) return;
    this.#received.add(1, dense);
    for (const range of beyond) {
      const [from, to] = [safeNumber(range.from, "from"), safeNumber(range.to, "to")];
      if (from < 1 || to < from) throw new TidemarkError("INVALID_ARGUMENT", `there is no range ${from} to ${to}`);
      this.#received.add(from, to);
    }
    for (const number of this.#answers.keys()) if (this.#received.has(number)) this.#answers.delete(number);
  }

  /** The caller was interrupted: a call that waits ends with EINTR. */
  cancel(number: bigint): void {
    this.#running.get(Number(number))?.abort();
  }

  acknowledged(number: bigint): void {
    // In order, as they were sent; one that comes twice is for nothing.
    while (this.#news[0] !== undefined && this.#news[0].number <= Number(number)) this.#news.shift()?.done();
  }

  pong(number: bigint): void {
    this.#send({ message: { case: "pong", value: { number } } });
  }

  /** The token or the share is gone: nothing is answered any more. */
  finish(reason: string): void {
    this.#outlet?.farewell(reason, true);
    this.#end();
  }

  /** The gateway has said goodbye. */
  async goodbye(): Promise<void> {
    this.#end();
    await this.#hosted.end();
  }

  /** The service stops: gateways come back to the next one. */
  leave(reason: string): void {
    this.#outlet?.farewell(reason, false);
    this.#stop();
  }

  #end(): void {
    if (this.#over) return;
    this.#stop();
    this.#parts.onOver();
  }

  #stop(): void {
    this.#over = true;
    this.#outlet = undefined;
    this.#cancelCheck();
    this.#detach();
    for (const controller of this.#running.values()) controller.abort();
    this.#releaseNews();
  }

  /** Keeps S3. */
  #startAnew(): void {
    this.#generation++;
    for (const controller of this.#running.values()) controller.abort();
    this.#running.clear();
    this.#answers.clear();
    this.#received = new NumberRanges();
    if (this.#runs.size === 0) return;
    const settled = Promise.all([...this.#runs, this.#formerSettled]).then(() => {
      if (this.#formerSettled === settled) this.#formerSettled = undefined;
    });
    this.#formerSettled = settled;
  }

  #run(number: number, call: Call, of: { readonly generation: number; readonly signal: AbortSignal }): void {
    const { generation, signal } = of;
    // Nobody waits for what a process before has asked.
    const isWanted = (): boolean => generation === this.#generation && !this.#over;
    if (!isWanted()) return;
    let request: Request | MountCall;
    try {
      request = fromCall(call.request);
      const result = this.#execute(request, call, signal);
      if (result instanceof Promise) {
        const run: Promise<void> = result
          .then(
            (reply) => isWanted() && this.#answer(number, request.op, reply),
            (error: unknown) => isWanted() && this.#fail(number, error),
          )
          .then(() => void this.#runs.delete(run));
        this.#runs.add(run);
      } else this.#answer(number, request.op, result);
    } catch (error) {
      this.#fail(number, error);
    }
  }

  #execute(request: Request | MountCall, call: Call, signal: AbortSignal): unknown {
    if (request.op === "findMoment") return this.#hosted.findMoment(request.name);
    if (request.op === "snapshotNames") return this.#hosted.snapshotNames();
    if (call.request.case === "write" && crc32(call.request.value.data) !== call.request.value.crc32)
      throw new FsError("EIO", "data arrived damaged from the gateway: their checksum is another");
    const { grant, label } = this.#hosted;
    const context: RequestContext = {
      actor: { mountId: grant.mountId, uid: call.uid, gid: call.gid, pid: call.pid, label },
      unique: safeNumber(call.unique, "unique"),
      resent: call.again,
      signal,
    };
    return this.#hosted.api.execute(request, context);
  }

  #answer(number: number, op: (Request | MountCall)["op"], reply: unknown): void {
    const shape = op === "map" && isTooLarge(reply) ? TRY_PLAINLY : toAnswer(op, reply as SessionReplies[typeof op]);
    this.#finished(number, shape, !ASKED_AGAIN.has(op));
  }

  #fail(number: number, error: unknown): void {
    this.#finished(number, { case: "failure", value: { errno: this.#errnoOf(error) } }, true);
  }

  #finished(number: number, shape: AnswerShape, keep: boolean): void {
    this.#running.delete(number);
    if (this.#over) return;
    if (keep) this.#answers.set(number, shape);
    this.#send({ message: answer(number, shape) });
  }

  #errnoOf(error: unknown): number {
    if (error instanceof FsError) return error.errno;
    if (error instanceof TidemarkError && error.code === "INVALID_ARGUMENT") return ERRNO.EINVAL;
    this.#parts.onDefect(error);
    return ERRNO.EIO;
  }

  #send(message: SessionResponseShape): void {
    if (this.#outlet === undefined) return;
    this.#sentMs = this.#parts.clock.monotonicMs();
    this.#outlet.send(message);
  }

  #tell(what: Invalidation, doubtful: boolean): void | Promise<void> {
    if (this.#over || this.#leaseOver) return;
    if (this.#news.length >= NEWS_MAX) this.#cutOff("too much news is not acknowledged");
    return new Promise((done) => {
      const news = { number: ++this.#newsNumber, sinceMs: this.#parts.clock.monotonicMs(), what, doubtful, done };
      this.#news.push(news);
      this.#sendNews(news);
    });
  }

  #sendNews({ number, what, doubtful }: News): void {
    const invalidations = [toInvalidation(what)];
    this.#send({ message: { case: "invalidations", value: { number: wide(number), invalidations, doubtful } } });
  }

  /** S2: no stream until nothing that was sent is good any more. */
  #cutOff(reason: string): void {
    if (this.#outlet === undefined) return;
    this.#cutOffUntilMs = this.#sentMs + this.#hosted.grant.leaseMs;
    this.#outlet.farewell(reason, false);
    this.#outlet = undefined;
  }

  /** Looks several times in a lease whether the gateway is still there. */
  #check(): void {
    const { timers, onDefect } = this.#parts;
    this.#cancelCheck = timers.after(Math.ceil(this.#hosted.grant.leaseMs / 8), () => {
      if (this.#over) return;
      try {
        this.#look();
      } catch (error) {
        // Nobody is above a timer: it would end the process.
        onDefect(error);
      }
      if (!this.#over) this.#check();
    });
  }

  #look(): void {
    const { leaseMs } = this.#hosted.grant;
    const nowMs = this.#parts.clock.monotonicMs();
    const [oldest] = this.#news;
    if (oldest !== undefined && nowMs - oldest.sinceMs >= leaseMs)
      this.#cutOff("news was not acknowledged for a whole lease");
    if (this.#outlet !== undefined && nowMs - this.#heardMs >= leaseMs)
      this.#cutOff("nothing was heard of the gateway for a whole lease");
    if (this.#outlet === undefined && !this.#leaseOver && nowMs - this.#sentMs >= leaseMs) this.#endLease();
  }

  #endLease(): void {
    this.#leaseOver = true;
    this.#releaseNews();
    // Whoever holds locks and is not heard of must not go on as if it still had them.
    if (!this.#hosted.leaseOver()) return;
    this.finish(LOCKS_LOST);
    this.#hosted.end().catch((error: unknown) => this.#parts.onDefect(error));
  }

  #releaseNews(): void {
    for (const news of this.#news.splice(0)) news.done();
  }
}

/** Whether a map would not fit a message: some 20 bytes a piece. */
function isTooLarge(reply: unknown): boolean {
  return Array.isArray(reply) && reply.length > MAP_PIECES_MAX;
}

function answer(number: number, shape: AnswerShape): SessionResponseShape["message"] & object {
  return { case: "answer", value: { number: wide(number), answer: shape } };
}
