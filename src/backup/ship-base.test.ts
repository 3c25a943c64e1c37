import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { expect, test } from "vitest";
import { silentLog } from "../base/log.ts";
import { ManualTimers, SystemTimers } from "../base/timers.ts";
import { FaultyBlobs } from "../blob/testing/faulty-blobs.ts";
import { MemoryBlobs } from "../blob/testing/memory-blobs.ts";
import { ERASED_BY_ORDER } from "../domain/errors.ts";
import { LIVE } from "../domain/ids.ts";
import { randomBytesOf, seededRandom, testSeed } from "../journal/journal-fixture.ts";
import type { KvEntry, KvRange } from "../kv/kv-store.ts";
import { SERVICE_CONTEXT } from "../meta/open-app.ts";
import { Purges } from "../meta/purge/purges.ts";
import { addSnapshot } from "../meta/reading/snapshot-rows.ts";
import { SystemTurns } from "../meta/reading/turns.ts";
import { slotPrefix } from "../meta/row-store.ts";
import { SegmentChain } from "../meta/segment-chain.ts";
import { SpaceKeeper } from "../meta/space/space-keeper.ts";
import { RepositoryApp } from "./repository-app.ts";
import { DESCRIBED, ShipFixture, type ShipFixtureOptions } from "./ship-fixture.ts";
import { verifyMaterialised } from "./ship-verify-fixture.ts";

const SEGMENT_BYTES = 64 * 1024;

/** An app whose oldest history was dropped, with files in segments that were cleaned, and a snapshot from before. */
async function withoutBeginning(random: () => number, options: ShipFixtureOptions = {}): Promise<ShipFixture> {
  const fixture = await ShipFixture.open({ ...options, journalLimits: { segmentBytesMax: SEGMENT_BYTES } });
  const { test: app, root } = fixture;
  for (let file = 0; file < 20; file++) {
    app.put(root, `kept${file}`, "");
    app.write(root, `kept${file}`, randomBytesOf(random, 3000));
    await churn(fixture, "early", 40_000);
  }
  addSnapshot(app.app.core, { name: "first", automatic: false }, SERVICE_CONTEXT);
  await churn(fixture, "late", 1_000_000);
  await dropHistory(fixture);
  expect(app.app.journal.segments()[0]?.segment).toBeGreaterThan(1);
  return fixture;
}

/** Keeps the chain's state at the end of each segment: what the apply worker does where there is one. */
async function keepChain({ test: { app }, journalFolder: folder, apps, test: shop }: ShipFixture): Promise<void> {
  await shop.settle();
  const chain = new SegmentChain({ folder, appId: app.id, kv: apps.kv, prefix: slotPrefix(app.slot) });
  await apps.kv.batch(chain.rows(app.core.lastLsn));
  chain.close();
}

/** Drops all history but a segment's worth, whatever was shipped of it. */
async function dropHistory(fixture: ShipFixture): Promise<void> {
  const { app, apps } = fixture;
  await keepChain(fixture);
  const keeper = new SpaceKeeper({
    apps: () => [app],
    diskSpace: () => ({ totalBytes: 2n ** 40n, freeBytes: 2n ** 39n }),
    clock: apps.clock,
    timers: new ManualTimers(),
    turns: new SystemTurns(),
    log: fixture.log,
    historyBytesMax: BigInt(SEGMENT_BYTES),
  });
  await keeper.runOnce();
  await fixture.test.settle();
}

async function churn({ test: app, root }: ShipFixture, file: string, bytes: number): Promise<void> {
  app.put(root, file, "");
  for (let done = 0; done < bytes; done += 8192) {
    app.write(root, file, Buffer.alloc(8192, done));
    if (done % (20 * 8192) === 0) await app.settle();
  }
}

