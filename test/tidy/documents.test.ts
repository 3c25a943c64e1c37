import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { status } from "@grpc/grpc-js";
import { describe, expect, test } from "vitest";
import { EXIT_CODES, EXIT_OF_ERROR } from "../../src/cli/exit-codes.ts";
import { makeProgram } from "../../src/cli/program.ts";
import { ERROR_CODES, type ErrorCode } from "../../src/domain/errors.ts";
import { RECORD_OP } from "../../src/domain/record-op.ts";
import { GRPC_STATUS } from "../../src/rpc/errors.ts";
import { makeEnvironment } from "../cli/harness.ts";
import { LAYERS } from "./layers.ts";
import { filesBelow, ROOT, readText } from "./sources.ts";

const readme = readText("README.md");

/** The rows of the table below a heading (or after a line), as cells without their markup. */
function tableAfter(text: string, heading: string): string[][] {
  const lines = text.slice(text.indexOf(heading) + heading.length).split("\n");
  const first = lines.findIndex((line) => line.startsWith("|"));
  const length = lines.slice(first).findIndex((line) => !line.startsWith("|"));
  const rows = lines.slice(first, first + length).map((line) => line.split("|").slice(1, -1));
  return rows.slice(2).map((cells) => cells.map((cell) => cell.trim()));
}

describe("README", () => {
  test("has the exit codes of the program", () => {
    const expected = Object.entries(EXIT_CODES).map(([name, { code, meaning }]) => [String(code), name, meaning]);
    expect(tableAfter(readme, "## Exit codes")).toEqual(expected);
  });

  test("has the error codes, with how each ends the CLI and a call", () => {
    const expected = (Object.keys(ERROR_CODES) as ErrorCode[]).map((code) => [
      code,
      ERROR_CODES[code],
      String(EXIT_CODES[EXIT_OF_ERROR[code]].code),
      status[GRPC_STATUS[code]],
    ]);
    expect(tableAfter(readme, "## Error codes")).toEqual(expected);
  });

  test("has the layers that are tested", () => {
    const expected = LAYERS.map((folders, index) => [
      String(index + 1),
      folders.map((folder) => `\`${folder}\``).join(", "),
    ]);
    expect(tableAfter(readme, "(`test/tidy` fails otherwise)")).toEqual(expected);
  });

  test("names every folder of src", () => {
    const folders = new Set(filesBelow("src", ".ts").map((path) => path.split("/").slice(0, 2).join("/")));
    for (const folder of folders) expect(readme).toContain(`\`${folder}/\``);
  });

  test("has every verb of the command line", () => {
    const program = makeProgram({ environment: makeEnvironment(), finish: () => {} });
    const rows = tableAfter(readme, "`tidemark COMMAND --help`");
    const verbs = rows.flatMap(([cell = ""]) => [...cell.matchAll(/`([a-z]+)`/g)].map(([, verb]) => verb));
    expect(verbs.sort()).toEqual(program.commands.map((command) => command.name()).sort());
    for (const command of program.commands.filter(({ commands }) => commands.length > 0)) {
      const row = rows.find(([cell]) => cell === `\`${command.name()}\``)?.[1];
      for (const { name } of command.commands.map((each) => ({ name: each.name() })))
        expect(row).toContain(`\`${name}\``);
    }
  });

  test("uses words of the glossary that the code has too", () => {
    const words = tableAfter(readme, "## Glossary").map(([word = ""]) => word.replaceAll("*", "").toLowerCase());
    const code = filesBelow("src/domain", ".ts").map(readText).join("\n").toLowerCase();
    for (const word of words) expect(code).toContain(word.replace("durable lsn", "durablelsn"));
  });
});

test("links in documents lead to files", () => {
  const folders = ["src", "test", "docs", "deploy"];
  const documents = ["README.md", "CHANGELOG.md", ...folders.flatMap((folder) => filesBelow(folder, ".md"))];
  const broken = documents.flatMap((path) =>
    [...readText(path).matchAll(/\]\((?!https?:|#)([^)#\s]+)/g)]
      .map(([, target = ""]) => join(dirname(path), target))
      .filter((target) => !existsSync(join(ROOT, target)))
      .map((target) => `${path}: ${target}`),
  );
  expect(broken).toEqual([]);
});

test("operations of records have numbers of their own, which fit their byte", () => {
  const numbers = Object.values(RECORD_OP);
  expect(new Set(numbers).size).toBe(numbers.length);
  for (const number of numbers) expect(number).toBeGreaterThan(0);
  for (const number of numbers) expect(number).toBeLessThan(256);
});

test("versions in package.json are exact", () => {
  const { dependencies, devDependencies } = JSON.parse(readText("package.json")) as Record<
    string,
    Record<string, string>
  >;
  const loose = Object.entries({ ...dependencies, ...devDependencies }).filter(
    ([, version]) => !/^\d+\.\d+\.\d+$/.test(version),
  );
  expect(loose).toEqual([]);
});
