import { randomBytes } from "node:crypto";
import { recover } from "../../src/backup/recover.ts";
import { SystemClock } from "../../src/base/clock.ts";
import { silentLog } from "../../src/base/log.ts";
import { SystemTimers } from "../../src/base/timers.ts";
import { DirectoryBlobs } from "../../src/blob/directory-blobs.ts";
import { SystemTurns } from "../../src/meta/reading/turns.ts";
import { Repository } from "../../src/repository/repository.ts";

// A recovery in a process of its own, to be killed: node recover-child.ts <repository folder> <key as hex> <into>. A line for each step, "finished" at the end.

const [from = "", key = "", into = ""] = process.argv.slice(2);
const clock = new SystemClock();
const store = await DirectoryBlobs.open(from, { create: false });
const repository = await Repository.open({ store, secret: { kind: "key-file", key: Buffer.from(key, "hex") } });
const report = await recover({
  repository,
  reference: {},
  into,
  clock,
  timers: new SystemTimers(),
  turns: new SystemTurns(),
  log: silentLog,
  newId: () => randomBytes(16).toString("hex"),
  onProgress: (progress) => process.stdout.write(`${progress.kind}\n`),
});
process.stdout.write(`finished ${report.apps.length} ${report.failed.length}\n`);
