import { assert } from "../../base/assert.ts";
import { type Clock, SystemClock } from "../../base/clock.ts";
import {
  bodyBytes,
  bytesToRead,
  checkName,
  checkRange,
  checkSignal,
  closedError,
  existsError,
  isBlobName,
  missingError,
} from "../blob-checks.ts";
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

type MemoryBlob = { bytes: Buffer; readonly modifiedMs: number; lockedUntilMs: number | undefined };

/** Names of one page: few, so that tests see pages. */
const PAGE_NAMES = 100;

/** A store in memory, with locks, for tests. It is over with the process; `open` again by handing on `contents`. */
export class MemoryBlobs implements BlobStore {
  readonly description: string;
  readonly capabilities: BlobCapabilities;
  readonly #clock: Clock;
  readonly #blobs: Map<string, MemoryBlob>;
  #closed = false;

  constructor(options: { clock?: Clock; description?: string; contents?: MemoryBlobs; objectLock?: boolean } = {}) {
    this.#clock = options.clock ?? new SystemClock();
    this.description = options.description ?? "memory";
    this.#blobs = options.contents === undefined ? new Map() : options.contents.#blobs;
    this.capabilities = { createOnly: true, objectLock: options.objectLock ?? true };
  }

  async put(name: string, body: readonly Uint8Array[], options: BlobPutOptions = {}): Promise<void> {
    this.#check(name, options);
    bodyBytes(body);
    if (options.lockUntilMs !== undefined && !this.capabilities.objectLock)
      throw new BlobError("BLOB_UNSUPPORTED", `${this.description} can't lock blobs`);
    if (this.#blobs.has(name)) throw existsError(name, this.description);
    this.#blobs.set(name, {
      bytes: Buffer.concat(body),
      modifiedMs: this.#nowMs(),
      lockedUntilMs: options.lockUntilMs,
    });
  }

  async get(name: string, options: BlobGetOptions = {}): Promise<Buffer> {
    this.#check(name, options);
    checkRange(options);
    const blob = this.#blobs.get(name);
    if (blob === undefined) throw missingError(name, this.description);
    const length = bytesToRead(blob.bytes.length, options, { name, where: this.description });
    const from = options.from ?? 0;
    return Buffer.from(blob.bytes.subarray(from, from + length));
  }

  async stat(name: string, options: BlobCallOptions = {}): Promise<BlobStat | undefined> {
    this.#check(name, options);
    const blob = this.#blobs.get(name);
    if (blob === undefined) return undefined;
    const { bytes, modifiedMs, lockedUntilMs } = blob;
    return { bytes: bytes.length, modifiedMs, ...(lockedUntilMs === undefined ? {} : { lockedUntilMs }) };
  }

  async *list(prefix: string, options: BlobListOptions = {}): AsyncGenerator<readonly BlobEntry[]> {
    const { after = "" } = options;
    // ASCII only, so that the order of JavaScript's strings is that of their bytes.
    const names = [...this.#blobs.keys()].filter((name) => name.startsWith(prefix) && name > after).sort();
    for (let at = 0; at < names.length; at += PAGE_NAMES) {
      this.#check(undefined, options);
      const page = names.slice(at, at + PAGE_NAMES).flatMap((name) => {
        const blob = this.#blobs.get(name);
        return blob === undefined ? [] : [{ name, bytes: blob.bytes.length, modifiedMs: blob.modifiedMs }];
      });
      if (page.length > 0) yield page;
    }
    this.#check(undefined, options);
  }

  async delete(names: readonly string[], options: BlobCallOptions = {}): Promise<void> {
    for (const name of names) this.#check(name, options);
    for (const name of names) {
      const lockedUntilMs = this.#blobs.get(name)?.lockedUntilMs;
      if (lockedUntilMs !== undefined && lockedUntilMs > this.#nowMs())
        throw new BlobError("BLOB_LOCKED", `"${name}" in ${this.description} is locked`);
      this.#blobs.delete(name);
    }
  }

  async extendLock(name: string, untilMs: number, options: BlobCallOptions = {}): Promise<void> {
    this.#check(name, options);
    if (!this.capabilities.objectLock) throw new BlobError("BLOB_UNSUPPORTED", `${this.description} can't lock blobs`);
    const blob = this.#blobs.get(name);
    if (blob === undefined) throw missingError(name, this.description);
    blob.lockedUntilMs = Math.max(blob.lockedUntilMs ?? 0, untilMs);
  }

  async timeMs(options: BlobCallOptions = {}): Promise<number> {
    this.#check(undefined, options);
    return this.#nowMs();
  }

  async close(): Promise<void> {
    this.#closed = true;
  }

  /** Changes stored bytes behind the port's back, as damage does. */
  damage(name: string, change: (bytes: Buffer) => Buffer): void {
    const blob = this.#blobs.get(name);
    assert(blob !== undefined && isBlobName(name), "only a blob that is there can be damaged");
    blob.bytes = change(Buffer.from(blob.bytes));
  }

  #check(name: string | undefined, options: BlobCallOptions): void {
    if (this.#closed) throw closedError(this);
    checkSignal(options);
    if (name !== undefined) checkName(name);
  }

  #nowMs(): number {
    const { sec, nsec } = this.#clock.now();
    return sec * 1000 + Math.floor(nsec / 1_000_000);
  }
}
