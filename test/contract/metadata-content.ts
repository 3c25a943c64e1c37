import { expect } from "vitest";
import { LIVE } from "../../src/domain/ids.ts";
import { SIZE_BYTES_MAX } from "../../src/domain/inode.ts";
import {
  FALLOC_KEEP_SIZE,
  FALLOC_PUNCH_HOLE,
  FALLOC_ZERO_RANGE,
  WRITE_BYTES_MAX,
} from "../../src/domain/metadata-api.ts";
import { Random } from "../model/random.ts";
import { type Behaviour, changedTimes } from "./metadata-share.ts";

const PUNCH = FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE;
const MIB = 1024n * 1024n;

/** Bytes of files: read, write, truncate, holes, copies. */
export function contentBehaviours(behaviour: Behaviour): void {
  readsAndWrites(behaviour);
  wholeAndPart(behaviour);
  farOffsets(behaviour);
  truncation(behaviour);
  allocation(behaviour);
  holes(behaviour);
  copies(behaviour);
  copyLimits(behaviour);
  copyRefusals(behaviour);
}

function readsAndWrites(behaviour: Behaviour): void {
  behaviour("what is written is read, over a crash and from a cold cache", async (share) => {
    const { ino } = await share.create("a");
    expect(await share.write(ino, "hello world")).toBe(11);
    expect(await share.text(ino)).toBe("hello world");
    await share.reopen();
    expect(await share.text(ino)).toBe("hello world");
    await share.settle();
    expect(await share.text(ino)).toBe("hello world");
  });

  behaviour("a write sets mtime and ctime, and is one record", async (share) => {
    const made = await share.create("a");
    const before = share.lsn;
    await share.write(made.ino, "content");
    expect(share.lsn).toBe(before + 1);
    expect(changedTimes(made, await share.stat(made.ino))).toBe("mtime ctime");
  });

  behaviour("an append goes to the end of the file, and who took that to be elsewhere is told", async (share) => {
    const { ino } = await share.create("a");
    const append = { op: "write", ino, data: Buffer.from("line "), killPrivileges: false, append: true } as const;
    expect(await share.do({ ...append, offset: 0n })).toBe(5);
    expect(await share.do({ ...append, offset: 2n })).toBe(5);
    await share.write(ino, "X", 12n);
    expect(await share.do({ ...append, offset: 13n })).toBe(5);
    expect(await share.do({ ...append, offset: 900n })).toBe(5);
    expect(await share.text(ino)).toBe("line line \0\0Xline line ");
    await share.reopen();
    expect((await share.stat(ino)).size).toBe(23n);
  });

  behaviour("a write of no bytes changes nothing", async (share) => {
    const made = await share.create("a", share.root, { mode: 0o4755 });
    expect(
      await share.do({ op: "write", ino: made.ino, offset: 100n, data: Buffer.alloc(0), killPrivileges: true }),
    ).toBe(0);
    const after = await share.stat(made.ino);
    expect([after.size, after.mode, changedTimes(made, after)]).toEqual([0n, made.mode, ""]);
  });

  behaviour("the newest of overlapping writes wins, byte by byte", async (share) => {
    const { ino } = await share.create("a");
    await share.write(ino, "aaaaaaaaaa");
    await share.write(ino, "bbbb", 3n);
    await share.write(ino, "cc", 2n);
    await share.write(ino, "d", 9n);
    expect(await share.text(ino)).toBe("aaccbbbaad");
  });
}

