import { expect, test } from "vitest";
import { FaultyBlobs, flippedAt } from "../blob/testing/faulty-blobs.ts";
import { type PackId, packName } from "./chunk-place.ts";
import { appIn, memoryStore, namesIn, pass, RecordSource, TestShipper } from "./seals-fixture.ts";

const GRACE_MS = 86_400_000;
const PACK = "ab".repeat(16) as PackId;
const NOTHING = async () => new Set<string>();

/** An app with three seals and a pack, and a store that can be told to fail. */
async function shipped() {
  const { store, clock } = memoryStore();
  const faulty = new FaultyBlobs(store);
  const app = appIn(faulty);
  const service = await new TestShipper(app, new RecordSource(1)).start();
  for (let count = 0; count < 3; count++) await service.ship();
  const pack = packName(app.tag, PACK);
  await store.put(pack, [Buffer.from("pack")]);
  const seal = app.sealName({ epoch: 1, sequence: 1 });
  return { store, clock, faulty, app, pack, seal };
}

test("what a tomb names is deleted when its grace is over by the store's clock, the tomb last", async () => {
  const { store, clock, app, pack, seal } = await shipped();
  const before = await namesIn(store);
  const [tomb = ""] = await app.writeTombs(1, { names: [seal, pack], reason: "retention" });
  expect(await app.tombedPacks()).toEqual(new Set([PACK]));
  expect(await app.tombs()).toEqual([
    {
      name: tomb,
      sinceMs: await store.timeMs(),
      tomb: { since: await store.timeMs(), reason: "retention", names: [seal, pack] },
    },
  ]);
  const execute = () => app.executeTombs({ graceMs: GRACE_MS, stillNeeded: NOTHING });
  pass(clock, GRACE_MS - 1);
  expect(await execute()).toEqual({ deleted: 0, spared: 0, waiting: 1 });
  expect(await namesIn(store)).toEqual([...before, tomb].sort());
  pass(clock, 1000);
  expect(await execute()).toEqual({ deleted: 2, spared: 0, waiting: 0 });
  expect(await namesIn(store)).toEqual(before.filter((name) => name !== seal && name !== pack));
  expect(await execute()).toEqual({ deleted: 0, spared: 0, waiting: 0 });
});

test("a tomb that claims to be older than it is waits its grace from when the store took it", async () => {
  const { store, clock, app, pack } = await shipped();
  const forged = appIn(store);
  const name = forged.objects.name("tombs", `00000001-${"7".repeat(32)}`);
  await forged.objects.put("tomb", name, [Buffer.from(JSON.stringify({ since: 1, reason: "", names: [pack] }))]);
  expect(await app.executeTombs({ graceMs: GRACE_MS, stillNeeded: NOTHING })).toEqual({
    deleted: 0,
    spared: 0,
    waiting: 1,
  });
  pass(clock, GRACE_MS);
  expect((await app.executeTombs({ graceMs: GRACE_MS, stillNeeded: NOTHING })).deleted).toBe(1);
});

test("what is needed again is spared", async () => {
  const { store, clock, app, pack, seal } = await shipped();
  await app.writeTombs(1, { names: [seal, pack], reason: "" });
  pass(clock, GRACE_MS);
  const asked: string[][] = [];
  const stillNeeded = async (names: readonly string[]) => {
    asked.push([...names]);
    return new Set([pack]);
  };
  expect(await app.executeTombs({ graceMs: GRACE_MS, stillNeeded })).toEqual({ deleted: 1, spared: 1, waiting: 0 });
  expect(asked).toEqual([[seal, pack]]);
  const left = await namesIn(store);
  expect([left.includes(pack), left.includes(seal), (await app.tombs()).length]).toEqual([true, false, 0]);
});

test("the newest seal is never deleted: the next one names it", async () => {
  const { store, clock, app, seal } = await shipped();
  const newest = app.sealName({ epoch: 1, sequence: 3 });
  await app.writeTombs(1, { names: [seal, newest], reason: "" });
  pass(clock, GRACE_MS);
  expect(await app.executeTombs({ graceMs: GRACE_MS, stillNeeded: NOTHING })).toEqual({
    deleted: 1,
    spared: 1,
    waiting: 0,
  });
  expect(await namesIn(store, newest)).toEqual([newest]);
});

test("a crash at any call leaves nothing that the next run does not finish", async () => {
  for (const operation of ["list", "list-page", "get", "delete", "timeMs"] as const) {
    for (const kind of ["fail", "lose-answer"] as const) {
      for (let nth = 1; nth <= 4; nth++) {
        const { store, clock, faulty, app, pack, seal } = await shipped();
        await app.writeTombs(1, { names: [seal], reason: "" });
        await app.writeTombs(1, { names: [pack], reason: "" });
        pass(clock, GRACE_MS);
        faulty.inject({ operation, nth, effect: { kind } });
        const options = { graceMs: GRACE_MS, stillNeeded: NOTHING };
        const failed = await app.executeTombs(options).then(
          () => false,
          () => true,
        );
        const left = await namesIn(store);
        // Until all tombs are read nothing goes, whatever fails.
        if (failed && operation !== "delete") expect([left.includes(seal), left.includes(pack)]).toEqual([true, true]);
        // A tomb never goes before what it names.
        for (const { tomb } of await appIn(store).tombs()) expect(tomb.names.length).toBe(1);
        const tombed = (await appIn(store).tombs()).flatMap(({ tomb }) => tomb.names);
        for (const name of [seal, pack]) if (left.includes(name)) expect(tombed).toContain(name);
        faulty.heal();
        await app.executeTombs(options);
        const end = await namesIn(store);
        expect([end.includes(seal), end.includes(pack), (await app.tombs()).length]).toEqual([false, false, 0]);
      }
    }
  }
});

