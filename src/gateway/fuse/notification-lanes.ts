import { Notifier } from "./notify.ts";
import type { NotificationWriter } from "./notify-writer.ts";
import { LANES_MAX } from "./supervisor-protocol.ts";

/**
 * The ways by which notifications get to kernels. Some wait for locks that applications hold while they wait for us: dropping a name needs the directory's, dropping pages of a file waits for those that
 * are being read or written. They go by lanes of their mount, so that what waits for one mount is in nobody else's way (mounts share lanes when there are many). The others (attributes of inodes,
 * listings of directories) never wait for long, and go by a lane of their own.
 */
export class NotificationLanes {
  /** For what waits for no lock that an application may hold while it waits for us. */
  readonly prompt: Notifier;
  readonly #writerOf: (lane: number) => NotificationWriter;
  readonly #locking: Notifier[] = [];
  #next = 0;

  /** `writerOf`: who writes those of a lane, 0 to LANES_MAX - 1. */
  constructor(writerOf: (lane: number) => NotificationWriter) {
    this.#writerOf = writerOf;
    this.prompt = new Notifier(writerOf(0));
  }

  /** A lane for what may wait for one kind of lock of one mount. */
  assign(): Notifier {
    const index = this.#next++ % (LANES_MAX - 1);
    const notifier = this.#locking[index] ?? new Notifier(this.#writerOf(index + 1));
    this.#locking[index] = notifier;
    return notifier;
  }

  async close(): Promise<void> {
    await Promise.all([this.prompt, ...this.#locking].map((notifier) => notifier.close()));
  }
}
