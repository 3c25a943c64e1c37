import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { assert } from "../../base/assert.ts";
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import type { AppId } from "../../domain/ids.ts";
import { ExtentIndex, type Found } from "./extent-index.ts";
import { type CachedExtent, Volume } from "./volume.ts";
import {
  EXTENT_BYTES_MAX,
  encodeExtent,
  extentBytes,
  type Place,
  SUMMED_BYTES,
  VOLUME_HEAD_BYTES,
  verifies,
} from "./volume-format.ts";

/**
 * Bytes of an app's journal on the disk of a node, by their place, which never means other bytes: so nothing here can become stale, only unneeded.
 *
 * Invariants:
 * 1. What is handed out has been checked against its sums just now. What fails is dropped and told of once.
 * 2. The volumes take at most `bytesMax`; the least recently used goes first, as a whole.
 * 3. An extent is in the index only when its bytes are in its volume, and while that is open.
 * 4. Nothing that goes wrong here fails a read: it is then as if nothing were kept.
 */

/** Smallest bound: a few volumes that have room for the largest read. */
export const CACHE_BYTES_MIN = 16 * 1024 * 1024;

/** An eighth of the cache goes at a time, which still has room for the largest read; at most so much, so that an unlink stays short. */
const VOLUMES_PER_CACHE = 8;
const VOLUME_BYTES_MAX = 64 * 1024 * 1024;

/** Extents in the index, at about 150 bytes each. Only a cache of very small ones reaches it before its bound of bytes. */
const EXTENTS_MAX = 200_000;

/** Bytes that wait to be written: more are not kept. The disk is then slower than the network, and the cache no use. */
const PENDING_BYTES_MAX = 32 * 1024 * 1024;

/** After a failed write (a full disk) nothing is kept for so long. */
const PAUSE_MS = 60_000;

/** Extents that lie so close in one volume are read in one go, up to so many bytes. */
const READ_GAP_BYTES = 8192;
const READ_SPAN_BYTES_MAX = 2 * EXTENT_BYTES_MAX;

const VOLUME_NAME = /^(\d{8})\.volume$/;

export type ReadCacheOptions = {
  /** A folder of its own (0700). Made if it is not there. */
  readonly folder: string;
  readonly app: AppId;
  /** At least CACHE_BYTES_MIN. */
  readonly bytesMax: number;
  readonly clock: Clock;
  readonly log: Log;
};

/** A part of a range: `data`, or what has to be fetched. `from`: bytes after the range's beginning. */
export type CachedPart = { readonly from: number; readonly length: number; readonly data?: Uint8Array };

type Part = Found<CachedExtent>;
type HeldPart = Part & { readonly extent: CachedExtent };

export class ReadCache {
  readonly #options: ReadCacheOptions;
  readonly #volumeBytes: number;
  readonly #index = new ExtentIndex<CachedExtent>();
  readonly #volumes: Volume[] = [];
  /** Where new extents go; the last of `#volumes`. */
  #current: Volume | undefined;
  #nextNumber = 1;
  #tick = 0;
  #pendingBytes = 0;
  #pausedUntilMs = Number.NEGATIVE_INFINITY;
  /** Writes and evictions, one after the other. Never rejects. */
  #work: Promise<void> = Promise.resolve();
  #warned = false;
  #closed = false;
  /** For status: bytes of ranges that were here, and that were not; extents that did not verify. */
  readonly counts = { hitBytes: 0, missBytes: 0, damaged: 0 };

  private constructor(options: ReadCacheOptions) {
    assert(options.bytesMax >= CACHE_BYTES_MIN);
    this.#options = options;
    this.#volumeBytes = Math.min(Math.floor(options.bytesMax / VOLUMES_PER_CACHE), VOLUME_BYTES_MAX);
  }

  /** Opens a folder. What former processes kept there is found again little by little. Rejects with errors of node:fs when the folder can't be used. */
  static async open(options: ReadCacheOptions): Promise<ReadCache> {
    await mkdir(options.folder, { recursive: true, mode: 0o700 });
    const cache = new ReadCache(options);
    const numbers: number[] = [];
    for (const name of await readdir(options.folder)) {
      const number = VOLUME_NAME.exec(name)?.[1];
      if (number !== undefined) numbers.push(Number(number));
    }
    numbers.sort((left, right) => left - right);
    cache.#nextNumber = (numbers.at(-1) ?? 0) + 1;
    cache.#do(() => cache.#reopen(numbers));
    return cache;
  }

