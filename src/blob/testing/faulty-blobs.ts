import { assert } from "../../base/assert.ts";
import { abortedError, bytesToRead, checkRange, missingError } from "../blob-checks.ts";
import { BlobError } from "../blob-error.ts";
import type {
  BlobCallOptions,
  BlobCapabilities,
  BlobEntry,
  BlobGetOptions,
  BlobListOptions,
  BlobPutOptions,
  BlobStat,
  BlobStore,
} from "../blob-store.ts";

/** What a fault waits for. `list` is the beginning of a listing, `list-page` each of its pages. */
export type FaultyOperation = "put" | "get" | "stat" | "list" | "list-page" | "delete" | "extendLock" | "timeMs";

/** A call that goes wrong. */
export interface BlobFault {
  readonly operation: FaultyOperation;
  /** Only calls about this name (of a delete: any of them; of a list: the prefix). */
  readonly name?: string | RegExp;
  /** The first call concerned, from 1, counted from when the fault was injected. Default: 1. */
  readonly nth?: number;
  /** How many calls from there on. Default: 1. */
  readonly times?: number;
  readonly effect: /** Nothing is done. Default error: BLOB_UNREACHABLE. */
    | { readonly kind: "fail"; readonly error?: BlobError }
    /** It is done, and then fails: the answer was lost. */
    | { readonly kind: "lose-answer"; readonly error?: BlobError }
    /** It waits for `until`, then goes on. */
    | { readonly kind: "delay"; readonly until: Promise<unknown> }
    /** It never ends, but by its signal or by close. */
    | { readonly kind: "hang" };
}

type Armed = { readonly fault: BlobFault; seen: number };
type Alteration = (bytes: Buffer) => Buffer | undefined;

/** A store that goes wrong as it is told, around one that works. */
export class FaultyBlobs implements BlobStore {
  readonly #inner: BlobStore;
  readonly #closing = new AbortController();
  readonly #alterations = new Map<string, Alteration>();
  #armed: Armed[] = [];

  constructor(inner: BlobStore, faults: readonly BlobFault[] = []) {
    this.#inner = inner;
    for (const fault of faults) this.inject(fault);
  }

  get description(): string {
    return this.#inner.description;
  }

  get capabilities(): BlobCapabilities {
    return this.#inner.capabilities;
  }

  /** Makes later calls go wrong. Of several faults that concern a call, the one injected first counts. */
  inject(fault: BlobFault): void {
    assert((fault.nth ?? 1) >= 1 && (fault.times ?? 1) >= 1, "calls are counted from 1");
    this.#armed.push({ fault, seen: 0 });
  }

  /** From now on `name` reads as `change` makes it of its bytes: see `flippedAt`, `truncatedTo`, `withheld`, `replacedBy`. */
  alter(name: string, change: Alteration): void {
    this.#alterations.set(name, change);
  }

  /** Everything works again. */
  heal(): void {
    this.#armed = [];
    this.#alterations.clear();
  }

  async put(name: string, body: readonly Uint8Array[], options: BlobPutOptions = {}): Promise<void> {
    await this.#run("put", [name], options, () => this.#inner.put(name, body, options));
  }

