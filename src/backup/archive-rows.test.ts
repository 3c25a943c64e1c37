import { expect, test } from "vitest";
import { RECORD_OP } from "../domain/record-op.ts";
import { plainKey, TABLE } from "../meta/keys.ts";
import { packId } from "../repository/chunk-place.ts";
import {
  type ArchivedData,
  countersFromJson,
  countersToJson,
  decodeArchivedData,
  encodeArchivedData,
  keptRows,
} from "./archive-rows.ts";

const place = (chunkOffset: number, length: number) => ({
  pack: packId("0123456789abcdef0123456789abcdef"),
  offset: 40,
  storedLength: 300,
  rawLength: 1000,
  chunkOffset,
  length,
});

const DATA: ArchivedData = {
  dataLength: 1000,
  pieces: [
    { skip: 0, length: 100, place: place(0, 100) },
    { skip: 150, length: 50, place: place(500, 50) },
  ],
};

test("where data are is read as it was written", () => {
  expect(decodeArchivedData(encodeArchivedData(DATA))).toEqual(DATA);
});

test("rows that make no sense are refused, whatever byte is wrong", () => {
  const good = encodeArchivedData(DATA);
  for (let length = 0; length < good.length; length++)
    expect(() => decodeArchivedData(good.subarray(0, length)), `${length} bytes`).toThrow(RangeError);
  const overlapping = encodeArchivedData({
    ...DATA,
    pieces: [DATA.pieces[1], DATA.pieces[0]].filter((piece) => piece !== undefined),
  });
  expect(() => decodeArchivedData(overlapping)).toThrow(RangeError);
  const many = Buffer.from(good);
  many.writeUInt32BE(0xffff_ffff, 4);
  expect(() => decodeArchivedData(many)).toThrow(RangeError);
  const long = encodeArchivedData({ ...DATA, dataLength: 120 });
  expect(() => decodeArchivedData(long)).toThrow(RangeError);
});

test("rows about the folder that wrote them stay out of the repository", () => {
  const all = Object.values(TABLE).map((table) => ({
    key: plainKey(table, Buffer.from("k")),
    value: Buffer.from("v"),
  }));
  const kept = keptRows({ op: RECORD_OP.WRITE, rows: all }).map(({ key }) => String.fromCharCode(key[0] ?? 0));
  for (const letter of "AFGHLlQRU") expect(kept).not.toContain(letter);
  for (const letter of "IiDdeXxPpCKTOWSsNnMBb") expect(kept).toContain(letter);
});

test("of records about the folder only the time index is taken, and only what it gains", () => {
  const time = { key: plainKey(TABLE.TIME, Buffer.from("k")), value: Buffer.from("v") };
  const rows = [time, { key: time.key, value: null }, { key: plainKey(TABLE.SLICE, Buffer.from("k")), value: null }];
  expect(keptRows({ op: RECORD_OP.SPACE, rows })).toEqual([time]);
  expect(keptRows({ op: RECORD_OP.RELOCATE, rows })).toEqual([time]);
});

test("totals pass through JSON exactly, and malformed ones are refused", () => {
  const counters = { liveBytes: 2n ** 62n, inodeCount: 12 };
  expect(countersFromJson(JSON.parse(JSON.stringify(countersToJson(counters))))).toEqual(counters);
  for (const json of [null, {}, { liveBytes: 1, inodeCount: 1 }, { liveBytes: "1e3", inodeCount: 1 }])
    expect(() => countersFromJson(json)).toThrow(RangeError);
});
