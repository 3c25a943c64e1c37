import { expect, test } from "vitest";
import { ManualTimers } from "../base/timers.ts";
import { BlobError } from "../blob/blob-error.ts";
import { CountingBlobs } from "../blob/counting-blobs.ts";
import { FaultyBlobs } from "../blob/testing/faulty-blobs.ts";
import { MemoryBlobs } from "../blob/testing/memory-blobs.ts";
import { LIVE, type Lsn } from "../domain/ids.ts";
import { MemoryKv } from "../kv/memory-kv.ts";
import type { DiskState } from "./backlog.ts";
import { DESCRIBED, ShipFixture, type ShipFixtureOptions, verifyShipped } from "./ship-fixture.ts";
import { shippedMark } from "./ship-index.ts";
import { Shipper, type ShipperOptions } from "./shipper.ts";

const EVERY_MS = 5000;

type Setup = { readonly fixture: ShipFixture; readonly timers: ManualTimers; readonly shipper: Shipper };

async function withShipper(
  options: ShipFixtureOptions & Partial<ShipperOptions>,
  run: (setup: Setup) => Promise<void>,
): Promise<void> {
  await using fixture = await ShipFixture.open(options);
  await fixture.test.settle();
  const timers = new ManualTimers();
  const shipper = shipperOf(fixture, { timers, ...options });
  try {
    await run({ fixture, timers, shipper });
  } finally {
    await shipper.stop();
  }
}

function shipperOf(fixture: ShipFixture, options: Partial<ShipperOptions>): Shipper {
  return new Shipper({
    app: fixture.app,
    backend: fixture.engine(),
    everyMs: EVERY_MS,
    onBacklog: "serve",
    describe: () => DESCRIBED,
    shippedMark: shippedMark(fixture.index, fixture.keys.tag),
    clock: fixture.apps.clock,
    timers: new ManualTimers(),
    log: fixture.log,
    random: () => 0.5,
    ...options,
  });
}

/** Lets promises go on until `condition` holds. */
async function until(condition: () => boolean): Promise<void> {
  for (let turn = 0; turn < 100_000; turn++) {
    if (condition()) return;
    await new Promise((resolve) => setImmediate(resolve));
  }
  throw new Error("it does not come");
}

test("changes are shipped an interval after the first of them, and without changes nothing is asked of the store", async () => {
  const store = new CountingBlobs(new MemoryBlobs());
  await withShipper({ store }, async ({ fixture, timers, shipper }) => {
    shipper.start();
    await until(() => shipper.status().state === "idle");
    const first = shipper.status().protected?.lsn;
    expect(first).toBe(fixture.app.core.lastLsn);
    expect(shipper.floor).toBe(first);
    fixture.test.put(fixture.root, "a", "one");
    await fixture.test.settle();
    fixture.apps.clock.step(1_000_000_000);
    timers.advance(EVERY_MS - 1);
    expect(shipper.status()).toMatchObject({ state: "idle", protected: { lsn: first } });
    expect(shipper.status().lagMs).toBeGreaterThanOrEqual(1000);
    expect(shipper.status().bytesUnprotected).toBeGreaterThan(0n);
    timers.advance(1);
    await until(
      () => shipper.status().protected?.lsn === fixture.app.core.lastLsn && shipper.status().state === "idle",
    );
    expect(shipper.status()).toMatchObject({ lagMs: 0, bytesUnprotected: 0n });
    timers.advance(10_000);
    const counters = { ...store.counters };
    expect(timers.pendingCount).toBe(0);
    timers.advance(3_600_000);
    expect(store.counters).toEqual(counters);
    expect(await verifyShipped(fixture.repository(), fixture.app)).toBe(fixture.app.core.lastLsn);
  });
});

test("now ships what there is at the time of the call, and says how far it is", async () => {
  await withShipper({}, async ({ fixture, shipper }) => {
    shipper.start();
    fixture.test.put(fixture.root, "a", "one");
    const lsn = fixture.app.core.lastLsn;
    const seen: number[] = [];
    const moment = await shipper.now({ onProgress: ({ protectedLsn }) => seen.push(protectedLsn) });
    expect(moment.lsn).toBeGreaterThanOrEqual(lsn);
    expect(seen.length).toBeGreaterThan(0);
    expect((await shipper.now()).lsn).toBe(moment.lsn);
  });
});

