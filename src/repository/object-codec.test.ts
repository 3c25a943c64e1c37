import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { randomBytesOf, seededRandom, testSeed } from "../journal/journal-fixture.ts";
import { OBJECT_HEADER_BYTES } from "./object-cipher.ts";
import {
  FRAME_PIECE_BYTES_MAX,
  type FramedRef,
  ObjectOpener,
  ObjectWriter,
  openFrames,
  openObject,
  sealObject,
} from "./object-codec.ts";
import { OBJECT_TRAILER_BYTES, readTrailer } from "./object-trailer.ts";
import { APP, countingFill, flipped, keysOf, OTHER_APP, textOf } from "./packs-fixture.ts";

const keys = keysOf();
const SEAL: FramedRef = { kind: "seal", name: `apps/${keys.tag}/seals/00000001-0000000001` };
const RUN: FramedRef = { kind: "run", name: `apps/${keys.tag}/runs/${"5".repeat(32)}` };
const MAX = { plainBytesMax: 16 * FRAME_PIECE_BYTES_MAX };
const GOLDEN = fileURLToPath(new URL("./golden/object-v1.bin", import.meta.url));

const damaged = (ref: FramedRef) => expect.objectContaining({ code: "REPOSITORY_DAMAGED", data: { object: ref.name } });

function seal(plain: Buffer, ref: FramedRef = SEAL): Buffer {
  return Buffer.concat(sealObject(keys, ref, [plain]));
}

/** An object of several small frames, and where they are. */
function framed(ref: FramedRef, pieces: readonly Buffer[]) {
  const writer = new ObjectWriter(keys, ref);
  const parts = [writer.start()];
  const frames = pieces.map((piece, index) => {
    const offset = writer.offset;
    const stored = writer.frame(piece, { last: index === pieces.length - 1 });
    parts.push(...stored);
    return { offset, length: writer.offset - offset };
  });
  return { bytes: Buffer.concat(parts), frames };
}

async function streamed(ref: FramedRef, chunks: Iterable<Buffer>): Promise<Buffer[]> {
  const pieces: Buffer[] = [];
  for await (const piece of openFrames(keys, ref, chunks)) pieces.push(piece);
  return pieces;
}

function* cut(bytes: Buffer, length: () => number): Generator<Buffer> {
  for (let from = 0; from < bytes.length; ) {
    const to = from + length();
    yield bytes.subarray(from, to);
    from = to;
  }
}

test("objects of any length and kind come back as they were", () => {
  const lengths = [
    0,
    1,
    100,
    FRAME_PIECE_BYTES_MAX - 1,
    FRAME_PIECE_BYTES_MAX,
    FRAME_PIECE_BYTES_MAX + 1,
    3 * FRAME_PIECE_BYTES_MAX,
  ];
  for (const length of lengths)
    for (const ref of [SEAL, RUN])
      for (const plain of [randomBytes(length), textOf(length, length)])
        expect(openObject(keys, ref, seal(plain, ref), MAX).equals(plain), `${length} bytes`).toBe(true);
});

test("an object is the same in whatever parts its contents are given, and however its bytes arrive", async () => {
  const random = seededRandom(testSeed("object parts"));
  const plain = Buffer.concat([textOf(1, 1_500_000), randomBytesOf(random, 700_000)]);
  const parts = [...cut(plain, () => Math.floor(random() * 400_000))];
  const [left, right] = [[plain], parts].map((each) =>
    Buffer.concat(sealObject(keys, RUN, each, { fill: countingFill("parts") })),
  );
  expect(left).toEqual(right);
  for (const lengthMax of [7, 5000, 2_000_000]) {
    const bytes = lengthMax === 7 ? seal(plain.subarray(0, 3000), RUN) : (left ?? plain);
    const pieces = await streamed(
      RUN,
      cut(bytes, () => 1 + Math.floor(random() * lengthMax)),
    );
    expect(Buffer.concat(pieces).equals(plain.subarray(0, lengthMax === 7 ? 3000 : plain.length))).toBe(true);
  }
});

