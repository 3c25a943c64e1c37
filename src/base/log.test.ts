import { expect, test } from "vitest";
import { memoryLog, silentLog } from "./log.ts";

test("a child log adds its fields to every line", () => {
  const log = memoryLog();
  log.child({ app: "a" }).child({ segment: 1 }).alarm("damaged", { position: 2 });
  log.debug("plain");
  expect(log.lines).toEqual([
    { level: "alarm", message: "damaged", fields: { app: "a", segment: 1, position: 2 } },
    { level: "debug", message: "plain", fields: {} },
  ]);
  expect(log.at("alarm")).toHaveLength(1);
});

test("the silent log stays silent, its children too", () => {
  expect(silentLog.child({ app: "a" })).toBe(silentLog);
});