function wholeAndPart(behaviour: Behaviour): void {
  behaviour("reads end at the end of the file, and beyond it there is nothing", async (share) => {
    const { ino } = await share.create("a");
    await share.write(ino, "content");
    expect((await share.read(ino, { offset: 4n, length: 100 })).toString()).toBe("ent");
    expect(await share.read(ino, { offset: 7n, length: 100 })).toHaveLength(0);
    expect(await share.read(ino, { offset: 2n ** 62n, length: 100 })).toHaveLength(0);
    expect(await share.read(ino, { offset: 0n, length: 0 })).toHaveLength(0);
  });

  behaviour("the largest write is read in one piece, and in pieces of any size", async (share) => {
    const { ino } = await share.create("a");
    const data = new Random(1).bytes(WRITE_BYTES_MAX);
    expect(await share.write(ino, data, 5n)).toBe(WRITE_BYTES_MAX);
    expect((await share.read(ino, { offset: 5n, length: WRITE_BYTES_MAX })).equals(data)).toBe(true);
    for (const [offset, length] of [
      [0, 65_536],
      [65_535, 3],
      [131_071, 65_600],
      [1_000_000, 48_000],
    ] as const) {
      const found = await share.read(ino, { offset: BigInt(offset + 5), length });
      expect(found.equals(data.subarray(offset, offset + length))).toBe(true);
    }
  });

  behaviour("the data of a write is copied before the call returns", async (share) => {
    const { ino } = await share.create("a");
    const lent = Buffer.from("original");
    const answer = share.harness.api.execute(
      { op: "write", ino, offset: 0n, data: lent, killPrivileges: false },
      share.context(),
    );
    lent.fill("x");
    await answer;
    expect(await share.text(ino)).toBe("original");
  });

  behaviour("hundreds of small writes in one place read as one file, now and after a crash", async (share) => {
    const { ino } = await share.create("a");
    const random = new Random(2);
    const expected = Buffer.alloc(4000);
    for (let count = 0; count < 300; count++) {
      const data = random.bytes(1 + random.below(60));
      const offset = random.below(expected.length - data.length);
      data.copy(expected, offset);
      await share.write(ino, data, BigInt(offset));
    }
    await share.set(ino, { size: 4000n });
    expect((await share.read(ino)).equals(expected)).toBe(true);
    await share.reopen();
    expect((await share.read(ino)).equals(expected)).toBe(true);
  });

  behaviour("a directory can't be written, read, truncated or allocated", async (share) => {
    const ino = share.root;
    const refused = ["EISDIR", "EINVAL"];
    expect(refused).toContain(
      await share.refusal({ op: "write", ino, offset: 0n, data: Buffer.from("x"), killPrivileges: false }),
    );
    expect(refused).toContain(await share.refusal({ op: "read", ino, offset: 0n, length: 1, at: LIVE }));
    expect(refused).toContain(await share.refusal({ op: "setattr", ino, set: { size: 0n } }));
    expect(refused).toContain(await share.refusal({ op: "fallocate", ino, mode: 0, offset: 0n, length: 1n }));
  });
}

function farOffsets(behaviour: Behaviour): void {
  behaviour("a file may end at 2^63-1, and not one byte later", async (share) => {
    const { ino } = await share.create("a");
    await share.write(ino, "end", SIZE_BYTES_MAX - 3n);
    expect((await share.stat(ino)).size).toBe(SIZE_BYTES_MAX);
    expect((await share.read(ino, { offset: SIZE_BYTES_MAX - 5n, length: 100 })).toString("latin1")).toBe("\0\0end");
    const request = {
      op: "write",
      ino,
      offset: SIZE_BYTES_MAX - 2n,
      data: Buffer.from("end"),
      killPrivileges: false,
    } as const;
    expect(await share.refusal(request)).toBe("EFBIG");
    expect(await share.refusal({ op: "fallocate", ino, mode: 0, offset: SIZE_BYTES_MAX, length: 1n })).toBe("EFBIG");
  });

  behaviour("a write far out leaves zeros before it, and is found by one lseek", async (share) => {
    const { ino } = await share.create("a");
    const far = 2n ** 60n + 12_345n;
    await share.write(ino, "far", far);
    expect((await share.read(ino, { length: 1000 })).equals(Buffer.alloc(1000))).toBe(true);
    const data = await share.seek(ino, "data", 0n);
    expect(data === "end" ? 0n : far - data).toBeLessThan(MIB);
  });

  behaviour("a write across the 64 MiB boundary is whole", async (share) => {
    const { ino } = await share.create("a");
    const data = new Random(3).bytes(200_000);
    await share.write(ino, data, 64n * MIB - 100_000n);
    expect((await share.read(ino, { offset: 64n * MIB - 100_000n, length: 200_000 })).equals(data)).toBe(true);
  });

  behaviour("a hole as long as a file can be is punched, truncated and copied at once", async (share) => {
    const [source, target] = [await share.create("a"), await share.create("b")];
    await share.write(source.ino, "head");
    await share.set(source.ino, { size: SIZE_BYTES_MAX });
    await share.fallocate(source.ino, PUNCH, 4n, SIZE_BYTES_MAX - 4n);
    await share.do({
      op: "copyRange",
      source: source.ino,
      sourceOffset: 0n,
      target: target.ino,
      targetOffset: 0n,
      length: SIZE_BYTES_MAX,
      sourceAt: LIVE,
    });
    expect((await share.read(target.ino, { length: 4 })).toString()).toBe("head");
    await share.set(source.ino, { size: 4n });
    expect(await share.text(source.ino)).toBe("head");
  });
}