test("an hour without the store: writers go on, nothing grows in memory, and all is shipped when it is back", async () => {
  const store = new FaultyBlobs(new MemoryBlobs());
  await withShipper({ store }, async ({ fixture, timers, shipper }) => {
    const { test: app, root, log } = fixture;
    shipper.start();
    await until(() => shipper.status().state === "idle");
    const protectedBefore = shipper.status().protected?.lsn as Lsn;
    for (const operation of ["put", "list", "stat", "get"] as const)
      store.inject({ operation, times: 1_000_000, effect: { kind: "fail" } });
    for (let minute = 0; minute < 60; minute++) {
      app.put(root, `minute-${minute}`, `contents ${minute}`);
      await app.settle();
      for (let second = 0; second < 60; second++) {
        app.clock.step(1_000_000_000);
        timers.advance(1000);
        await new Promise((resolve) => setImmediate(resolve));
      }
    }
    await until(() => shipper.status().state === "retrying");
    expect(shipper.status()).toMatchObject({ protected: { lsn: protectedBefore }, state: "retrying" });
    expect(shipper.status().lagMs).toBeGreaterThan(3_500_000);
    expect(shipper.status().message).toContain("connection");
    expect(shipper.floor).toBe(protectedBefore);
    expect(log.at("warn")).toHaveLength(1);
    await expect(shipper.now()).rejects.toMatchObject({ code: "UNAVAILABLE" });
    store.heal();
    timers.advance(60_000);
    await until(
      () => shipper.status().protected?.lsn === fixture.app.core.lastLsn && shipper.status().state === "idle",
    );
    expect(await verifyShipped(fixture.repository(), fixture.app)).toBe(fixture.app.core.lastLsn);
  });
});

test("under the policy to stop, writers are refused while too much waits", async () => {
  const store = new FaultyBlobs(new MemoryBlobs());
  await withShipper({ store, onBacklog: "stop", backlogBytesMax: 20_000n }, async ({ fixture, timers, shipper }) => {
    const { test: app, root, log } = fixture;
    shipper.start();
    await until(() => shipper.status().state === "idle");
    store.inject({
      operation: "put",
      times: 1_000_000,
      effect: { kind: "fail", error: new BlobError("BLOB_DENIED", "no") },
    });
    app.put(root, "large", "x".repeat(30_000));
    expect(shipper.refusal()).toBeUndefined();
    await app.settle();
    timers.advance(1000);
    expect(shipper.refusal()).toMatchObject({ code: "ENOSPC" });
    expect(shipper.status()).toMatchObject({ state: "stopped", isBacklogLarge: true });
    expect(log.at("alarm").filter(({ message }) => message.includes("too much"))).toHaveLength(1);
    store.heal();
    timers.advance(120_000);
    await until(() => shipper.refusal() === undefined);
    expect(shipper.status().isBacklogLarge).toBe(false);
  });
});

test("a store that refuses is an alarm, one that can't be reached is none; both are tried again", async () => {
  const store = new FaultyBlobs(new MemoryBlobs());
  await withShipper({ store }, async ({ fixture, timers, shipper }) => {
    const { test: app, root, log } = fixture;
    shipper.start();
    await until(() => shipper.status().state === "idle");
    store.inject({ operation: "put", times: 1_000_000, effect: { kind: "fail" } });
    app.put(root, "a", "one");
    await app.settle();
    timers.advance(EVERY_MS);
    await until(() => shipper.status().state === "retrying");
    expect(log.at("alarm")).toEqual([]);
    store.heal();
    const denied = new BlobError("BLOB_DENIED", "the key is unknown");
    store.inject({ operation: "put", times: 1_000_000, effect: { kind: "fail", error: denied } });
    store.inject({ operation: "list", times: 1_000_000, effect: { kind: "fail", error: denied } });
    timers.advance(60_000);
    await until(() => shipper.status().state === "failed");
    expect(shipper.status().message).toContain("the key is unknown");
    expect(log.at("alarm")).toHaveLength(1);
    store.heal();
    timers.advance(60_000);
    await until(() => shipper.status().state === "idle");
    expect(shipper.status()).toMatchObject({ protected: { lsn: fixture.app.core.lastLsn }, lagMs: 0 });
  });
});

