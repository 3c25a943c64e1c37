/**
 * engine-power-child.ts FOLDER SEED STEPS: an engine with its real store and apply worker, under random requests. Writes "acknowledged LSN" after each change and
 * "synced LSN" after each fsync; ends when the disk fails.
 */
import { writeSync } from "node:fs";
import path from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { silentLog } from "../../src/base/log.ts";
import { RocksKv } from "../../src/kv/rocks-kv.ts";
import { ApplyWorkerPool } from "../../src/meta/apply-worker-pool.ts";
import { ManualClock } from "../model/manual-clock.ts";
import { ENGINE_APP_ID, EngineRun, engineJournal, openEngineApp } from "./engine-run.ts";

/** Requests between turns of the event loop, as when a kernel keeps a gateway busy. */
const REQUESTS_PER_TURN = 8;

const [folder = "", seed = "", steps = ""] = process.argv.slice(2);
const clock = new ManualClock();
const kv = await RocksKv.open({ directory: path.join(folder, "kv"), missing: "create" });
const pool = new ApplyWorkerPool(kv);
const app = await openEngineApp({
  folder,
  kv,
  clock,
  log: silentLog,
  backend: () => pool.backend({ appId: ENGINE_APP_ID, slot: 1, folder: engineJournal(folder) }),
});
const run = EngineRun.begin(app, clock, { seed: Number(seed), steps: Number(steps) });
let told = 0;
for (let count = 1; ; count++) {
  const done = run.next();
  if (done === undefined) break;
  const { lastLsn } = app.core;
  if (done.request.op === "fsync" && done.reply instanceof Promise) {
    done.reply.then(
      () => tell("synced", lastLsn),
      () => process.exit(0),
    );
  } else if (done.reply instanceof Promise) await done.reply.catch(() => {});
  if (lastLsn > told) tell("acknowledged", lastLsn);
  told = lastLsn;
  if (count % REQUESTS_PER_TURN === 0) await turn();
}
// Everything is said: what is left is to be killed.
setInterval(() => {}, 1_000_000);

/** Standard output is a pipe that does not block: EAGAIN while the other end is slow to read. */
function tell(what: string, lsn: number): void {
  for (;;) {
    try {
      writeSync(1, `${what} ${lsn}\n`);
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN") throw error;
    }
  }
}
