import fs from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { silentLog } from "../base/log.ts";
import { SystemTimers } from "../base/timers.ts";
import { BlobError } from "../blob/blob-error.ts";
import { FaultyBlobs } from "../blob/testing/faulty-blobs.ts";
import { MemoryBlobs } from "../blob/testing/memory-blobs.ts";
import { ErasedError } from "../domain/errors.ts";
import { type InodeId, LIVE, type Lsn } from "../domain/ids.ts";
import type { OpenApp } from "../meta/open-app.ts";
import { SERVICE_CONTEXT } from "../meta/open-app.ts";
import { Purges } from "../meta/purge/purges.ts";
import { packIdOfName } from "../repository/chunk-place.ts";
import { checkPack } from "../repository/pack-codec.ts";
import { chunksOf } from "../repository/pack-directory.ts";
import { PackReader } from "../repository/pack-reader.ts";
import { checkApp } from "./check/check-app.ts";
import type { Finding } from "./check/finding.ts";
import { type PruneOptions, type PruneReport, pruneApp } from "./prune.ts";
import { RepositoryApp } from "./repository-app.ts";
import type { ShipEngine } from "./ship-engine.ts";
import { ShipFixture } from "./ship-fixture.ts";

const DAY_NS = 86_400_000_000_000;
const MARKER = "order-4711-secret";

let fixture: ShipFixture;
let engine: ShipEngine;
let store: FaultyBlobs;
let folder: string;
let scratchCount = 0;

beforeEach(async () => {
  const late: { clock?: ShipFixture["apps"]["clock"] } = {};
  const clock = {
    now: () => late.clock?.now() ?? { sec: 1_700_000_000, nsec: 0 },
    monotonicMs: () => late.clock?.monotonicMs() ?? 0,
  };
  store = new FaultyBlobs(new MemoryBlobs({ clock }));
  fixture = await ShipFixture.open({ store });
  late.clock = fixture.apps.clock;
  folder = fs.mkdtempSync(path.join(tmpdir(), "tidemark-purge-"));
  engine = fixture.engine();
  await engine.start(await fixture.target());
});

afterEach(async () => {
  await fixture[Symbol.asyncDispose]();
  fs.rmSync(folder, { recursive: true, force: true });
});

const content = (word: string): string => `${MARKER} ${word} `.repeat(300);

async function ship({ checkpoint }: { checkpoint: boolean }): Promise<void> {
  const target = await fixture.target();
  await engine.ship(target, () => {});
  if (checkpoint) await engine.checkpoint({ force: true, app: target.app });
}

function purge(file: string, { shared = false }: { shared?: boolean } = {}): ReturnType<Purges["purge"]> {
  const purges = new Purges(fixture.apps.parts);
  return purges.purge({
    path: fixture.test.path(`files/${file}`),
    reason: "order 4711",
    shared,
    liveToo: false,
  });
}

function prune(options: Partial<PruneOptions> = {}): Promise<PruneReport> {
  return pruneApp({
    app: fixture.repository(),
    scratchFolder: path.join(folder, `scratch${scratchCount++}`),
    dryRun: false,
    clock: fixture.apps.clock,
    timers: new SystemTimers(),
    log: silentLog,
    ...options,
  });
}

/** How many chunks of the packs there are have the marker in them, and how many chunks and packs there are. */
async function marks(): Promise<{ marked: number; chunks: number; packs: number }> {
  const repository = fixture.repository();
  const reader = new PackReader({ store, keys: fixture.keys });
  let marked = 0;
  let chunks = 0;
  let packs = 0;
  for await (const page of store.list(`${repository.prefix}packs/`)) {
    for (const { name } of page) {
      const pack = packIdOfName(name);
      if (pack === undefined) continue;
      packs += 1;
      const { directory } = checkPack(fixture.keys, pack, await store.get(name));
      for (const { place } of chunksOf(directory)) {
        chunks += 1;
        if ((await reader.read(place)).includes(MARKER)) marked += 1;
      }
    }
  }
  return { marked, chunks, packs };
}

