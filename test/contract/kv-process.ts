/**
 * A process that uses a RocksDB store as the test tells it: `node kv-process.ts MODE DIRECTORY`. Not a test file.
 *   open           opens the store and prints the error's code and message, or "opened"
 *   leave          opens, writes, and comes to its end without closing
 *   exit-sharing   exits while another thread writes
 *   write          writes rounds until it is killed, printing each round that has been written
 *   die COUNT      writes so many rounds and kills itself
 */
import { Worker } from "node:worker_threads";
import { KvError } from "../../src/kv/kv-error.ts";
import { RocksKv } from "../../src/kv/rocks-kv.ts";
import type { PairTask } from "./kv-pair-worker.ts";
import { roundAt } from "./kv-rounds.ts";

const [mode, directory = "", count] = process.argv.slice(2);

try {
  const kv = await RocksKv.open({ directory, missing: "create", memoryBytesMax: 16 * 1024 * 1024 });
  if (mode === "open") {
    console.log("opened");
    await kv.close();
  }
  if (mode === "leave") await kv.batch(roundAt(0));
  if (mode === "exit-sharing") exitSharing(kv);
  if (mode === "write") {
    for (let round = 0; ; round += 1) {
      await kv.batch(roundAt(round));
      process.stdout.write(`${round}\n`);
      // A turn of the loop, without which a full pipe would never be written to again.
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
  if (mode === "die") {
    for (let round = 0; round < Number(count); round += 1) await kv.batch(roundAt(round));
    process.kill(process.pid, "SIGKILL");
  }
} catch (error) {
  if (!(error instanceof KvError)) throw error;
  console.log(`${error.code} ${error.message}`);
}

function exitSharing(kv: RocksKv): void {
  const share = kv.share();
  const task: PairTask = { handle: share.handle, batches: Number.MAX_SAFE_INTEGER, onEnd: "close" };
  new Worker(new URL("./kv-pair-worker.ts", import.meta.url), { workerData: task, transferList: share.transferList });
  const exitOnceWritten = (): void => {
    if (kv.getSync(Buffer.from("pair/left")) !== undefined) process.exit(0);
    setImmediate(exitOnceWritten);
  };
  exitOnceWritten();
}
