import fs from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { dumpTree } from "../../test/crash/engine-dump.ts";
import { SystemClock } from "../base/clock.ts";
import { silentLog } from "../base/log.ts";
import { SystemTimers } from "../base/timers.ts";
import { CountingBlobs } from "../blob/counting-blobs.ts";
import { MemoryBlobs } from "../blob/testing/memory-blobs.ts";
import { type AppId, type InodeId, LIVE, type Lsn } from "../domain/ids.ts";
import { randomBytesOf, seededRandom } from "../journal/journal-fixture.ts";
import { RocksKv } from "../kv/rocks-kv.ts";
import { History } from "../meta/reading/history.ts";
import { Reading } from "../meta/reading/reading.ts";
import { all, type TestApp, TestApps } from "../meta/reading/test-app.ts";
import { SystemTurns } from "../meta/reading/turns.ts";
import type { AppRepository } from "../repository/app-repository.ts";
import { flipped } from "../repository/packs-fixture.ts";
import { Repository } from "../repository/repository.ts";
import { RepositoryApp } from "./repository-app.ts";
import { SimpleShipper } from "./testing/simple-shipper.ts";

let apps: TestApps;
let original: TestApp;
let root: InodeId;
let parent: string;
let store: CountingBlobs;
let repository: Repository;
let app: AppRepository;
let shipper: SimpleShipper;
const clock = new SystemClock();

beforeEach(async () => {
  apps = await TestApps.open({ segmentBytesMax: 64 * 1024 });
  original = await apps.app("shop");
  root = original.share("files").root;
  parent = fs.mkdtempSync(path.join(tmpdir(), "tidemark-repository-app-"));
  store = new CountingBlobs(new MemoryBlobs());
  repository = await Repository.init({ store, secret: { kind: "key-file", key: Buffer.alloc(32, 5) }, clock });
  app = await repository.createApp(original.app.id);
  shipper = new SimpleShipper(app);
});

afterEach(async () => {
  await apps.close();
  fs.rmSync(parent, { recursive: true, force: true });
});

async function ship(): Promise<void> {
  await shipper.ship(original.app, { folder: path.join(apps.folder, "shop"), recordsMax: 5 });
}

function open(of: AppRepository = app): Promise<RepositoryApp> {
  return RepositoryApp.open({
    app: of,
    cacheFolder: path.join(parent, "cache"),
    clock,
    timers: new SystemTimers(),
    log: silentLog,
  });
}

async function withApp<T>(use: (opened: RepositoryApp) => Promise<T>): Promise<T> {
  const opened = await open();
  try {
    return await use(opened);
  } finally {
    await opened.close();
  }
}

function change(round: number): Lsn {
  for (let file = 0; file < 4; file++) original.put(root, `f${file}`, `${round}:${file} `.repeat(900));
  return original.app.core.lastLsn;
}

async function expectSame(opened: RepositoryApp, moments: readonly Lsn[]): Promise<void> {
  for (const at of [...moments, LIVE])
    expect(await dumpTree(opened.app.engine, root, at)).toEqual(await dumpTree(original.app.engine, root, at));
}

test("an app is read from its repository alone, now and in the past", async () => {
  const moments = [change(1), change(2)];
  await ship();
  await withApp(async (opened) => {
    await expectSame(opened, moments);
    expect(opened.description).toMatchObject({ name: "shop", labels: { tier: "gold" } });
  });
});

test("reading, log and history answer as on the live app", async () => {
  const moments = [change(1), change(2)];
  original.unlink(root, "f3");
  original.rename(root, "f1", "renamed");
  await ship();
  await withApp(async (opened) => {
    const parts = { apps: opened, clock, log: silentLog, turns: new SystemTurns() };
    for (const at of [{ kind: "now" }, { kind: "lsn", lsn: moments[0] ?? (0 as Lsn) }] as const) {
      const request = { path: original.path("files"), at };
      expect(await all(new Reading(parts).list(request))).toEqual(await all(new Reading(apps.parts).list(request)));
      const tree = { ...request, content: true };
      expect(await all(new Reading(parts).exportTree(tree))).toEqual(
        await all(new Reading(apps.parts).exportTree(tree)),
      );
    }
    const log = { path: original.path(""), order: "newest-first", follow: false } as const;
    expect(await all(new History(parts).log(log))).toEqual(await all(new History(apps.parts).log(log)));
    const file = { path: original.path("files/f3") };
    expect(await all(new History(parts).history(file))).toEqual(await all(new History(apps.parts).history(file)));
    const diff = {
      path: original.path("files"),
      from: { kind: "lsn", lsn: moments[0] ?? (0 as Lsn) },
      to: { kind: "now" },
    } as const;
    expect(await all(new History(parts).diff(diff))).toEqual(await all(new History(apps.parts).diff(diff)));
  });
});

