import type { Clock } from "../../base/clock.ts";
import type { FsError } from "../../domain/errors.ts";
import type { ReplyOf, Request } from "../../domain/metadata-api.ts";
import { wide } from "../codec/values.ts";
import type { MountCall, toCall } from "./call-codec.ts";
import { CALLS_MAX } from "./limits.ts";
import { NumberRanges } from "./number-ranges.ts";
import type { SessionRequestShape } from "./session-streams.ts";

/** A call before it has a number. */
export type NewCall = {
  readonly op: (Request | MountCall)["op"];
  readonly unique: number;
  readonly again: boolean;
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
  readonly request: ReturnType<typeof toCall>;
};

type Reply = ReplyOf<Request>;

/** A call that is not answered. */
export type PendingCall = NewCall & {
  readonly number: number;
  /** When it was asked, and when it was sent last; infinite while it waits for its turn. */
  readonly askedMs: number;
  sentMs: number;
  resolve(reply: Reply): void;
  reject(error: FsError): void;
};

type Send = (message: SessionRequestShape) => void;

/**
 * The calls of a session that are not answered, in the order of their numbers.
 *
 * Invariants
 * P1  Numbers are dense: `received` is the highest up to which every call is answered (or given up by its caller, and the answer has come).
 * P2  At most CALLS_MAX calls are unanswered, or answered without the service having been told that the answer has arrived: what more is asked waits for its turn. It is told in time, so that a call
 *     that waits for hours (a lock) holds up no other.
 */
export class PendingCalls {
  readonly #clock: Clock;
  readonly #calls = new Map<number, PendingCall>();
  /** Asked, without a turn yet. */
  #queue: PendingCall[] = [];
  /** Calls whose callers were interrupted, and that are not answered. */
  readonly interrupted = new Set<number>();
  readonly #answered = new NumberRanges();
  /** Of how many answers the service knows that they have arrived, at least. */
  #toldCount = 0;
  #newest = 0;

  constructor(options: { readonly clock: Clock }) {
    this.#clock = options.clock;
  }

  /** P1. */
  get received(): number {
    return this.#answered.dense;
  }

  /** The answers that have arrived above `received`. */
  get beyond(): { readonly from: bigint; readonly to: bigint }[] {
    const { received } = this;
    const beyond = this.#answered.ranges.filter(({ from }) => from > received);
    return beyond.map(({ from, to }) => ({ from: wide(from), to: wide(to) }));
  }

  get size(): number {
    return this.#calls.size + this.#queue.length;
  }

  /** Numbers a call and sends it when it is its turn. The promise is its answer. */
  add(call: NewCall, send: Send): { readonly number: number; readonly promise: Promise<Reply> } {
    const { promise, resolve, reject } = Promise.withResolvers<Reply>();
    const askedMs = this.#clock.monotonicMs();
    const number = ++this.#newest;
    const pending = { ...call, number, askedMs, sentMs: Number.POSITIVE_INFINITY, resolve, reject };
    this.#send = send;
    if (this.#queue.length > 0 || !this.#hasTurn) this.#queue.push(pending);
    else this.#start(pending, send);
    return { number, promise };
  }

  /** After a reconnect: everything that may or may not have arrived, in order. */
  sendAgain(send: Send): void {
    this.#send = send;
    // The Hello has said it.
    this.#toldCount = this.#answered.count;
    for (const call of this.#calls.values()) {
      const sent = call.sentMs !== Number.POSITIVE_INFINITY;
      this.#sendCall({ ...call, again: call.again || sent }, send);
      if (call.sentMs !== GIVEN_UP) call.sentMs = this.#clock.monotonicMs();
    }
  }

  /** The call of an answer; undefined for one that nobody waits for. */
  take(number: number): PendingCall | undefined {
    const call = this.#calls.get(number);
    // An answer to a call that was never sent is nothing to go by.
    if (call === undefined) return undefined;
    this.#answered.add(number);
    this.#calls.delete(number);
    this.interrupted.delete(number);
    if (this.#answered.count - this.#toldCount >= CALLS_MAX / 4) this.#tellReceived();
    this.#startQueued();
    return call.sentMs === GIVEN_UP ? undefined : call;
  }

  /** Its caller is told; the answer, when it comes, is for nobody. */
  fail(number: number, error: FsError): void {
    const call = this.#calls.get(number) ?? this.#queue.find((queued) => queued.number === number);
    if (call === undefined || call.sentMs === GIVEN_UP) return;
    call.reject(error);
    // It keeps its number, and is sent again: whether it was carried out is the service's to say (P1).
    const given = { ...call, sentMs: GIVEN_UP };
    if (this.#calls.has(number)) this.#calls.set(number, given);
    else this.#queue = this.#queue.map((queued) => (queued.number === number ? given : queued));
  }

  /** Fails calls that were asked before `beforeMs`; `all` the others too. */
  failOlder(beforeMs: number, all: boolean, error: FsError): void {
    for (const call of [...this.#calls.values(), ...this.#queue]) {
      if (all || call.askedMs <= beforeMs) this.fail(call.number, error);
    }
  }

  failAll(error: FsError): void {
    for (const call of [...this.#calls.values(), ...this.#queue]) if (call.sentMs !== GIVEN_UP) call.reject(error);
    this.#calls.clear();
    this.#queue = [];
  }

  /** Fails all, and counts them as answered: they are not sent again. */
  abandonAll(error: FsError): void {
    for (const number of [...this.#calls.keys()]) this.take(number)?.reject(error);
  }

  #send: Send = () => {};

  /** Keeps P2. */
  get #hasTurn(): boolean {
    return this.#calls.size + this.#answered.count - this.#toldCount < CALLS_MAX;
  }

  #tellReceived(): void {
    this.#toldCount = this.#answered.count;
    const value = { received: wide(this.received), beyond: this.beyond };
    this.#send({ message: { case: "receivedAnswers", value } });
  }

  #startQueued(): void {
    while (this.#queue[0] !== undefined && this.#hasTurn) {
      const next = this.#queue.shift();
      if (next !== undefined) this.#start(next, this.#send);
    }
  }

  #start(call: PendingCall, send: Send): void {
    this.#calls.set(call.number, call);
    if (call.sentMs !== GIVEN_UP) call.sentMs = this.#clock.monotonicMs();
    this.#sendCall(call, send);
  }

  #sendCall(call: PendingCall, send: Send): void {
    const { number, unique, again, uid, gid, pid, request } = call;
    const { received } = this;
    this.#toldCount = Math.max(this.#toldCount, received);
    const value = { number: wide(number), received: wide(received), unique: wide(unique), again, uid, gid, pid };
    send({ message: { case: "call", value: { ...value, request } } });
    // Before anything else is asked: the lock must not be had after its caller has unlocked, or closed the file.
    if (call.sentMs === GIVEN_UP && request?.case === "setlk")
      send({ message: { case: "cancel", value: { number: wide(number) } } });
  }
}

/** `sentMs` of a call whose caller does not wait any more. */
const GIVEN_UP = -1;
