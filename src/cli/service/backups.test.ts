import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { ManualClock } from "../../../test/model/manual-clock.ts";
import type { RepairReport } from "../../backup/repair/repair-report.ts";
import { MemoryLog } from "../../base/log.ts";
import { ManualTimers } from "../../base/timers.ts";
import { BlobError } from "../../blob/blob-error.ts";
import type { BackupProgress, BackupStatus } from "../../domain/admin-backup.ts";
import { type FsError, TidemarkError } from "../../domain/errors.ts";
import { type AppId, LIVE, type Lsn } from "../../domain/ids.ts";
import { RECORD_OP } from "../../domain/record-op.ts";
import { MemoryKv } from "../../kv/memory-kv.ts";
import { SERVICE_CONTEXT } from "../../meta/open-app.ts";
import { MetadataService } from "../../meta/service.ts";
import { KnownRepositories } from "../repository/known-repositories.ts";
import type { AppShipper, Shippers, ShipTerms } from "./app-shipper.ts";
import { Backups } from "./backups.ts";

const REPOSITORY_ID = "a".repeat(32);
const SHOP = { namespace: "default", name: "shop" };
const KEY_FILE = Buffer.from("the text of a key file");

class FakeShipper implements AppShipper {
  started = false;
  stopped = false;
  floor = 5 as Lsn;
  failNow: Error | undefined;
  state: BackupStatus["state"] = "idle";
  readonly terms: ShipTerms;

  constructor(terms: ShipTerms) {
    this.terms = terms;
  }

  start(): void {
    this.started = true;
  }

  async stop(): Promise<void> {
    this.stopped = true;
  }

  async now({ onProgress }: Parameters<AppShipper["now"]>[0]): Promise<void> {
    if (this.failNow !== undefined) throw this.failNow;
    onProgress?.({ protectedLsn: 1 as Lsn, targetLsn: 2 as Lsn, bytesUnprotected: 9n });
  }

  status(): ReturnType<AppShipper["status"]> {
    return {
      state: this.state,
      protected: { lsn: 2 as Lsn, time: { sec: 1, nsec: 0 } },
      lagMs: 0,
      bytesUnprotected: 0n,
      sentBytes: 7n,
    };
  }

  async repair(): Promise<RepairReport> {
    return {
      findings: [],
      rows: "whole",
      lostPackCount: 1,
      lostBytes: 20,
      restoredBytes: 20,
      missing: [],
    };
  }

  renamed(): void {}

  refusal(): FsError | undefined {
    return undefined;
  }
}

class FakeShippers implements Shippers {
  readonly opened: FakeShipper[] = [];
  readonly forgotten: string[] = [];
  fail: Error | undefined;
  closed = false;
  id = REPOSITORY_ID;
  tries = 0;
  /** Opening waits for it. */
  hold: Promise<void> | undefined;

  async open(_app: unknown, terms: ShipTerms): Promise<{ shipper: AppShipper; tag: string }> {
    this.tries += 1;
    await this.hold;
    if (this.fail !== undefined) throw this.fail;
    const shipper = new FakeShipper(terms);
    this.opened.push(shipper);
    return { shipper, tag: "b".repeat(32) };
  }

  protectedLsn(): Lsn {
    return 3 as Lsn;
  }

  async check(): Promise<string> {
    if (this.fail !== undefined) throw this.fail;
    return this.id;
  }

  forget(name: string): void {
    this.forgotten.push(name);
  }

  async close(): Promise<void> {
    this.closed = true;
  }
}

let folder: string;
let kv: MemoryKv;
let clock: ManualClock;
let timers: ManualTimers;
let log: MemoryLog;
let service: MetadataService;
let shippers: FakeShippers;
let backups: Backups;
let disk: { totalBytes: bigint; freeBytes: bigint; reserveBytes: bigint };

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "tidemark-backups-"));
  kv = new MemoryKv();
  clock = new ManualClock();
  timers = new ManualTimers();
  log = new MemoryLog();
  disk = { totalBytes: 100n, freeBytes: 50n, reserveBytes: 1n };
  await openService();
  const { catalogue } = service;
  for (const [index, name] of ["shop", "other"].entries())
    await service.open(
      catalogue.createApp(
        { id: String(index + 1).repeat(32) as AppId, namespace: "default", name, labels: {} },
        SERVICE_CONTEXT,
      ),
    );
});

afterEach(async () => {
  await backups.stop();
  await service.close();
  await rm(folder, { recursive: true });
});

let nextId = 1;

async function openService(): Promise<void> {
  const newId = () => (nextId++).toString(16).padStart(32, "0");
  service = await MetadataService.open({ folder, kv, clock, log, newId });
  shippers = new FakeShippers();
  const known = new KnownRepositories(folder);
  backups = new Backups({ service, known, shippers, diskSpace: () => disk, clock, timers, log });
  backups.start();
}

