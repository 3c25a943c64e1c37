import { beforeEach, expect, test } from "vitest";
import { ManualClock } from "../../../test/model/manual-clock.ts";
import { MemoryLog } from "../../base/log.ts";
import { ManualTimers } from "../../base/timers.ts";
import type { AppId } from "../../domain/ids.ts";
import { MemoryKv } from "../../kv/memory-kv.ts";
import { LockKeeper } from "./lock-keeper.ts";

const DAY_NSEC = 86_400_000_000_000;
const SHOP = "1".repeat(32) as AppId;

let clock: ManualClock;
let log: MemoryLog;
let kv: MemoryKv;
let done: string[];
let fail: Error | undefined;
let lockDays: number | undefined;

beforeEach(() => {
  clock = new ManualClock();
  log = new MemoryLog();
  kv = new MemoryKv();
  done = [];
  fail = undefined;
  lockDays = 30;
});

function keeper(): LockKeeper {
  const extend = async (what: string): Promise<void> => {
    if (fail !== undefined) throw fail;
    done.push(what);
  };
  const repository = {
    id: "a",
    get lockDays() {
      return lockDays;
    },
    extendLocks: () => extend("keys"),
    openApp: async (appId: AppId) => ({ extendLocks: () => extend(appId === SHOP ? "shop" : "?") }),
  };
  const shipped = async () => [{ repository, apps: [SHOP] }];
  return new LockKeeper({ shipped, memory: async () => kv, clock, timers: new ManualTimers(), log });
}

test("locks are extended three times in each span, keys by their own, also over restarts", async () => {
  for (let day = 0; day < 20; day++) {
    await keeper().check();
    clock.step(DAY_NSEC);
  }
  expect(done.filter((what) => what === "shop")).toHaveLength(2);
  expect(done.filter((what) => what === "keys")).toHaveLength(7);
});

test("without locks nothing is asked", async () => {
  lockDays = undefined;
  await keeper().check();
  expect(done).toEqual([]);
});

test("what fails is an alarm and is done at the next check", async () => {
  fail = new Error("no answer");
  await keeper().check();
  expect(log.lines.map(({ level }) => level)).toEqual(["alarm"]);
  fail = undefined;
  await keeper().check();
  expect(done).toEqual(["keys", "shop"]);
});

test("a clock that went back costs a pass, not the locks", async () => {
  clock.step(10 * DAY_NSEC);
  await keeper().check();
  clock.step(-5 * DAY_NSEC);
  await keeper().check();
  expect(done).toEqual(["keys", "shop", "keys", "shop"]);
});

test("it looks by itself, and not after it was stopped", async () => {
  const timers = new ManualTimers();
  const repository = {
    id: "a",
    lockDays: 3,
    extendLocks: async () => {},
    openApp: async () => ({ extendLocks: async () => {} }),
  };
  let looks = 0;
  const shipped = async () => {
    looks++;
    return [{ repository, apps: [] }];
  };
  const kept = new LockKeeper({ shipped, memory: async () => kv, clock, timers, log });
  kept.start();
  timers.advance(60_000);
  await kept.stop();
  timers.advance(10 * 3_600_000);
  expect(looks).toBe(1);
});
