import type { Lsn } from "../../domain/ids.ts";
import { RECORD_OP } from "../../domain/record-op.ts";
import type { RowOp } from "../../journal/record.ts";
import { decodeTimeKey, type EngineCore } from "../core.ts";
import { plainKey, TABLE, timeKey } from "../keys.ts";
import { SERVICE_CONTEXT } from "../open-app.ts";
import { recordAt } from "../reading/records.ts";
import { decodeLsn, encodeJson, encodeLsn } from "../rows.ts";
import type { AppSpace } from "./app-space.ts";
import { encodeFloor } from "./space-rows.ts";

/** Seconds of any record are within this. */
const SECONDS_MIN = -(2 ** 53) + 1;

/**
 * Moves the floor up to `floor`: from here on older moments can't be read, unless they are kept. One record, with the rows of the grid's moments that it passes. The previous walk must have ended. Throws
 * FsError ENOSPC or EIO, TidemarkError DATA_DAMAGED, with nothing changed.
 */
export async function raiseFloor(space: AppSpace, floor: Lsn, grid: readonly RowOp[] = []): Promise<void> {
  const { core } = space.app;
  const before = space.floor;
  const { time } = await recordAt(core, floor);
  const era = eraOf(core, floor);
  const row = { floor, previous: before.floor, walked: before.floor, era, time };
  const tx = core.begin(SERVICE_CONTEXT);
  tx.row(plainKey(TABLE.FLOOR), encodeFloor(row));
  // The floor has a row of its own in the time index, so that times from it on resolve exactly when its record is gone.
  if (before.floor > 0) tx.row(timeKey(before.era, before.time.sec, before.time.nsec), null);
  tx.row(timeKey(era, time.sec, time.nsec), encodeLsn(floor));
  for (const { key, value } of grid) tx.row(key, value);
  tx.commit(RECORD_OP.SPACE, encodeJson({ floor }), { useReserve: true });
  space.floor = row;
  core.moments.raise(floor);
}

/** The clock era of a record: the newest that begins at or before it. */
function eraOf(core: EngineCore, lsn: Lsn): number {
  for (let era = core.era; era > 0; era--) {
    const first = core.store.range({
      gte: timeKey(era, SECONDS_MIN, 0),
      lt: timeKey(era + 1, SECONDS_MIN, 0),
      limit: 1,
    })[0];
    if (first !== undefined && decodeTimeKey(first.key).era === era && decodeLsn(first.value) <= lsn) return era;
  }
  return 0;
}
