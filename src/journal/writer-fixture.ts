import fs from "node:fs";
import { SystemClock } from "../base/clock.ts";
import { silentLog } from "../base/log.ts";
import type { AppId, Lsn, MountId } from "../domain/ids.ts";
import { Journal } from "./journal.ts";
import type { RecordDraft } from "./record.ts";

// For crash tests: run as a program, it appends to a journal until it is killed, and says on standard output what it may be held to.
//   node writer-fixture.ts FOLDER APP_ID SEGMENT_BYTES_MAX
//   A <lsn>   the append returned        S <lsn>   the sync returned        F   an operation failed; it ends

/** The record that is written as `lsn`: any reader can tell what must be there. */
export function draftOf(lsn: number): RecordDraft {
  const dataLength = lsn % 3 === 0 ? (lsn * 7919) % 150_000 : lsn % 3 === 1 ? lsn % 5000 : 0;
  return {
    op: 10,
    time: { sec: lsn, nsec: lsn % 1_000_000_000 },
    actor: { mountId: 1 as MountId, uid: lsn % 1000, gid: 2, pid: 3, label: "" },
    unique: lsn * 2,
    detail: Buffer.from(`record ${lsn}`),
    rows: [{ key: Buffer.from(`I${lsn}`), value: Buffer.alloc(lsn % 300, lsn % 251) }],
    data: dataLength === 0 ? null : Buffer.alloc(dataLength, lsn % 253),
  };
}

function say(line: string): void {
  fs.writeSync(1, `${line}\n`);
}

async function write(folder: string, appId: AppId, segmentBytesMax: number): Promise<void> {
  const limits = { segmentBytesMax, backgroundSyncDelayMs: 5 };
  const base = { folder, appId, clock: new SystemClock(), log: silentLog, limits };
  const journal = await Journal.open({ ...base, appliedLsn: 0 as Lsn, onRecord: () => undefined });
  for (;;) {
    const record = draftOf(journal.lastLsn + 1);
    journal.place(record.data?.length ?? 0, 1000);
    const lsn = journal.append(record);
    say(`A ${lsn}`);
    if (lsn % 4 !== 0) continue;
    // Some wait for durability, some leave it to the background; the loop must turn for either.
    if (lsn % 16 === 0) {
      await journal.sync(lsn);
      say(`S ${lsn}`);
    } else {
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
}

if (process.argv[1]?.endsWith("writer-fixture.ts") === true) {
  const [, , folder = "", appId = "", segmentBytesMax = ""] = process.argv;
  write(folder, appId as AppId, Number(segmentBytesMax)).catch((error: unknown) => {
    say(`F ${String(error)}`);
    process.exit(1);
  });
}
