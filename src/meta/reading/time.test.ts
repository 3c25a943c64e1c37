import { afterEach, beforeEach, expect, test } from "vitest";
import { present } from "../../base/assert.ts";
import type { Timestamp } from "../../base/clock.ts";
import type { InodeId, Lsn } from "../../domain/ids.ts";
import { Snapshots } from "./snapshots.ts";
import { all, type TestApp, TestApps } from "./test-app.ts";
import { resolveMoment, timeOfLsn } from "./time.ts";

let apps: TestApps;
let app: TestApp;
let root: InodeId;

beforeEach(async () => {
  apps = await TestApps.open();
  app = await apps.app("shop");
  root = app.share("files").root;
});

afterEach(() => apps.close());

const MS = 1_000_000;

function resolve(time: Timestamp) {
  return resolveMoment(app.app.core, { kind: "time", time });
}

/** A record at the present time; answers its LSN and time. */
function record(name: string): { lsn: Lsn; time: Timestamp } {
  app.create(root, name);
  return { lsn: app.app.core.lastLsn, time: apps.clock.now() };
}

function plus(time: Timestamp, nsec: number): Timestamp {
  const total = time.nsec + nsec;
  const carry = Math.floor(total / 1e9);
  return { sec: time.sec + carry, nsec: total - carry * 1e9 };
}

test("every time resolves to the last record at or before it, between index rows too", async () => {
  const records: { lsn: Lsn; time: Timestamp }[] = [];
  for (let index = 0; index < 60; index++) {
    if (index % 7 === 0) apps.clock.step(40 * MS);
    records.push(record(`f${index}`));
  }
  for (const [index, { lsn, time }] of records.entries()) {
    expect(await resolve(time)).toEqual({ lsn, time, ambiguous: false });
    const before = index === 0 ? (1 as Lsn) : present(records[index - 1], "record").lsn;
    expect((await resolve(plus(time, -1))).lsn).toBe(before);
    expect((await resolve(plus(time, 1))).lsn).toBe(lsn);
    expect(await timeOfLsn(app.app.core, lsn)).toEqual(time);
  }
});

test("a time before the first record is LSN 0, one in the future the last record", async () => {
  const { lsn } = record("a");
  expect(await resolve({ sec: 0, nsec: 0 })).toEqual({ lsn: 0, ambiguous: false });
  expect(await resolve({ sec: -(2 ** 40), nsec: 0 })).toEqual({ lsn: 0, ambiguous: false });
  expect((await resolve({ sec: 2 ** 40, nsec: 999_999_999 })).lsn).toBe(lsn);
});

test("after the clock stepped back a time is taken in the newest era that contains it, and said to be ambiguous", async () => {
  const first = record("a");
  apps.clock.step(10_000 * MS);
  const late = record("b");
  apps.clock.step(-5000 * MS);
  const again = record("c");
  expect(await resolve(first.time)).toEqual({ ...first, ambiguous: false });
  expect(await resolve(plus(again.time, -1))).toEqual({ ...first, ambiguous: false });
  expect(await resolve(again.time)).toEqual({ ...again, ambiguous: true });
  expect(await resolve(late.time)).toEqual({ ...again, ambiguous: true });
  expect(await resolve(plus(late.time, 1))).toEqual({ ...again, ambiguous: false });
});

test("LSNs are taken as they are, refused past the end and below the floor", async () => {
  const { lsn } = record("a");
  const { core } = app.app;
  expect((await resolveMoment(core, { kind: "lsn", lsn })).lsn).toBe(lsn);
  await expect(resolveMoment(core, { kind: "lsn", lsn: (lsn + 1) as Lsn })).rejects.toMatchObject({
    code: "NOT_FOUND",
  });
  await expect(resolveMoment(core, { kind: "lsn", lsn: 1 as Lsn }, lsn)).rejects.toMatchObject({
    code: "OUT_OF_HISTORY",
  });
});

test("a snapshot names its moment until it is deleted, over a restart too", async () => {
  const snapshots = new Snapshots(apps.parts);
  const ref = { namespace: "default", name: "shop" };
  record("a");
  const made = await snapshots.createSnapshot({ app: ref, name: "before", syncMounts: false });
  record("b");
  expect(await resolveMoment(app.app.core, { kind: "snapshot", name: "before" })).toMatchObject({
    lsn: made.lsn,
    time: made.time,
  });
  await expect(snapshots.createSnapshot({ app: ref, name: "before", syncMounts: false })).rejects.toMatchObject({
    code: "ALREADY_EXISTS",
  });
  await expect(snapshots.createSnapshot({ app: ref, name: "1st", syncMounts: false })).rejects.toMatchObject({
    code: "INVALID_ARGUMENT",
  });
  await app.app.close();
  app = await apps.app("shop");
  expect(await all(snapshots.listSnapshots({ app: ref }))).toEqual([made]);
  await snapshots.deleteSnapshot({ app: ref, name: "before" });
  expect(await all(snapshots.listSnapshots({ app: ref }))).toEqual([]);
  await expect(resolveMoment(app.app.core, { kind: "snapshot", name: "before" })).rejects.toMatchObject({
    code: "NOT_FOUND",
  });
});