  async get(name: string, options: BlobGetOptions = {}): Promise<Buffer> {
    return this.#run("get", [name], options, async () => {
      if (!this.#alterations.has(name)) return this.#inner.get(name, options);
      checkRange(options);
      const bytes = await this.#altered(name, options);
      if (bytes === undefined) throw missingError(name, this.description);
      const length = bytesToRead(bytes.length, options, { name, where: this.description });
      const from = options.from ?? 0;
      return Buffer.from(bytes.subarray(from, from + length));
    });
  }

  async stat(name: string, options: BlobCallOptions = {}): Promise<BlobStat | undefined> {
    return this.#run("stat", [name], options, async () => {
      const found = await this.#inner.stat(name, options);
      if (found === undefined || !this.#alterations.has(name)) return found;
      const bytes = await this.#altered(name, options);
      return bytes === undefined ? undefined : { ...found, bytes: bytes.length };
    });
  }

  async *list(prefix: string, options: BlobListOptions = {}): AsyncGenerator<readonly BlobEntry[]> {
    const pages = await this.#run("list", [prefix], options, async () => this.#inner.list(prefix, options));
    for (;;) {
      const next = await this.#run("list-page", [prefix], options, () => pages.next());
      if (next.done === true) return;
      const page: BlobEntry[] = [];
      for (const entry of next.value) {
        const bytes = this.#alterations.has(entry.name)
          ? (await this.#altered(entry.name, options))?.length
          : entry.bytes;
        if (bytes !== undefined) page.push({ ...entry, bytes });
      }
      if (page.length > 0) yield page;
    }
  }

  async delete(names: readonly string[], options: BlobCallOptions = {}): Promise<void> {
    await this.#run("delete", names, options, () => this.#inner.delete(names, options));
  }

  async extendLock(name: string, untilMs: number, options: BlobCallOptions = {}): Promise<void> {
    await this.#run("extendLock", [name], options, () => this.#inner.extendLock(name, untilMs, options));
  }

  async timeMs(options: BlobCallOptions = {}): Promise<number> {
    return this.#run("timeMs", [""], options, () => this.#inner.timeMs(options));
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#inner.close();
  }

  async #altered(name: string, options: BlobCallOptions): Promise<Buffer | undefined> {
    const bytes = await this.#inner.get(name, { signal: options.signal });
    const change = this.#alterations.get(name);
    return change === undefined ? bytes : change(bytes);
  }

  async #run<T>(
    operation: FaultyOperation,
    names: readonly string[],
    options: BlobCallOptions,
    work: () => Promise<T>,
  ): Promise<T> {
    const effect = this.#effectOn(operation, names);
    switch (effect?.kind) {
      case "fail":
        throw effect.error ?? brokenOff(operation);
      case "lose-answer":
        await work();
        throw effect.error ?? brokenOff(operation);
      case "delay":
        await effect.until;
        return work();
      case "hang":
        return this.#hang(options);
      default:
        return work();
    }
  }

  /** Counts the call for every fault that concerns it; answers what happens to it. */
  #effectOn(operation: FaultyOperation, names: readonly string[]): BlobFault["effect"] | undefined {
    let effect: BlobFault["effect"] | undefined;
    for (const armed of this.#armed) {
      const { fault } = armed;
      if (fault.operation !== operation || !names.some((name) => concerns(fault, name))) continue;
      armed.seen += 1;
      const first = fault.nth ?? 1;
      if (armed.seen >= first && armed.seen < first + (fault.times ?? 1)) effect ??= fault.effect;
    }
    return effect;
  }

  #hang(options: BlobCallOptions): Promise<never> {
    const { promise, reject } = Promise.withResolvers<never>();
    for (const signal of [options.signal, this.#closing.signal]) {
      if (signal?.aborted === true) reject(abortedError(signal));
      signal?.addEventListener("abort", () => reject(abortedError(signal)));
    }
    return promise;
  }
}

/** Changes one bit of the byte at `offset` (from the end, if negative). */
export function flippedAt(offset: number): Alteration {
  return (bytes) => {
    const at = offset < 0 ? bytes.length + offset : offset;
    const changed = Buffer.from(bytes);
    changed.writeUInt8(changed.readUInt8(at) ^ 1, at);
    return changed;
  };
}

/** Keeps the first `length` bytes. */
export function truncatedTo(length: number): Alteration {
  return (bytes) => bytes.subarray(0, length);
}

/** As if it were not there. */
export function withheld(): Alteration {
  return () => undefined;
}

/** Other bytes: those of another blob, or older ones. */
export function replacedBy(other: Uint8Array): Alteration {
  return () => Buffer.from(other);
}

function concerns({ name }: BlobFault, actual: string): boolean {
  if (name === undefined) return true;
  return typeof name === "string" ? name === actual : name.test(actual);
}

function brokenOff(operation: FaultyOperation): BlobError {
  return new BlobError("BLOB_UNREACHABLE", `The connection broke off during ${operation}, as a test wanted`);
}
