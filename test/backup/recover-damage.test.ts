import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { expect, test } from "vitest";
import { ArchiveIndex } from "../../src/backup/archive-index.ts";
import { type Materialised, materialise } from "../../src/backup/materialise.ts";
import { RepositoryArchive } from "../../src/backup/repository-archive.ts";
import { ShipEngine } from "../../src/backup/ship-engine.ts";
import { DESCRIPTION } from "../../src/backup/testing/simple-shipper.ts";
import { present } from "../../src/base/assert.ts";
import { SystemClock } from "../../src/base/clock.ts";
import { MemoryLog, silentLog } from "../../src/base/log.ts";
import { SystemTimers } from "../../src/base/timers.ts";
import { MemoryBlobs } from "../../src/blob/testing/memory-blobs.ts";
import { FsError, TidemarkError } from "../../src/domain/errors.ts";
import type { InodeId, Lsn } from "../../src/domain/ids.ts";
import { isDirectory, isRegular } from "../../src/domain/inode.ts";
import { makeFreshJournal } from "../../src/journal/fresh-journal.ts";
import { MemoryKv } from "../../src/kv/memory-kv.ts";
import { OpenApp, SERVICE_CONTEXT } from "../../src/meta/open-app.ts";
import { type TestApp, TestApps } from "../../src/meta/reading/test-app.ts";
import { AppKeys, newAppKeyMaterial } from "../../src/repository/app-keys.ts";
import { AppRepository } from "../../src/repository/app-repository.ts";
import { Random } from "../model/random.ts";

// DAMAGES=n: repositories that are damaged. SEED=n: others.
const DAMAGES = Number(process.env["DAMAGES"] ?? 40);
const SEED = Number(process.env["SEED"] ?? Math.floor(Math.random() * 2 ** 32));

const clock = new SystemClock();
const SLOT = 1;

type Outcome = "refused" | "cut short" | "unreadable bytes" | "unharmed";

/** Files that grow, change and go, in seals of few records, with a checkpoint on the way. */
async function makeOriginal(apps: TestApps, app: TestApp, repository: AppRepository): Promise<InodeId> {
  const { root } = app.share("files");
  const engine = new ShipEngine({
    repository,
    journal: { appId: app.app.id, folder: path.join(apps.folder, "shop"), kv: apps.kv, slot: app.app.slot },
    index: new MemoryKv(),
    writer: { host: "test", service: "test" },
    clock,
    log: silentLog,
    limits: { journalBytesMax: 60_000, recordsMax: 12, plainBytesMax: 50_000 },
  });
  for (let round = 0; round < 6; round++) {
    for (let file = 0; file < 5; file++) app.put(root, `f${file}`, `${round}.${file}, `.repeat(700 * (1 + file)));
    app.put(root, `only${round}`, `of round ${round}`);
    if (round > 2) app.unlink(root, `only${round - 2}`);
    await app.settle();
    const target = { to: app.app.core.lastLsn, app: DESCRIPTION };
    if (round === 0) await engine.start(target);
    await engine.ship(target, () => {});
    if (round === 3) await engine.checkpoint({ force: true, app: DESCRIPTION });
  }
  await engine.close();
  return root;
}

async function contentsOf(store: MemoryBlobs): Promise<Map<string, Buffer>> {
  const contents = new Map<string, Buffer>();
  for await (const page of store.list("")) for (const { name } of page) contents.set(name, await store.get(name));
  return contents;
}

/** A copy of the store with one thing wrong: a flipped byte, a cut, a loss, or two objects in each other's place. */
async function damaged(contents: ReadonlyMap<string, Buffer>, random: Random): Promise<[MemoryBlobs, string]> {
  const copy = new Map(contents);
  const names = [...copy.keys()];
  const name = random.pick(names);
  const bytes = Buffer.from(present(copy.get(name), "an object"));
  const kind = random.pick(["flip", "flip", "flip", "cut", "lose", "swap"]);
  if (kind === "flip") {
    const at = random.below(bytes.length);
    bytes[at] = (bytes[at] ?? 0) ^ (1 << random.below(8));
    copy.set(name, bytes);
  } else if (kind === "cut") copy.set(name, bytes.subarray(0, random.below(bytes.length)));
  else if (kind === "lose") copy.delete(name);
  else {
    const other = random.pick(names);
    copy.set(name, present(contents.get(other), "an object"));
    copy.set(other, bytes);
  }
  const store = new MemoryBlobs();
  for (const [each, content] of copy) await store.put(each, [content]);
  return [store, `${kind} ${name}`];
}