function truncation(behaviour: Behaviour): void {
  behaviour("what is cut off reads as zeros when the file grows again", async (share) => {
    const { ino } = await share.create("a");
    await share.write(ino, "0123456789");
    await share.set(ino, { size: 4n });
    await share.set(ino, { size: 8n });
    expect(await share.text(ino)).toBe("0123\0\0\0\0");
    await share.write(ino, "x", 9n);
    expect(await share.text(ino)).toBe("0123\0\0\0\0\0x");
  });

  behaviour("truncate to zero and writing again shows only the new", async (share) => {
    const { ino } = await share.create("a");
    await share.write(ino, "0123456789");
    await share.set(ino, { size: 0n });
    await share.write(ino, "x", 5n);
    expect(await share.text(ino)).toBe("\0\0\0\0\0x");
  });

  behaviour("truncate to the same size sets mtime and ctime", async (share) => {
    const { ino } = await share.create("a");
    await share.write(ino, "content");
    const before = await share.stat(ino);
    expect(changedTimes(before, await share.set(ino, { size: 7n }))).toBe("mtime ctime");
  });
}

function allocation(behaviour: Behaviour): void {
  behaviour("fallocate grows the file, with KEEP_SIZE it does not; content stays", async (share) => {
    const { ino } = await share.create("a");
    await share.write(ino, "content");
    await share.fallocate(ino, FALLOC_KEEP_SIZE, 0n, 100n);
    expect((await share.stat(ino)).size).toBe(7n);
    await share.fallocate(ino, 0, 3n, 7n);
    expect(await share.text(ino)).toBe("content\0\0\0");
    await share.fallocate(ino, 0, 0n, 2n);
    expect((await share.stat(ino)).size).toBe(10n);
  });

  behaviour("PUNCH_HOLE makes zeros, keeps the size, and sets mtime and ctime", async (share) => {
    const { ino } = await share.create("a");
    await share.write(ino, "0123456789");
    const before = await share.stat(ino);
    await share.fallocate(ino, PUNCH, 2n, 3n);
    await share.fallocate(ino, PUNCH, 8n, 100n);
    const after = await share.stat(ino);
    expect([await share.text(ino), after.size]).toEqual(["01\0\0\x0056\x37\0\0", 10n]);
    expect(changedTimes(before, after)).toBe("mtime ctime");
  });

  behaviour("ZERO_RANGE makes zeros and grows the file, with KEEP_SIZE it does not", async (share) => {
    const { ino } = await share.create("a");
    await share.write(ino, "01234");
    await share.fallocate(ino, FALLOC_ZERO_RANGE | FALLOC_KEEP_SIZE, 3n, 10n);
    expect(await share.text(ino)).toBe("012\0\0");
    await share.fallocate(ino, FALLOC_ZERO_RANGE, 2n, 5n);
    expect(await share.text(ino)).toBe("01\0\0\0\0\0");
  });

  behaviour("a hole can be written into again", async (share) => {
    const { ino } = await share.create("a");
    await share.write(ino, "0123456789");
    await share.fallocate(ino, PUNCH, 0n, 10n);
    await share.write(ino, "x", 4n);
    expect(await share.text(ino)).toBe("\0\0\0\0x\0\0\0\0\0");
  });

  behaviour("any other mode of fallocate is EOPNOTSUPP, a length of zero EINVAL", async (share) => {
    const { ino } = await share.create("a");
    for (const mode of [FALLOC_PUNCH_HOLE, 0x08, 0x20, 0x40, FALLOC_PUNCH_HOLE | FALLOC_ZERO_RANGE]) {
      expect(await share.refusal({ op: "fallocate", ino, mode, offset: 0n, length: 1n })).toBe("EOPNOTSUPP");
    }
    expect(await share.refusal({ op: "fallocate", ino, mode: 0, offset: 0n, length: 0n })).toBe("EINVAL");
  });
}