async function restart(): Promise<void> {
  await backups.stop();
  await service.close();
  await openService();
}

const add = (name = "main") => backups.addRepository({ name, location: { url: "/backup" }, keyFile: KEY_FILE });
const enable = (changes: { everyMs?: number; repository?: string } = {}) =>
  backups.enableBackup({ app: SHOP, repository: "main", everyMs: 5000, onBacklog: "serve", ...changes });

async function status(): Promise<BackupStatus[]> {
  const all: BackupStatus[] = [];
  for await (const page of backups.backupStatus({})) all.push(...page);
  return all;
}

const codeOf = (call: Promise<unknown>): Promise<unknown> =>
  call.then(
    () => "it succeeded",
    (error: unknown) => (error instanceof TidemarkError ? error.code : error),
  );

/** Until no runner is on its way: each has a shipper, or waits to try again. */
async function settle(): Promise<void> {
  await vi.waitFor(async () => expect((await status()).map(({ state }) => state)).not.toContain("starting"));
}

async function untilIdle(): Promise<void> {
  await vi.waitFor(async () => expect(await status()).toMatchObject([{ state: "idle" }]));
}

describe("repositories", () => {
  test("are kept over a restart, and forgotten when nothing ships to them", async () => {
    await add();
    await enable();
    expect(await codeOf(backups.removeRepository({ name: "main" }))).toBe("FAILED_PRECONDITION");
    await restart();
    for await (const page of backups.listRepositories())
      expect(page).toMatchObject([{ name: "main", id: REPOSITORY_ID, location: { url: "/backup" }, appCount: 1 }]);
    await backups.disableBackup({ app: SHOP });
    await backups.removeRepository({ name: "main" });
    expect(await codeOf(backups.removeRepository({ name: "main" }))).toBe("NOT_FOUND");
  });

  test("a name stands for one repository, whose place may change", async () => {
    await add();
    await enable();
    shippers.id = "c".repeat(32);
    expect(await codeOf(add())).toBe("ALREADY_EXISTS");
    shippers.id = REPOSITORY_ID;
    await backups.addRepository({ name: "main", location: { url: "/moved" }, keyFile: KEY_FILE });
    await settle();
    expect(shippers.forgotten).toContain("main");
    expect(shippers.opened[0]?.stopped).toBe(true);
    expect(shippers.opened.at(-1)?.terms.repository.location.url).toBe("/moved");
  });

  test("one that can't be opened is not added, and the store's own code is told", async () => {
    shippers.fail = new BlobError("BLOB_DENIED", "no");
    await expect(add()).rejects.toMatchObject({ code: "PERMISSION_DENIED", data: { reason: "BLOB_DENIED" } });
    expect(await codeOf(enable())).toBe("NOT_FOUND");
  });
});