test("what compresses is kept compressed, what doesn't as it is", () => {
  expect(seal(textOf(1, 100_000)).length).toBeLessThan(70_000);
  const random = randomBytes(100_000);
  expect(seal(random).length).toBe(random.length + OBJECT_HEADER_BYTES + 4 + 1 + 16);
});

test("the bytes of an object show nothing of it, and are others each time", () => {
  const plain = randomBytes(1000);
  const [left, right] = [seal(plain), seal(plain)];
  expect(left.includes(plain.subarray(0, 16))).toBe(false);
  expect(left.subarray(8, 40)).not.toEqual(right.subarray(8, 40));
  expect(left.subarray(44)).not.toEqual(right.subarray(44));
});

describe("every fault is found:", () => {
  const pieces = [textOf(1, 300), randomBytes(200), textOf(2, 500)];
  for (const ref of [SEAL, RUN]) {
    const { bytes, frames } = framed(ref, pieces);

    test(`a flipped byte anywhere in a ${ref.kind}`, async () => {
      for (let at = 0; at < bytes.length; at += 1) {
        const changed = flipped(bytes, at);
        const refused = at === 4 ? expect.objectContaining({ code: "REPOSITORY_NEWER" }) : damaged(ref);
        expect(() => openObject(keys, ref, changed, MAX), `byte ${at}`).toThrow(refused);
        await expect(streamed(ref, [changed]), `byte ${at}`).rejects.toEqual(refused);
      }
    });

    test(`a ${ref.kind} that is cut off anywhere, or has something behind it`, async () => {
      for (let length = 0; length < bytes.length; length += 1) {
        expect(() => openObject(keys, ref, bytes.subarray(0, length), MAX), `${length} bytes`).toThrow(damaged(ref));
        await expect(streamed(ref, [bytes.subarray(0, length)])).rejects.toEqual(damaged(ref));
      }
      for (const more of [Buffer.alloc(1), bytes.subarray(-8), bytes])
        expect(() => openObject(keys, ref, Buffer.concat([bytes, more]), MAX)).toThrow(damaged(ref));
    });

    test(`frames of a ${ref.kind} in another order, left out, doubled, or of another object`, () => {
      const other = framed(ref, pieces);
      const part = (from: Buffer, index: number): Buffer => {
        const { offset = 0, length = 0 } = frames[index] ?? {};
        return from.subarray(offset, offset + length);
      };
      const head = bytes.subarray(0, OBJECT_HEADER_BYTES);
      const tail = bytes.subarray((frames.at(-1)?.offset ?? 0) + (frames.at(-1)?.length ?? 0));
      const [first, second, third] = [0, 1, 2].map((index) => part(bytes, index));
      const wrong = [
        [second, first, third],
        [first, third],
        [first, first, second, third],
        [third],
        [first, second, third, third],
        [first, part(other.bytes, 1), third],
      ];
      for (const order of wrong) {
        const changed = Buffer.concat([head, ...order.map((each) => each ?? head), tail]);
        expect(() => openObject(keys, ref, changed, MAX)).toThrow(damaged(ref));
      }
    });
  }

  test("an object that was cut off with its last frame's mark put on the one before", () => {
    for (const ref of [SEAL, RUN]) {
      const { bytes, frames } = framed(ref, pieces);
      const { offset = 0, length = 0 } = frames[1] ?? {};
      const cut = Buffer.from(bytes.subarray(0, offset + length));
      cut.writeUInt8(0x80, offset);
      const trailer = Buffer.from(bytes.subarray(-OBJECT_TRAILER_BYTES));
      trailer.writeUInt32BE(length, 0);
      const forged = ref.kind === "run" ? Buffer.concat([cut, trailer]) : cut;
      expect(() => openObject(keys, ref, forged, MAX)).toThrow(damaged(ref));
      const opener = new ObjectOpener(keys, ref, forged);
      expect(() => opener.frame(forged.subarray(offset, offset + length), { offset, last: true })).toThrow(
        damaged(ref),
      );
    }
  });

  test("an object under another name, of another kind, of another app, or sealed with another key", () => {
    const bytes = seal(Buffer.from("contents"));
    const elsewhere: FramedRef = { kind: "seal", name: SEAL.name.replace(/1$/, "2") };
    expect(() => openObject(keys, elsewhere, bytes, MAX)).toThrow(damaged(elsewhere));
    expect(() => openObject(keys, { ...SEAL, kind: "tomb" }, bytes, MAX)).toThrow(damaged(SEAL));
    for (const other of [keysOf(OTHER_APP), keysOf(APP, "other")]) {
      expect(() => openObject(other, SEAL, bytes, MAX)).toThrow(damaged(SEAL));
    }
    const asTomb = Buffer.from(bytes);
    asTomb.writeUInt8(6, 5);
    expect(() => openObject(keys, { ...SEAL, kind: "tomb" }, asTomb, MAX)).toThrow(damaged(SEAL));
  });

  test("bytes of something else", () => {
    for (const bytes of [Buffer.alloc(1000), Buffer.from("<?xml version='1.0'?><Error>AccessDenied</Error>".repeat(5))])
      expect(() => openObject(keys, SEAL, bytes, MAX)).toThrow(damaged(SEAL));
  });
});

