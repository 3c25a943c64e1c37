import { basename } from "node:path";
import { describe, expect, test } from "vitest";
import { ALLOWED_AMBIENT, ambientUses } from "./ambient.ts";
import { functionLengths } from "./function-length.ts";
import { layerFault } from "./layers.ts";
import { ENTRY_POINTS, ONLY_FOR_TESTS, reachableFrom } from "./reachability.ts";
import { filesBelow, isForTests, parseBelow, readText, references } from "./sources.ts";

/** STYLE, "Files": aim for 300 lines, split by topic at 500. */
const FILE_LINES_MAX = 500;
/** STYLE, "Functions": aim for 40 lines. */
const FUNCTION_LINES_MAX = 70;

const sources = parseBelow("src");
const tests = parseBelow("test");

describe("the sources", () => {
  test("import only from lower layers", () => {
    const faults = sources
      .filter(({ path }) => !isForTests(path))
      .flatMap((file) => references(file).map((imported) => layerFault(file.path, imported)));
    expect(faults.filter((fault) => fault !== undefined)).toEqual([]);
  });

  test(`have at most ${FILE_LINES_MAX} lines a file`, () => {
    const long = [...sources, ...tests].filter(({ lines }) => lines.length > FILE_LINES_MAX);
    expect(long.map(({ path, lines }) => `${path}: ${lines.length}`)).toEqual([]);
  });

  test(`have at most ${FUNCTION_LINES_MAX} lines a function`, () => {
    const files = [...sources, ...tests].filter(({ path }) => !path.endsWith(".test.ts"));
    const long = files.flatMap((file) =>
      functionLengths(file).filter(({ lineCount }) => lineCount > FUNCTION_LINES_MAX),
    );
    expect(long.map(({ place, lineCount }) => `${place}: ${lineCount}`)).toEqual([]);
  });

  test("take time, chance, environment and output from where they are injected", () => {
    const uses = sources.filter(({ path }) => !isForTests(path) && !path.startsWith("src/base/")).flatMap(ambientUses);
    const forbidden = uses.filter(({ path, name }) => ALLOWED_AMBIENT[path]?.names.includes(name) !== true);
    expect(forbidden.map(({ path, line, name }) => `${path}:${line} ${name}`)).toEqual([]);
  });

  test("need every exception that they are allowed", () => {
    const used = new Set(sources.flatMap(ambientUses).map(({ path, name }) => `${path} ${name}`));
    const allowed = Object.entries(ALLOWED_AMBIENT).flatMap(([path, { names }]) =>
      names.map((name) => `${path} ${name}`),
    );
    expect(allowed.filter((each) => !used.has(each))).toEqual([]);
  });

  test("are all used: by the program, or by tests and said to be so", () => {
    const all = [...sources, ...tests];
    const live = reachableFrom(all, ENTRY_POINTS);
    const tested = reachableFrom(all, [
      ...filesBelow("src", ".test.ts"),
      ...filesBelow("test", ".test.ts"),
      ...filesBelow("test", "main.ts"),
    ]);
    const dead = sources
      .map(({ path }) => path)
      .filter((path) => !live.has(path) && !path.endsWith(".test.ts"))
      .filter((path) => !(tested.has(path) && (isForTests(path) || path in ONLY_FOR_TESTS)));
    expect(dead).toEqual([]);
    expect(Object.keys(ONLY_FOR_TESTS).filter((path) => live.has(path))).toEqual([]);
  });

  test("have names in kebab-case", () => {
    const names = [...filesBelow("src", ""), ...filesBelow("test", ""), ...filesBelow("scripts", "")].filter(
      (path) => !path.includes("/golden/"),
    );
    expect(
      names.filter((path) => !/^([a-z0-9]+(-[a-z0-9]+)*(\.[a-z0-9]+)*|README\.md|FORMAT\.md)$/.test(basename(path))),
    ).toEqual([]);
  });

  test("have no file that only passes others on", () => {
    const barrels = sources.filter(({ tree }) =>
      (tree["body"] as { type: string; source?: unknown }[]).every(
        (statement) => statement.type.startsWith("Export") && statement.source != null,
      ),
    );
    expect(barrels.map(({ path }) => path)).toEqual([]);
  });

  test("say nothing of the machine they were written on", () => {
    const files = ["src", "test", "scripts", "bin", "proto", ".ci"].flatMap((folder) => filesBelow(folder, ""));
    const own = "test/tidy/source.test.ts";
    const faults = files.filter(
      (path) => path !== own && !/\.(bin|seg)$/.test(path) && /\/work\/|\/home\/[a-z]/.test(readText(path)),
    );
    expect(faults.filter((path) => path !== "test/cli/harness.ts" && path !== "test/cli/commands.test.ts")).toEqual([]);
  });
});