function holes(behaviour: Behaviour): void {
  behaviour("lseek finds data and holes, and the end of the file is a hole", async (share) => {
    const { ino } = await share.create("a");
    await share.write(ino, Buffer.alloc(65_536, 1), 4n * MIB);
    await share.set(ino, { size: 10n * MIB });
    expect(await share.seek(ino, "hole", 0n)).toBe(0n);
    expect(await share.seek(ino, "data", 0n)).toBe(4n * MIB);
    expect(await share.seek(ino, "data", 4n * MIB + 5n)).toBe(4n * MIB + 5n);
    expect(await share.seek(ino, "hole", 4n * MIB + 5n)).toBe(4n * MIB + 65_536n);
    expect(await share.seek(ino, "data", 5n * MIB)).toBe("end");
    expect(await share.seek(ino, "hole", 10n * MIB - 1n)).toBe(10n * MIB - 1n);
  });

  behaviour("lseek at or past the end is ENXIO, in an empty file too", async (share) => {
    const { ino } = await share.create("a");
    expect([await share.seek(ino, "data", 0n), await share.seek(ino, "hole", 0n)]).toEqual(["end", "end"]);
    await share.write(ino, "content");
    expect([await share.seek(ino, "data", 7n), await share.seek(ino, "hole", 7n)]).toEqual(["end", "end"]);
    expect(await share.seek(ino, "hole", 0n)).toBe(7n);
  });

  behaviour("a punched hole is found, and is gone when it is written", async (share) => {
    const { ino } = await share.create("a");
    await share.write(ino, Buffer.alloc(300_000, 1));
    await share.fallocate(ino, PUNCH, 65_536n, 131_072n);
    expect([await share.seek(ino, "hole", 0n), await share.seek(ino, "data", 65_536n)]).toEqual([65_536n, 196_608n]);
    await share.write(ino, Buffer.alloc(131_072, 2), 65_536n);
    expect(await share.seek(ino, "hole", 0n)).toBe(300_000n);
  });

  behaviour("the space of a file follows its data, roughly, and not its size", async (share) => {
    const { ino } = await share.create("a");
    expect((await share.stat(ino)).allocatedBytes).toBe(0n);
    await share.write(ino, "x", 1024n * MIB);
    expect((await share.stat(ino)).allocatedBytes).toBeLessThan(MIB);
    const { ino: full } = await share.create("b");
    await share.write(full, Buffer.alloc(100_000, 1));
    expect((await share.stat(full)).allocatedBytes).toBeGreaterThanOrEqual(100_000n);
    await share.set(full, { size: 0n });
    expect((await share.stat(full)).allocatedBytes).toBe(0n);
  });
}