test("a version that is not known is refused by its number", () => {
  const bytes = seal(Buffer.from("contents"));
  bytes.writeUInt8(2, 4);
  const newer = { code: "REPOSITORY_NEWER", data: { object: SEAL.name, version: 2 } };
  expect(() => openObject(keys, SEAL, bytes, MAX)).toThrow(expect.objectContaining(newer));
});

test("an object that holds more than its kind may is refused, before all of it is in memory", () => {
  const bytes = seal(Buffer.alloc(20 * FRAME_PIECE_BYTES_MAX));
  expect(bytes.length).toBeLessThan(10_000);
  expect(() => openObject(keys, SEAL, bytes, MAX)).toThrow(damaged(SEAL));
});

test("single frames of a run are read in any order, each found by where it was written", () => {
  const pieces = [textOf(1, 70_000), Buffer.alloc(0), randomBytes(1000), textOf(2, 10)];
  const { bytes, frames } = framed(RUN, pieces);
  const opener = new ObjectOpener(keys, RUN, bytes.subarray(0, OBJECT_HEADER_BYTES));
  for (const index of [2, 0, 3, 1]) {
    const { offset = 0, length = 0 } = frames[index] ?? {};
    const stored = bytes.subarray(offset, offset + length);
    const last = index === 3;
    expect(opener.frame(stored, { offset, last })).toEqual(pieces[index]);
    for (const wrong of [
      { offset: offset + 1, last },
      { offset, last: !last },
    ])
      expect(() => opener.frame(stored, wrong)).toThrow(damaged(RUN));
    expect(() => opener.frame(stored.subarray(1), { offset, last })).toThrow(damaged(RUN));
    expect(() => opener.frame(stored.subarray(0, 2), { offset, last })).toThrow(damaged(RUN));
  }
  const lastBytes = readTrailer(bytes, RUN);
  expect([lastBytes, frames.at(-1)?.offset]).toEqual([
    frames.at(-1)?.length,
    bytes.length - OBJECT_TRAILER_BYTES - lastBytes,
  ]);
});

test("the sample of version 1 is read as it was written", () => {
  const bytes = readFileSync(GOLDEN);
  expect(openObject(keys, SEAL, bytes, MAX)).toEqual(goldenContents());
  // Compression may become better; what is kept as it is, and the order of fields, may not change.
  const plain = Buffer.from("stored as it is");
  const written = Buffer.concat(sealObject(keys, SEAL, [plain], { fill: countingFill("golden") }));
  expect(written.toString("hex")).toBe(GOLDEN_STORED);
});

/** What golden/object-v1.bin holds: two frames. */
function goldenContents(): Buffer {
  return Buffer.concat([Buffer.alloc(FRAME_PIECE_BYTES_MAX, "tidemark "), Buffer.from("and a second frame")]);
}

const GOLDEN_STORED =
  "544d524f0102000047bebd67e55d1ee90357a5ce22b2703193035cefbc9dbec45481df664778d16f80000020ce28850041c4bb68a94bd5a12f80bac0bee53fa043a41a310163ec3e3f172b6b";
