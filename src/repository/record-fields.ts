import { ByteReader, readU64Be } from "../base/bytes.ts";
import type { Timestamp } from "../base/clock.ts";
import type { Lsn, MountId } from "../domain/ids.ts";
import {
  BODY_BYTES_MAX,
  DATA_BYTES_MAX,
  DELETED_VALUE_LENGTH,
  PREFIX_BYTES,
  RECORD_VERSION,
  type RowOp,
} from "../journal/record.ts";
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

/** What a record's body says. Its buffers are views of it. */
export type RecordBody = { readonly label: string; readonly detail: Buffer; readonly rows: RowOp[] };

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

/** Reads a record's body. Throws RangeError for what is none. */
export function bodyOf(body: Buffer): RecordBody {
  const reader = new ByteReader(body);
  const label = reader.bytes(reader.u8()).toString();
  const detail = reader.bytes(reader.u16());
  const count = reader.u32();
  // Each row takes at least 6 bytes: a count beyond what is left is refused before anything is allocated for it.
  if (count * 6 > reader.remaining) throw new RangeError(`${count} rows in ${reader.remaining} bytes`);
  const rows: RowOp[] = [];
  for (let index = 0; index < count; index++) {
    const keyLength = reader.u16();
    const valueLength = reader.u32();
    const key = reader.bytes(keyLength);
    rows.push({ key, value: valueLength === DELETED_VALUE_LENGTH ? null : reader.bytes(valueLength) });
  }
  if (reader.remaining !== 0) throw new RangeError(`${reader.remaining} bytes are left over in a body`);
  return { label, detail, rows };
}
