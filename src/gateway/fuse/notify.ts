import { TidemarkError } from "../../domain/errors.ts";
import { encodeNotification, type Notification } from "./notify-codec.ts";
import type { NotificationCounts } from "./notify-worker.ts";
import { type NotificationWriter, WorkerWriter } from "./notify-writer.ts";

/**
 * Tells kernels what to forget. Writing a notification takes kernel locks that an application may hold while it waits for an answer of ours,
 * so one dedicated thread writes them, never the loop and never the thread pool; and no answer may wait for its own mount's notification. Under
 * a supervisor that thread is the supervisor's: a thread of ours that waits in the kernel could not be killed, would hold the locks of a dead
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

export class Notifier {
  readonly #writer: NotificationWriter;
  /** By what they are about (I2), in order of arrival. */
  #queue = new Map<string, Notification>();
  #inFlight: ReadonlySet<number> = new Set();
  #roomWaiters: (() => void)[] = [];
  #progressWaiters: (() => void)[] = [];
  #failure: Error | undefined;
  #closed = false;
  /** Notifications written, and those the kernel had no use for (nothing cached). */
  readonly counts = { written: 0, unknown: 0, refused: 0 };

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
    const key = keyOf(notification);
    const queued = this.#queue.get(key);
    if (queued !== undefined) {
      this.#queue.set(key, merge(queued, notification));
      return;
    }
    if (this.#queue.size >= QUEUE_MAX) return this.#waitForRoom(notification);
    this.#queue.set(key, notification);
    this.#send();
  }

  /** Resolves when everything about `fd` that is queued now is with the kernel. To be awaited before the descriptor is closed. */
  async settled(fd: number): Promise<void> {
    while (this.#failure === undefined && (this.#inFlight.has(fd) || this.#queuedFor(fd))) {
      await new Promise<void>((resolve) => this.#progressWaiters.push(resolve));
    }
  }

  /** Drops what is queued about `fd` (its mount is gone) and resolves when the writer no longer uses it. */
  async abandon(fd: number): Promise<void> {
    for (const [key, notification] of this.#queue) {
      if (notification.fd === fd) this.#queue.delete(key);
    }
    await this.settled(fd);
  }

  /** Ends the writer after its batch. What is queued is dropped: the mounts go away, or a new process invalidates anew. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#queue.clear();
    while (this.#failure === undefined && this.#inFlight.size > 0) {
      await new Promise<void>((resolve) => this.#progressWaiters.push(resolve));
    }
    await this.#writer.close();
    this.#wake();
  }

  #queuedFor(fd: number): boolean {
    for (const notification of this.#queue.values()) if (notification.fd === fd) return true;
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
    for (const [key, notification] of this.#queue) {
      order.push({ fd: notification.fd, message: encodeNotification(notification) });
      fds.add(notification.fd);
      this.#queue.delete(key);
      if (order.length === BATCH_MAX) break;
    }
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
    this.#inFlight = new Set();
    if (!this.#closed) this.#send();
    this.#wake();
  }

  /** Nobody writes any more: caches can't be kept right. Every later call fails, and the owner must stop serving. */
  #failed(cause: unknown): void {
    this.#failure = new TidemarkError("INTERNAL", "notifications cannot be written", { cause });
    this.#inFlight = new Set();
    this.#wake();
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
