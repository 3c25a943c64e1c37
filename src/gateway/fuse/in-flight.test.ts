import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { present } from "../../base/assert.ts";
import { CulpritFinder, IN_FLIGHT_BYTES, InFlightTable, readInFlight } from "./in-flight.ts";
import { loadLibc } from "./libc.ts";

describe("the table of requests in flight", () => {
  let folder: string;
  let fd: number;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "tidemark-table-"));
    fd = openSync(join(folder, "table"), "w+");
    ftruncateSync(fd, IN_FLIGHT_BYTES);
  });
  afterEach(() => {
    closeSync(fd);
    rmSync(folder, { recursive: true });
  });

  test("shows who runs and who waits, on which mount", () => {
    const table = new InFlightTable(fd, present(loadLibc(), "libc"));
    const [first, second] = [table.marksOf(0), table.marksOf(41)];
    first.started(2);
    first.returned();
    first.waiting(2);
    second.waiting(2);
    first.waiting(6);
    first.settled(2);
    second.started(2 ** 53 - 1);
    expect(readInFlight(fd)).toEqual({
      running: { deviceMinor: 41, unique: 2 ** 53 - 1 },
      waiting: [
        { deviceMinor: 41, unique: 2 },
        { deviceMinor: 0, unique: 6 },
      ],
    });
    second.returned();
    expect(readInFlight(fd).running).toBeUndefined();
  });

  test("more waiting requests than it has room for are simply not shown", () => {
    const marks = new InFlightTable(fd, present(loadLibc(), "libc")).marksOf(1);
    for (let unique = 1; unique <= 1000; unique++) marks.waiting(unique);
    for (let unique = 1; unique <= 1000; unique++) marks.settled(unique);
    expect(readInFlight(fd).waiting).toEqual([]);
    marks.waiting(7);
    expect(readInFlight(fd).waiting).toEqual([{ deviceMinor: 1, unique: 7 }]);
  });

  test("a new process starts with an empty one", () => {
    const libc = present(loadLibc(), "libc");
    new InFlightTable(fd, libc).marksOf(1).started(5);
    new InFlightTable(fd, libc);
    expect(readInFlight(fd)).toEqual({ running: undefined, waiting: [] });
  });
});

describe("the search for a deadly request", () => {
  const running = { deviceMinor: 1, unique: 10 };
  const waiting = { deviceMinor: 1, unique: 20 };

  test("a request running at three deaths in a row is found, once", () => {
    const finder = new CulpritFinder();
    const die = () => finder.died({ running, waiting: [] }, { killed: true });
    expect([die(), die(), die(), die()]).toEqual([[], [], [running], []]);
  });

  test("a death without it starts the count anew", () => {
    const finder = new CulpritFinder();
    finder.died({ running, waiting: [] }, { killed: false });
    finder.died({ running, waiting: [] }, { killed: false });
    finder.died({ running: undefined, waiting: [] }, { killed: false });
    expect(finder.died({ running, waiting: [] }, { killed: false })).toEqual([]);
  });

  test("a waiting request is suspected of crashes, not of kills", () => {
    const crashes = new CulpritFinder();
    const kills = new CulpritFinder();
    const table = { running: undefined, waiting: [waiting] };
    const rounds = [1, 2, 3];
    expect(rounds.map(() => crashes.died(table, { killed: false }))).toEqual([[], [], [waiting]]);
    expect(rounds.map(() => kills.died(table, { killed: true }))).toEqual([[], [], []]);
  });
});
