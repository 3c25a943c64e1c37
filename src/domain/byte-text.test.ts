import { expect, test } from "vitest";
import { bytesFromText, textFromBytes } from "./byte-text.ts";

const written: [string, Buffer, string][] = [
  ["plain text stays as it is", Buffer.from("a b.txt"), "a b.txt"],
  ["UTF-8 stays as it is", Buffer.from("größe 水 🌊"), "größe 水 🌊"],
  ["a byte that is not UTF-8 is escaped", Buffer.from([0x61, 0xff, 0x62]), "a\\xffb"],
  ["Latin-1 is escaped byte by byte", Buffer.from([0x67, 0xf6, 0xdf]), "g\\xf6\\xdf"],
  ["an overlong form is not UTF-8", Buffer.from([0xc0, 0xaf]), "\\xc0\\xaf"],
  ["a surrogate is not UTF-8", Buffer.from([0xed, 0xa0, 0x80]), "\\xed\\xa0\\x80"],
  ["beyond Unicode is not UTF-8", Buffer.from([0xf4, 0x90, 0x80, 0x80]), "\\xf4\\x90\\x80\\x80"],
  ["a cut sequence is escaped", Buffer.from([0xe6, 0xb0]), "\\xe6\\xb0"],
  ["the replacement character itself is text", Buffer.from("\ufffd"), "\ufffd"],
  ["controls cannot reach the terminal", Buffer.from("a\u001b[2J\n"), "a\\x1b[2J\\x0a"],
  ["C1 controls cannot reach the terminal", Buffer.from("\u009b2J"), "\\xc2\\x9b2J"],
  ["bidirectional overrides are shown", Buffer.from("\u202egpj.exe"), "\\xe2\\x80\\xaegpj.exe"],
  ["a lone backslash is text", Buffer.from("a\\b\\xyz"), "a\\b\\xyz"],
  ["a backslash that would read as an escape is escaped", Buffer.from("\\x41"), "\\x5cx41"],
];

test.each(written)("%s", (_, bytes, text) => {
  expect(textFromBytes(bytes)).toBe(text);
  expect(bytesFromText(text)).toEqual(bytes);
});

test("every pair and triple of awkward bytes comes back the same", () => {
  const awkward = [
    0x00, 0x0a, 0x2f, 0x34, 0x31, 0x5c, 0x78, 0x7f, 0x80, 0x9b, 0xa0, 0xbf, 0xc2, 0xe0, 0xed, 0xef, 0xf0, 0xf4, 0xff,
  ];
  for (const a of awkward) {
    for (const b of awkward) {
      for (const c of awkward) {
        const bytes = Buffer.from([a, b, c, 0x34, 0x31]);
        expect(bytesFromText(textFromBytes(bytes))).toEqual(bytes);
      }
    }
  }
});

test("hex digits of an escape may be upper case", () => {
  expect(bytesFromText("\\xFF")).toEqual(Buffer.from([0xff]));
});