test("history that is not shipped stays until it comes to the disk's last reserve, and that is alarmed", async () => {
  const store = new FaultyBlobs(new MemoryBlobs());
  const disk: { state: DiskState } = { state: { freeBytes: 100n, reserveBytes: 10n } };
  await withShipper({ store, diskState: () => disk.state }, async ({ fixture, timers, shipper }) => {
    const { test: app, root, log } = fixture;
    shipper.start();
    await until(() => shipper.status().state === "idle");
    const floor = shipper.floor;
    store.inject({ operation: "put", times: 1_000_000, effect: { kind: "fail" } });
    app.put(root, "a", "one");
    await app.settle();
    timers.advance(1000);
    expect(shipper.floor).toBe(floor);
    disk.state = { freeBytes: 5n, reserveBytes: 10n };
    timers.advance(1000);
    expect(shipper.floor).toBe(LIVE);
    expect(log.at("alarm").map(({ message }) => message)).toEqual([
      expect.stringContaining("may go before it was backed up"),
    ]);
    store.heal();
    disk.state = { freeBytes: 100n, reserveBytes: 10n };
    timers.advance(120_000);
    await until(() => shipper.status().bytesUnprotected === 0n && shipper.status().state === "idle");
    expect(shipper.floor).toBe(fixture.app.core.lastLsn);
  });
});

test("a second service takes over; the first stops with an alarm, and goes on only when told to", async () => {
  await withShipper({}, async ({ fixture, timers, shipper }) => {
    const { test: app, root, log } = fixture;
    shipper.start();
    await until(() => shipper.status().state === "idle");
    const second = shipperOf(fixture, { backend: fixture.engine({ index: new MemoryKv() }) });
    second.start();
    await until(() => second.status().state === "idle");
    app.put(root, "a", "one");
    await app.settle();
    await second.now();
    timers.advance(EVERY_MS);
    await until(() => shipper.status().state === "fenced");
    expect(shipper.status().message).toContain("Another service");
    expect(log.at("alarm")).toHaveLength(1);
    app.put(root, "b", "two");
    await app.settle();
    timers.advance(3_600_000);
    expect(shipper.status().state).toBe("fenced");
    await expect(shipper.now()).rejects.toMatchObject({ code: "FAILED_PRECONDITION" });
    await second.stop();
    shipper.takeOver();
    await until(() => shipper.status().state === "idle");
    expect(await verifyShipped(fixture.repository(), fixture.app)).toBe(fixture.app.core.lastLsn);
  });
});

test("a step of the wall clock, in either direction, changes neither when nor what is shipped", async () => {
  await withShipper({}, async ({ fixture, timers, shipper }) => {
    const { test: app, root } = fixture;
    shipper.start();
    await until(() => shipper.status().state === "idle");
    for (const hours of [-20, 30]) {
      app.clock.step(hours * 3_600_000_000_000);
      app.put(root, `at${hours}`, "contents");
      await app.settle();
      expect(shipper.status().lagMs).toBeLessThan(1000);
      timers.advance(EVERY_MS);
      await until(
        () => shipper.status().protected?.lsn === fixture.app.core.lastLsn && shipper.status().state === "idle",
      );
    }
    expect(await verifyShipped(fixture.repository(), fixture.app)).toBe(fixture.app.core.lastLsn);
  });
});

test("a renamed app is in the repository by its new name without any change to its files", async () => {
  let described = DESCRIBED;
  await withShipper({ describe: () => described }, async ({ fixture, timers, shipper }) => {
    shipper.start();
    await until(() => shipper.status().state === "idle");
    described = { ...DESCRIBED, name: "store" };
    shipper.renamed();
    await fixture.test.settle();
    timers.advance(EVERY_MS);
    await until(() => shipper.status().protected?.lsn === fixture.app.core.lastLsn);
    expect((await fixture.repository().head()).seal?.head.app.name).toBe("store");
  });
});

test("what an earlier process shipped is known before the store can be asked", async () => {
  const store = new FaultyBlobs(new MemoryBlobs());
  await using fixture = await ShipFixture.open({ store });
  await fixture.shipAll(fixture.engine());
  store.inject({ operation: "list", times: 1000, effect: { kind: "fail" } });
  const timers = new ManualTimers();
  const shipper = shipperOf(fixture, { timers, onBacklog: "stop", backlogBytesMax: 1n });
  shipper.start();
  await until(() => shipper.status().state === "retrying");
  timers.advance(10_000);
  expect(shipper.floor).toBe(fixture.app.core.lastLsn);
  expect(shipper.status()).toMatchObject({ lagMs: 0, bytesUnprotected: 0n, isBacklogLarge: false });
  expect(shipper.refusal()).toBeUndefined();
  await shipper.stop();
});
