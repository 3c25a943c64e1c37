/**
 * The apply worker: a thread on the shared RocksDB that reads the durable part of the journals and writes its rows, in large batches, each with
 * the LSN it reaches. It also computes the hash chain, so that neither costs the loop anything. Not imported: started by apply-worker-pool.ts.
 */
import { parentPort, workerData } from "node:worker_threads";
import { present } from "../base/assert.ts";
import type { AppId, Lsn } from "../domain/ids.ts";
import { SegmentTail } from "../journal/record-reader.ts";
import { KvError } from "../kv/kv-error.ts";
import type { KvOperation } from "../kv/kv-store.ts";
import { openSharedRocksKv } from "../kv/rocks-kv.ts";
import type { ApplyReply, ApplyRequest } from "./apply-protocol.ts";
import { addToCounters, encodeApplied } from "./counters.ts";
import { plainKey, TABLE } from "./keys.ts";
import { slotPrefix } from "./row-store.ts";
import { SegmentChain } from "./segment-chain.ts";

/** Rows' memory of one batch: large enough that RocksDB's cost per batch vanishes, small enough to come often. */
const BATCH_BYTES_MAX = 2 * 1024 * 1024;

const port = present(parentPort, "apply-worker.ts runs in a worker thread only");
const kv = openSharedRocksKv((workerData as { kv: unknown }).kv);
const tails = new Map<AppId, SegmentTail>();
const chains = new Map<AppId, SegmentChain>();

port.on("message", (request: ApplyRequest) => {
  run(request).then(
    (reply) => port.postMessage(reply),
    (error: unknown) => port.postMessage(failure(request.id, error)),
  );
});

function failure(id: number, error: unknown): ApplyReply {
  const reply = { id, error: String(error) };
  return error instanceof KvError ? { ...reply, code: error.code } : reply;
}

async function run(request: ApplyRequest): Promise<ApplyReply> {
  if (request.kind === "sync") {
    await kv.sync();
    return { id: request.id, lsn: 0 as Lsn, counters: { liveBytes: 0n, inodeCount: 0 } };
  }
  if (request.kind === "forget") {
    tails.get(request.appId)?.close();
    tails.delete(request.appId);
    chains.get(request.appId)?.close();
    chains.delete(request.appId);
    return { id: request.id, lsn: 0 as Lsn, counters: { liveBytes: 0n, inodeCount: 0 } };
  }
  let tail = tails.get(request.appId);
  if (tail === undefined) {
    tail = new SegmentTail(request.folder, request.appId);
    tails.set(request.appId, tail);
  }
  const counters = { ...request.counters };
  const prefix = slotPrefix(request.slot);
  const operations: KvOperation[] = [];
  let lsn = request.from;
  for (const record of tail.read((request.from + 1) as Lsn, request.to, BATCH_BYTES_MAX)) {
    for (const row of record.rows) {
      const key = Buffer.concat([prefix, row.key]);
      operations.push(row.value === null ? { type: "del", key } : { type: "put", key, value: row.value });
    }
    addToCounters(counters, record.rows);
    lsn = record.lsn;
  }
  operations.push(...chainRows(request, prefix, lsn));
  const key = Buffer.concat([prefix, plainKey(TABLE.APPLIED)]);
  await kv.batch([...operations, { type: "put", key, value: encodeApplied(lsn, counters) }]);
  return { id: request.id, lsn, counters };
}

/** Rows of the chain for segments that this batch has gone past. */
function chainRows(request: ApplyRequest & { kind: "apply" }, prefix: Buffer, lsn: Lsn): KvOperation[] {
  let chain = chains.get(request.appId);
  if (chain === undefined) {
    chain = new SegmentChain({ folder: request.folder, appId: request.appId, kv, prefix });
    chains.set(request.appId, chain);
  }
  return chain.rows(lsn);
}
