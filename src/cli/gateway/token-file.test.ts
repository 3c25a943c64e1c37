import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { TokenFile } from "./token-file.ts";

let folder: string;
let path: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tidemark-token-file-"));
  path = join(folder, "t");
});
afterEach(() => rmSync(folder, { recursive: true }));

test("reads a token, with a line's end or without", () => {
  for (const text of ["aa.bb.c-_", "aa.bb.c-_\n", "  aa.bb.c-_\r\n"]) {
    writeFileSync(path, text);
    expect(new TokenFile(path).read()).toBe("aa.bb.c-_");
  }
});

test("says what is wrong, and never what is in the file", () => {
  expect(() => new TokenFile(path).read()).toThrow(expect.objectContaining({ code: "NOT_FOUND" }));
  for (const text of ["", "secret", "secret.secret", "secret.secret.secret secret", "x".repeat(1_000_000)]) {
    writeFileSync(path, text);
    const failure = (() => {
      try {
        return new TokenFile(path).read();
      } catch (error) {
        return error as Error & { code: string };
      }
    })();
    expect(failure).toMatchObject({ code: "INVALID_ARGUMENT" });
    expect(String(failure)).not.toMatch(/secret|xxx/);
  }
});

test("tells when it was replaced or changed, and not when it can't be looked at", () => {
  writeFileSync(path, "aa.bb.cc");
  const file = new TokenFile(path);
  expect([file.hasChanged(), file.hasChanged()]).toEqual([true, false]);
  writeFileSync(path, "aa.bb.longer");
  expect([file.hasChanged(), file.hasChanged()]).toEqual([true, false]);
  // As Kubernetes replaces it.
  writeFileSync(`${path}.new`, "aa.bb.longer");
  renameSync(`${path}.new`, path);
  expect([file.hasChanged(), file.hasChanged()]).toEqual([true, false]);
  rmSync(path);
  expect(file.hasChanged()).toBe(false);
});
