import { expect, test } from "vitest";
import { type Report, renderReport, reportToJson } from "./report.ts";
import type { Row, Sample } from "./row.ts";
import type { Cell } from "./runner.ts";

const measure = () => Promise.reject(new Error("not in this test"));
const create: Row = { id: "create", title: "create", unit: "/s", aim: "8 k", measure };
const untar: Row = { id: "untar", title: "untar", unit: "s", aim: "2.5", measure };

function measured(...values: number[]): Cell {
  return { state: "measured", samples: values.map((value): Sample => ({ value, p50Us: 10, p99Us: 1000 / value })) };
}

function report(): Report {
  return {
    rows: [create, untar],
    rounds: 3,
    results: new Map([
      [
        "create",
        new Map([
          ["ext4", measured(100, 300, 200)],
          ["tidemark", measured(50)],
          ["old", measured(25)],
        ]),
      ],
      [
        "untar",
        new Map<string, Cell>([
          ["ext4", measured(2)],
          ["tidemark", { state: "failed", message: "no space" }],
        ]),
      ],
    ]),
    columns: {
      names: ["ext4", "tidemark", "old"],
      plain: "ext4",
      passThrough: undefined,
      passThroughTuned: undefined,
      history: { without: "tidemark", with: "old" },
    },
  };
}

/** The cells of the line of a table that starts with `row`, in the section under `heading`. */
function cells(text: string, heading: string, row: string): string[] {
  const section = text.slice(text.indexOf(heading));
  const line = section.split("\n").find((candidate) => candidate.startsWith(`${row} `));
  return line?.trim().split(/ {2,}/) ?? [];
}

test("a value is the median with its spread, and ratios are to the plain directory", () => {
  const text = renderReport(report());
  expect(cells(text, "Median", "create")).toEqual(["create", "/s", "200 (100..300)", "50.0", "25.0"]);
  expect(cells(text, "Ratios of medians", "create")).toEqual(["create", "8 k", "0.25", "0.13"]);
});

test("a history is compared by medians and by 99th percentiles with the same target without one", () => {
  expect(cells(renderReport(report()), "After a history", "create")).toEqual(["create", "0.50", "0.50"]);
});

test("a row that failed says so in the table and why below it", () => {
  const text = renderReport(report());
  expect(cells(text, "Median", "untar")).toContain("failed");
  expect(text).toContain("untar, tidemark: FAILED: no space");
});

test("the JSON holds every sample and the ratios", () => {
  const [row] = JSON.parse(JSON.stringify(reportToJson(report())));
  expect(row.targets.ext4.samples).toHaveLength(3);
  expect(row.targets.tidemark["ratioTo ext4"]).toBe(0.25);
});