test(
  "whatever one thing is wrong in a repository, what is recovered is right, or refused",
  async () => {
    console.log(`SEED=${SEED} DAMAGES=${DAMAGES}`);
    const random = new Random(SEED);
    const apps = await TestApps.open({ segmentBytesMax: 64 * 1024 });
    const scratch = mkdtempSync(path.join(tmpdir(), "tidemark-damage-"));
    try {
      const original = await apps.app("shop");
      const keys = new AppKeys(newAppKeyMaterial({ appId: original.app.id }));
      const store = new MemoryBlobs();
      const root = await makeOriginal(apps, original, new AppRepository({ store, keys, lockDays: undefined, clock }));
      const contents = await contentsOf(store);
      const outcomes: Record<Outcome, number> = { refused: 0, "cut short": 0, "unreadable bytes": 0, unharmed: 0 };
      for (let count = 0; count < DAMAGES; count++) {
        const [broken, what] = await damaged(contents, random);
        const app = new AppRepository({ store: broken, keys, lockDays: undefined, clock });
        const folder = path.join(scratch, String(count), "journal");
        outcomes[await recoverAndCompare({ app, folder, original, root, what })]++;
      }
      console.log(JSON.stringify(outcomes));
      expect(outcomes.unharmed).toBeLessThan(DAMAGES);
    } finally {
      await apps.close();
      rmSync(scratch, { recursive: true, force: true });
    }
  },
  60_000 + DAMAGES * 1000,
);

async function recoverAndCompare(options: {
  readonly app: AppRepository;
  readonly folder: string;
  readonly original: TestApp;
  readonly root: InodeId;
  readonly what: string;
}): Promise<Outcome> {
  const { app, folder, original, root, what } = options;
  const kv = new MemoryKv();
  let laid: Materialised;
  try {
    laid = await materialise({ app, kv, slot: SLOT, log: silentLog });
  } catch (error) {
    expect(error, what).toBeInstanceOf(TidemarkError);
    return "refused";
  }
  const log = new MemoryLog();
  await makeFreshJournal({ folder, appId: app.appId, lastLsn: laid.lsn, clock });
  const { firstLsn, lsn: lastLsn, time: lastTime } = laid;
  const archive = new RepositoryArchive({
    firstLsn,
    lastLsn,
    lastTime,
    description: "memory",
    index: new ArchiveIndex(kv, SLOT),
    connect: async () => app,
    log,
    timers: new SystemTimers(),
  });
  const diskSpace = () => ({ totalBytes: 2n ** 40n, freeBytes: 2n ** 39n });
  const copy = await OpenApp.open({ appId: app.appId, slot: SLOT, folder, kv, clock, log, archive, diskSpace });
  try {
    let unreadable = 0;
    for (const at of [Math.floor(lastLsn / 2), lastLsn] as Lsn[])
      unreadable += await compareTrees({ copy, original: original.app, root, at, what });
    await compareRecords(copy, original.app, { lastLsn, what });
    // Alarms are about bytes that are EIO.
    if (unreadable > 0) expect(log.lines.some(({ level }) => level === "alarm")).toBe(true);
    if (laid.cutShort !== undefined || lastLsn < original.app.core.lastLsn) return "cut short";
    return unreadable > 0 ? "unreadable bytes" : "unharmed";
  } finally {
    await copy.close();
  }
}

/** Throws unless all names and attributes are the same, and all bytes that can be read. Answers how many files can't be. */
async function compareTrees(options: {
  readonly copy: OpenApp;
  readonly original: OpenApp;
  readonly root: InodeId;
  readonly at: Lsn;
  readonly what: string;
}): Promise<number> {
  const { copy, original, root, at, what } = options;
  const list = { op: "readdir", ino: root, cookie: 0n, entriesMax: 1000, plus: false, at } as const;
  const names = await original.engine.execute(list, SERVICE_CONTEXT);
  expect(await copy.engine.execute(list, SERVICE_CONTEXT), what).toEqual(names);
  let unreadable = 0;
  for (const { ino } of names.entries) {
    const inode = await original.engine.execute({ op: "getattr", ino, at }, SERVICE_CONTEXT);
    expect(await copy.engine.execute({ op: "getattr", ino, at }, SERVICE_CONTEXT), what).toEqual(inode);
    if (isDirectory(inode.mode) || !isRegular(inode.mode)) continue;
    const read = { op: "read", ino, offset: 0n, length: 1_000_000, at } as const;
    const wanted = Buffer.concat(await original.engine.execute(read, SERVICE_CONTEXT));
    try {
      expect(Buffer.concat(await copy.engine.execute(read, SERVICE_CONTEXT)).equals(wanted), what).toBe(true);
    } catch (error) {
      if (!(error instanceof FsError) || error.code !== "EIO") throw error;
      unreadable++;
    }
  }
  return unreadable;
}

/** Records that can be read are those that were written. */
async function compareRecords(
  copy: OpenApp,
  original: OpenApp,
  { lastLsn, what }: { readonly lastLsn: Lsn; readonly what: string },
): Promise<void> {
  for (let lsn = 1; lsn <= lastLsn; lsn += 7) {
    const wanted = original.core.records(lsn as Lsn, lsn as Lsn);
    try {
      for await (const record of copy.core.records(lsn as Lsn, lsn as Lsn)) {
        const { value } = await wanted.next();
        const { rows, detail, time, actor, op } = present(value ?? undefined, "a record");
        expect(
          { rows: record.rows, detail: record.detail, time: record.time, actor: record.actor, op: record.op },
          what,
        ).toEqual({ rows, detail, time, actor, op });
      }
    } catch (error) {
      if (!(error instanceof TidemarkError)) throw error;
      expect(["DATA_DAMAGED", "OUT_OF_HISTORY"], what).toContain(error.code);
    } finally {
      await wanted.return(undefined);
    }
  }
}
