import { Worker } from "node:worker_threads";
import { assert } from "../../base/assert.ts";
import { CONTENT_PIECE_BYTES_MAX } from "../../domain/admin-call.ts";
import type { ShortfallList } from "./shortfalls.ts";
import { ItemPacker } from "./tree-items.ts";
import type { TreeCounts, TreeReply, TreeRequest, TreeWorkerData } from "./tree-protocol.ts";
import type { TreeItem } from "./tree-writer.ts";

/** Bytes of items handed over at a time: the largest piece of content and what is said of it, or some dozens of small files, beside which a message between threads costs nothing. */
const MEMORY_BYTES = CONTENT_PIECE_BYTES_MAX + 64 * 1024;

/** One is being filled, one written, and two wait, so that neither thread does. 4 MiB. */
const MEMORIES_MAX = 4;

/** The thread's young generation: it makes nothing but little garbage. */
const YOUNG_MEBIBYTES = 4;

/** What was written, as far as it is known, and at the end all of it. */
export type TreeResult = {
  readonly contentBytes: bigint;
  readonly fileCounts: TreeCounts;
  readonly shortfalls: ShortfallList;
};

/**
 * Writes a tree (see TreeWriter) in a thread of its own: making a file is a dozen calls that wait for the kernel, in which this thread reads what comes next. `accept` waits while the files are
 * behind. Ends with `finish` or `abandon`; `close` it in any case.
 */
export class TreeThread {
  readonly #worker: Worker;
  readonly #packer = new ItemPacker();
  readonly #free: SharedArrayBuffer[] = [];
  #memoryCount = 0;
  #filling: SharedArrayBuffer | undefined;
  #contentBytes = 0n;
  #result: TreeResult | undefined;
  #failure: Error | undefined;
  #closing = false;
  /** Who waits for the thread's next word. */
  #wake: (() => void) | undefined;

  constructor({ target, replace, user }: TreeWorkerData) {
    const workerData: TreeWorkerData = { target: Uint8Array.from(target), replace, user };
    this.#worker = new Worker(new URL("./tree-worker.ts", import.meta.url), {
      workerData,
      resourceLimits: { maxYoungGenerationSizeMb: YOUNG_MEBIBYTES },
    });
    this.#worker.on("message", (reply: TreeReply) => this.#heard(reply));
    this.#worker.on("error", (error: Error) => this.#failed(error));
    this.#worker.on("exit", (code) => this.#failed(new Error(`the thread that writes files ended with code ${code}`)));
  }

  /** Bytes of content that are written. */
  get contentBytes(): bigint {
    return this.#contentBytes;
  }

  /** Takes the next item; its bytes are read before it resolves. Throws what ended the thread. */
  async accept(item: TreeItem): Promise<void> {
    if (this.#filling !== undefined && this.#packer.add(item)) return;
    this.#hand();
    const needed = this.#packer.bytesOf(item);
    // An entry may have attributes without number: such one gets memory of its own.
    const memory = needed > MEMORY_BYTES ? new SharedArrayBuffer(needed) : await this.#memory();
    this.#filling = memory;
    this.#packer.begin(Buffer.from(memory));
    assert(this.#packer.add(item), "memory for an item");
  }

  /** When all items came: the directories are finished. */
  finish(): Promise<TreeResult> {
    return this.#end({ kind: "finish" });
  }

  /** When the stream broke: what came is written; files stay as far as they are. Never throws. */
  async abandon(): Promise<void> {
    await this.#end({ kind: "abandon" }).catch(() => {});
  }

  async close(): Promise<void> {
    this.#closing = true;
    await this.#worker.terminate();
  }

  async #end(request: TreeRequest): Promise<TreeResult> {
    this.#hand();
    this.#worker.postMessage(request);
    for (;;) {
      if (this.#failure !== undefined) throw this.#failure;
      if (this.#result !== undefined) return this.#result;
      await this.#word();
    }
  }

  /** Hands over what was filled. */
  #hand(): void {
    if (this.#filling === undefined) return;
    const request: TreeRequest = { kind: "items", memory: this.#filling, used: this.#packer.used };
    this.#filling = undefined;
    this.#worker.postMessage(request);
  }

  async #memory(): Promise<SharedArrayBuffer> {
    for (;;) {
      if (this.#failure !== undefined) throw this.#failure;
      const free = this.#free.pop();
      if (free !== undefined) return free;
      if (this.#memoryCount < MEMORIES_MAX) {
        this.#memoryCount += 1;
        return new SharedArrayBuffer(MEMORY_BYTES);
      }
      await this.#word();
    }
  }

  #word(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  #heard(reply: TreeReply): void {
    this.#contentBytes = reply.contentBytes;
    if (reply.kind === "written") {
      if (reply.memory.byteLength === MEMORY_BYTES) this.#free.push(reply.memory);
    } else {
      const { contentBytes, fileCounts, shortfallCount: count } = reply;
      // As they come through structured cloning, they are no Buffers.
      const listed = reply.shortfalls.map(({ path, ...rest }) => ({ path: Buffer.from(path), ...rest }));
      this.#result = { contentBytes, fileCounts, shortfalls: { count, listed } };
    }
    this.#wake?.();
  }

  #failed(error: Error): void {
    if (this.#closing) return;
    this.#failure ??= error;
    this.#wake?.();
  }
}