async function inRepository<T>(use: (app: OpenApp) => Promise<T>): Promise<T> {
  const opened = await RepositoryApp.open({
    app: fixture.repository(),
    cacheFolder: path.join(folder, `cache${scratchCount++}`),
    clock: fixture.apps.clock,
    timers: new SystemTimers(),
    log: silentLog,
  });
  try {
    return await use(opened.app);
  } finally {
    await opened.close();
  }
}

async function read(app: OpenApp, ino: InodeId, at: Lsn = LIVE): Promise<string> {
  const length = Number(app.core.inodeAt(ino, at).size);
  const request = { op: "read", ino, offset: 0n, length, at } as const;
  return Buffer.concat((await app.engine.execute(request, SERVICE_CONTEXT)) as Uint8Array[]).toString();
}

async function findings(): Promise<Finding[]> {
  const found: Finding[] = [];
  await checkApp({ app: fixture.repository(), readPart: 1, random: () => 0, onFinding: (each) => found.push(each) });
  return found;
}

test("a repository refuses what was erased as soon as it is told, and loses it by pruning; what is beside it stays", async () => {
  const secret = fixture.test.put(fixture.root, "secret", content("a"));
  const at = fixture.app.core.lastLsn;
  const other = fixture.test.put(fixture.root, "other", "harmless ".repeat(400));
  await ship({ checkpoint: true });
  const after = fixture.test.put(fixture.root, "secret", content("b"));
  expect(after.ino).toBe(secret.ino);
  fixture.test.unlink(fixture.root, "secret");
  await ship({ checkpoint: false });
  expect((await marks()).marked).toBeGreaterThan(0);
  await purge("secret");
  await ship({ checkpoint: false });
  await inRepository(async (app) => {
    await expect((async () => read(app, secret.ino, at))()).rejects.toBeInstanceOf(ErasedError);
    expect(await read(app, other.ino)).toBe("harmless ".repeat(400));
  });
  const first = await prune();
  expect(first.plan.erased.count).toBeGreaterThan(0);
  expect(first.plan.writesBase).toBe(true);
  fixture.apps.clock.step(2 * DAY_NS);
  await prune();
  const left = await marks();
  expect(left.marked).toBe(0);
  expect(left.chunks).toBeGreaterThan(0);
  await inRepository(async (app) => {
    await expect((async () => read(app, secret.ino, at))()).rejects.toBeInstanceOf(ErasedError);
    expect(await read(app, other.ino)).toBe("harmless ".repeat(400));
  });
  const found = await findings();
  expect(found.filter(({ severity }) => severity !== "note")).toEqual([]);
  expect(found.map(({ message }) => message).join()).toContain("erased by order");
  const third = await prune();
  expect(third.plan.erased.count).toBe(0);
  expect(third.plan.writesBase).toBe(false);
});

test("what was erased before it was shipped never gets there, and the line of seals is whole", async () => {
  const secret = fixture.test.put(fixture.root, "secret", content("a"));
  const at = fixture.app.core.lastLsn;
  const other = fixture.test.put(fixture.root, "other", "harmless ".repeat(400));
  fixture.test.unlink(fixture.root, "secret");
  await purge("secret");
  await ship({ checkpoint: true });
  expect((await marks()).marked).toBe(0);
  expect((await findings()).filter(({ severity }) => severity !== "note")).toEqual([]);
  await inRepository(async (app) => {
    await expect((async () => read(app, secret.ino, at))()).rejects.toBeInstanceOf(ErasedError);
    expect(await read(app, other.ino)).toBe("harmless ".repeat(400));
  });
});

test("the same bytes that another file wrote by itself are that file's, and stay", async () => {
  fixture.test.put(fixture.root, "secret", content("a"));
  const twin = fixture.test.put(fixture.root, "twin", content("a"));
  await ship({ checkpoint: true });
  fixture.test.unlink(fixture.root, "secret");
  await purge("secret");
  await ship({ checkpoint: true });
  await prune();
  fixture.apps.clock.step(2 * DAY_NS);
  await prune();
  await inRepository(async (app) => expect(await read(app, twin.ino)).toBe(content("a")));
  expect((await findings()).filter(({ severity }) => severity !== "note")).toEqual([]);
});

