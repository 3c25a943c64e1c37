import { describe, expect, test } from "vitest";
import type { ContentId, InodeId, Lsn, MountId } from "../domain/ids.ts";
import { LIVE } from "../domain/ids.ts";
import { addToCounters, decodeApplied, emptyCounters, encodeApplied } from "./counters.ts";
import { decodeOrphan, encodeOrphan } from "./holders.ts";
import * as keys from "./keys.ts";
import {
  decodeDentry,
  decodeExtents,
  decodeInode,
  encodeDentry,
  encodeExtents,
  encodeInode,
  type InodeRow,
} from "./rows.ts";

const INODE: InodeRow = {
  ino: (2 ** 40 - 1) as InodeId,
  since: (2 ** 50 + 3) as Lsn,
  generation: 0xffff_fffe,
  mode: 0o104755,
  uid: 4_000_000_000,
  gid: 77,
  nlink: 3,
  rdev: 0x0103,
  size: 2n ** 63n - 1n,
  allocatedBytes: 4096n,
  atime: { sec: -2_051_222_400, nsec: 123_456_789 },
  mtime: { sec: 16_738_617_600, nsec: 999_999_999 },
  ctime: { sec: 1_795_264_000, nsec: 1 },
  btime: { sec: 0, nsec: 0 },
  contentId: 99 as ContentId,
  parent: 0,
  restoredFrom: 12 as InodeId,
  xattrCount: 2,
  target: Buffer.from([0xff, 0x2f, 0x80]),
};

/** Bytes of released formats never change their meaning (FORMAT.md, version 1). */
const GOLDEN = {
  inode:
    "0004000000000003fffffffe000089edee6b28000000004d00000003000001037fffffffffffffff0000000000001000" +
    "ffffffff85bcd480075bcd1500000003e5b309003b9ac9ff000000006b018e0000000001000000000000000000000000" +
    "00000000000000630000000000000000000c000000020003ff2f80",
  dentry: "0000000000000005010000000208",
};

describe("rows", () => {
  test("an inode reads back exactly, at the limits of every field", () => {
    expect(decodeInode(INODE.ino, encodeInode(INODE))).toEqual(INODE);
  });

  test("an inode and a dentry are encoded as in format version 1", () => {
    expect(encodeInode(INODE).toString("hex")).toBe(GOLDEN.inode);
    const dentry = { since: 5 as Lsn, ino: (2 ** 32 + 2) as InodeId, type: 8 };
    expect(encodeDentry(dentry).toString("hex")).toBe(GOLDEN.dentry);
    expect(decodeDentry(Buffer.from(GOLDEN.dentry, "hex"))).toEqual(dentry);
  });

  test("extents read back, and a list longer than its row is refused", () => {
    const extents = [
      { start: 0, length: 4096, segment: 2 ** 52, dataStart: 4_000_000_000, dataLength: 8192, skip: 4096 },
      { start: 8192, length: 1, segment: 0, dataStart: 0, dataLength: 0, skip: 0 },
    ];
    expect(decodeExtents(encodeExtents(extents))).toEqual(extents);
    const cutOff = encodeExtents(extents).subarray(0, 40);
    expect(() => decodeExtents(Buffer.from(cutOff))).toThrow();
  });

  test("every truncation of an inode row is an error, never a wrong inode", () => {
    const encoded = encodeInode(INODE);
    for (let length = 0; length < encoded.length; length++) {
      expect(() => decodeInode(INODE.ino, Buffer.from(encoded.subarray(0, length)))).toThrow(RangeError);
    }
  });

  test("totals follow from the rows of each record alone", () => {
    const counters = emptyCounters();
    const row = encodeInode(INODE);
    const smaller = encodeInode({ ...INODE, allocatedBytes: 512n });
    addToCounters(counters, [{ key: keys.inodeKey(5), value: row }]);
    expect(counters).toEqual({ liveBytes: 4096n, inodeCount: 1 });
    addToCounters(counters, [
      { key: keys.inodeKey(5), value: smaller },
      { key: keys.inodePastKey(5, 9), value: row },
    ]);
    expect(counters).toEqual({ liveBytes: 512n, inodeCount: 1 });
    addToCounters(counters, [
      { key: keys.inodeKey(5), value: null },
      { key: keys.inodePastKey(5, 10), value: smaller },
    ]);
    expect(counters).toEqual({ liveBytes: 0n, inodeCount: 0 });
    expect(decodeApplied(encodeApplied(10, { liveBytes: 7n, inodeCount: 3 }))).toEqual({
      lsn: 10,
      counters: { liveBytes: 7n, inodeCount: 3 },
    });
  });

  test("an orphan names its holders", () => {
    const mounts = [1, 2, 0xffff_ffff].map((mount) => mount as MountId);
    expect(decodeOrphan(encodeOrphan(3 as Lsn, mounts))).toEqual({ since: 3, mounts });
  });
});

describe("keys", () => {
  test("sort like the numbers in them", () => {
    const numbers = [0, 1, 255, 256, 2 ** 32 - 1, 2 ** 32, 2 ** 39, 2 ** 40 - 1];
    const encoded = numbers.map((number) => keys.inodeKey(number));
    expect([...encoded].sort(Buffer.compare)).toEqual(encoded);
    const past = [1, 2, 2 ** 33, LIVE].map((until) => keys.inodePastKey(7, until));
    expect([...past].sort(Buffer.compare)).toEqual(past);
    expect(keys.lsnAtEnd(past[2] ?? Buffer.alloc(0))).toBe(2 ** 33);
  });

  test("wall times sort across 1970 and eras", () => {
    const times = [
      keys.timeKey(0, -5, 9),
      keys.timeKey(0, -1, 0),
      keys.timeKey(0, 0, 1),
      keys.timeKey(0, 2 ** 33, 0),
      keys.timeKey(1, -9, 0),
    ];
    expect([...times].sort(Buffer.compare)).toEqual(times);
  });

  test("the end of a prefix is above every key that starts with it", () => {
    const prefix = Buffer.from([0x44, 0xff, 0xff]);
    expect(keys.prefixEnd(prefix)).toEqual(Buffer.from([0x45]));
    expect(Buffer.compare(keys.prefixEnd(prefix), Buffer.concat([prefix, Buffer.alloc(300, 0xff)]))).toBe(1);
  });
});