function copies(behaviour: Behaviour): void {
  behaviour("copyRange copies bytes, grows the target, sets its times, and leaves the source", async (share) => {
    const [source, target] = [await share.create("a"), await share.create("b")];
    await share.write(source.ino, "0123456789");
    const before = await share.stat(source.ino);
    await share.write(target.ino, "abc");
    const request = {
      op: "copyRange",
      source: source.ino,
      sourceOffset: 3n,
      target: target.ino,
      targetOffset: 2n,
      length: 4n,
      sourceAt: LIVE,
    } as const;
    expect(await share.do(request)).toBe(4n);
    expect(await share.text(target.ino)).toBe("ab3456");
    expect(changedTimes(target, await share.stat(target.ino))).toBe("mtime ctime");
    expect(changedTimes(before, await share.stat(source.ino))).toBe("");
  });

  behaviour("a copy does not change when its source does, nor the other way round", async (share) => {
    const [source, target] = [await share.create("a"), await share.create("b")];
    await share.write(source.ino, "original");
    await share.do({
      op: "copyRange",
      source: source.ino,
      sourceOffset: 0n,
      target: target.ino,
      targetOffset: 0n,
      length: 8n,
      sourceAt: LIVE,
    });
    await share.write(source.ino, "CHANGED!");
    expect(await share.text(target.ino)).toBe("original");
    await share.write(target.ino, "X");
    expect([await share.text(target.ino), await share.text(source.ino)]).toEqual(["Xriginal", "CHANGED!"]);
    await share.unlink("a");
    await share.forget(source.ino);
    await share.reopen();
    expect(await share.text(target.ino)).toBe("Xriginal");
  });

  behaviour("holes of the source are holes in the target, over what was there", async (share) => {
    const [source, target] = [await share.create("a"), await share.create("b")];
    await share.write(source.ino, "aa");
    await share.write(source.ino, "bb", 6n);
    await share.write(target.ino, "xxxxxxxxxx");
    await share.do({
      op: "copyRange",
      source: source.ino,
      sourceOffset: 0n,
      target: target.ino,
      targetOffset: 1n,
      length: 8n,
      sourceAt: LIVE,
    });
    expect(await share.text(target.ino)).toBe("xaa\0\0\0\0bbx");
  });
}

function copyLimits(behaviour: Behaviour): void {
  behaviour("a copy ends at the end of the source, and past it copies nothing", async (share) => {
    const [source, target] = [await share.create("a"), await share.create("b")];
    await share.write(source.ino, "0123");
    const copy = (sourceOffset: bigint, length: bigint) =>
      share.do({
        op: "copyRange",
        source: source.ino,
        sourceOffset,
        target: target.ino,
        targetOffset: 0n,
        length,
        sourceAt: LIVE,
      });
    expect(await copy(2n, 100n)).toBe(2n);
    expect(await copy(4n, 100n)).toBe(0n);
    expect(await copy(0n, 0n)).toBe(0n);
    expect(await share.text(target.ino)).toBe("23");
  });

  behaviour("ranges of one file may be copied where they don't overlap", async (share) => {
    const { ino } = await share.create("a");
    await share.write(ino, "0123456789");
    await share.do({
      op: "copyRange",
      source: ino,
      sourceOffset: 0n,
      target: ino,
      targetOffset: 5n,
      length: 5n,
      sourceAt: LIVE,
    });
    expect(await share.text(ino)).toBe("0123401234");
  });
}

function copyRefusals(behaviour: Behaviour): void {
  behaviour("overlapping ranges of one file are EINVAL", async (share) => {
    const { ino } = await share.create("a");
    await share.write(ino, "0123456789");
    for (const targetOffset of [0n, 2n, 4n]) {
      const request = {
        op: "copyRange",
        source: ino,
        sourceOffset: 0n,
        target: ino,
        targetOffset,
        length: 5n,
        sourceAt: LIVE,
      } as const;
      expect(await share.refusal(request)).toBe("EINVAL");
    }
    expect(await share.text(ino)).toBe("0123456789");
  });

  behaviour("a copy that would end past 2^63-1 is EFBIG", async (share) => {
    const { ino } = await share.create("a");
    const target = await share.create("b");
    await share.write(ino, "0123456789");
    const at = { source: ino, sourceOffset: 0n, target: target.ino, targetOffset: SIZE_BYTES_MAX - 4n };
    expect(await share.refusal({ op: "copyRange", ...at, length: 5n, sourceAt: LIVE })).toBe("EFBIG");
  });
}
