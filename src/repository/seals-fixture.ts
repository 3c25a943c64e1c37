import { hash } from "node:crypto";
import { present } from "../base/assert.ts";
import type { BlobStore } from "../blob/blob-store.ts";
import { MemoryBlobs } from "../blob/testing/memory-blobs.ts";
import type { Lsn } from "../domain/ids.ts";
import { CHAIN_START } from "../journal/chain.ts";
import { ManualClock, randomBytesOf, randomDraft, seededRandom } from "../journal/journal-fixture.ts";
import { dataOffset, PREFIX_BYTES, type RecordDraft, SALT_BYTES } from "../journal/record.ts";
import { RecordEncoder } from "../journal/record-encoder.ts";
import { AppRepository, referenceOf, type SealLink } from "./app-repository.ts";
import type { Checkpoint } from "./checkpoint.ts";
import { packId } from "./chunk-place.ts";
import type { RandomFill } from "./key-wrap.ts";
import { APP, countingFill, keysOf } from "./packs-fixture.ts";
import { prefixOf } from "./record-fields.ts";
import type { AppDescription, SealHead } from "./seal-head.ts";
import { chainNext, type DataPiece, type SealRecord } from "./seal-record.ts";

// For tests only: an app's part of a repository, records as a journal would have them, and a shipper without a journal.

export const DESCRIPTION: AppDescription = {
  namespace: "default",
  name: "shop",
  labels: { tier: "web", __proto__x: "é" },
  created: { sec: 1_699_999_999, nsec: 1 },
  deleted: null,
};

/** An app's part of a repository in `store`. */
export function appIn(
  store: BlobStore,
  options: { lockDays?: number; clock?: ManualClock; fill?: RandomFill } = {},
): AppRepository {
  const { lockDays, clock = new ManualClock(), fill } = options;
  return new AppRepository({ store, keys: keysOf(), lockDays, clock, fill });
}

/** A store in memory whose clock a test moves. */
export function memoryStore(): { store: MemoryBlobs; clock: ManualClock } {
  const clock = new ManualClock();
  return { store: new MemoryBlobs({ clock }), clock };
}

/** Moves a clock on. */
export function pass(clock: ManualClock, ms: number): void {
  clock.time = { sec: clock.time.sec + Math.floor(ms / 1000), nsec: clock.time.nsec };
  clock.ms += ms;
}

/** Makes the records of one journal, each following the one before. */
export class RecordSource {
  /** What the records were made of, unless they were adopted. */
  readonly drafts: RecordDraft[] = [];
  readonly records: SealRecord[] = [];
  /** h(n) by n. */
  readonly chain: Buffer[] = [CHAIN_START];
  readonly #random: () => number;
  readonly #encoder: RecordEncoder;
  readonly #dataBytesMax: number;

  constructor(seed: number, dataBytesMax = 70_000) {
    this.#dataBytesMax = dataBytesMax;
    this.#random = seededRandom(seed);
    this.#encoder = new RecordEncoder(countingFill(`salts ${seed}`));
  }

  /** Goes on from these records, and from nothing else. */
  adopt(records: readonly SealRecord[]): void {
    this.records.splice(0, this.records.length, ...records);
    this.drafts.length = 0;
    this.chain.splice(1);
    for (const record of records) this.chain.push(chainNext(present(this.chain.at(-1), "chain"), record));
  }

  get lsn(): Lsn {
    return this.records.length as Lsn;
  }

