import { readU64Be } from "../base/bytes.ts";
import type { Timestamp } from "../base/clock.ts";
import type { Lsn, MountId } from "../domain/ids.ts";
import { BODY_BYTES_MAX, DATA_BYTES_MAX, PREFIX_BYTES, RECORD_VERSION } from "../journal/record.ts";
import { RECORD_MAGIC } from "../journal/record-decoder.ts";

// ../journal/FORMAT.md, "Record". In a seal a record stands without its segment's seed, so its checksums can't be verified: the object's authentication and the chain do it.

/** What a record's prefix says. */
export type RecordFields = {
  readonly lsn: Lsn;
  readonly op: number;
  readonly time: Timestamp;
  readonly mountId: MountId;
  readonly unique: number;
  readonly durableLsn: Lsn;
  readonly dataLength: number;
  readonly bodyLength: number;
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
};

/** Reads the 96 bytes a record begins with. Throws RangeError for what are none. */
export function prefixOf(prefix: Buffer): RecordFields {
  if (prefix.length !== PREFIX_BYTES || !prefix.subarray(0, 4).equals(RECORD_MAGIC))
    throw new RangeError("no record begins here");
  if (prefix.readUInt8(4) !== RECORD_VERSION) throw new RangeError(`a record of version ${prefix.readUInt8(4)}`);
  const dataLength = prefix.readUInt32BE(48);
  const bodyLength = prefix.readUInt32BE(52);
  if (dataLength > DATA_BYTES_MAX || bodyLength > BODY_BYTES_MAX)
    throw new RangeError("a record is longer than any may be");
  const sec = prefix.readInt32BE(16) * 0x1_0000_0000 + prefix.readUInt32BE(20);
  const nsec = prefix.readUInt32BE(24);
  if (!Number.isSafeInteger(sec) || nsec >= 1_000_000_000) throw new RangeError("a record's time is out of range");
  return {
    lsn: readU64Be(prefix, 8) as Lsn,
    op: prefix.readUInt8(5),
    time: { sec, nsec },
    mountId: prefix.readUInt32BE(28) as MountId,
    unique: readU64Be(prefix, 32),
    durableLsn: readU64Be(prefix, 40) as Lsn,
    dataLength,
    bodyLength,
    uid: prefix.readUInt32BE(56),
    gid: prefix.readUInt32BE(60),
    pid: prefix.readUInt32BE(64),
  };
}