test("a shipper that goes on between two prunings doesn't bring it back", async () => {
  fixture.test.put(fixture.root, "secret", content("a"));
  const kept = fixture.test.put(fixture.root, "kept", "kept ".repeat(2000));
  await ship({ checkpoint: true });
  fixture.test.unlink(fixture.root, "secret");
  await purge("secret");
  await ship({ checkpoint: true });
  await prune();
  // The same bytes again: the shipper's index knows a pack that is on its way out.
  fixture.test.put(fixture.root, "again", "kept ".repeat(2000));
  await ship({ checkpoint: true });
  fixture.apps.clock.step(2 * DAY_NS);
  await prune();
  fixture.test.put(fixture.root, "more", "more ".repeat(100));
  await ship({ checkpoint: true });
  fixture.apps.clock.step(2 * DAY_NS);
  await prune();
  expect((await marks()).marked).toBe(0);
  await inRepository(async (app) => expect(await read(app, kept.ino)).toBe("kept ".repeat(2000)));
  expect((await findings()).filter(({ severity }) => severity !== "note")).toEqual([]);
});

for (const isShipped of [true, false]) {
  test(`of a record of which a part is erased ${isShipped ? "after" : "before"} it was shipped the rest stays`, async () => {
    const { test: app, root } = fixture;
    const secret = content("a");
    const whole = app.put(root, "whole", `${"k".repeat(90_000)}${secret}${"m".repeat(90_000)}`);
    const copy = app.create(root, "copy");
    const range = { sourceOffset: 90_000n, targetOffset: 0n, length: BigInt(secret.length), sourceAt: LIVE };
    app.run({ op: "copyRange", source: whole.ino, target: copy.ino, ...range });
    app.unlink(root, "copy");
    if (isShipped) await ship({ checkpoint: true });
    await purge("copy", { shared: true });
    await ship({ checkpoint: true });
    await prune();
    fixture.apps.clock.step(2 * DAY_NS);
    await prune();
    expect((await marks()).marked).toBe(0);
    expect((await findings()).filter(({ severity }) => severity !== "note")).toEqual([]);
    await inRepository(async (opened) => {
      const part = async (from: number, length: number): Promise<string> => {
        const request = { op: "read", ino: whole.ino, offset: BigInt(from), length, at: LIVE } as const;
        return Buffer.concat((await opened.engine.execute(request, SERVICE_CONTEXT)) as Uint8Array[]).toString();
      };
      expect(await part(0, 90_000)).toBe("k".repeat(90_000));
      expect(await part(90_000 + secret.length, 90_000)).toBe("m".repeat(90_000));
      await expect(part(89_990, 20)).rejects.toBeInstanceOf(ErasedError);
    });
  });
}

test("what a lock keeps waits in the plan until the lock has ended", async () => {
  fixture.test.put(fixture.root, "secret", content("a"));
  const other = fixture.test.put(fixture.root, "other", "harmless ".repeat(400));
  await ship({ checkpoint: true });
  const packs = (await marks()).packs;
  fixture.test.unlink(fixture.root, "secret");
  await purge("secret");
  await ship({ checkpoint: true });
  await prune();
  fixture.apps.clock.step(2 * DAY_NS);
  const error = new BlobError("BLOB_LOCKED", "a lock keeps it");
  store.inject({ operation: "delete", name: /packs/, times: 1000, effect: { kind: "fail", error } });
  const waiting = await prune();
  expect(waiting.executed?.waiting).toBe(1);
  expect(waiting.plan.erased.count).toBe(packs);
  expect((await marks()).marked).toBeGreaterThan(0);
  store.heal();
  await prune();
  expect((await marks()).marked).toBe(0);
  expect((await prune()).plan.erased.count).toBe(0);
  await inRepository(async (app) => expect(await read(app, other.ino)).toBe("harmless ".repeat(400)));
});
