import { expect, test } from "vitest";
import { createLog } from "./log.ts";

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
