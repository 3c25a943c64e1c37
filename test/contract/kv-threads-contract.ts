import { Worker } from "node:worker_threads";
import { expect, test } from "vitest";
import type { KvShare, KvStore } from "../../src/kv/kv-store.ts";
import type { PairReport, PairTask } from "./kv-pair-worker.ts";

/** Batches of the writer while the other thread reads; enough for some flushes of small write buffers. */
const PAIR_BATCHES = 400;

const bytes = (text: string): Buffer => Buffer.from(text, "latin1");

/** The part of the contract that is about other threads. A store that isn't shareable only has to say so. */
export function describeThreads(store: () => KvStore, reopen: () => Promise<KvStore>): void {
  test("reads are of one moment while an applier writes", async () => {
    const kv = store();
    const share = kv.share();
    // Where no other thread can write, the applier is a chain of turns between the reads.
    const applier = share === undefined ? applyPairs(kv) : runWorker(share, { batches: PAIR_BATCHES, onEnd: "close" });
    let reads = 0;
    for (let running = true; running; reads += 1) {
      running = checkPairs(kv) < PAIR_BATCHES - 1;
      await nextTurn();
    }
    await applier;
    expect(reads).toBeGreaterThan(1);
  });

  test("share is there exactly where the store is shareable", () => {
    const kv = store();
    expect(kv.share() !== undefined).toBe(kv.capabilities.shareable);
  });

  test("what the owner wrote is read by the thread it shares with, and the other way round", async () => {
    const kv = store();
    await kv.batch([{ type: "put", key: bytes("from-owner"), value: bytes("1") }]);
    const share = kv.share();
    if (share === undefined) return;
    const report = await runWorker(share, { batches: 1, onEnd: "close" });
    expect(report).toEqual({ state: "done", seen: "1", applied: 0 });
    expect(checkPairs(kv)).toBe(0);
  });

  test("close while another thread writes: its batches are whole, and its next call fails with KV_CLOSED", async () => {
    const kv = store();
    const share = kv.share();
    if (share === undefined) return;
    const ended = runWorker(share, { batches: Number.MAX_SAFE_INTEGER, onEnd: "close" });
    while (checkPairs(kv) < 20) await nextTurn();
    await kv.close();
    const report = await ended;
    expect(report).toMatchObject({ state: "refused", code: "KV_CLOSED" });
    const again = await reopen();
    expect(checkPairs(again)).toBe(report.applied);
  });

  test("threads that are terminated while they write do not keep close from ending", async () => {
    const kv = store();
    for (let round = 0; round < 5; round += 1) {
      const share = kv.share();
      if (share === undefined) return;
      const worker = pairWorker(share, { batches: Number.MAX_SAFE_INTEGER, onEnd: "close" });
      const start = checkPairs(kv);
      while (checkPairs(kv) < start + 3) await nextTurn();
      const gone = worker.terminate();
      // Not awaited in the last round: there, dying and closing overlap.
      if (round < 4) await gone;
    }
    const last = checkPairs(kv);
    await kv.close();
    const again = await reopen();
    expect(checkPairs(again)).toBeGreaterThanOrEqual(last);
  });

  test("a thread that throws, exits, keeps it open or never opens it does not keep close from ending", async () => {
    const kv = store();
    for (const onEnd of ["throw", "exit", "leave-open", "never-open"] as const) {
      const share = kv.share();
      if (share === undefined) return;
      await runWorker(share, { batches: 2, onEnd });
    }
    await kv.close();
    const again = await reopen();
    expect(checkPairs(again)).toBe(5);
  });
}

function pairWorker(share: KvShare, task: Omit<PairTask, "handle">): Worker {
  return new Worker(new URL("./kv-pair-worker.ts", import.meta.url), {
    workerData: { ...task, handle: share.handle } satisfies PairTask,
    transferList: share.transferList,
  });
}

/** Runs a worker to its end; settles with what it told. */
function runWorker(share: KvShare, task: Omit<PairTask, "handle">): Promise<PairReport> {
  const worker = pairWorker(share, task);
  return new Promise((resolve, reject) => {
    let report: PairReport = { state: "silent", applied: -1 };
    worker.on("message", (message: PairReport) => {
      report = message;
    });
    worker.once("error", (error) => (task.onEnd === "throw" ? resolve(report) : reject(error)));
    worker.once("exit", () => resolve(report));
  });
}

/** One turn of the event loop, so that messages of other threads arrive. */
function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

async function applyPairs(kv: KvStore): Promise<void> {
  for (let round = 0; round < PAIR_BATCHES; round += 1) {
    const value = bytes(`${round}`);
    await kv.batch(["left", "middle", "right"].map((side) => ({ type: "put", key: bytes(`pair/${side}`), value })));
    await nextTurn();
  }
}

/** Reads the rows that are always written together, in each way there is, and returns the round that wrote them (-1: none yet). */
function checkPairs(kv: KvStore): number {
  const within = { gte: bytes("pair/"), lt: bytes("pair0"), limit: 10 };
  const ranged = kv.rangeSync(within).map((entry) => entry.value.toString());
  const backward = kv.rangeSync({ ...within, reverse: true }).map((entry) => entry.value.toString());
  const got = kv.getManySync(["pair/left", "pair/middle", "pair/right"].map(bytes)).map((value) => value?.toString());
  if (ranged.length > 0) expect(ranged).toEqual([ranged[0], ranged[0], ranged[0]]);
  if (backward.length > 0) expect(backward).toEqual([backward[0], backward[0], backward[0]]);
  expect(got).toEqual([got[0], got[0], got[0]]);
  return Number(got[0] ?? -1);
}