  /** Bytes that the volumes take. */
  get bytes(): number {
    return this.#volumes.reduce((sum, volume) => sum + volume.bytes, 0);
  }

  get bytesMax(): number {
    return this.#options.bytesMax;
  }

  /** What is there of `length` bytes from `place` on: parts in order, without gaps. Never rejects. */
  async read(place: Place, length: number): Promise<CachedPart[]> {
    const parts = this.#index.find(place, length);
    const data = await Promise.all(groupsOf(parts).map((group) => this.#readGroup(group)));
    const byPart = new Map(data.flat());
    return parts.map((part) => {
      const { from, length: bytes } = part;
      const held = byPart.get(part);
      if (held === undefined) {
        this.counts.missBytes += bytes;
        return { from, length: bytes };
      }
      this.counts.hitBytes += bytes;
      return { from, length: bytes, data: held };
    });
  }

  /** Keeps bytes (copies of them), if there is room and time. Never throws. */
  keep(extents: readonly (Place & { readonly data: Uint8Array })[]): void {
    if (this.#closed || this.#options.clock.monotonicMs() < this.#pausedUntilMs) return;
    const wanted = extents.flatMap((extent) => this.#absentParts(extent));
    const bytes = wanted.reduce((sum, { data }) => sum + extentBytes(data.length), 0);
    if (bytes === 0 || bytes > this.#volumeBytes || this.#pendingBytes + bytes > PENDING_BYTES_MAX) return;
    this.#append(wanted, bytes);
  }

  /** What of an extent is not here yet, in parts that are not too long. */
  #absentParts({ segment, position, data }: Place & { readonly data: Uint8Array }): (Place & { data: Uint8Array })[] {
    const absent: (Place & { data: Uint8Array })[] = [];
    for (const { from, length, extent } of this.#index.find({ segment, position }, data.length)) {
      if (extent !== undefined) continue;
      for (let at = from; at < from + length; at += EXTENT_BYTES_MAX) {
        const part = data.subarray(at, Math.min(at + EXTENT_BYTES_MAX, from + length));
        absent.push({ segment, position: position + at, data: part });
      }
    }
    return absent;
  }

  /** Resolves when everything that was to be kept is written, or given up. */
  async settled(): Promise<void> {
    await this.#work;
  }

  /** Finishes what is being written. The files stay, for the next process. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#work;
    for (const volume of this.#volumes) await volume.close();
  }

  /** Writes extents in one go. */
  #append(extents: readonly (Place & { readonly data: Uint8Array })[], bytes: number): void {
    this.#pendingBytes += bytes;
    const encoded = Buffer.allocUnsafe(bytes);
    let end = 0;
    const heads = extents.map((extent) => {
      const { dataAt, ...head } = encodeExtent(encoded, end, extent);
      const dataFrom = end + dataAt;
      end = dataFrom + head.length;
      return { ...head, dataFrom };
    });
    this.#do(async () => {
      this.#pendingBytes -= bytes;
      // Two readers may have fetched the same.
      if (heads.every((head) => this.#index.find(head, head.length).some((part) => part.extent !== undefined))) return;
      const volume = await this.#volumeFor(bytes);
      const begin = await volume.append(encoded);
      for (const { dataFrom, ...head } of heads) this.#admit({ ...head, volume, at: begin + dataFrom });
    });
  }

  #admit(extent: CachedExtent): void {
    if (!this.#index.add(extent)) return;
    extent.volume.extents.push(extent);
    extent.volume.lastUse = ++this.#tick;
  }

  /** The volume that takes the next `bytes`. Keeps I2. */
  async #volumeFor(bytes: number): Promise<Volume> {
    const full = this.#current !== undefined && this.#current.bytes + bytes > this.#volumeBytes;
    const room = bytes + (full || this.#current === undefined ? VOLUME_HEAD_BYTES : 0);
    if (full) this.#current = undefined;
    while (this.bytes + room > this.#options.bytesMax || this.#index.count >= EXTENTS_MAX) {
      if (!(await this.#evict())) break;
    }
    this.#current ??= await this.#newVolume();
    return this.#current;
  }

  async #newVolume(): Promise<Volume> {
    const number = this.#nextNumber++;
    const volume = await Volume.create(this.#pathOf(number), { number, app: this.#options.app });
    this.#volumes.push(volume);
    return volume;
  }

  /** Drops the volume that was used least recently, but for the one being written. Answers whether there was one. */
  async #evict(): Promise<boolean> {
    let oldest: Volume | undefined;
    for (const volume of this.#volumes) {
      if (volume !== this.#current && (oldest === undefined || volume.lastUse < oldest.lastUse)) oldest = volume;
    }
    if (oldest === undefined) return false;
    this.#volumes.splice(this.#volumes.indexOf(oldest), 1);
    for (const extent of oldest.extents) this.#index.remove(extent);
    await oldest.remove();
    return true;
  }

  async #reopen(numbers: readonly number[]): Promise<void> {
    for (const number of numbers) {
      const path = this.#pathOf(number);
      const volume = await Volume.open(path, { number, app: this.#options.app });
      if (volume === undefined) {
        await rm(path, { force: true });
        continue;
      }
      this.#volumes.push(volume);
      for await (const extent of volume.scan()) if (!this.#closed) this.#admit(extent);
    }
    while (this.bytes > this.#options.bytesMax && (await this.#evict()));
  }

  #pathOf(number: number): string {
    return join(this.#options.folder, `${String(number).padStart(8, "0")}.volume`);
  }

  /** Runs `task` after what was begun before. A failure pauses keeping (I4), and frees what a full disk may need. */
  #do(task: () => Promise<void>): void {
    this.#work = this.#work.then(task).catch(async (error: unknown) => {
      this.#pausedUntilMs = this.#options.clock.monotonicMs() + PAUSE_MS;
      this.#options.log.warn("the read cache can't be written: going on without for a while", {
        folder: this.#options.folder,
        error: String(error),
      });
      // Half of a volume may be there: the next write begins a new one.
      this.#current = undefined;
      await this.#evict().catch(() => false);
    });
  }

  /** Reads extents that lie together; answers the data of those that verify. */
  async #readGroup(group: readonly HeldPart[]): Promise<(readonly [Part, Uint8Array])[]> {
    const spans = group.map(spanOf);
    const [first] = group;
    if (first === undefined) return [];
    const { volume } = first.extent;
    const begin = Math.min(...spans.map((span) => span.at));
    const end = Math.max(...spans.map((span) => span.at + span.length));
    volume.lastUse = ++this.#tick;
    const bytes = await volume.read(begin, end - begin).catch((): undefined => undefined);
    return group.flatMap((part, index): (readonly [Part, Uint8Array])[] => {
      const span = spans[index] as Span;
      const data = bytes?.subarray(span.at - begin, span.at - begin + span.length);
      if (data === undefined || data.length < span.length || !verifies(part.extent, span.from, data)) {
        this.#damaged(part.extent);
        return [];
      }
      return [[part, data.subarray(part.skip - span.from, part.skip - span.from + part.length)]];
    });
  }

  /** Keeps I1. */
  #damaged(extent: CachedExtent): void {
    this.#index.remove(extent);
    this.counts.damaged++;
    if (this.#warned) return;
    this.#warned = true;
    this.#options.log.warn(
      "the read cache has bytes that are not what was written there: they are fetched again (said once)",
      {
        folder: this.#options.folder,
        volume: extent.volume.number,
        at: extent.at,
      },
    );
  }
}

/** What must be read of an extent to check a part of it: `from` bytes after its beginning, `at` in the file. */
type Span = { readonly from: number; readonly at: number; readonly length: number };

function spanOf({ extent, skip, length }: HeldPart): Span {
  const from = skip - (skip % SUMMED_BYTES);
  const to = Math.min(extent.length, Math.ceil((skip + length) / SUMMED_BYTES) * SUMMED_BYTES);
  return { from, at: extent.at + from, length: to - from };
}

/** Parts that are there, in groups that are read at once. */
function groupsOf(parts: readonly Part[]): HeldPart[][] {
  const groups: HeldPart[][] = [];
  for (const part of parts) {
    if (part.extent === undefined) continue;
    const held = part as HeldPart;
    const group = groups.at(-1);
    if (group !== undefined && joins(group, held)) group.push(held);
    else groups.push([held]);
  }
  return groups;
}

function joins(group: readonly HeldPart[], part: HeldPart): boolean {
  const [first, last] = [group[0] as HeldPart, group.at(-1) as HeldPart];
  if (first.extent.volume !== part.extent.volume) return false;
  const [begin, before, next] = [spanOf(first), spanOf(last), spanOf(part)];
  const gap = next.at - (before.at + before.length);
  return gap >= 0 && gap <= READ_GAP_BYTES && next.at + next.length - begin.at <= READ_SPAN_BYTES_MAX;
}
