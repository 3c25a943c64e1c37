import { hash, randomFillSync } from "node:crypto";
import { TidemarkError } from "../domain/errors.ts";
import { KEY_BYTES, type RandomFill } from "./key-wrap.ts";

// FORMAT.md, "Keys": a key as a text that can be printed and typed in again.

const TITLE = "tidemark-key-1";
const ROW_COUNT = 4;
const ROW_BYTES = KEY_BYTES / ROW_COUNT;
const CHECK_BYTES = 2;

/** A key file has some 500 bytes with its comments. Whatever is much longer is another file. */
const KEY_FILE_CHARS_MAX = 16_384;

const HEAD = [
  "# The key of a Tidemark repository. Who has it can read every backup in there; without it nobody can, so keep a copy",
  "# in another place than the repository and the machine. It may be printed and typed in again: each line has a check.",
];

/** A new key and the text of its file. `comment` (which repository it is for) is put above it. */
export function newKeyFile(options: { readonly fill?: RandomFill; readonly comment?: string } = {}): {
  text: string;
  key: Buffer;
} {
  const key = Buffer.alloc(KEY_BYTES);
  (options.fill ?? randomFillSync)(key);
  const comment = options.comment === undefined ? [] : options.comment.split("\n").map((line) => `# ${line}`);
  const rows = Array.from({ length: ROW_COUNT }, (_, row) => {
    const bytes = key.subarray(row * ROW_BYTES, (row + 1) * ROW_BYTES);
    const groups = bytes.toString("hex").match(/.{4}/g) ?? [];
    return `${row + 1}: ${groups.join(" ")}  ${checkOf(row, bytes)}`;
  });
  return { text: `${[...HEAD, ...comment, TITLE, ...rows].join("\n")}\n`, key };
}

/** The key in the text of a key file. Throws INVALID_ARGUMENT, which names the line that was mistyped. */
export function parseKeyFile(text: string): Buffer {
  if (text.length > KEY_FILE_CHARS_MAX) throw notAKey("it is too long");
  const lines = text
    .split("\n")
    .map((line) => line.trim().toLowerCase())
    .filter((line) => line !== "" && !line.startsWith("#"));
  const title = lines[0] ?? "";
  if (!title.startsWith("tidemark-key-")) throw notAKey(`its first line is not "${TITLE}"`);
  if (title !== TITLE) throw notAKey(`it is a "${title}", of a newer version of Tidemark`);
  const rows = lines.slice(1);
  if (rows.length !== ROW_COUNT) throw notAKey(`it has ${rows.length} lines of key and not ${ROW_COUNT}`);
  return Buffer.concat(rows.map(parseRow));
}

function parseRow(line: string, row: number): Buffer {
  const match = /^(\d):([0-9a-f ]+)$/.exec(line);
  const digits = match?.[2]?.replaceAll(" ", "") ?? "";
  if (match === null || digits.length !== 2 * (ROW_BYTES + CHECK_BYTES)) {
    throw notAKey(
      `line ${row + 1} of the key is not "${row + 1}:" and ${2 * (ROW_BYTES + CHECK_BYTES)} digits 0-9, a-f`,
    );
  }
  if (match[1] !== String(row + 1))
    throw notAKey(`where line ${row + 1} of the key should be, there is line ${match[1]}`);
  const bytes = Buffer.from(digits.slice(0, 2 * ROW_BYTES), "hex");
  if (checkOf(row, bytes) !== digits.slice(2 * ROW_BYTES))
    throw notAKey(`line ${row + 1} of the key has a typing error`);
  return bytes;
}

function checkOf(row: number, bytes: Buffer): string {
  const line = Buffer.concat([Buffer.from(`${TITLE} ${row + 1} `), bytes]);
  return hash("sha256", line, "hex").slice(0, 2 * CHECK_BYTES);
}

function notAKey(fault: string): TidemarkError {
  return new TidemarkError("INVALID_ARGUMENT", `this is not a key file of Tidemark, or it has an error: ${fault}`);
}
