import { randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import { compress, framePlain, STORED_AS_IS, STORED_ZSTD, unpackFrame, unpackFrameInPool } from "./compression.ts";
import { textOf } from "./packs-fixture.ts";

const MAX = 1_000_000;

function plainOf(raw: Buffer): Buffer {
  return Buffer.concat(framePlain(compress(raw, 3), raw.length));
}

/** Both ways to read a frame: they must agree. */
async function unpacked(plain: Buffer, bytesMax: number): Promise<Buffer | Error> {
  const inPool = await unpackFrameInPool(plain, bytesMax).catch((error: Error) => error);
  try {
    const raw = unpackFrame(plain, bytesMax);
    expect(inPool).toEqual(raw);
    return raw;
  } catch (error) {
    expect(inPool).toEqual(error);
    return error as Error;
  }
}

test("bytes of any length come back, compressed where that is worth it", async () => {
  for (const length of [0, 1, 63, 64, 65, 1000, 100_000]) {
    const [text, random, zeros] = [textOf(1, length), randomBytes(length), Buffer.alloc(length)];
    for (const raw of [text, random, zeros]) expect(await unpacked(plainOf(raw), MAX)).toEqual(raw);
  }
  expect(plainOf(textOf(1, 1000)).readUInt8(0)).toBe(STORED_ZSTD);
  expect(plainOf(randomBytes(1000)).readUInt8(0)).toBe(STORED_AS_IS);
});

test("a gain of less than 3 % is left", () => {
  const mixed = (textBytes: number): Buffer =>
    Buffer.concat([Buffer.alloc(textBytes), randomBytes(100_000 - textBytes)]);
  expect(compress(mixed(2_000), 3).method).toBe(STORED_AS_IS);
  expect(compress(mixed(6_000), 3).method).toBe(STORED_ZSTD);
});

test("a frame that holds more than it may is refused by its word, and by what comes out", async () => {
  const plain = plainOf(Buffer.alloc(10_000));
  expect(await unpacked(plain, 10_000)).toHaveLength(10_000);
  expect(await unpacked(plain, 9_999)).toBeInstanceOf(RangeError);
  expect(await unpacked(Buffer.concat([Buffer.of(STORED_AS_IS), Buffer.alloc(11)]), 10)).toBeInstanceOf(RangeError);
  for (const claimed of [0, 1, 9_999, 10_001]) {
    const lying = Buffer.from(plain);
    lying.writeUInt32BE(claimed, 1);
    expect(await unpacked(lying, MAX), `${claimed}`).toBeInstanceOf(RangeError);
  }
});

test("what is no frame is refused", async () => {
  const bad = [
    Buffer.alloc(0),
    Buffer.of(2, 1, 1),
    Buffer.of(STORED_ZSTD),
    Buffer.of(STORED_ZSTD, 0, 0, 0),
    Buffer.of(STORED_ZSTD, 0, 0, 0, 4, 1, 2, 3, 4),
    plainOf(Buffer.alloc(1000)).subarray(0, -2),
  ];
  for (const plain of bad) expect(await unpacked(plain, MAX), plain.toString("hex")).toBeInstanceOf(RangeError);
});