test("an app whose first records are gone begins in the repository with its rows and the data they name", async () => {
  const random = seededRandom(testSeed("base"));
  await using fixture = await withoutBeginning(random);
  const engine = fixture.engine();
  await fixture.shipAll(engine);
  const { kv } = fixture.apps;
  expect(await verifyMaterialised(fixture.repository(), fixture.app, { kv })).toBe(fixture.app.core.lastLsn);
  const base = await fixture.repository().latestCheckpoint();
  expect(base?.checkpoint).toMatchObject({ sequence: 0, floor: { lsn: fixture.app.core.moments.floor } });
  fixture.test.put(fixture.root, "kept3", "changed after the base");
  await fixture.shipAll(engine);
  await fixture.shipAll(fixture.engine());
  expect(await verifyMaterialised(fixture.repository(), fixture.app, { kv })).toBe(fixture.app.core.lastLsn);
  expect(await engine.checkpoint({ force: true, app: DESCRIBED })).toBe(true);
  expect(await verifyMaterialised(fixture.repository(), fixture.app, { kv })).toBe(fixture.app.core.lastLsn);
});

test("rows that change while a base is read are in it as they are at its end", async () => {
  const random = seededRandom(testSeed("base under writes"));
  await using fixture = await withoutBeginning(random);
  const { test: app, root } = fixture;
  const { kv } = fixture.apps;
  // The base reads a few rows at a time, and files come, change and go in between.
  const read = kv.rangeSync.bind(kv);
  kv.rangeSync = (range: KvRange): KvEntry[] => read(range.limit === 2000 ? { ...range, limit: 10 } : range);
  let change = 0;
  const next = async (): Promise<void> => {
    change += 1;
    if (change > 60) return;
    app.put(root, `new${change}`, `contents ${change}`);
    if (change % 3 === 0) app.unlink(root, `kept${change / 3 - 1}`);
    if (change % 5 === 0) app.rename(root, `new${change}`, `renamed${change}`);
    await app.settle();
  };
  const engine = fixture.engine({ turns: { next } });
  const target = await fixture.target();
  await fixture.shipAll(engine);
  const { checkpoint } = (await fixture.repository().latestCheckpoint()) ?? {};
  expect(checkpoint?.to).toBeGreaterThan(target.to);
  kv.rangeSync = read;
  await fixture.shipAll(engine);
  expect(await verifyMaterialised(fixture.repository(), fixture.app, { kv })).toBe(fixture.app.core.lastLsn);
});

test("a base that is cut short anywhere is made again", async () => {
  const random = seededRandom(testSeed("base cut short"));
  const store = new FaultyBlobs(new MemoryBlobs());
  await using fixture = await withoutBeginning(random, { store });
  for (let nth = 2; nth <= 6; nth++) {
    store.inject({ operation: "put", nth, effect: { kind: nth % 2 === 0 ? "fail" : "lose-answer" } });
    await fixture.shipAll(fixture.engine()).catch((error: unknown) => expect(error).toMatchObject({ code: "STORE" }));
    store.heal();
  }
  await fixture.shipAll(fixture.engine());
  const { kv } = fixture.apps;
  expect(await verifyMaterialised(fixture.repository(), fixture.app, { kv })).toBe(fixture.app.core.lastLsn);
});

test("records that went before they were shipped are stood for by a new base, and the app goes on from there", async () => {
  const random = seededRandom(testSeed("gap"));
  await using fixture = await ShipFixture.open({ journalLimits: { segmentBytesMax: SEGMENT_BYTES } });
  const { test: app, root } = fixture;
  app.put(root, "kept", "");
  app.write(root, "kept", randomBytesOf(random, 5000));
  const engine = fixture.engine();
  await fixture.shipAll(engine);
  await churn(fixture, "late", 1_500_000);
  await dropHistory(fixture);
  await expect(engine.ship(await fixture.target(), () => {})).rejects.toMatchObject({ code: "LOCAL" });
  await fixture.shipAll(engine);
  app.put(root, "kept", "after the gap");
  await fixture.shipAll(fixture.engine());
  const { kv } = fixture.apps;
  expect(await verifyMaterialised(fixture.repository(), fixture.app, { kv })).toBe(fixture.app.core.lastLsn);
});

