import { TidemarkError } from "../../domain/errors.ts";
import { encodeNotification, type Notification } from "./notify-codec.ts";
import type { NotificationCounts } from "./notify-worker.ts";
import { type NotificationWriter, WorkerWriter } from "./notify-writer.ts";

/**
 * Tells kernels what to forget. Writing a notification takes kernel locks that an application may hold while it waits for an answer of ours,
 * so threads of their own write them (see NotificationLanes; this is one lane), never the loop and never the thread pool; and no answer may wait for its own mount's notification. Under
 * a supervisor those threads are the supervisor's: a thread of ours that waits in the kernel could not be killed, would hold the locks of a dead
 * process (on the database, say), and its successor, who has to give the answer, would wait for those.
 *
 * Invariants:
 * 1. Nothing is dropped: what does not fit the queue is waited for by the one who brings it.
 * 2. A notification that is queued and not yet with the writer also covers a later equal one, so it is queued once.
 * 3. The writer has one batch at a time, so a descriptor with nothing queued and nothing in the batch can be closed.
 */

/** Notifications waiting: a restore of a large tree makes one or two for each name. 100 bytes each: 6 MB. */
const QUEUE_MAX = 65_536;

/** Given to the writer at a time: bounds what must be waited for before a descriptor may be closed. */
const BATCH_MAX = 256;

/** Stands for the batch of `warm`, which is about no descriptor. */
const NO_DESCRIPTOR: ReadonlySet<number> = new Set([-1]);

type Queued = { notification: Notification; readonly waiters: (() => void)[] };

export class Notifier {
  readonly #writer: NotificationWriter;
  /** By what they are about (I2), in order of arrival. */
  #queue = new Map<string, Queued>();
  #inFlight: ReadonlySet<number> = new Set();
  /** Who waits for the batch in flight. */
  #batchWaiters: (() => void)[] = [];
  #roomWaiters: (() => void)[] = [];
  #progressWaiters: (() => void)[] = [];
  #failure: Error | undefined;
  #closed = false;
  /** Notifications written, and those the kernel had no use for (nothing cached). */
  readonly counts = { written: 0, unknown: 0, refused: 0 };
  /** Batches written: rises as long as the writer gets on. */
  batchCount = 0;

  /** `writer`: who writes; a thread of this process, or the supervisor's (SupervisorClient). Closed with this. */
  constructor(writer: NotificationWriter = new WorkerWriter()) {
    this.#writer = writer;
  }

