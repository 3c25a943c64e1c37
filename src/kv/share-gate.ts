/**
 * Lets one thread close a native resource that another thread uses: nobody enters after the close began, and whoever is inside is
 * waited for, unless that thread is gone.
 *
 * Two numbers in shared memory, CLOSED and INSIDE, and a message channel whose ends belong to the two threads.
 *   I1  The visitor raises INSIDE, then reads CLOSED; the owner raises CLOSED, then reads INSIDE. Atomics are sequentially consistent,
 *       so one of them sees the other: no visitor is inside once the owner has seen CLOSED = 1 and INSIDE = 0.
 *   I2  The visitor lowers INSIDE, then reads CLOSED, and tells the owner if it is raised: so an owner that waits is woken.
 *   I3  A thread that ends without lowering INSIDE (terminated in the middle) closes its end of the channel, and only after its last
 *       native call has returned, as a thread's environment is taken down when its stack is empty: so the owner is woken then too, and is safe to go on.
 */
import { MessageChannel, type MessagePort } from "node:worker_threads";
import { assert } from "../base/assert.ts";

const CLOSED = 0;
const INSIDE = 1;

/** What travels to the visiting thread. Transfer `port`. */
export interface GateTicket {
  readonly state: SharedArrayBuffer;
  readonly port: MessagePort;
}

/** The side of the thread that owns the resource. */
export class OwnerGate {
  readonly ticket: GateTicket;
  readonly #state: Int32Array;
  readonly #port: MessagePort;
  #visitorGone = false;
  #wake: () => void = () => {};

  /** `onGone` is called once, when the visiting thread has closed its side or ended. */
  constructor(onGone: () => void) {
    const { port1, port2 } = new MessageChannel();
    const state = new SharedArrayBuffer(8);
    this.ticket = { state, port: port2 };
    this.#state = new Int32Array(state);
    this.#port = port1;
    port1.on("message", () => this.#wake());
    port1.on("close", () => {
      this.#visitorGone = true;
      this.#wake();
      onGone();
    });
    // A store that is open does not keep the process alive; closing it does (see close).
    port1.unref();
  }

  /** Lets nobody in any more and settles when nobody is inside. Waits as long as the call inside takes. Call once. */
  async close(): Promise<void> {
    Atomics.store(this.#state, CLOSED, 1);
    this.#port.ref();
    while (!this.#visitorGone && Atomics.load(this.#state, INSIDE) > 0) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    this.#port.close();
  }
}

/** The side of the visiting thread. Calls are not nested: what happens inside is synchronous. */
export class VisitorGate {
  readonly #state: Int32Array;
  readonly #port: MessagePort;
  #left = false;

  constructor(ticket: GateTicket) {
    this.#state = new Int32Array(ticket.state);
    this.#port = ticket.port;
  }

  /** True: inside, call `leave` when done. False: the resource is closed, or this side is. */
  enter(): boolean {
    if (this.#left) return false;
    Atomics.add(this.#state, INSIDE, 1);
    if (Atomics.load(this.#state, CLOSED) === 0) return true;
    this.leave();
    return false;
  }

  /** Undoes an `enter`. */
  leave(): void {
    const before = Atomics.sub(this.#state, INSIDE, 1);
    assert(before === 1, "left a gate that was not entered");
    if (Atomics.load(this.#state, CLOSED) === 1) this.#port.postMessage("left");
  }

  /** Gives the way in back. Calling it again does nothing. */
  close(): void {
    if (this.#left) return;
    this.#left = true;
    this.#port.close();
  }
}
