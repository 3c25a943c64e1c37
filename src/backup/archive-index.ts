import { ByteReader, ByteWriter } from "../base/bytes.ts";
import type { Timestamp } from "../base/clock.ts";
import type { Lsn } from "../domain/ids.ts";
import type { KvOperation, KvStore } from "../kv/kv-store.ts";
import { prefixEnd } from "../meta/keys.ts";
import { slotPrefix } from "../meta/row-store.ts";
import { type RunRef, readRunRef } from "../repository/runs/run-codec.ts";
import type { AppDescription } from "../repository/seal-head.ts";
import { type ArchivedData, decodeArchivedData, RUN_DATA, RUN_ROW, runDataKey } from "./archive-rows.ts";
import type { RunRegion } from "./runs-kv.ts";

/** Slots of apps are below: the rows about an app's archive are kept under the app's slot and this bit. */
const ARCHIVE_BIT = 0x8000_0000;

const DATA = Buffer.from([RUN_DATA]);
const PROGRESS = Buffer.from("P");
const KEPT = Buffer.from("K");
const HYDRATED = Buffer.from("H");
const RUNS = Buffer.from("R");
const LSN_BYTES = 8;

/** How far the rows of a repository have been laid down. Numbers and hex, so that it can be JSON. */
export type LaidProgress = {
  /** Of the app in the repository; rows of another are no use. */
  readonly tag: string;
  readonly version: typeof LAID_VERSION;
  /** The runs of this checkpoint, up to this key (hex); absent when they are all there, or there is none. */
  readonly runs?: { readonly checkpoint: string; readonly after: string };
  /** Everything up to the end of a seal or checkpoint; absent before there is any. */
  readonly reached?: LaidState;
};

/** What was laid down: the app as it was after record `lsn`. */
export type LaidState = {
  /** Where the line of seals goes on. `hash` is absent when only a checkpoint told of it. */
  readonly seal: { readonly epoch: number; readonly sequence: number; readonly hash?: string };
  readonly lsn: Lsn;
  readonly chain: string;
  readonly time: Timestamp | undefined;
  readonly counters: { readonly liveBytes: string; readonly inodeCount: number };
  /** What the newest seal or checkpoint says about the app; undefined: nothing is in the repository. */
  readonly app: AppDescription | undefined;
  /** The newest checkpoint that was looked at, and the oldest moment that it says can be read; 0: from the first record on. */
  readonly checkpoint: string | undefined;
  readonly floor: Lsn;
  /** How often what was laid down had been pruned; absent: never. */
  readonly pruned?: number;
  /** The oldest record whose seal is there; `lsn` + 1: none. Absent until it was looked for. */
  readonly firstLsn?: Lsn;
};

/** What the rows laid down mean. Others are laid down anew. */
export const LAID_VERSION = 1;

/**
 * The local rows about an app's archive: where the data of records are in the repository, and how far its rows were laid down. Beside the app's own rows in the same KV, so that one
 * batch changes both. All of it can be made again from the repository.
 */
export class ArchiveIndex {
  readonly #kv: KvStore;
  readonly #slot: number;
  readonly #prefix: Buffer;

  constructor(kv: KvStore, slot: number) {
    this.#kv = kv;
    this.#slot = slot;
    this.#prefix = slotPrefix((slot | ARCHIVE_BIT) >>> 0);
  }

  /** Where the data at `dataStart` of `segment` are; undefined: not in the repository. Throws RangeError for a row that makes no sense, KvError. */
  data(segment: number, dataStart: number): ArchivedData | undefined {
    const row = this.#kv.getSync(Buffer.concat([this.#prefix, runDataKey(segment, dataStart)]));
    return row === undefined ? undefined : decodeArchivedData(row);
  }

