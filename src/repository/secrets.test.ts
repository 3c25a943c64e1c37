import { expect, test } from "vitest";
import { newKeyFile, parseKeyFile } from "./key-file.ts";
import { countingFill } from "./packs-fixture.ts";
import {
  newRepositoryKey,
  type RepositorySecret,
  unwrapRepositoryKey,
  wrapKind,
  wrapRepositoryKey,
} from "./secrets.ts";

const NAME = "keys/0123";
const KEY = newRepositoryKey(countingFill("repository key"));
const PASSPHRASE: RepositorySecret = { kind: "passphrase", passphrase: "correct horse battery stable" };
const KEY_FILE: RepositorySecret = { kind: "key-file", key: newKeyFile({ fill: countingFill("key file") }).key };
const CHEAP = { N: 2 ** 4, r: 8, p: 1 };

/** A wrap with its JSON changed, and its checksum not. */
function edited(bytes: Buffer, change: (json: Record<string, unknown>) => void): Buffer {
  const json = JSON.parse(bytes.toString()) as Record<string, unknown>;
  change(json);
  return Buffer.from(JSON.stringify(json));
}

test("a repository key comes back with the passphrase or the key file that it was wrapped for", async () => {
  for (const secret of [PASSPHRASE, KEY_FILE]) {
    const bytes = await wrapRepositoryKey(KEY, secret, { scrypt: CHEAP });
    expect(wrapKind(bytes, NAME)).toBe(secret.kind);
    expect(await unwrapRepositoryKey(bytes, { name: NAME, secret })).toEqual(KEY);
    expect(bytes.includes(KEY) || bytes.toString().includes(KEY.toString("hex"))).toBe(false);
  }
});

test("by default a guess of the passphrase costs 128 MiB", async () => {
  const json = JSON.parse((await wrapRepositoryKey(KEY, PASSPHRASE)).toString());
  expect(json.scrypt).toEqual({ N: 131_072, r: 8, p: 1 });
});

test("no two wraps of a key are alike", async () => {
  const [left, right] = [await wrapRepositoryKey(KEY, KEY_FILE), await wrapRepositoryKey(KEY, KEY_FILE)];
  for (const field of ["salt", "nonce", "wrapped"] as const)
    expect(JSON.parse(left.toString())[field]).not.toBe(JSON.parse(right.toString())[field]);
});

test("a passphrase is the same however its letters were composed", async () => {
  const bytes = await wrapRepositoryKey(KEY, { kind: "passphrase", passphrase: "caf\u00e9" }, { scrypt: CHEAP });
  const secret: RepositorySecret = { kind: "passphrase", passphrase: "cafe\u0301" };
  expect(await unwrapRepositoryKey(bytes, { name: NAME, secret })).toEqual(KEY);
});

test("a wrong secret is told from damage, and a passphrase from a key file", async () => {
  const wrong: RepositorySecret[] = [
    { kind: "passphrase", passphrase: "correct horse battery staple" },
    { kind: "key-file", key: newKeyFile().key },
  ];
  for (const [index, secret] of [PASSPHRASE, KEY_FILE].entries()) {
    const bytes = await wrapRepositoryKey(KEY, secret, { scrypt: CHEAP });
    for (const other of [...wrong, index === 0 ? KEY_FILE : PASSPHRASE]) {
      const unwrapped = unwrapRepositoryKey(bytes, { name: NAME, secret: other });
      await expect(unwrapped).rejects.toMatchObject({ code: "REPOSITORY_KEY_WRONG", data: { object: NAME } });
    }
  }
});

test("any changed character of a wrap is damage or no change, never a wrong passphrase or another key", async () => {
  for (const secret of [PASSPHRASE, KEY_FILE]) {
    const bytes = await wrapRepositoryKey(KEY, secret, { scrypt: CHEAP });
    for (let at = 0; at < bytes.length; at += 1) {
      for (const bit of [1, 4, 0x80]) {
        const changed = Buffer.from(bytes);
        changed.writeUInt8(changed.readUInt8(at) ^ bit, at);
        const result = await unwrapRepositoryKey(changed, { name: NAME, secret }).catch((error: unknown) => error);
        if (Buffer.isBuffer(result)) expect(result).toEqual(KEY);
        else
          expect(["REPOSITORY_DAMAGED", "REPOSITORY_NEWER"], `byte ${at}`).toContain((result as { code: string }).code);
      }
    }
  }
});

