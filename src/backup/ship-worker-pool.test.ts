import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { expect, test } from "vitest";
import { SystemClock } from "../base/clock.ts";
import { memoryLog, silentLog } from "../base/log.ts";
import { DirectoryBlobs } from "../blob/directory-blobs.ts";
import { APP, appendPlaced, draft, JournalFixture } from "../journal/journal-fixture.ts";
import { RocksKv } from "../kv/rocks-kv.ts";
import { AppKeys, newAppKeyMaterial } from "../repository/app-keys.ts";
import { AppRepository } from "../repository/app-repository.ts";
import type { SealShipped, ShipBackend } from "./ship-backend.ts";
import { DESCRIBED } from "./ship-fixture.ts";
import { openShipIndex, shippedMark } from "./ship-index.ts";
import { ShipWorkerPool } from "./ship-worker-pool.ts";

class PoolFixture {
  readonly folder: string;
  readonly store: string;
  readonly journal = new JournalFixture();
  readonly keys = new AppKeys(newAppKeyMaterial({ appId: APP }));
  readonly log = memoryLog();
  readonly kv: RocksKv;
  readonly index: Awaited<ReturnType<typeof openShipIndex>>;
  readonly pool: ShipWorkerPool;

  private constructor(kv: RocksKv, index: PoolFixture["index"], folder: string) {
    this.folder = folder;
    this.store = path.join(folder, "repository");
    this.kv = kv;
    this.index = index;
    this.pool = new ShipWorkerPool({ kv, index, log: this.log, random: () => 0.5 });
  }

  static async open(): Promise<PoolFixture> {
    const folder = mkdtempSync(path.join(tmpdir(), "tidemark-ship-pool-"));
    const kv = await RocksKv.open({ directory: path.join(folder, "kv"), missing: "create" });
    return new PoolFixture(kv, await openShipIndex(folder, silentLog), folder);
  }

  backend(): ShipBackend {
    return this.pool.backend({
      appId: APP,
      slot: 1,
      folder: this.journal.folder,
      store: { address: this.store, environment: {} },
      keys: this.keys.material(),
      lockDays: undefined,
      writer: { host: "test", service: "test" },
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.pool.close();
    await this.index.close();
    await this.kv.close();
    await this.journal[Symbol.asyncDispose]();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

test("the worker ships from a journal on disk into a folder, and remembers how far it came", async () => {
  await using fixture = await PoolFixture.open();
  mkdirSync(fixture.store);
  const journal = await fixture.journal.open();
  for (let record = 0; record < 20; record++) appendPlaced(journal, draft({ data: Buffer.alloc(5000, record) }));
  const backend = fixture.backend();
  const target = { to: journal.lastLsn, app: DESCRIBED };
  expect(await backend.start(target)).toEqual({ epoch: 1, protected: undefined });
  const shipped: SealShipped[] = [];
  await backend.ship(target, (seal) => shipped.push(seal));
  expect(shipped.map((seal) => seal.protected.lsn)).toEqual([journal.lastLsn]);
  expect(shippedMark(fixture.index, fixture.keys.tag)).toBe(journal.lastLsn);
  await backend.close();
  const store = await DirectoryBlobs.open(fixture.store, { create: false });
  const access = { store, keys: fixture.keys, lockDays: undefined, clock: new SystemClock() };
  expect((await new AppRepository(access).head()).seal?.head.to).toBe(journal.lastLsn);
  await store.close();
});

test("what goes wrong in the worker arrives with its code, and shipping begins again when the cause is gone", async () => {
  await using fixture = await PoolFixture.open();
  const journal = await fixture.journal.open();
  appendPlaced(journal, draft());
  const backend = fixture.backend();
  const target = { to: journal.lastLsn, app: DESCRIBED };
  const failure = { name: "ShipError", code: "STORE", causeCode: "BLOB_BUCKET_MISSING" };
  await expect(backend.start(target)).rejects.toMatchObject(failure);
  expect(await backend.checkpoint({ force: true, app: DESCRIBED })).toBe(false);
  mkdirSync(fixture.store);
  expect(await backend.start(target)).toMatchObject({ epoch: 1 });
  await backend.ship(target, () => {});
  await backend.close();
});

test("a closed pool refuses, and who waits is told", async () => {
  await using fixture = await PoolFixture.open();
  mkdirSync(fixture.store);
  const journal = await fixture.journal.open();
  appendPlaced(journal, draft());
  const backend = fixture.backend();
  const target = { to: journal.lastLsn, app: DESCRIBED };
  const starting = backend.start(target);
  const outcome = expect(starting).rejects.toMatchObject({ code: "CANCELLED" });
  await fixture.pool.close();
  await outcome;
  await expect(backend.start(target)).rejects.toMatchObject({ code: "CANCELLED" });
});