  /** Adds records up to `lsn`. */
  growTo(lsn: number): void {
    while (this.lsn < lsn) this.add(randomDraft(this.#random, this.#dataBytesMax));
  }

  add(draft: RecordDraft): void {
    const lsn = (this.lsn + 1) as Lsn;
    const { parts } = this.#encoder.encode(draft, { lsn, durableLsn: (lsn - 1) as Lsn, seed: 7 });
    const bytes = Buffer.concat(parts);
    const dataLength = draft.data?.length ?? 0;
    const dataStart = dataOffset(dataLength);
    const tail = dataStart + dataLength;
    const prefix = bytes.subarray(0, PREFIX_BYTES);
    const salt = dataLength === 0 ? null : bytes.subarray(tail, tail + SALT_BYTES);
    const body = bytes.subarray(tail + (salt?.length ?? 0));
    const hashed = Buffer.concat([salt ?? Buffer.alloc(0), bytes.subarray(PREFIX_BYTES, tail)]);
    const inner = salt === null ? null : hash("sha256", hashed, "buffer");
    const data = salt === null ? null : { segment: 1, dataStart: lsn * 100, pieces: this.#pieces(dataLength) };
    const record = { prefix, inner, salt, body, data };
    this.drafts.push(draft);
    this.records.push(record);
    this.chain.push(chainNext(present(this.chain.at(-1), "chain"), record));
  }

  #pieces(dataLength: number): DataPiece[] {
    const middle = Math.ceil(dataLength / 2);
    const lengths = middle === dataLength ? [dataLength] : [middle, dataLength - middle];
    let skip = 0;
    return lengths.map((length) => {
      const pack = packId(randomBytesOf(this.#random, 16).toString("hex"));
      const place = { pack, offset: 40, storedLength: length + 17, rawLength: length, chunkOffset: 0, length };
      const piece = { skip, length, place };
      skip += length;
      return piece;
    });
  }
}

/** The head of the seal of `from` to `to`, which follows `previous` in `epoch`. */
export function headOf(
  source: RecordSource,
  range: { epoch: number; sequence: number; previous: SealLink | null; from: number; to: number },
): SealHead {
  const { epoch, sequence, previous, from, to } = range;
  return {
    appId: APP,
    epoch,
    sequence,
    previous: previous === null ? null : referenceOf(previous),
    from: from as Lsn,
    to: to as Lsn,
    firstTime: prefixOf(present(source.records[from - 1], "first record").prefix).time,
    lastTime: prefixOf(present(source.records[to - 1], "last record").prefix).time,
    chain: present(source.chain[to], "chain").toString("hex"),
    app: DESCRIPTION,
    writer: { host: "host", service: "service" },
    packs: [{ id: packId("ab".repeat(16)), bytes: 123 }],
    journalBytes: 4096,
  };
}

/** Ships records of a source, as a service does. */
export class TestShipper {
  readonly app: AppRepository;
  readonly source: RecordSource;
  epoch = 0;
  previous: SealLink | null = null;
  protectedLsn = 0;
  #sequence = 0;
  #to = 0;

  constructor(app: AppRepository, source: RecordSource) {
    this.app = app;
    this.source = source;
  }

  /** Takes an epoch, and goes on from what is there. */
  async start(): Promise<this> {
    await this.claim();
    await this.look();
    return this;
  }

  /** Takes the records that are there for its own. */
  async adopt(): Promise<void> {
    const records: SealRecord[] = [];
    for await (const seal of this.app.seals({ verify: "line" })) records.push(...seal.records());
    this.source.adopt(records);
  }

  async claim(): Promise<void> {
    this.epoch = await this.app.claimEpoch({ host: "host", service: "service" });
  }

  async look(): Promise<void> {
    const { seal } = await this.app.head();
    this.previous = seal;
    this.#to = seal?.head.to ?? 0;
    this.protectedLsn = this.#to;
    this.#sequence = 0;
  }

  /** Ships `count` records as one seal; whether they count as protected. */
  async ship(count = 3): Promise<boolean> {
    await this.publish(count);
    return await this.confirm();
  }

  /** The first half of shipping: the seal is there. */
  async publish(count: number): Promise<void> {
    const from = this.#to + 1;
    const to = this.#to + count;
    this.source.growTo(to);
    this.#sequence++;
    const { epoch, previous } = this;
    const head = headOf(this.source, { epoch, sequence: this.#sequence, previous, from, to });
    this.previous = await this.app.publishSeal(head, this.source.records.slice(from - 1, to));
    this.#to = to;
  }

  /** The second half: it counts as protected, unless somebody else has taken over. */
  async confirm(): Promise<boolean> {
    if (await this.app.isFenced(this.epoch)) return false;
    this.protectedLsn = this.#to;
    return true;
  }
}

/** A checkpoint of nothing but its place. */
export function checkpointOf(
  source: RecordSource,
  place: { epoch: number; sequence: number; to: number; runs?: Checkpoint["runs"] },
): Checkpoint {
  const { epoch, sequence, to, runs = [] } = place;
  return {
    appId: APP,
    epoch,
    sequence,
    to: to as Lsn,
    chain: present(source.chain[to], "chain").toString("hex"),
    runs,
    counters: { liveBytes: "12", inodeCount: 3 },
    app: DESCRIPTION,
    floor: { lsn: 2 as Lsn, time: { sec: 5, nsec: 6 } },
    kept: [1 as Lsn],
  };
}

/** All names in a store. */
export async function namesIn(store: BlobStore, prefix = ""): Promise<string[]> {
  const names: string[] = [];
  for await (const page of store.list(prefix)) names.push(...page.map(({ name }) => name));
  return names;
}

/** Everything an async iterable gives. */
export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}
