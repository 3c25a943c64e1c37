import { assert } from "../../base/assert.ts";
import type { NotificationCounts, NotificationOrder } from "./notify-worker.ts";
import { WorkerWriter } from "./notify-writer.ts";
import { LANES_MAX } from "./supervisor-protocol.ts";

type Lane = {
  readonly writer: WorkerWriter;
  /** The batches that are being or wait to be written. Never rejects. */
  writing: Promise<void>;
};

/** The threads that write a supervisor's notifications, one for each lane that was ever used: a lane that waits for a lock in the kernel is not in the way of the others. */
export class NotificationThreads {
  readonly #lanes = new Map<number, Lane>();

  /** Writes what `order` answers when it is the lane's turn: after what came before, also of a process that has died since. Rejects when the thread failed. */
  write(lane: number, order: () => NotificationOrder): Promise<NotificationCounts> {
    assert(Number.isInteger(lane) && lane >= 0 && lane < LANES_MAX, "a lane of notifications");
    let found = this.#lanes.get(lane);
    if (found === undefined) {
      found = { writer: new WorkerWriter(), writing: Promise.resolve() };
      this.#lanes.set(lane, found);
    }
    const { writer } = found;
    const run = found.writing.then(() => writer.write(order()));
    found.writing = run.then(
      () => {},
      () => {},
    );
    return run;
  }

  /** Resolves when all that was to be written until now has been. */
  async idle(): Promise<void> {
    await Promise.all([...this.#lanes.values()].map(({ writing }) => writing));
  }

  /** Ends the threads after what they have to write. */
  async close(): Promise<void> {
    await this.idle();
    await Promise.all([...this.#lanes.values()].map(({ writer }) => writer.close()));
  }
}