  /** As `data` for each of `places`. */
  dataMany(places: readonly { readonly segment: number; readonly dataStart: number }[]): (ArchivedData | undefined)[] {
    const keys = places.map(({ segment, dataStart }) => Buffer.concat([this.#prefix, runDataKey(segment, dataStart)]));
    return this.#kv.getManySync(keys).map((row) => (row === undefined ? undefined : decodeArchivedData(row)));
  }

  /** Where the data are that were written right before or after those, nearest first. */
  neighbours(
    segment: number,
    dataStart: number,
    options: { readonly reverse: boolean; readonly count: number },
  ): { readonly segment: number; readonly dataStart: number; readonly data: ArchivedData }[] {
    const table = Buffer.concat([this.#prefix, DATA]);
    const at = Buffer.concat([this.#prefix, runDataKey(segment, dataStart)]);
    const { reverse, count: limit } = options;
    const range = reverse ? { gte: table, lt: at } : { gt: at, lt: prefixEnd(table) };
    return this.#kv.rangeSync({ ...range, reverse, limit }).map(({ key, value }) => {
      const reader = new ByteReader(key, table.length);
      return { segment: reader.u64(), dataStart: reader.u32(), data: decodeArchivedData(value) };
    });
  }

  /** The operation on the app's row `key`. */
  rowOperation(key: Uint8Array, value: Uint8Array | null): KvOperation {
    const full = Buffer.concat([slotPrefix(this.#slot), key]);
    return value === null ? { type: "del", key: full } : { type: "put", key: full, value };
  }

  /** The operation on the row with `key` as runs have it. */
  dataOperation(key: Uint8Array, value: Uint8Array | null): KvOperation {
    const full = Buffer.concat([this.#prefix, key]);
    return value === null ? { type: "del", key: full } : { type: "put", key: full, value };
  }

  progressOperation(progress: LaidProgress): KvOperation {
    return { type: "put", key: Buffer.concat([this.#prefix, PROGRESS]), value: Buffer.from(JSON.stringify(progress)) };
  }

  /** The runs that were put below the rows instead of laying theirs down, newest first; none: all rows are laid down. */
  runs(): RunRef[] {
    const row = this.#kv.getSync(Buffer.concat([this.#prefix, RUNS]));
    return row === undefined ? [] : (JSON.parse(row.toString()) as unknown[]).map(readRunRef);
  }

  runsOperation(runs: readonly RunRef[]): KvOperation {
    return { type: "put", key: Buffer.concat([this.#prefix, RUNS]), value: Buffer.from(JSON.stringify(runs)) };
  }

  /** Where rows of runs belong in the KV. */
  get regions(): RunRegion[] {
    return [
      { kv: slotPrefix(this.#slot), run: Buffer.from([RUN_ROW]) },
      { kv: Buffer.concat([this.#prefix, DATA]), run: DATA },
    ];
  }

  /** The last record that is in the archive; 0: there is no archive. */
  get archivedTo(): Lsn {
    return this.progress()?.reached?.lsn ?? (0 as Lsn);
  }

  /** All data that rows name of the archive's segments are here, by relocations. */
  get isHydrated(): boolean {
    return this.#kv.getSync(Buffer.concat([this.#prefix, HYDRATED])) !== undefined;
  }

  /** Notes that they are. */
  markHydrated(): Promise<void> {
    return this.#kv.batch([{ type: "put", key: Buffer.concat([this.#prefix, HYDRATED]), value: Buffer.alloc(0) }]);
  }

  /** The moments that the repository keeps below its floor. */
  kept(): Lsn[] {
    const row = this.#kv.getSync(Buffer.concat([this.#prefix, KEPT]));
    if (row === undefined) return [];
    const reader = new ByteReader(row);
    return Array.from({ length: row.length / LSN_BYTES }, () => reader.u64() as Lsn);
  }

  keptOperation(kept: readonly Lsn[]): KvOperation {
    const writer = new ByteWriter(kept.length * LSN_BYTES);
    for (const lsn of kept) writer.u64(lsn);
    return { type: "put", key: Buffer.concat([this.#prefix, KEPT]), value: writer.finish() };
  }

  /** How far an earlier attempt came; undefined: none, or one that means something else. */
  progress(): LaidProgress | undefined {
    const row = this.#kv.getSync(Buffer.concat([this.#prefix, PROGRESS]));
    if (row === undefined) return undefined;
    try {
      const progress = JSON.parse(row.toString()) as LaidProgress;
      return progress.version === LAID_VERSION ? progress : undefined;
    } catch {
      return undefined;
    }
  }

  /** Removes all rows of the app and of its archive. */
  async clear(): Promise<void> {
    const app = slotPrefix(this.#slot);
    // The progress goes first: rows without it are nobody's.
    await this.#kv.deleteRange({ gte: this.#prefix, lt: prefixEnd(this.#prefix) });
    await this.#kv.deleteRange({ gte: app, lt: prefixEnd(app) });
  }
}
