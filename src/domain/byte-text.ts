/**
 * Names are bytes; people and JSON want text. The written form of bytes is their UTF-8 text, in which `\xHH` stands for a byte that is not
 * part of valid UTF-8, that a terminal would act on (controls, bidirectional overrides), or that is a backslash before `xHH`.
 * So `bytesFromText(textFromBytes(b))` equals b for all b.
 */

// Valid UTF-8 with nothing to escape: the usual name, answered without looking at each character.
const PLAIN = /^[^\p{Cc}\\\u200e\u200f\u202a-\u202e\u2066-\u2069\ufffd]*$/u;
const ESCAPED_CHARACTER = /[\p{Cc}\u200e\u200f\u202a-\u202e\u2066-\u2069]|\\(?=x[0-9a-fA-F]{2})/gu;

/** The written form of `bytes`. Never fails. */
export function textFromBytes(bytes: Uint8Array): string {
  const buffer = asBuffer(bytes);
  const text = buffer.toString("utf8");
  if (PLAIN.test(text)) return text;
  let result = "";
  let at = 0;
  while (at < buffer.length) {
    const length = validUtf8Length(buffer, at);
    if (length === 0) {
      result += escapeByte(buffer.readUInt8(at));
      at += 1;
      continue;
    }
    const start = at;
    at += length;
    for (let next = validUtf8Length(buffer, at); next > 0; next = validUtf8Length(buffer, at)) at += next;
    result += escapeText(buffer.toString("utf8", start, at));
  }
  return result;
}

/** The bytes that `text` stands for: `\xHH` is that byte, everything else its UTF-8. Never fails. */
export function bytesFromText(text: string): Buffer {
  if (!text.includes("\\x")) return Buffer.from(text, "utf8");
  const parts: Buffer[] = [];
  let plainStart = 0;
  for (const match of text.matchAll(/\\x([0-9a-fA-F]{2})/g)) {
    parts.push(Buffer.from(text.slice(plainStart, match.index), "utf8"));
    parts.push(Buffer.from([Number.parseInt(match[1] ?? "", 16)]));
    plainStart = match.index + match[0].length;
  }
  parts.push(Buffer.from(text.slice(plainStart), "utf8"));
  return Buffer.concat(parts);
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function escapeByte(byte: number): string {
  return `\\x${byte.toString(16).padStart(2, "0")}`;
}

function escapeText(text: string): string {
  return text.replace(ESCAPED_CHARACTER, (character) => [...Buffer.from(character, "utf8")].map(escapeByte).join(""));
}

/** Bytes of the well-formed UTF-8 sequence at `at`, 0 if there is none (Unicode 15, table 3-7). */
function validUtf8Length(buffer: Buffer, at: number): number {
  const first = buffer[at];
  if (first === undefined) return 0;
  if (first < 0x80) return 1;
  const length =
    first >= 0xc2 && first <= 0xdf ? 2 : first >= 0xe0 && first <= 0xef ? 3 : first >= 0xf0 && first <= 0xf4 ? 4 : 0;
  if (length === 0 || at + length > buffer.length) return 0;
  const second = buffer.readUInt8(at + 1);
  const secondLow = first === 0xe0 ? 0xa0 : first === 0xf0 ? 0x90 : 0x80;
  const secondHigh = first === 0xed ? 0x9f : first === 0xf4 ? 0x8f : 0xbf;
  if (second < secondLow || second > secondHigh) return 0;
  for (let index = at + 2; index < at + length; index += 1) {
    const byte = buffer.readUInt8(index);
    if (byte < 0x80 || byte > 0xbf) return 0;
  }
  return length;
}