test("of a tree of which one block is damaged, the other files are read, and those are named", async () => {
  const bytes = (file: number): Buffer => randomBytesOf(seededRandom(file), 300_000);
  for (let file = 0; file < 6; file++) original.put(root, `f${file}`, bytes(file));
  await ship();
  // The largest object is the pack; some bytes in its first third are in one of its blocks.
  const packs = (await all(store.list("apps/"))).filter((object) => object.name.includes("/packs/"));
  const { name } = packs.sort((left, right) => right.bytes - left.bytes)[0] as { name: string };
  const pack = await store.get(name);
  await store.delete([name]);
  await store.put(name, [flipped(pack, Math.floor(pack.length / 3))]);
  await withApp(async (opened) => {
    const parts = { apps: opened, clock, log: silentLog, turns: new SystemTurns() };
    const tree = { path: original.path("files"), at: { kind: "now" }, content: true } as const;
    const items = await all(new Reading(parts).exportTree(tree));
    const ends = items.filter((item) => item.kind === "end");
    expect(ends).toHaveLength(6);
    const damagedCount = ends.filter(({ complete }) => !complete).length;
    expect(damagedCount).toBeGreaterThan(0);
    expect(damagedCount).toBeLessThan(6);
    let path = "";
    for (const [index, item] of items.entries()) {
      if (item.kind === "entry") path = item.path.toString();
      if (item.kind !== "end" || !item.complete) continue;
      const before = items[index - 1];
      expect(before?.kind === "data" && before.bytes.equals(bytes(Number(path.slice(1))))).toBe(true);
    }
  });
});

test("a cached copy reads only what is new", async () => {
  for (let round = 0; round < 20; round++) change(round);
  await ship();
  await withApp(async () => {});
  const before = store.counters.gets;
  change(99);
  await shipper.ship(original.app, { folder: path.join(apps.folder, "shop") });
  await withApp(async (opened) => {
    expect(store.counters.gets - before).toBeLessThan(10);
    await expectSame(opened, [5 as Lsn, 40 as Lsn]);
  });
});

test("what came since is there after a refresh", async () => {
  change(1);
  await ship();
  await withApp(async (opened) => {
    const moment = change(2);
    await ship();
    expect(opened.app.core.lastLsn).toBeLessThan(moment);
    await opened.refresh();
    expect(opened.app.core.lastLsn).toBe(moment);
    await expectSame(opened, [moment]);
  });
});

test("a cache of another app, or a damaged one, is made again", async () => {
  const moments = [change(1), change(2)];
  await ship();
  await withApp(async () => {});
  const kv = path.join(parent, "cache", `rows-${app.tag}`, "kv");
  const kvStore = await RocksKv.open({ directory: kv, missing: "fail" });
  await kvStore.close();
  for (const name of fs.readdirSync(kv)) {
    const file = path.join(kv, name);
    if (/\.(sst|log)$/.test(name) || name.startsWith("MANIFEST"))
      fs.writeFileSync(file, Buffer.alloc(fs.statSync(file).size, 0x55));
  }
  await withApp((opened) => expectSame(opened, moments));
  const other = await repository.createApp("ab".repeat(16) as AppId);
  const [own, others] = [app, other].map(({ tag }) => path.join(parent, "cache", `rows-${tag}`)) as [string, string];
  fs.cpSync(own, others, { recursive: true });
  await expect(open(other)).rejects.toMatchObject({ code: "NOT_FOUND" });
});

test("two processes read the same app at the same time", async () => {
  const moment = change(1);
  await ship();
  await withApp((first) =>
    withApp(async (second) => {
      await expectSame(first, [moment]);
      await expectSame(second, [moment]);
    }),
  );
});

test("an app of which nothing was shipped is said not to be there", async () => {
  await expect(open()).rejects.toMatchObject({ code: "NOT_FOUND" });
});
