import path from "node:path";
import { memoryLog } from "../base/log.ts";
import type { BlobStore } from "../blob/blob-store.ts";
import { MemoryBlobs } from "../blob/testing/memory-blobs.ts";
import type { InodeId } from "../domain/ids.ts";
import { RECORD_OP } from "../domain/record-op.ts";
import type { JournalLimits } from "../journal/limits.ts";
import { MemoryKv } from "../kv/memory-kv.ts";
import type { OpenApp } from "../meta/open-app.ts";
import { type TestApp, TestApps } from "../meta/reading/test-app.ts";
import type { Turns } from "../meta/reading/turns.ts";
import { AppKeys, newAppKeyMaterial } from "../repository/app-keys.ts";
import { AppRepository } from "../repository/app-repository.ts";
import { PackReader } from "../repository/pack-reader.ts";
import type { AppDescription } from "../repository/seal-head.ts";
import { journalRecordOf } from "../repository/seal-record.ts";
import { ShipEngine } from "./ship-engine.ts";
import type { SealLimits } from "./ship-seal.ts";

// For tests: an app that is shipped into a store in memory, and what is in the repository then.

export const DESCRIBED: AppDescription = {
  namespace: "default",
  name: "shop",
  labels: {},
  created: { sec: 1_700_000_000, nsec: 0 },
  deleted: null,
};

export type ShipFixtureOptions = {
  readonly store?: BlobStore;
  readonly limits?: SealLimits;
  readonly journalLimits?: Partial<JournalLimits>;
};

/** Small seals, so that a test has many. */
export const SMALL_SEALS: SealLimits = { journalBytesMax: 200_000, recordsMax: 20, plainBytesMax: 20_000 };

export class ShipFixture {
  readonly apps: TestApps;
  readonly test: TestApp;
  readonly root: InodeId;
  readonly store: BlobStore;
  readonly keys: AppKeys;
  readonly index = new MemoryKv();
  readonly log = memoryLog();
  readonly #limits: SealLimits | undefined;
  readonly #engines: ShipEngine[] = [];

  private constructor(apps: TestApps, test: TestApp, options: ShipFixtureOptions) {
    this.apps = apps;
    this.test = test;
    this.root = test.share("files").root;
    this.store = options.store ?? new MemoryBlobs();
    this.keys = new AppKeys(newAppKeyMaterial({ appId: test.app.id }));
    this.#limits = options.limits;
  }

  static async open(options: ShipFixtureOptions = {}): Promise<ShipFixture> {
    const apps = await TestApps.open(options.journalLimits);
    return new ShipFixture(apps, await apps.app("shop"), options);
  }

  get app(): OpenApp {
    return this.test.app;
  }

  get journalFolder(): string {
    return path.join(this.apps.folder, "shop");
  }

  repository(store: BlobStore = this.store): AppRepository {
    return new AppRepository({ store, keys: this.keys, lockDays: undefined, clock: this.apps.clock });
  }

  /** Another engine, as of a process that was started just now. */
  engine(options: { readonly store?: BlobStore; readonly index?: MemoryKv; readonly turns?: Turns } = {}): ShipEngine {
    const { app } = this;
    const engine = new ShipEngine({
      repository: this.repository(options.store),
      journal: { appId: app.id, folder: this.journalFolder, kv: this.apps.kv, slot: app.slot },
      index: options.index ?? this.index,
      writer: { host: "test", service: "test" },
      clock: this.apps.clock,
      log: this.log,
      ...(this.#limits === undefined ? {} : { limits: this.#limits }),
      ...(options.turns === undefined ? {} : { turns: options.turns }),
    });
    this.#engines.push(engine);
    return engine;
  }

  /** What there is to ship now, durable. */
  async target(): Promise<{ to: OpenApp["core"]["lastLsn"]; app: AppDescription }> {
    await this.test.settle();
    return { to: this.app.core.lastLsn, app: DESCRIBED };
  }

  /** Starts the engine and ships everything. */
  async shipAll(engine: ShipEngine): Promise<void> {
    const target = await this.target();
    await engine.start(target);
    await engine.ship(target, () => {});
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const engine of this.#engines) await engine.close();
    await this.apps.close();
  }
}

/**
 * Reads back every seal and every byte of data from the repository and compares them with the app's journal. Answers up to which LSN they reach. Throws where something differs.
 */
export async function verifyShipped(repository: AppRepository, app: OpenApp): Promise<number> {
  const packs = new PackReader({ store: repository.store, keys: repository.keys });
  let lsn = 0;
  for await (const seal of repository.seals({ verify: "chain" })) {
    if (lsn === 0) lsn = seal.head.from - 1;
    const { from, to } = seal.head;
    const local = app.journal.readRecords(from, to);
    for (const sealed of seal.records()) {
      const record = journalRecordOf(sealed);
      const { value: expected } = await local.next();
      lsn += 1;
      same(record.lsn, lsn, "LSN");
      same(
        JSON.stringify({ ...record, position: 0, segment: 0, dataStart: 0 }),
        JSON.stringify({ ...expected, position: 0, segment: 0, dataStart: 0 }),
        `record ${lsn}`,
      );
      if (sealed.data === null || record.op === RECORD_OP.RELOCATE) continue;
      const { segment, dataStart, pieces } = sealed.data;
      const read = await packs.readMany(pieces.map(({ place }) => place));
      const { dataLength } = record;
      const data = await app.journal.readData({ segment, dataStart, dataLength, skip: 0, length: dataLength });
      same(
        pieces.reduce((end, { skip, length }) => (skip === end ? end + length : -1), 0),
        dataLength,
        `pieces of ${lsn}`,
      );
      same(Buffer.concat(read).equals(data), true, `data of record ${lsn}`);
    }
  }
  return lsn;
}

function same(actual: unknown, expected: unknown, what: string): void {
  if (actual !== expected) throw new Error(`${what} is ${String(actual)}, expected ${String(expected)}`);
}