test("a tomb that does not open ends everything: what it names is not known", async () => {
  const { clock, faulty, app, pack, seal } = await shipped();
  await app.writeTombs(1, { names: [seal], reason: "" });
  const [tomb = ""] = await app.writeTombs(1, { names: [pack], reason: "" });
  pass(clock, GRACE_MS);
  faulty.alter(tomb, flippedAt(-20));
  const damaged = expect.objectContaining({ code: "REPOSITORY_DAMAGED", data: { object: tomb } });
  await expect(app.executeTombs({ graceMs: GRACE_MS, stillNeeded: NOTHING })).rejects.toThrow(damaged);
  await expect(app.tombedPacks()).rejects.toThrow(damaged);
  expect(await namesIn(faulty, seal)).toEqual([seal]);
});

test("a tomb never names what is not the app's, or keys", async () => {
  const { app } = await shipped();
  for (const name of [
    "keys/x",
    "repository.json",
    `apps/${"1".repeat(32)}/seals/x`,
    `${app.prefix}epochs/00000001`,
    `${app.prefix}seals/`,
  ])
    await expect(app.writeTombs(1, { names: [name], reason: "" })).rejects.toThrow("names objects of its app");
  const name = app.objects.name("tombs", `00000001-${"7".repeat(32)}`);
  await app.objects.put("tomb", name, [Buffer.from(JSON.stringify({ since: 1, reason: "", names: ["keys/x"] }))]);
  await expect(app.tombs()).rejects.toMatchObject({ code: "REPOSITORY_DAMAGED" });
});

test("what a lock keeps stays, with its tomb, until the lock has ended", async () => {
  const { store, clock } = memoryStore();
  const app = appIn(store, { lockDays: 3, clock });
  const service = await new TestShipper(app, new RecordSource(1)).start();
  for (const _ of [1, 2]) await service.ship();
  const seal = app.sealName({ epoch: 1, sequence: 1 });
  const [tomb = ""] = await app.writeTombs(1, { names: [seal], reason: "" });
  const options = { graceMs: GRACE_MS, stillNeeded: NOTHING };
  pass(clock, GRACE_MS);
  expect(await app.executeTombs(options)).toEqual({ deleted: 0, spared: 0, waiting: 1 });
  expect(await namesIn(store, seal)).toEqual([seal]);
  pass(clock, 3 * GRACE_MS);
  expect(await app.executeTombs(options)).toEqual({ deleted: 1, spared: 0, waiting: 0 });
  expect([await namesIn(store, seal), await namesIn(store, tomb)]).toEqual([[], []]);
});

test("locks are made to last again, but for what is going to be deleted", async () => {
  const { store, clock } = memoryStore();
  const app = appIn(store, { lockDays: 10, clock });
  const service = await new TestShipper(app, new RecordSource(1)).start();
  for (let count = 0; count < 250; count++) await service.ship(1);
  const until = async (name: string) => ((await store.stat(name))?.lockedUntilMs ?? 0) - (await store.timeMs());
  const [doomed, kept] = [1, 2].map((sequence) => app.sealName({ epoch: 1, sequence }));
  await app.writeTombs(1, { names: [doomed ?? ""], reason: "" });
  expect(await until(kept ?? "")).toBe(10 * GRACE_MS);
  pass(clock, 6 * GRACE_MS);
  const seen: number[] = [];
  // 250 seals, the epoch and the tomb, less the one seal that is doomed.
  expect(await app.extendLocks({ onProgress: ({ extended }) => seen.push(extended) })).toEqual({ extended: 251 });
  expect(seen.length).toBeGreaterThan(1);
  expect([await until(kept ?? ""), await until(doomed ?? "")]).toEqual([10 * GRACE_MS, 4 * GRACE_MS]);
  expect(await appIn(store).extendLocks()).toEqual({ extended: 0 });
});

test("the store's clock decides how long a lock lasts, asked for once in a while", async () => {
  const { store, clock } = memoryStore();
  const faulty = new FaultyBlobs(store);
  const app = appIn(faulty, { lockDays: 1, clock });
  const first = await app.lockUntilMs();
  expect(first).toBe((await store.timeMs()) + GRACE_MS);
  faulty.inject({ operation: "timeMs", times: 100, effect: { kind: "fail" } });
  pass(clock, 60_000);
  expect(await app.lockUntilMs()).toBe((first ?? 0) + 60_000);
  pass(clock, 600_000);
  await expect(app.lockUntilMs()).rejects.toMatchObject({ code: "BLOB_UNREACHABLE" });
});
