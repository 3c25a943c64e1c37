import { ByteWriter } from "../../base/bytes.ts";
import type { Timestamp } from "../../base/clock.ts";
import type { SnapshotInfo } from "../../domain/admin-catalogue.ts";
import { TidemarkError } from "../../domain/errors.ts";
import type { Lsn } from "../../domain/ids.ts";
import type { RequestContext } from "../../domain/metadata-api.ts";
import { RECORD_OP } from "../../domain/record-op.ts";
import type { EngineCore } from "../core.ts";
import { plainKey, prefixEnd, TABLE } from "../keys.ts";
import { decodeJson, decodeSince, encodeJson, encodeSince } from "../rows.ts";
import { rowsFrom } from "./paths.ts";

/** What a snapshot's row holds beside its `since`. */
type SnapshotAttributes = { readonly lsn: Lsn; readonly time: Timestamp; readonly automatic: boolean };

/** Names given in a message about an unknown one. */
const NAMES_SHOWN = 5;

/** All snapshots, by name. */
export function* snapshots(core: EngineCore): Generator<SnapshotInfo> {
  const gte = plainKey(TABLE.SNAPSHOT);
  for (const row of rowsFrom(core, gte, prefixEnd(gte))) yield decode(row.key.subarray(1).toString("utf8"), row.value);
}

export function hasSnapshot(core: EngineCore, name: string): boolean {
  return core.store.get(snapshotKey(name)) !== undefined;
}

/** Throws NOT_FOUND, naming some that are there. */
export function findSnapshot(core: EngineCore, name: string): SnapshotInfo {
  const value = core.store.get(snapshotKey(name));
  if (value !== undefined) return decode(name, value);
  const names: string[] = [];
  for (const snapshot of snapshots(core)) {
    if (names.length === NAMES_SHOWN) break;
    names.push(snapshot.name);
  }
  const hint =
    names.length === 0
      ? "the app has none"
      : `there is ${names.join(", ")}${names.length === NAMES_SHOWN ? ", ..." : ""}`;
  throw new TidemarkError("NOT_FOUND", `there is no snapshot "${name}": ${hint}`);
}

/** Names a moment: `of`, or by default the record's own. One record. Throws ALREADY_EXISTS, and FsError as a commit does. */
export function addSnapshot(
  core: EngineCore,
  snapshot: {
    readonly name: string;
    readonly automatic: boolean;
    readonly of?: { readonly lsn: Lsn; readonly time: Timestamp };
  },
  context: RequestContext,
): SnapshotInfo {
  const { name, automatic } = snapshot;
  const key = snapshotKey(name);
  if (core.store.get(key) !== undefined) {
    throw new TidemarkError(
      "ALREADY_EXISTS",
      `the app already has a snapshot "${name}": choose another name, or delete that one`,
    );
  }
  if (snapshot.of !== undefined) core.moments.require(snapshot.of.lsn);
  const tx = core.begin(context);
  const { lsn, time } = snapshot.of ?? tx;
  const attributes: SnapshotAttributes = { lsn, time: { sec: time.sec, nsec: time.nsec }, automatic };
  tx.row(key, encodeSince(tx.lsn, encodeJson(attributes)));
  tx.tellSnapshot(name);
  tx.commit(RECORD_OP.SNAPSHOT_CREATE, encodeJson({ name, lsn, automatic }));
  return { name, ...attributes };
}

/** Forgets a name. One record. Throws NOT_FOUND. */
export function removeSnapshot(core: EngineCore, name: string, context: RequestContext): SnapshotInfo {
  const snapshot = findSnapshot(core, name);
  const key = snapshotKey(name);
  const value = core.store.get(key) as Buffer;
  const tx = core.begin(context);
  tx.row(key, null);
  const past = new ByteWriter(300)
    .bytes(plainKey(TABLE.SNAPSHOT_PAST, Buffer.from(name, "utf8")))
    .u8(0)
    .u64(tx.lsn)
    .finish();
  tx.row(past, value);
  tx.tellSnapshot(name);
  tx.commit(RECORD_OP.SNAPSHOT_DELETE, encodeJson({ name, lsn: snapshot.lsn, automatic: snapshot.automatic }), {
    useReserve: true,
  });
  return snapshot;
}

function decode(name: string, value: Buffer): SnapshotInfo {
  return { name, ...decodeJson<SnapshotAttributes>(decodeSince(value).bytes) };
}

function snapshotKey(name: string): Buffer {
  return plainKey(TABLE.SNAPSHOT, Buffer.from(name, "utf8"));
}
