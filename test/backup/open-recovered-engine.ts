import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { ArchiveIndex } from "../../src/backup/archive-index.ts";
import { Hydrator } from "../../src/backup/hydrate.ts";
import { materialise } from "../../src/backup/materialise.ts";
import { RepositoryArchive } from "../../src/backup/repository-archive.ts";
import { ShipEngine } from "../../src/backup/ship-engine.ts";
import { DESCRIPTION } from "../../src/backup/testing/simple-shipper.ts";
import { present } from "../../src/base/assert.ts";
import { type Clock, SystemClock } from "../../src/base/clock.ts";
import { MemoryLog, silentLog } from "../../src/base/log.ts";
import { SystemTimers } from "../../src/base/timers.ts";
import { MemoryBlobs } from "../../src/blob/testing/memory-blobs.ts";
import type { AppId, InodeId, Lsn, MountId, ShareId } from "../../src/domain/ids.ts";
import { makeFreshJournal } from "../../src/journal/fresh-journal.ts";
import { MemoryKv } from "../../src/kv/memory-kv.ts";
import { OpenApp, SERVICE_CONTEXT } from "../../src/meta/open-app.ts";
import { SystemTurns } from "../../src/meta/reading/turns.ts";
import { createShare } from "../../src/meta/shares.ts";
import { AppKeys, newAppKeyMaterial } from "../../src/repository/app-keys.ts";
import { AppRepository } from "../../src/repository/app-repository.ts";
import type { Harness, OpenHarness } from "../model/harness.ts";
import { contextFactory } from "../model/harness-context.ts";
import { Random } from "../model/random.ts";

const APP_ID = "0123456789abcdef0123456789abcdef" as AppId;
const SHARE_ID = "fedcba9876543210fedcba9876543210" as ShareId;
const FIRST_MOUNT = 1 as MountId;
const SLOT = 1;

/** Records that may be asked for again over a `reopen`. */
const RESENDABLE = 200;

/** What a run showed besides agreeing with the model. */
export type RecoveredRun = { recoveries: number; checkpoints: number; hydrations: number; seals: number };

/**
 * An engine whose machine is lost at each `reopen`: what it had is shipped, everything local is thrown away, and it goes on as recovered from the repository. At times its data
 * are brought in, at times the repository has a checkpoint.
 */
export function openRecoveredEngine(options: { readonly seed: number; readonly run: RecoveredRun }): OpenHarness {
  return async ({ clock }) => {
    const folder = mkdtempSync(path.join(tmpdir(), "tidemark-recovered-"));
    const keys = new AppKeys(newAppKeyMaterial({ appId: APP_ID }));
    const repository = new AppRepository({ store: new MemoryBlobs(), keys, lockDays: undefined, clock });
    const engine = new RecoveredEngine({ folder, clock, random: new Random(options.seed), run: options.run });
    await engine.begin(repository);
    return engine;
  };
}

type Parts = { readonly folder: string; readonly clock: Clock; readonly random: Random; readonly run: RecoveredRun };

