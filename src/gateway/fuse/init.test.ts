import { describe, expect, test } from "vitest";
import { encodeInitReply, hasInitFlag, INIT_FLAG, negotiateInit } from "./init.ts";
import { frameOf } from "./testing/frames.ts";

/** A FUSE_INIT request. `flags`: all bits set by default. */
function initRequest(options: { major?: number; minor?: number; flags?: bigint; bodyBytes?: number } = {}): Buffer {
  const bytes = Buffer.alloc(40 + (options.bodyBytes ?? 64));
  const flags = options.flags ?? 2n ** 64n - 1n;
  bytes.writeUInt32LE(bytes.length, 0);
  bytes.writeUInt32LE(26, 4);
  bytes.writeBigUInt64LE(2n, 8);
  bytes.writeUInt32LE(options.major ?? 7, 40);
  bytes.writeUInt32LE(options.minor ?? 45, 44);
  bytes.writeUInt32LE(131_072, 48);
  bytes.writeUInt32LE(Number(flags & 0xffff_ffffn), 52);
  if (bytes.length >= 60) bytes.writeUInt32LE(Number(flags >> 32n), 56);
  return bytes;
}

const negotiate = (options: Parameters<typeof initRequest>[0] = {}, locks: "kernel" | "service" = "kernel") =>
  negotiateInit(frameOf(initRequest(options)), { locks });

describe("INIT", () => {
  test("agrees on large requests, restart and exact caching with a current kernel", () => {
    const negotiated = negotiate();
    expect(negotiated).toMatchObject({ major: 7, minor: 45, maxWriteBytes: 1_048_576, maxReadaheadBytes: 131_072 });
    for (const flag of [
      "HAS_RESEND",
      "HAS_EXPIRE_ONLY",
      "POSIX_ACL",
      "HANDLE_KILLPRIV_V2",
      "EXPLICIT_INVAL_DATA",
    ] as const) {
      expect(hasInitFlag(negotiated, flag)).toBe(true);
    }
    for (const flag of ["WRITEBACK_CACHE", "AUTO_INVAL_DATA", "POSIX_LOCKS", "FLOCK_LOCKS", "ALLOW_IDMAP"] as const) {
      expect(hasInitFlag(negotiated, flag)).toBe(false);
    }
  });

  test("asks for lock requests only when the service keeps locks", () => {
    const negotiated = negotiate({}, "service");
    expect([hasInitFlag(negotiated, "POSIX_LOCKS"), hasInitFlag(negotiated, "FLOCK_LOCKS")]).toEqual([true, true]);
  });

  test("drops pages when told to, or when attributes say that they are old", () => {
    const options = { locks: "kernel", pages: "follow-attributes" } as const;
    const following = negotiateInit(frameOf(initRequest()), options);
    expect(hasInitFlag(following, "AUTO_INVAL_DATA")).toBe(true);
    expect(hasInitFlag(following, "EXPLICIT_INVAL_DATA")).toBe(false);
  });

  test("takes only flags the kernel offers", () => {
    const negotiated = negotiate({ flags: 1n << BigInt(INIT_FLAG.BIG_WRITES) });
    expect(negotiated.flags).toEqual(["BIG_WRITES"]);
    expect(negotiated.maxWriteBytes).toBe(131_072);
  });

  test("ignores high flags of a kernel that does not send them", () => {
    expect(hasInitFlag(negotiate({ bodyBytes: 16 }), "HAS_RESEND")).toBe(false);
  });

  test("refuses another major version and very old kernels by name", () => {
    expect(() => negotiate({ major: 8 })).toThrow(/FUSE 8\.45/);
    expect(() => negotiate({ minor: 22 })).toThrow(/7\.23 or newer/);
  });

  test("speaks the older of the two minor versions", () => {
    expect(negotiate({ minor: 36 }).minor).toBe(36);
    expect(negotiate({ minor: 99 })).toMatchObject({ minor: 45, kernelMinor: 99 });
  });

  test("the answer has the flags in both words, and the limits", () => {
    const bytes = encodeInitReply(negotiate(), 2);
    expect([bytes.length, bytes.readUInt32LE(0), bytes.readUInt32LE(8)]).toEqual([80, 80, 2]);
    const flags = BigInt(bytes.readUInt32LE(28)) | (BigInt(bytes.readUInt32LE(48)) << 32n);
    expect((flags >> BigInt(INIT_FLAG.HAS_RESEND)) & 1n).toBe(1n);
    expect((flags >> BigInt(INIT_FLAG.INIT_EXT)) & 1n).toBe(1n);
    expect((flags >> BigInt(INIT_FLAG.WRITEBACK_CACHE)) & 1n).toBe(0n);
    expect([bytes.readUInt32LE(36), bytes.readUInt32LE(40), bytes.readUInt16LE(44)]).toEqual([1_048_576, 1, 256]);
  });

  test("survives being stored as JSON", () => {
    const negotiated = negotiate();
    expect(JSON.parse(JSON.stringify(negotiated))).toEqual(negotiated);
  });
});
