import { compareTimestamps } from "../../base/clock.ts";
import type { Lsn } from "../../domain/ids.ts";
import { parseUtcTime } from "../../domain/moment.ts";
import { isSnapshotName } from "../../domain/names.ts";
import { plainKey, prefixEnd, TABLE } from "../../meta/keys.ts";
import type { OpenApp } from "../../meta/open-app.ts";
import { resolveMoment } from "../../meta/reading/time.ts";

/** Snapshot names shown in a listing of `.tidemark`. */
const SNAPSHOTS_LISTED_MAX = 10_000;

/** What a name inside `.tidemark` means: a snapshot, or an absolute time in UTC. A time to come is nothing yet: a view never changes. */
export function findMoment(app: OpenApp, name: string): Promise<Lsn | undefined> | undefined {
  const time = parseUtcTime(name);
  if (time === undefined && !isSnapshotName(name)) return undefined;
  if (time !== undefined && compareTimestamps(time, app.core.clock.now()) > 0) return undefined;
  const moment = time === undefined ? ({ kind: "snapshot", name } as const) : ({ kind: "time", time } as const);
  return resolveMoment(app.core, moment).then(
    (resolved) => (resolved.lsn === 0 ? undefined : resolved.lsn),
    () => undefined,
  );
}

/** The app's snapshots, by name. */
export function snapshotNames(app: OpenApp): string[] {
  const gte = plainKey(TABLE.SNAPSHOT);
  const rows = app.store.range({ gte, lt: prefixEnd(gte), limit: SNAPSHOTS_LISTED_MAX });
  return rows.map((row) => row.key.subarray(1).toString("utf8"));
}
