/** A worker thread that writes rows which belong together, on a shared store, as the applier does. Not a test file. */
import { parentPort, workerData } from "node:worker_threads";
import { KvError } from "../../src/kv/kv-error.ts";
import type { KvOperation } from "../../src/kv/kv-store.ts";
import { openSharedRocksKv } from "../../src/kv/rocks-kv.ts";

/** What the worker is asked to do: how many pairs of rows to write, and how to end. */
export interface PairTask {
  readonly handle: unknown;
  readonly batches: number;
  readonly onEnd: "close" | "throw" | "exit" | "leave-open" | "never-open";
}

/** What the worker tells at its end. `applied`: the last round it has written, -1 if none. */
export type PairReport =
  | { readonly state: "done"; readonly seen: string | undefined; readonly applied: number }
  | { readonly state: "refused"; readonly code: string; readonly applied: number }
  | { readonly state: "silent"; readonly applied: number };

/** Rows written besides the pair, so that write buffers fill and compactions run. */
const FILLER = Buffer.alloc(2000, "filler");

const task = workerData as PairTask;
const port = parentPort;
if (port === null) throw new Error("kv-pair-worker.ts runs in a worker thread only");

if (task.onEnd !== "never-open") {
  const kv = openSharedRocksKv(task.handle);
  const seen = kv.getSync(Buffer.from("from-owner"))?.toString();
  const start = Number(kv.getSync(Buffer.from("pair/left"))?.toString() ?? -1) + 1;
  let applied = start - 1;
  try {
    for (; applied < start + task.batches - 1; applied += 1) await kv.batch(pairAt(applied + 1));
    port.postMessage({ state: "done", seen, applied } satisfies PairReport);
  } catch (error) {
    if (!(error instanceof KvError)) throw error;
    port.postMessage({ state: "refused", code: error.code, applied } satisfies PairReport);
  }
  if (task.onEnd === "throw") throw new Error("thrown on purpose, with the store attached");
  if (task.onEnd === "exit") process.exit(0);
  if (task.onEnd === "close") await kv.close();
}

function pairAt(round: number): KvOperation[] {
  const value = Buffer.from(`${round}`);
  const operations: KvOperation[] = ["left", "middle", "right"].map((key) => ({
    type: "put",
    key: Buffer.from(`pair/${key}`),
    value,
  }));
  for (let index = 0; index < 20; index += 1) {
    operations.push({ type: "put", key: Buffer.from(`filler/${(round * 7 + index * 131) % 5000}`), value: FILLER });
  }
  return operations;
}
