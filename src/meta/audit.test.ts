import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { memoryLog } from "../base/log.ts";
import { ManualTimers } from "../base/timers.ts";
import { FsError } from "../domain/errors.ts";
import type { AppId } from "../domain/ids.ts";
import { Audit } from "./audit.ts";
import { all, type TestApp, TestApps } from "./reading/test-app.ts";

let apps: TestApps;
let system: TestApp;
let audit: Audit;
let timers: ManualTimers;

beforeEach(async () => {
  apps = await TestApps.open();
  system = await apps.app("system");
  timers = new ManualTimers();
  audit = new Audit({ core: system.app.core, clock: apps.clock, timers, log: memoryLog() });
});

afterEach(() => apps.close());

/** Time passes, on all clocks. */
function pass(ms: number): void {
  apps.clock.step(ms * 1_000_000);
  timers.advance(ms);
}

const refuse = (what: string, who = "somebody"): void => audit.refused({ who, what, on: () => "ino 7", why: "no" });
const entries = (request: Partial<Parameters<Audit["list"]>[0]> = {}) =>
  all(audit.list({ refusedOnly: false, ...request }));

describe("refusals", () => {
  test("are written at once, and again when they were counted for a while", async () => {
    refuse("write");
    expect((await entries()).map(({ count }) => count)).toEqual([1]);
    for (let times = 0; times < 41; times++) refuse("write");
    expect(await entries()).toHaveLength(1);
    pass(1_000);
    expect((await entries()).map(({ count }) => count)).toEqual([1, 41]);
  });

  test("that go on for ever make a record an hour in the end, and none is lost", async () => {
    const hours = 24;
    for (let second = 0; second < hours * 3600; second += 5) {
      refuse("write");
      pass(5_000);
    }
    audit.close();
    const written = await entries();
    expect(written.length).toBeLessThan(hours + 15);
    expect(written.reduce((sum, { count }) => sum + count, 0)).toBe((hours * 3600) / 5);
  });

  test("of ever new kinds are bounded in number and in rate, and what was not written is counted", async () => {
    for (let index = 0; index < 5_000; index++) refuse("write", `10.0.0.${index}`);
    expect((await entries()).length).toBeLessThanOrEqual(200);
    pass(1_000);
    audit.close();
    const written = await entries();
    expect(written.reduce((sum, { count }) => sum + count, 0)).toBe(5_000);
    expect(written.at(-1)).toMatchObject({ who: "others" });
  });

  test("of one kind do not hide those of another", async () => {
    for (let times = 0; times < 100; times++) refuse("write");
    refuse("read");
    expect((await entries()).map(({ what }) => what)).toEqual(["write", "read"]);
  });

  test("have fields of bounded length", async () => {
    audit.refused({ who: "x".repeat(100_000), what: "y", on: () => "z".repeat(100_000), why: "no" });
    expect((await entries())[0]?.who.length).toBeLessThan(1_100);
  });
});

describe("the log", () => {
  test("has all acts, in order, and can be read from a time on, of one app, or what was refused only", async () => {
    const appId = "ab".repeat(16) as AppId;
    audit.act({ who: "admin", what: "first", on: "", why: "", appId });
    pass(10_000);
    const since = apps.clock.now();
    pass(10_000);
    audit.act({ who: "admin", what: "second", on: "", why: "NOT_FOUND" });
    refuse("third");
    audit.act({ who: "admin", what: "fourth", on: "", why: "", appId });
    const whats = async (request: Parameters<typeof entries>[0]) => (await entries(request)).map(({ what }) => what);
    expect(await whats({})).toEqual(["first", "second", "third", "fourth"]);
    expect(await whats({ since })).toEqual(["second", "third", "fourth"]);
    expect(await whats({ appId })).toEqual(["first", "fourth"]);
    expect(await whats({ refusedOnly: true })).toEqual(["third"]);
    expect((await entries())[1]).toMatchObject({ kind: "act", why: "NOT_FOUND", count: 1 });
  });

  test("survives a restart", async () => {
    audit.act({ who: "admin", what: "first", on: "", why: "" });
    await system.app.close();
    system = await apps.app("system");
    audit = new Audit({ core: system.app.core, clock: apps.clock, timers, log: memoryLog() });
    expect((await entries()).map(({ what }) => what)).toEqual(["first"]);
  });

  test("that can't be written stops nobody: it is said in the service's own log", () => {
    const log = memoryLog();
    const core = {
      ...system.app.core,
      begin: () => ({
        commit: () => {
          throw FsError.of("ENOSPC");
        },
      }),
    };
    const full = new Audit({ core: core as never, clock: apps.clock, timers, log });
    full.act({ who: "admin", what: "first", on: "", why: "" });
    full.refused({ who: "x", what: "y", on: () => "z", why: "no" });
    expect(log.at("error")).toHaveLength(2);
  });
});
