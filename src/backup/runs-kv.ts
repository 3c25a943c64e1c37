import { assert } from "../base/assert.ts";
import { checkRange } from "../kv/kv-checks.ts";
import { KvError } from "../kv/kv-error.ts";
import type { KvEntry, KvOperation, KvRange, KvShare, KvStatistics, KvStore } from "../kv/kv-store.ts";
import { prefixEnd } from "../meta/keys.ts";
import type { RunRef } from "../repository/runs/run-codec.ts";
import type { RunFiles } from "./run-files.ts";
import { RunStack, type StackRow } from "./run-stack.ts";

/** Where the rows of runs are in the KV: those whose key begins with `run` have keys that begin with `kv` here. */
export type RunRegion = { readonly kv: Buffer; readonly run: Buffer };

export type RunsKvParts = {
  /** Has the rows that came since, and those that went. */
  readonly over: KvStore;
  readonly files: RunFiles;
  /** Apart, in order of `kv`. */
  readonly regions: readonly RunRegion[];
  /** For messages. */
  readonly directory: string;
};

/** In the store above: the row is gone, whatever the runs have. No value begins like that, but one that is written behind it and a 1. */
const GONE = Buffer.from("c41f0e6b5a7d4d0f9a3c8e21b7f05d96", "hex");
const ESCAPED = Buffer.concat([GONE, Buffer.from([1])]);

/** Rows read at once from the store above, at least: most ranges are short. */
const PAGE_ROWS_MIN = 16;

/**
 * The rows of a checkpoint without laying them down: runs of a repository in local files (`RunFiles`), and over them, in a store of its own, what came since. To a reader they are one store. What the runs have is decrypted
 * and parsed block by block when it is asked for, so that one file of a large app costs a few blocks.
 *
 * One thread; of the deletion of ranges only that of everything (`deleteRange`).
 */
export class RunsKv implements KvStore {
  readonly #parts: RunsKvParts;
  #runs: RunStack | undefined;

  constructor(parts: RunsKvParts) {
    this.#parts = parts;
  }

  get capabilities(): KvStore["capabilities"] {
    return { ...this.#parts.over.capabilities, shareable: false };
  }

  /** Puts `runs`, newest first, below everything; what is missing of them is fetched. Throws REPOSITORY_DAMAGED, BlobError, the file system's errors. */
  async use(runs: readonly RunRef[]): Promise<void> {
    await this.#parts.files.have(runs);
    this.#runs = new RunStack(this.#parts.files, runs);
  }

  /** Forgets the runs, and removes their files: they are fetched again. */
  discard(): void {
    this.#runs = undefined;
    this.#parts.files.close({ remove: true });
  }

  getSync(key: Uint8Array): Buffer | undefined {
    const over = this.#parts.over.getSync(key);
    return over === undefined ? this.#below(key) : shownValue(over);
  }

  getManySync(keys: readonly Uint8Array[]): (Buffer | undefined)[] {
    const over = this.#parts.over.getManySync(keys);
    return keys.map((key, index) => {
      const value = over[index];
      return value === undefined ? this.#below(key) : shownValue(value);
    });
  }

  rangeSync(range: KvRange): KvEntry[] {
    checkRange(range);
    const below = this.#rowsBelow(range);
    const found: KvEntry[] = [];
    let bytes = 0;
    for (const entry of merged(this.#rowsOver(range), below, range.reverse === true)) {
      found.push(entry);
      bytes += entry.key.length + entry.value.length;
      if (found.length === range.limit || bytes >= (range.bytesMax ?? Number.POSITIVE_INFINITY)) break;
    }
    return found;
  }

  batch(operations: readonly KvOperation[]): Promise<void> {
    return this.#parts.over.batch(
      operations.map(({ key, ...rest }) => ({
        type: "put",
        key,
        value: rest.type === "del" ? GONE : storedValue(rest.value),
      })),
    );
  }

  /** Removes the rows of a range that came since; the runs altogether, if any of their rows is in it. */
  async deleteRange(range: { readonly gte: Uint8Array; readonly lt: Uint8Array }): Promise<void> {
    if (this.#parts.regions.some(({ kv }) => isWithin(kv, range))) this.#runs = undefined;
    await this.#parts.over.deleteRange(range);
  }

  sync(): Promise<void> {
    return this.#parts.over.sync();
  }

  statistics(): KvStatistics {
    return this.#parts.over.statistics();
  }

  share(): KvShare | undefined {
    // Closed, it fails.
    this.#parts.over.statistics();
    return undefined;
  }

  close(): Promise<void> {
    const closing = this.#parts.over.close();
    this.#runs = undefined;
    this.#parts.files.close({ remove: false });
    return closing;
  }

  #below(key: Uint8Array): Buffer | undefined {
    const runs = this.#runs;
    const region = this.#parts.regions.find(({ kv }) => startsWith(key, kv));
    if (runs === undefined || region === undefined) return undefined;
    const value = this.#reading(() => runs.get(Buffer.concat([region.run, key.subarray(region.kv.length)])));
    return value === undefined ? undefined : Buffer.from(value);
  }

  *#rowsOver(range: KvRange): Generator<{ readonly key: Buffer; readonly value: Buffer }, void> {
    const reverse = range.reverse === true;
    const limit = Math.max(PAGE_ROWS_MIN, range.limit);
    for (let left: KvRange = { ...range, limit, bytesMax: undefined }; ; ) {
      const page = this.#parts.over.rangeSync(left);
      yield* page;
      const last = page.at(-1)?.key;
      if (page.length < limit || last === undefined) return;
      left = reverse ? { ...left, lt: last, lte: undefined } : { ...left, gt: last, gte: undefined };
    }
  }

