import { expect, test } from "vitest";
import { MemoryLog } from "../base/log.ts";
import { ManualTimers } from "../base/timers.ts";
import type { AppId, Lsn } from "../domain/ids.ts";
import { MemoryKv } from "../kv/memory-kv.ts";
import { type Applied, Applier, type ApplyBackend } from "./applier.ts";
import { type Counters, emptyCounters } from "./counters.ts";
import { plainKey, TABLE } from "./keys.ts";
import { RowStore } from "./row-store.ts";

/** Applies whatever it is asked to, or fails as it is told. */
class FakeBackend implements ApplyBackend {
  failure: Error | undefined;
  attempts = 0;

  async apply(_from: Lsn, to: Lsn, counters: Counters): Promise<Applied> {
    this.attempts++;
    if (this.failure !== undefined) throw this.failure;
    return { lsn: to, counters };
  }

  async sync(): Promise<void> {}

  async close(): Promise<void> {}
}

const noSpace = (): Error => Object.assign(new Error("the disk is full"), { code: "KV_NO_SPACE" });

function setUp() {
  const store = new RowStore({ kv: new MemoryKv(), slot: 1, appliedLsn: 0 as Lsn });
  for (let lsn = 1; lsn <= 5; lsn++)
    store.add(lsn as Lsn, [{ key: plainKey(TABLE.COUNTER), value: Buffer.alloc(lsn) }]);
  const backend = new FakeBackend();
  const timers = new ManualTimers();
  const log = new MemoryLog();
  let rooms = 0;
  const onNoSpace = (): void => {
    rooms++;
  };
  const appId = "0" as AppId;
  const applier = new Applier({ appId, backend, store, log, counters: emptyCounters(), timers, onNoSpace });
  const alarms = (): number => log.lines.filter(({ level }) => level === "alarm").length;
  return { store, backend, timers, applier, alarms, rooms: () => rooms };
}

/** Lets time pass, and promises that are ready run. */
async function pass(timers: ManualTimers): Promise<void> {
  timers.advance(10_000);
  await new Promise((resolve) => setImmediate(resolve));
}

test("a KV without room is tried again until there is some; rows wait, one alarm is raised, room is asked for each time", async () => {
  const { store, backend, timers, applier, alarms, rooms } = setUp();
  backend.failure = noSpace();
  applier.durable(5 as Lsn);
  const reached = applier.reached(5 as Lsn);
  for (let attempt = 0; attempt < 6; attempt++) await pass(timers);
  expect(backend.attempts).toBeGreaterThan(3);
  expect(rooms()).toBe(backend.attempts);
  expect(alarms()).toBe(1);
  expect(applier.isOutOfSpace).toBe(true);
  expect(store.pendingRecords).toBe(5);
  backend.failure = undefined;
  await pass(timers);
  await reached;
  expect(store.appliedLsn).toBe(5);
  expect(applier.isOutOfSpace).toBe(false);
  await applier.close();
});

test("writers who wait for room in the overlay get ENOSPC while the KV has none", async () => {
  const { backend, timers, applier } = setUp();
  backend.failure = noSpace();
  const next = applier.nextBatch();
  applier.durable(5 as Lsn);
  await pass(timers);
  await expect(next).rejects.toMatchObject({ code: "ENOSPC" });
  await expect(applier.nextBatch()).rejects.toMatchObject({ code: "ENOSPC" });
  await applier.close();
});

test("closing does not wait for room, whether the lack of it is known already or not", async () => {
  for (const known of [true, false]) {
    const { store, backend, timers, applier } = setUp();
    backend.failure = noSpace();
    applier.durable(5 as Lsn);
    if (known) await pass(timers);
    await applier.close();
    expect(store.pendingRecords).toBe(5);
  }
});

test("closing without room also ends for those who wait until their rows are applied", async () => {
  const { backend, timers, applier } = setUp();
  backend.failure = noSpace();
  applier.durable(5 as Lsn);
  const reached = applier.reached(5 as Lsn);
  await pass(timers);
  await Promise.all([expect(reached).rejects.toMatchObject({ code: "EIO" }), applier.close()]);
  expect(backend.attempts).toBeLessThan(10);
});

test("another failure stops it with an alarm, and writers who wait get EIO", async () => {
  const { backend, timers, applier, alarms } = setUp();
  backend.failure = new Error("broken");
  const next = applier.nextBatch();
  const reached = applier.reached(5 as Lsn);
  applier.durable(5 as Lsn);
  await Promise.all([
    expect(next).rejects.toMatchObject({ code: "EIO" }),
    expect(reached).rejects.toThrow("broken"),
    pass(timers),
  ]);
  for (let count = 0; count < 3; count++) await pass(timers);
  expect(backend.attempts).toBe(1);
  expect(alarms()).toBe(1);
  await applier.close();
});
