import { describe, expect, test } from "vitest";
import { buildRoutes } from "./dispatch.ts";
import { IN_HEADER_BYTES } from "./frame.ts";
import { decodeBatchForget, decodeForget, decodeInterrupt } from "./misc-codec.ts";
import { OPCODE, OPCODE_TABLE, type OpcodeName } from "./opcodes.ts";
import type { FuseOperations, Operation } from "./operations.ts";
import { frameOf, goldenRequests } from "./testing/frames.ts";
import { MalformedFrameError } from "./wire.ts";

type Decoded = Record<string, unknown> & { header: Record<string, unknown> };

/** Decodes a recorded request as a connection would. */
function decode(bytes: Buffer): Decoded {
  let seen: unknown;
  const record: Operation<unknown> = (request) => {
    seen = request;
  };
  const everything = new Proxy({}, { get: () => record }) as FuseOperations;
  const frame = frameOf(bytes);
  const route = buildRoutes(everything, { setxattrExtended: true })[frame.header.opcode];
  if (route === undefined) throw new Error(`no route for ${frame.header.opcode}`);
  frame.requireBody(route.bodyBytes);
  void route.dispatch(frame, undefined as never);
  return seen as Decoded;
}

const golden = goldenRequests();

function decoded(name: string): Record<string, unknown> {
  const { header, ...body } = decode(golden.get(name) ?? Buffer.alloc(0));
  expect(header).toMatchObject({
    opcode: OPCODE[name.replace(/#.*/, "") as OpcodeName],
    resent: false,
    slot: 0,
    uid: 0,
    gid: 0,
    pid: 0,
  });
  expect(Number.isSafeInteger(header["unique"])).toBe(true);
  return { ino: header["ino"], ...body };
}

const name = (text: string): Buffer => Buffer.from(text);

/** What the script of testing/capture-golden.ts did, as the kernel put it. */
const EXPECTED: Record<string, Record<string, unknown>> = {
  LOOKUP: { ino: 1, name: name("dir") },
  MKDIR: { ino: 1, name: name("dir"), mode: 0o751, umask: 0o22, supplementaryGids: [] },
  CREATE: {
    ino: 1,
    name: name("file"),
    flags: 0x8042,
    mode: 0o100640,
    umask: 0o22,
    killPrivileges: false,
    supplementaryGids: [],
  },
  WRITE: {
    ...{ ino: 3, handle: 3, offset: 1n << 33n, data: name("far"), flags: 0x8002 },
    ...{ fromPageCache: false, killPrivileges: false, lockOwner: undefined },
  },
  FSYNC: { ino: 3, handle: 3, dataOnly: false },
  READ: { ino: 3, handle: 3, offset: 0n, size: 4096, flags: 0x8002, lockOwner: undefined },
  FALLOCATE: { ino: 3, handle: 3, offset: 100n, length: 200n, mode: 0 },
  LSEEK: { ino: 3, handle: 3, offset: 0n, whence: 4 },
  GETATTR: { ino: 1, handle: undefined },
  COPY_FILE_RANGE_64: {
    ...{ ino: 3, handle: 3, offset: 3n, targetSlot: 0, targetIno: 4, targetHandle: 4, targetOffset: 4n },
    ...{ length: 4n, flags: 0n },
  },
  COPY_FILE_RANGE: {
    ...{ ino: 3, handle: 3, offset: 3n, targetSlot: 0, targetIno: 4, targetHandle: 4, targetOffset: 4n },
    ...{ length: 4n, flags: 0n },
  },
  SETXATTR: { ino: 3, name: name("user.color"), value: name("blue"), flags: 0, killSgid: false },
  GETXATTR: { ino: 3, name: name("security.capability"), sizeBytes: 0 },
  LISTXATTR: { ino: 3, sizeBytes: 256 },
  REMOVEXATTR: { ino: 3, name: name("user.color") },
  SYMLINK: { ino: 1, name: name("symlink"), target: name("some/target"), supplementaryGids: [] },
  READLINK: { ino: 5 },
  LINK: { ino: 1, sourceSlot: 0, sourceIno: 3, name: name("hard") },
  MKNOD: { ino: 1, name: name("fifo"), mode: 0o10644, umask: 0o22, rdev: 0, supplementaryGids: [] },
  RENAME: { ino: 1, name: name("hard"), newSlot: 0, newParentIno: 1, newName: name("harder"), flags: 0 },
  RENAME2: { ino: 1, name: name("harder"), newSlot: 0, newParentIno: 2, newName: name("hardest"), flags: 1 },
  READDIRPLUS: { ino: 1, handle: 0, cookie: 0n, sizeBytes: 65536 },
  READDIR: { ino: 1, handle: 0, cookie: 8n, sizeBytes: 65536 },
  STATFS: { ino: 1 },
  STATX: { ino: 3, handle: undefined, flags: 0, mask: 4095 },
  FSYNCDIR: { ino: 2, handle: 0, dataOnly: false },
  IOCTL: { ino: 3, handle: 3, flags: 0, command: 0x80086601, argument: 0n, input: name(""), outputBytesMax: 4 },
  UNLINK: { ino: 1, name: name("file") },
  RMDIR: { ino: 1, name: name("dir") },
};

const UNCHANGED = {
  mode: undefined,
  uid: undefined,
  gid: undefined,
  size: undefined,
  atime: undefined,
  mtime: undefined,
};
const SETATTR_EXPECTED: Record<string, Record<string, unknown>> = {
  SETATTR: { ...UNCHANGED, mode: 0o100600, killPrivileges: false, handle: undefined },
  "SETATTR#2": { ...UNCHANGED, uid: 12, gid: 34, killPrivileges: true },
  "SETATTR#3": { ...UNCHANGED, size: 7n, handle: 3, lockOwner: expect.any(BigInt) as unknown },
  "SETATTR#4": {
    ...UNCHANGED,
    atime: { sec: -2, nsec: 500_000_000 },
    mtime: { sec: 1_700_000_000, nsec: 123_456_789 },
    ctime: undefined,
  },
};

describe("requests recorded from the kernel", () => {
  test.each(Object.keys(EXPECTED))("%s is decoded to what the application asked for", (opcode) => {
    expect(decoded(opcode)).toEqual(EXPECTED[opcode]);
  });

  test.each(Object.keys(SETATTR_EXPECTED))("%s has exactly the attributes that were set", (variant) => {
    expect(decoded(variant)).toMatchObject(SETATTR_EXPECTED[variant] ?? {});
  });

  test("locks, polls, opens and closes name the handle and the owner", () => {
    expect(decoded("SETLK")).toMatchObject({ handle: 3, lock: { start: 5n, end: 14n, type: 1 }, flock: false });
    expect(decoded("GETLK")).toMatchObject({ handle: 3, lock: { start: 0n, end: (1n << 63n) - 1n, type: 0 } });
    expect(decoded("SETLKW")).toMatchObject({ lock: { start: 0n, end: 2n, type: 1 } });
    expect(decoded("SETLKW")["owner"]).toBe(decoded("SETLK")["owner"]);
    expect(decoded("POLL")).toMatchObject({ handle: 3, notify: false });
    expect(decoded("OPEN")).toEqual({ ino: 3, flags: 0x8000 & 0, killPrivileges: false });
    expect(decoded("RELEASE")).toMatchObject({ handle: 3, flush: false, flockUnlock: false });
    expect(decoded("FLUSH")).toMatchObject({ handle: 3 });
  });

  test("O_TMPFILE arrives as TMPFILE with the open flags and the mode", () => {
    expect(decoded("TMPFILE")).toMatchObject({ ino: 1, mode: 0o100600, umask: 0o22 });
  });

  test("FORGET and BATCH_FORGET name inodes and counts, INTERRUPT its request", () => {
    expect(decodeForget(frameOf(golden.get("FORGET") ?? Buffer.alloc(0)))).toEqual([{ slot: 0, ino: 5, lookups: 2 }]);
    const batch = frameOf(golden.get("BATCH_FORGET") ?? Buffer.alloc(0));
    batch.requireBody(8);
    expect(decodeBatchForget(batch).map(({ ino, lookups }) => [ino, lookups])).toEqual([
      [3, 3],
      [2, 2],
      [6, 2],
      [7, 2],
    ]);
    const waiting = decode(golden.get("SETLKW") ?? Buffer.alloc(0)).header["unique"];
    expect(decodeInterrupt(frameOf(golden.get("INTERRUPT") ?? Buffer.alloc(0)))).toBe(waiting);
  });

  test("every opcode that can be provoked on a plain mount was recorded", () => {
    const unrecorded = Object.keys(OPCODE_TABLE).filter((opcode) => !golden.has(opcode));
    expect(unrecorded.sort()).toEqual(
      [
        ...["ACCESS", "BMAP", "CUSE_INIT", "CUSE_INIT_BSWAP_RESERVED", "DESTROY", "FUSE_INIT_BSWAP_RESERVED", "INIT"],
        ...["NOTIFY_REPLY", "RELEASEDIR", "REMOVEMAPPING", "SETUPMAPPING", "SYNCFS"],
      ].sort(),
    );
  });
});

describe("the header", () => {
  test("splits a node id into view slot and inode, exactly", () => {
    const bytes = Buffer.from(golden.get("GETATTR") ?? Buffer.alloc(0));
    bytes.writeBigUInt64LE((BigInt(2 ** 23 - 1) << 40n) | BigInt(2 ** 40 - 1), 16);
    expect(frameOf(bytes).header).toMatchObject({ slot: 2 ** 23 - 1, ino: 2 ** 40 - 1 });
  });

  test("takes the resend bit off the request number", () => {
    const bytes = Buffer.from(golden.get("GETATTR") ?? Buffer.alloc(0));
    bytes.writeBigUInt64LE((1n << 63n) | 0x1_2345_6789n, 8);
    expect(frameOf(bytes).header).toMatchObject({ resent: true, unique: 0x1_2345_6789 });
  });

  test("a frame shorter than a header is malformed", () => {
    const bytes = golden.get("GETATTR") ?? Buffer.alloc(0);
    expect(() => frameOf(bytes.subarray(0, IN_HEADER_BYTES - 1))).toThrow(MalformedFrameError);
  });

  test("supplementary groups are read from the extension, behind the names", () => {
    const bytes = Buffer.from(golden.get("MKDIR") ?? Buffer.alloc(0));
    expect(bytes.length % 8, "names are not padded: the extension is not aligned").not.toBe(0);
    const extension = Buffer.alloc(16);
    extension.writeUInt32LE(16, 0);
    extension.writeUInt32LE(32, 4); // FUSE_EXT_GROUPS
    extension.writeUInt32LE(1, 8);
    extension.writeUInt32LE(4711, 12);
    const whole = Buffer.concat([bytes, extension]);
    whole.writeUInt32LE(whole.length, 0);
    whole.writeUInt16LE(extension.length / 8, 36);
    expect(decode(whole)).toMatchObject({ name: name("dir"), supplementaryGids: [4711] });
  });
});

describe("malformed requests", () => {
  test.each([...golden.keys()])("%s cut off anywhere fails as malformed or decodes, and never otherwise", (opcode) => {
    const whole = golden.get(opcode) ?? Buffer.alloc(0);
    if (["FORGET", "BATCH_FORGET", "INTERRUPT"].includes(opcode)) return;
    for (let length = 0; length < whole.length; length++) {
      const cut = Buffer.from(whole.subarray(0, length));
      if (length >= 4) cut.writeUInt32LE(length, 0);
      try {
        decode(cut);
      } catch (error) {
        expect(error).toBeInstanceOf(MalformedFrameError);
      }
    }
  });

  test("a frame whose length field lies is malformed", () => {
    const bytes = Buffer.from(golden.get("MKDIR") ?? Buffer.alloc(0));
    bytes.writeUInt32LE(bytes.length + 8, 0);
    expect(() => decode(bytes)).toThrow(/says/);
  });

  test("a handle above 2^53 is malformed, not rounded", () => {
    const bytes = Buffer.from(golden.get("READ") ?? Buffer.alloc(0));
    bytes.writeBigUInt64LE(2n ** 53n, IN_HEADER_BYTES);
    expect(() => decode(bytes)).toThrow(MalformedFrameError);
  });

  test("a forged count of forgotten inodes is malformed", () => {
    const bytes = Buffer.from(golden.get("BATCH_FORGET") ?? Buffer.alloc(0));
    bytes.writeUInt32LE(0xffff_ffff, IN_HEADER_BYTES);
    const frame = frameOf(bytes);
    frame.requireBody(8);
    expect(() => decodeBatchForget(frame)).toThrow(MalformedFrameError);
  });
});