  *#rowsBelow(range: KvRange): Generator<StackRow, void> {
    const runs = this.#runs;
    if (runs === undefined) return;
    const reverse = range.reverse === true;
    const { regions } = this.#parts;
    for (const { kv, run } of reverse ? regions.toReversed() : regions) {
      const from = later(lowest(range), kv);
      const to = earlier(beyond(range), prefixEnd(kv));
      if (Buffer.compare(from, to) >= 0) continue;
      const inRun = (key: Buffer): Buffer =>
        startsWith(key, kv) ? Buffer.concat([run, key.subarray(kv.length)]) : prefixEnd(run);
      const rows = runs.rows({ from: inRun(from), to: inRun(to), reverse });
      for (;;) {
        const next = this.#reading(() => rows.next());
        if (next.done === true) break;
        const { key, value } = next.value;
        yield { key: Buffer.concat([kv, key.subarray(run.length)]), value: Buffer.from(value) };
      }
    }
  }

  /** What can't be read of a file that was verified when it came: the cache is damaged, not the repository. */
  #reading<T>(read: () => T): T {
    try {
      return read();
    } catch (cause) {
      throw new KvError("KV_CORRUPT", this.#parts.directory, "a copy of a repository's rows can't be read.", { cause });
    }
  }
}

/** Both in order; of equal keys the one above, and nothing where it says that the row is gone. */
function* merged(
  over: Iterator<{ readonly key: Buffer; readonly value: Buffer }, void>,
  below: Iterator<StackRow, void>,
  reverse: boolean,
): Generator<KvEntry, void> {
  let upper = over.next();
  let lower = below.next();
  for (;;) {
    if (upper.done === true && lower.done === true) return;
    const order = orderOf(
      upper.done === true ? undefined : upper.value.key,
      lower.done === true ? undefined : lower.value.key,
      reverse,
    );
    if (order <= 0) {
      assert(upper.done !== true, "there is a row above");
      const { key, value } = upper.value;
      const there = shownValue(value);
      if (there !== undefined) yield { key, value: there };
    } else if (lower.done !== true) yield lower.value;
    if (order >= 0) lower = below.next();
    if (order <= 0) upper = over.next();
  }
}

/** Below 0: the upper one comes first. A side that has ended comes last. */
function orderOf(upper: Buffer | undefined, lower: Buffer | undefined, reverse: boolean): number {
  if (upper === undefined) return 1;
  if (lower === undefined) return -1;
  const order = Buffer.compare(upper, lower);
  return reverse ? -order : order;
}

function storedValue(value: Uint8Array): Uint8Array {
  return startsWith(value, GONE) ? Buffer.concat([ESCAPED, value]) : value;
}

function shownValue(stored: Buffer): Buffer | undefined {
  if (!startsWith(stored, GONE)) return stored;
  return stored.length === GONE.length ? undefined : stored.subarray(ESCAPED.length);
}

const NOTHING = Buffer.alloc(0);
const ZERO = Buffer.from([0]);

/** The first key that a range may have. */
function lowest({ gte, gt }: KvRange): Buffer {
  if (gte !== undefined) return asBuffer(gte);
  return gt === undefined ? NOTHING : Buffer.concat([gt, ZERO]);
}

/** The first key behind a range; undefined: it has no end. */
function beyond({ lt, lte }: KvRange): Buffer | undefined {
  if (lt !== undefined) return asBuffer(lt);
  return lte === undefined ? undefined : Buffer.concat([lte, ZERO]);
}

function later(a: Buffer, b: Buffer): Buffer {
  return Buffer.compare(a, b) < 0 ? b : a;
}

function earlier(a: Buffer | undefined, b: Buffer): Buffer {
  return a === undefined || Buffer.compare(a, b) > 0 ? b : a;
}

function startsWith(key: Uint8Array, prefix: Buffer): boolean {
  return key.length >= prefix.length && Buffer.compare(key.subarray(0, prefix.length), prefix) === 0;
}

function isWithin(key: Buffer, { gte, lt }: { readonly gte: Uint8Array; readonly lt: Uint8Array }): boolean {
  return Buffer.compare(key, gte) >= 0 && Buffer.compare(key, lt) < 0;
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}
