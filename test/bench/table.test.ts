import { expect, test } from "vitest";
import { formatValue, renderTable, significant } from "./table.ts";

test("columns are as wide as their widest cell and aligned by letter, the last letter for the rest", () => {
  const text = renderTable(
    ["row", "a", "b"],
    [
      ["x", "1", "22"],
      ["long name", "333", "4"],
    ],
    "lr",
  );
  expect(text.split("\n")).toEqual([
    "row          a   b",
    "---------  ---  --",
    "x            1  22",
    "long name  333   4",
  ]);
});

test("numbers keep three significant digits and never an exponent", () => {
  expect([0, 0.00123, 0.5, 1.234, 12.34, 123.4, 1234567].map(significant)).toEqual([
    "0.00",
    "0.001",
    "0.500",
    "1.23",
    "12.3",
    "123",
    "1234567",
  ]);
});

test("only counts per second are shortened to thousands", () => {
  expect(formatValue("/s", 12_345)).toBe("12.3k");
  expect(formatValue("/s", 999)).toBe("999");
  expect(formatValue("MB/s", 12_345)).toBe("12345");
  expect(formatValue("s", 0.4567)).toBe("0.457");
});