class RecoveredEngine implements Harness {
  readonly #parts: Parts;
  readonly context = contextFactory(FIRST_MOUNT);
  readonly #mounts: MountId[] = [FIRST_MOUNT];
  #app: OpenApp | undefined;
  #repository: AppRepository | undefined;
  #kv: MemoryKv | undefined;
  #index = new MemoryKv();
  #generation = 0;
  root = 0 as InodeId;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  async begin(repository: AppRepository): Promise<void> {
    this.#repository = repository;
    this.#app = await this.#open(new MemoryKv(), undefined);
    this.root = createShare(this.#app.core, { id: SHARE_ID, name: "files", views: "root" }, SERVICE_CONTEXT).root;
    this.#app.engine.attachMount(FIRST_MOUNT, { resumed: false });
  }

  get #current(): OpenApp {
    return present(this.#app, "an open app");
  }

  get api(): OpenApp["engine"] {
    return this.#current.engine;
  }

  attachMount(): MountId {
    const mount = (this.#mounts.length + 1) as MountId;
    this.#mounts.push(mount);
    this.#current.engine.attachMount(mount, { resumed: false });
    return mount;
  }

  lastLsn(): Lsn {
    return this.#current.core.lastLsn;
  }

  /** All moments; that there is this makes the model look where the journal is after `settle`. */
  isReadable(_lsn: Lsn): boolean {
    return true;
  }

  async settle(): Promise<void> {
    const { journal, core, applier } = this.#current;
    const { archive } = core;
    if (archive instanceof RepositoryArchive && this.#parts.random.oneIn(3)) await this.#hydrate(archive);
    await journal.sync(core.lastLsn);
    await applier.reached(core.lastLsn);
    core.appendFailed();
  }

  async reopen(): Promise<Harness> {
    const { run } = this.#parts;
    await this.#ship();
    await this.#current.close();
    rmSync(this.#folder, { recursive: true, force: true });
    this.#generation++;
    await this.#recover();
    run.recoveries++;
    for (const mount of this.#mounts) this.#current.engine.attachMount(mount, { resumed: true });
    return this;
  }

  /** By a new service each time, as after every loss: it takes the next epoch. Its index of chunks is lost at times. */
  async #ship(): Promise<void> {
    const { random, run } = this.#parts;
    const { journal, core, slot } = this.#current;
    await journal.sync(core.lastLsn);
    await this.#current.applier.reached(core.lastLsn);
    if (random.oneIn(4)) this.#index = new MemoryKv();
    const engine = new ShipEngine({
      repository: present(this.#repository, "a repository"),
      journal: { appId: APP_ID, folder: this.#folder, kv: present(this.#kv, "rows"), slot },
      index: this.#index,
      writer: { host: "test", service: "test" },
      clock: new SystemClock(),
      log: silentLog,
      limits: {
        journalBytesMax: random.pick([50_000, 10_000_000]),
        recordsMax: random.pick([5, 1000]),
        plainBytesMax: 1_000_000,
      },
    });
    const target = { to: core.lastLsn, app: DESCRIPTION };
    await engine.start(target);
    await engine.ship(target, () => {
      run.seals++;
    });
    if (await engine.checkpoint({ force: random.oneIn(2), app: DESCRIPTION })) run.checkpoints++;
    await engine.close();
  }

  get #folder(): string {
    return path.join(this.#parts.folder, "apps", String(this.#generation), "journal");
  }

  async #recover(): Promise<void> {
    const { clock } = this.#parts;
    const app = present(this.#repository, "a repository");
    const kv = new MemoryKv();
    const laid = await materialise({ app, kv, slot: SLOT, log: silentLog });
    await makeFreshJournal({ folder: this.#folder, appId: APP_ID, lastLsn: laid.lsn, clock });
    const log = new MemoryLog();
    const archive = new RepositoryArchive({
      firstLsn: laid.firstLsn,
      lastLsn: laid.lsn,
      lastTime: laid.time,
      description: "memory",
      index: new ArchiveIndex(kv, SLOT),
      connect: async () => app,
      log,
      timers: new SystemTimers(),
    });
    this.#app = await this.#open(kv, archive);
    const { core } = this.#app;
    for await (const record of core.records(Math.max(1, laid.lsn - RESENDABLE) as Lsn, laid.lsn))
      core.recent.remember(record.actor.mountId, record.unique, record.op, record.detail);
  }

  /** The records that this takes are shipped like others. */
  async #hydrate(source: RepositoryArchive): Promise<void> {
    const { run } = this.#parts;
    const app = this.#current;
    const parts = { clock: new SystemClock(), timers: new SystemTimers(), turns: new SystemTurns(), log: silentLog };
    await new Hydrator({ app, source, ...parts }).run();
    run.hydrations++;
  }

  #open(kv: MemoryKv, archive: RepositoryArchive | undefined): Promise<OpenApp> {
    this.#kv = kv;
    return OpenApp.open({
      appId: APP_ID,
      slot: SLOT,
      folder: this.#folder,
      kv,
      clock: this.#parts.clock,
      log: silentLog,
      ...(archive === undefined ? {} : { archive }),
      diskSpace: () => ({ totalBytes: 2n ** 40n, freeBytes: 2n ** 39n }),
      journalLimits: { segmentBytesMax: 256 * 1024 },
    });
  }

  async close(): Promise<void> {
    await this.#current.close();
    rmSync(this.#parts.folder, { recursive: true, force: true });
  }
}
