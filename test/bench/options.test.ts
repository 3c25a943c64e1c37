import { expect, test } from "vitest";
import { parseOptions } from "./options.ts";
import { selectRows } from "./rows.ts";

test("a full run has five rounds, a quick one and one that counts requests have one", () => {
  expect(parseOptions([]).rounds).toBe(5);
  expect(parseOptions(["--quick"]).rounds).toBe(1);
  expect(parseOptions(["--trips"]).rounds).toBe(1);
  expect(parseOptions(["--quick", "--rounds", "3"]).rounds).toBe(3);
});

test("--history takes a number or means a million, also before another option", () => {
  expect(parseOptions([]).history).toBeUndefined();
  expect(parseOptions(["--history", "500", "--quick"]).history?.changeCount).toBe(500);
  expect(parseOptions(["--history", "--quick"]).history?.changeCount).toBe(1_000_000);
  expect(parseOptions(["--history"]).history?.of).toBe("tidemark");
});

test("arguments that make no sense are refused with the reason", () => {
  expect(() => parseOptions(["--rounds", "0"])).toThrow("--rounds takes a whole number");
  expect(() => parseOptions(["--targets", "plain,zfs"])).toThrow('no target "zfs"');
  expect(() => parseOptions(["--target", "/mnt"])).toThrow("NAME=DIR");
  expect(() => parseOptions(["--targets", "plain", "--history"])).toThrow("not among the targets");
});

test("a row id selects that row, a family all of its temperatures, nothing an error", () => {
  const ids = (...wanted: string[]) => selectRows(wanted, 1000).map((row) => row.id);
  expect(ids("create")).toEqual(["create"]);
  expect(ids("stat")).toEqual(["stat-cold", "stat-kernel-cold", "stat-warm"]);
  expect(ids("sqlite", "rm")).toEqual(["rm", "sqlite-full", "sqlite-normal"]);
  expect(() => ids("nonsense")).toThrow('no row "nonsense"');
});

test("row ids are unique", () => {
  const ids = selectRows(undefined, 1000).map((row) => row.id);
  expect(new Set(ids).size).toBe(ids.length);
});
