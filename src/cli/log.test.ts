import { expect, test } from "vitest";
import { createLog } from "./log.ts";
import { logText } from "./output/log-text.ts";

function linesOf(
  level: "debug" | "info",
  write: (log: ReturnType<typeof createLog>) => void,
): Record<string, unknown>[] {
  const lines: Record<string, unknown>[] = [];
  write(createLog({ level, destination: { write: (line) => void lines.push(JSON.parse(line)) } }));
  return lines;
}

test("an alarm is a fatal line marked as such, with the fields of its log", () => {
  const [line] = linesOf("info", (log) =>
    log.child({ app: "a" }).alarm("damaged", { position: 5n, cause: new RangeError("why") }),
  );
  expect(line).toMatchObject({
    level: 60,
    alarm: true,
    msg: "damaged",
    app: "a",
    position: "5",
    cause: { name: "RangeError", message: "why" },
  });
});

test("lines below the level are left out", () => {
  expect(linesOf("info", (log) => log.debug("x"))).toEqual([]);
  expect(linesOf("debug", (log) => log.debug("x"))).toHaveLength(1);
});

test("on a terminal a line is for people: time of day, level, words and fields", () => {
  const time = new Date(2026, 10, 20, 9, 5, 7).getTime();
  const text = logText(JSON.stringify({ level: 40, time, target: "/a b", pid: 7, signal: null, msg: "slow" }));
  expect(text).toBe('09:05:07 warning slow target="/a b" pid=7\n');
  expect(logText(JSON.stringify({ level: 60, time, alarm: true, cause: { message: "why" }, msg: "bad" }))).toBe(
    "09:05:07 ALARM bad cause=why\n",
  );
  expect(logText("no JSON\n")).toBe("no JSON\n");
});