  /**
   * Queues `notification`. Answers nothing when there was room, else a promise that resolves once it is queued: back-pressure to be awaited by
   * whoever makes many changes (never by an operation of the same mount). Throws when closed.
   */
  notify(notification: Notification): void | Promise<void> {
    if (this.#closed) throw new TidemarkError("INTERNAL", "notification after close");
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#queue.size >= QUEUE_MAX && !this.#queue.has(keyOf(notification))) return this.#waitForRoom(notification);
    this.#enqueue(notification, undefined);
  }

  /**
   * Queues `notification`, and resolves when it is with the kernel, which may take as long as somebody holds a lock there; or when that has nothing cached any more, since its mount is gone. Never
   * rejects. For changes that are waited for, so that there are never more than those; whoever makes many without waiting uses `notify`. Throws when nobody writes any more.
   */
  written(notification: Notification): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#closed) return Promise.resolve();
    return new Promise((resolve) => this.#enqueue(notification, resolve));
  }

  /** Starts the writer, which takes a while, before it is needed. Resolves when it runs (or can't). */
  async warm(): Promise<void> {
    if (this.#closed || this.#failure !== undefined || this.#inFlight.size > 0) return;
    this.#write([], NO_DESCRIPTOR);
    await this.settled(-1);
  }

  #enqueue(notification: Notification, waiter: (() => void) | undefined): void {
    const key = keyOf(notification);
    const queued = this.#queue.get(key);
    if (queued === undefined) {
      this.#queue.set(key, { notification, waiters: waiter === undefined ? [] : [waiter] });
      this.#send();
      return;
    }
    queued.notification = merge(queued.notification, notification);
    if (waiter !== undefined) queued.waiters.push(waiter);
  }

  /** Resolves when everything about `fd` that is queued now is with the kernel. To be awaited before the descriptor is closed. */
  async settled(fd: number): Promise<void> {
    while (this.#failure === undefined && (this.#inFlight.has(fd) || this.#queuedFor(fd))) {
      await new Promise<void>((resolve) => this.#progressWaiters.push(resolve));
    }
  }

  /** Drops what is queued about `fd` (its mount is gone) and resolves when the writer no longer uses it. */
  async abandon(fd: number): Promise<void> {
    for (const [key, { notification, waiters }] of this.#queue) {
      if (notification.fd !== fd) continue;
      this.#queue.delete(key);
      for (const waiter of waiters) waiter();
    }
    await this.settled(fd);
  }

  /** Ends the writer after its batch. What is queued is dropped: the mounts go away, or a new process invalidates anew. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#dropQueue();
    while (this.#failure === undefined && this.#inFlight.size > 0) {
      await new Promise<void>((resolve) => this.#progressWaiters.push(resolve));
    }
    await this.#writer.close();
    this.#wake();
  }

  #queuedFor(fd: number): boolean {
    for (const { notification } of this.#queue.values()) if (notification.fd === fd) return true;
    return false;
  }

  async #waitForRoom(notification: Notification): Promise<void> {
    await new Promise<void>((resolve) => this.#roomWaiters.push(resolve));
    if (!this.#closed) await this.notify(notification);
  }

  #send(): void {
    if (this.#inFlight.size > 0 || this.#queue.size === 0) return;
    const order: { fd: number; message: Uint8Array }[] = [];
    const fds = new Set<number>();
    for (const [key, { notification, waiters }] of this.#queue) {
      this.#batchWaiters.push(...waiters);
      order.push({ fd: notification.fd, message: encodeNotification(notification) });
      fds.add(notification.fd);
      this.#queue.delete(key);
      if (order.length === BATCH_MAX) break;
    }
    this.#write(order, fds);
  }

  #write(order: readonly { readonly fd: number; readonly message: Uint8Array }[], fds: ReadonlySet<number>): void {
    this.#inFlight = fds;
    this.#writer.write(order).then(
      (counts) => this.#finished(counts),
      (error: unknown) => this.#failed(error),
    );
  }

  #finished(counts: NotificationCounts): void {
    this.counts.written += counts.written;
    this.counts.unknown += counts.unknown;
    this.counts.refused += counts.refused;
    this.batchCount++;
    this.#inFlight = new Set();
    this.#batchDone();
    if (!this.#closed) this.#send();
    this.#wake();
  }

  /** Nobody writes any more: caches can't be kept right. Every later call fails, and the owner must stop serving. */
  #failed(cause: unknown): void {
    this.#failure = new TidemarkError("INTERNAL", "notifications cannot be written", { cause });
    this.#inFlight = new Set();
    this.#batchDone();
    this.#dropQueue();
    this.#wake();
  }

  #batchDone(): void {
    const waiters = this.#batchWaiters;
    this.#batchWaiters = [];
    for (const waiter of waiters) waiter();
  }

  #dropQueue(): void {
    const queue = this.#queue;
    this.#queue = new Map();
    for (const { waiters } of queue.values()) for (const waiter of waiters) waiter();
  }

  #wake(): void {
    const { length } = this.#roomWaiters;
    const waiters = [
      ...this.#roomWaiters.splice(0, Math.min(length, QUEUE_MAX - this.#queue.size)),
      ...this.#progressWaiters,
    ];
    this.#progressWaiters = [];
    for (const waiter of waiters) waiter();
  }
}

/** What a notification is about. A name may be any bytes: latin1 keeps them apart. */
function keyOf(notification: Notification): string {
  const { fd, slot } = notification;
  if (notification.kind === "inode") return `i${fd}:${slot}:${notification.ino}`;
  return `n${fd}:${slot}:${notification.parentIno}:${Buffer.from(notification.name).toString("latin1")}`;
}

/** One notification that does what both would do. */
function merge(first: Notification, second: Notification): Notification {
  if (first.kind === "inode" && second.kind === "inode") {
    if (second.data === undefined) return first;
    if (first.data === undefined) return second;
    return { ...first, data: union(first.data, second.data) };
  }
  if (first.kind === "entry" && second.kind === "entry")
    return { ...first, expireOnly: first.expireOnly && second.expireOnly };
  // A deletion also drops the entry; the later one knows the later child.
  return second.kind === "delete" || first.kind !== "delete" ? second : first;
}

type Range = { readonly offset: bigint; readonly length: bigint };

/** The smallest range that has both; length 0n means to the end. */
function union(first: Range, second: Range): Range {
  const [low, high] = first.offset <= second.offset ? [first, second] : [second, first];
  if (low.length === 0n || high.length === 0n) return { offset: low.offset, length: 0n };
  const past = high.offset + high.length - low.offset;
  if (past <= low.length) return low;
  return { offset: low.offset, length: past };
}
