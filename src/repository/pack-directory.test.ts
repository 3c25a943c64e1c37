import { expect, test } from "vitest";
import { ByteWriter } from "../base/bytes.ts";
import type { PackId } from "./chunk-place.ts";
import { chunksOf, decodeDirectory, encodeDirectory } from "./pack-directory.ts";

const PACK = "a".repeat(32) as PackId;
const ID = Buffer.alloc(32, 7);

type Block = { readonly stored: number; readonly raw: number; readonly lengths: readonly number[] };

/** A directory as a writer that errs might make it. */
function written(blocks: readonly Block[], count = blocks.length): Buffer {
  const writer = new ByteWriter().u32(count);
  for (const { stored, raw, lengths } of blocks) {
    writer.u32(stored).u32(raw).u32(lengths.length);
    for (const length of lengths) writer.bytes(ID).u32(length);
  }
  return writer.finish();
}

const GOOD: Block[] = [
  { stored: 100, raw: 30, lengths: [10, 20] },
  { stored: 50, raw: 5, lengths: [5] },
];

test("a directory comes back with the places that follow from it", () => {
  const directory = decodeDirectory(written(GOOD), { pack: PACK, end: 190 });
  const places = chunksOf(directory).map(({ place }) => [
    place.offset,
    place.storedLength,
    place.rawLength,
    place.chunkOffset,
    place.length,
  ]);
  expect(places).toEqual([
    [40, 100, 30, 0, 10],
    [40, 100, 30, 10, 20],
    [140, 50, 5, 0, 5],
  ]);
  expect(encodeDirectory(directory.blocks)).toEqual(written(GOOD));
});

test("a directory that does not add up is refused, without taking memory for what it claims", () => {
  const [first, second] = GOOD as [Block, Block];
  const wrong: [string, Buffer][] = [
    ["blocks that don't end where the directory begins", written([first])],
    ["a block too many", written([...GOOD, second])],
    ["more blocks claimed than there are", written(GOOD, 3)],
    ["fewer blocks claimed than there are", written(GOOD, 1)],
    ["an absurd number of blocks", written(GOOD, 0xffff_ffff)],
    ["chunks longer than their block", written([first, { ...second, lengths: [6] }])],
    ["chunks shorter than their block", written([first, { ...second, lengths: [4] }])],
    ["an empty chunk", written([first, { ...second, lengths: [5, 0] }])],
    ["a block that is too long", written([first, { ...second, raw: 5 * 1024 * 1024, lengths: [5 * 1024 * 1024] }])],
    [
      "a block without bytes",
      written([
        { ...first, stored: 16 },
        { ...second, stored: 134 },
      ]),
    ],
    ["a byte too many", Buffer.concat([written(GOOD), Buffer.alloc(1)])],
    ["nothing", Buffer.alloc(0)],
  ];
  const absurd = written(GOOD);
  absurd.writeUInt32BE(0xffff_ffff, 12);
  wrong.push(["an absurd number of chunks", absurd]);
  for (const [what, bytes] of wrong)
    expect(() => decodeDirectory(bytes, { pack: PACK, end: 190 }), what).toThrow(RangeError);
  for (let length = 0; length < absurd.length; length += 1)
    expect(() => decodeDirectory(written(GOOD).subarray(0, length), { pack: PACK, end: 190 })).toThrow(RangeError);
});
