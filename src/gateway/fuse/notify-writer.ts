import { Worker } from "node:worker_threads";
import { TidemarkError } from "../../domain/errors.ts";
import type { NotificationCounts, NotificationOrder } from "./notify-worker.ts";

/** Writes notifications to FUSE descriptors, somewhere where waiting for locks of the kernel harms nobody. */
export interface NotificationWriter {
  /**
   * Writes each message, in order; resolves when the last one is with the kernel, however long that takes. Rejects only when the writer itself
   * is broken. One call at a time. The descriptors are in use until it resolves.
   */
  write(order: NotificationOrder): Promise<NotificationCounts>;
  /** Ends the writer; not while a call runs. */
  close(): Promise<void>;
}

/** A thread of this process, started with the first order. */
export class WorkerWriter implements NotificationWriter {
  #worker: Worker | undefined;
  #answer: PromiseWithResolvers<NotificationCounts> | undefined;

  async write(order: NotificationOrder): Promise<NotificationCounts> {
    const answer = Promise.withResolvers<NotificationCounts>();
    this.#answer = answer;
    this.#worker ??= this.#start();
    this.#worker.postMessage(order);
    return await answer.promise;
  }

  async close(): Promise<void> {
    await this.#worker?.terminate();
    this.#worker = undefined;
  }

  #start(): Worker {
    // Small: it only writes.
    const worker = new Worker(new URL("./notify-worker.ts", import.meta.url), {
      resourceLimits: { maxOldGenerationSizeMb: 16, maxYoungGenerationSizeMb: 4 },
    });
    worker.on("message", (counts: NotificationCounts) => this.#answer?.resolve(counts));
    worker.on("error", (cause) => {
      this.#worker = undefined;
      this.#answer?.reject(new TidemarkError("INTERNAL", "the notification thread failed", { cause }));
    });
    worker.unref();
    return worker;
  }
}