describe("backups", () => {
  test("begin when they are enabled and go on after a restart", async () => {
    await add();
    expect(await enable()).toMatchObject({ state: "idle", repository: "main", everyMs: 5000, protected: { lsn: 2 } });
    expect(shippers.opened[0]?.started).toBe(true);
    await restart();
    await settle();
    expect(shippers.opened[0]?.terms).toMatchObject({
      everyMs: 5000,
      onBacklog: "serve",
      repository: { name: "main" },
    });
    expect(shippers.opened[0]?.started).toBe(true);
    expect(await status()).toHaveLength(1);
  });

  test("enabled again they take new terms, and refuse another repository", async () => {
    await add();
    await enable();
    await enable({ everyMs: 1000 });
    expect(shippers.opened.map(({ stopped }) => stopped)).toEqual([true, false]);
    expect(await status()).toMatchObject([{ everyMs: 1000 }]);
    shippers.id = "d".repeat(32);
    await backups.addRepository({ name: "second", location: { url: "/second" }, keyFile: KEY_FILE });
    expect(await codeOf(enable({ repository: "second" }))).toBe("FAILED_PRECONDITION");
    expect(await codeOf(enable({ everyMs: 1 }))).toBe("INVALID_ARGUMENT");
    expect(shippers.opened.at(-1)?.stopped).toBe(false);
  });

  test("one that can't be begun says why and leaves no promise behind", async () => {
    await add();
    shippers.fail = new BlobError("BLOB_UNREACHABLE", "no answer");
    expect(await codeOf(enable())).toBe("UNAVAILABLE");
    expect(await status()).toEqual([]);
    await restart();
    expect(await status()).toEqual([]);
  });

  test("new terms that fail leave the old ones at work", async () => {
    await add();
    await enable();
    shippers.fail = new BlobError("BLOB_UNREACHABLE", "no answer");
    expect(await codeOf(enable({ everyMs: 1000 }))).toBe("UNAVAILABLE");
    shippers.fail = undefined;
    timers.advance(60_000);
    await untilIdle();
    expect(await status()).toMatchObject([{ everyMs: 5000 }]);
  });

  test("wait for a repository that is away at the start, and keep history meanwhile", async () => {
    await add();
    await enable();
    await backups.stop();
    await service.close();
    const known = new KnownRepositories(folder);
    service = await MetadataService.open({ folder, kv, clock, log, newId: () => "" });
    shippers = new FakeShippers();
    shippers.fail = new BlobError("BLOB_UNREACHABLE", "no answer");
    backups = new Backups({ service, known, shippers, diskSpace: () => disk, clock, timers, log });
    backups.start();
    await settle();
    expect(await status()).toMatchObject([{ state: "retrying", message: "no answer" }]);
    const app = service.find(SHOP);
    expect(backups.floorOf(app)).toBe(3);
    disk = { ...disk, freeBytes: 0n };
    expect(backups.floorOf(app)).toBe(LIVE);
    shippers.fail = undefined;
    timers.advance(1000);
    await untilIdle();
    expect(backups.floorOf(app)).toBe(5);
    expect(backups.floorOf(service.find({ namespace: "default", name: "other" }))).toBe(LIVE);
  });

  test("of a repository that is away say so also while it is tried again, and how old the oldest change is that waits", async () => {
    await add();
    await enable();
    await restart();
    await backups.stop();
    shippers.fail = new BlobError("BLOB_UNREACHABLE", "no answer");
    backups.start();
    await settle();
    const app = service.find(SHOP);
    // Up to 3 is protected; each of these is a record.
    while (app.core.lastLsn < 4) app.core.begin(SERVICE_CONTEXT).commit(RECORD_OP.SPACE, Buffer.from("{}"), {});
    clock.step(90_000_000_000);
    const held = Promise.withResolvers<void>();
    shippers.hold = held.promise;
    const { tries } = shippers;
    timers.advance(1000);
    await vi.waitFor(() => expect(shippers.tries).toBe(tries + 1));
    const [found] = await status();
    expect(found).toMatchObject({ state: "retrying", message: "no answer" });
    expect(found?.lagMs).toBeGreaterThanOrEqual(90_000);
    held.resolve();
  });

  test("what only a person can repair is an alarm, once", async () => {
    await add();
    await enable();
    await restart();
    await backups.stop();
    shippers.fail = new BlobError("BLOB_DENIED", "the key is unknown");
    backups.start();
    await settle();
    for (let tries = shippers.tries + 1; shippers.tries < 4; tries++) {
      await vi.waitFor(() => {
        timers.advance(60_000);
        expect(shippers.tries).toBeGreaterThanOrEqual(tries);
      });
    }
    expect(await status()).toMatchObject([{ state: "failed", message: "the key is unknown" }]);
    expect(log.lines.filter(({ level }) => level === "alarm")).toHaveLength(1);
  });

  test("now tells how far it is and ends with what is protected", async () => {
    await add();
    await enable();
    const events: BackupProgress[] = [];
    for await (const event of backups.backupNow({ app: SHOP })) events.push(event);
    expect(events.at(-1)).toMatchObject({ kind: "done", status: { protected: { lsn: 2 } } });
    const [shipper] = shippers.opened;
    if (shipper !== undefined) shipper.failNow = new BlobError("BLOB_NO_SPACE", "full");
    await expect(backups.backupNow({ app: SHOP }).next()).rejects.toMatchObject({ code: "NO_SPACE" });
  });

  test("now never takes an app over from another service", async () => {
    await add();
    await enable();
    const [shipper] = shippers.opened;
    if (shipper !== undefined) shipper.state = "fenced";
    await expect(backups.backupNow({ app: SHOP }).next()).rejects.toMatchObject({ code: "FAILED_PRECONDITION" });
    expect(await status()).toMatchObject([{ state: "fenced" }]);
  });

  test("of an app without one are refused by name", async () => {
    await expect(backups.backupNow({ app: SHOP }).next()).rejects.toMatchObject({ code: "FAILED_PRECONDITION" });
    expect(await codeOf(backups.disableBackup({ app: SHOP }))).toBe("FAILED_PRECONDITION");
    expect(await codeOf(backups.disableBackup({ app: { namespace: "default", name: "none" } }))).toBe("NOT_FOUND");
  });

  test("disabled they stop, for good", async () => {
    await add();
    await enable();
    await backups.disableBackup({ app: SHOP });
    expect(shippers.opened[0]?.stopped).toBe(true);
    await restart();
    expect(await status()).toEqual([]);
    expect(backups.floorOf(service.find(SHOP))).toBe(LIVE);
  });
});