test("a wrap that is cut off, empty, too long or something else is damaged", async () => {
  const bytes = await wrapRepositoryKey(KEY, KEY_FILE);
  const others = ["", "null", "[]", "{}", '{"version": 0}', '{"version": "1"}', "x".repeat(5000)].map((text) =>
    Buffer.from(text),
  );
  for (const other of [bytes.subarray(0, 100), ...others]) {
    const unwrapped = unwrapRepositoryKey(other, { name: NAME, secret: KEY_FILE });
    await expect(unwrapped).rejects.toMatchObject({ code: "REPOSITORY_DAMAGED", data: { object: NAME } });
  }
});

test("a wrap of a newer version is refused by its version, whatever else is in it", () => {
  const bytes = Buffer.from('{"version": 2, "kind": "smartcard"}');
  expect(() => wrapKind(bytes, NAME)).toThrow(
    expect.objectContaining({ code: "REPOSITORY_NEWER", data: { object: NAME, version: 2 } }),
  );
});

test("a wrap can't make its reader take more memory or time than any Tidemark asks for", async () => {
  const bytes = await wrapRepositoryKey(KEY, PASSPHRASE, { scrypt: CHEAP });
  const costs = [
    { N: 2 ** 21, r: 8, p: 1 },
    { N: 16, r: 2 ** 30, p: 1 },
    { N: 16, r: 8, p: 1000 },
    { N: 17, r: 8, p: 1 },
    { N: -16, r: 8, p: 1 },
    {},
  ];
  for (const scrypt of costs) {
    const changed = edited(bytes, (json) => {
      json["scrypt"] = scrypt;
    });
    const unwrapped = unwrapRepositoryKey(changed, { name: NAME, secret: PASSPHRASE });
    await expect(unwrapped).rejects.toMatchObject({ code: "REPOSITORY_DAMAGED" });
    await expect(unwrapped).rejects.toThrow(/scrypt/);
  }
});

test("a key file comes back from its text, typed in capitals and with other spaces too", () => {
  const { text, key } = newKeyFile({ comment: "of the repository\nin /backup" });
  expect(text).toContain("# in /backup\n");
  expect(parseKeyFile(text)).toEqual(key);
  const keyLines = text.split("\n").filter((line) => /^\d:/.test(line));
  const typed = ["TIDEMARK-KEY-1", ...keyLines.map((line) => `  ${line.toUpperCase().replaceAll(" ", "")} `)].join(
    "\r\n",
  );
  expect(parseKeyFile(typed)).toEqual(key);
});

test("a typing error in a key file is told with its line", () => {
  const { text } = newKeyFile({ fill: countingFill("typed") });
  const lines = text.split("\n");
  const first = lines.findIndex((line) => line.startsWith("1:"));
  for (let row = 0; row < 4; row += 1) {
    const line = lines[first + row] ?? "";
    for (let at = 3; at < line.length; at += 1) {
      if (line[at] === " ") continue;
      const typed = `${line.slice(0, at)}${line[at] === "7" ? "8" : "7"}${line.slice(at + 1)}`;
      const changed = lines.with(first + row, typed).join("\n");
      expect(() => parseKeyFile(changed), typed).toThrow(
        expect.objectContaining({ code: "INVALID_ARGUMENT", message: expect.stringContaining(`line ${row + 1} `) }),
      );
    }
  }
});

test("lines of a key file that are swapped, missing or cut are told, and other files are no key files", () => {
  const lines = newKeyFile({ fill: countingFill("lines") })
    .text.trimEnd()
    .split("\n");
  const bad = [
    lines.slice(0, -1),
    [...lines, lines.at(-1)],
    lines.with(-1, (lines.at(-1) ?? "").slice(0, -1)),
    lines.filter((line) => !line.startsWith("tidemark")),
    ["-----BEGIN PRIVATE KEY-----"],
    [],
    ["x".repeat(100_000)],
  ];
  for (const each of bad) {
    expect(() => parseKeyFile(each.join("\n"))).toThrow(expect.objectContaining({ code: "INVALID_ARGUMENT" }));
  }
  const swapped = [...lines.slice(0, -2), ...lines.slice(-1), ...lines.slice(-2, -1)].join("\n");
  expect(() => parseKeyFile(swapped)).toThrow("where line 3 of the key should be, there is line 4");
  const newer = lines.map((line) => line.replace("tidemark-key-1", "tidemark-key-2")).join("\n");
  expect(() => parseKeyFile(newer)).toThrow(/newer version/);
});