test("a base is made without data that are damaged on disk, and somebody is told", async () => {
  const random = seededRandom(testSeed("damaged base"));
  await using fixture = await withoutBeginning(random);
  await churn(fixture, "later", 200_000);
  await keepChain(fixture);
  const { ino, size } = fixture.test.at(fixture.root, "kept7");
  const [piece] = (await fixture.app.engine.execute(
    { op: "read", ino, offset: 0n, length: Number(size), at: LIVE },
    fixture.test.context,
  )) as Uint8Array[];
  const wanted = Buffer.from(piece ?? []).subarray(0, 64);
  for (const name of readdirSync(fixture.journalFolder)) {
    const file = path.join(fixture.journalFolder, name);
    const bytes = readFileSync(file);
    const at = bytes.indexOf(wanted);
    if (at < 0) continue;
    bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
    writeFileSync(file, bytes);
  }
  await fixture.shipAll(fixture.engine());
  expect(fixture.log.at("alarm").map(({ message }) => message)).toContainEqual(expect.stringContaining("without"));
  const { kv } = fixture.apps;
  await expect(verifyMaterialised(fixture.repository(), fixture.app, { kv })).rejects.toThrow();
});

test("a base has nothing of what was erased by order, and the rest of records of which a part was", async () => {
  const random = seededRandom(testSeed("base and order"));
  await using fixture = await withoutBeginning(random);
  const { test: app, root, apps } = fixture;
  const marker = "order-4711-secret ";
  const whole = `${"k".repeat(5000)}${marker.repeat(100)}${"k".repeat(5000)}`;
  app.put(root, "whole", whole);
  const length = BigInt(marker.length * 100);
  const copy = app.create(root, "copy");
  const range = { sourceOffset: 5000n, targetOffset: 0n, length, sourceAt: LIVE };
  app.run({ op: "copyRange", source: app.at(root, "whole").ino, target: copy.ino, ...range });
  const orders = new Purges(apps.parts);
  const order = { reason: "order 4711", shared: true, liveToo: true };
  await orders.purge({ path: app.path("files/copy"), ...order });
  // Of a file whose data cleaning has moved.
  await orders.purge({ path: app.path("files/kept3"), ...order });
  await app.settle();
  const engine = fixture.engine();
  await fixture.shipAll(engine);
  await engine.checkpoint({ force: true, app: DESCRIBED });
  expect(fixture.log.lines.filter(({ level }) => level === "alarm")).toEqual([]);
  await expectRead(fixture, "whole", { from: 0, to: 5000 }, Buffer.from("k".repeat(5000)));
  await expectRead(fixture, "whole", { from: 6800, to: 11_800 }, Buffer.from("k".repeat(5000)));
  await expect(expectRead(fixture, "whole", { from: 4000, to: 6000 }, Buffer.alloc(0))).rejects.toThrow(
    ERASED_BY_ORDER,
  );
  const { ino } = app.at(root, "kept4");
  const live = (await fixture.app.engine.execute(
    { op: "read", ino, offset: 0n, length: 3000, at: LIVE },
    app.context,
  )) as readonly Uint8Array[];
  await expectRead(fixture, "kept4", { from: 0, to: 3000 }, Buffer.concat(live));
});

/** Reads from the repository alone. */
async function expectRead(
  fixture: ShipFixture,
  file: string,
  { from, to }: { readonly from: number; readonly to: number },
  expected: Buffer,
): Promise<void> {
  const cacheFolder = mkdtempSync(path.join(tmpdir(), "tidemark-base-"));
  const { clock } = fixture.apps;
  const opened = await RepositoryApp.open({
    app: fixture.repository(),
    cacheFolder,
    clock,
    timers: new SystemTimers(),
    log: silentLog,
  });
  try {
    const { ino } = fixture.test.at(fixture.root, file);
    const request = { op: "read", ino, offset: BigInt(from), length: to - from, at: LIVE } as const;
    const data = (await opened.app.engine.execute(request, SERVICE_CONTEXT)) as readonly Uint8Array[];
    expect(Buffer.concat(data).equals(expected)).toBe(true);
  } finally {
    await opened.close();
    rmSync(cacheFolder, { recursive: true, force: true });
  }
}
