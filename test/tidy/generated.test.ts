import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { ROOT } from "./sources.ts";

const BUF = join(ROOT, "node_modules/@bufbuild/buf-linux-x64/bin/buf");

function filesOf(folder: string): Record<string, string> {
  const names = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".ts"));
  return Object.fromEntries(names.sort().map((name) => [name, readFileSync(join(folder, name), "utf8")]));
}

test("the protos keep buf's rules", () => {
  expect(() => execFileSync(BUF, ["lint"], { cwd: ROOT, encoding: "utf8" })).not.toThrow();
});

test("the generated code is that of the protos (npm run generate)", () => {
  const folder = mkdtempSync(join(tmpdir(), "tidemark-generated-"));
  try {
    execFileSync(BUF, ["generate", "--output", folder], { cwd: ROOT });
    expect(filesOf(join(folder, "src/rpc/gen"))).toEqual(filesOf(join(ROOT, "src/rpc/gen")));
  } finally {
    rmSync(folder, { recursive: true });
  }
});
