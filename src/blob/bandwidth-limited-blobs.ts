import { assert } from "../base/assert.ts";
import type { Clock } from "../base/clock.ts";
import type { Timers } from "../base/timers.ts";
import { waitFor } from "./backoff.ts";
import { bodyBytes } from "./blob-checks.ts";
import type {
  BlobCallOptions,
  BlobCapabilities,
  BlobEntry,
  BlobGetOptions,
  BlobListOptions,
  BlobPutOptions,
  BlobStat,
  BlobStore,
} from "./blob-store.ts";

export interface BandwidthOptions {
  readonly clock: Clock;
  readonly timers: Timers;
  /** Undefined: without limit. At least 1. */
  readonly uploadBytesPerSecond?: number | undefined;
  readonly downloadBytesPerSecond?: number | undefined;
}

/**
 * Keeps bodies within a rate, on average: a body goes at full speed once the ones before it are paid for. So a minute has no more than a minute's bytes and one
 * body. Requests without bodies are free. `close` ends waits with BLOB_ABORTED.
 */
export class BandwidthLimitedBlobs implements BlobStore {
  readonly #inner: BlobStore;
  readonly #upload: TokenBucket | undefined;
  readonly #download: TokenBucket | undefined;
  readonly #closing = new AbortController();

  constructor(inner: BlobStore, options: BandwidthOptions) {
    this.#inner = inner;
    const { uploadBytesPerSecond: up, downloadBytesPerSecond: down } = options;
    this.#upload = up === undefined ? undefined : new TokenBucket(up, options);
    this.#download = down === undefined ? undefined : new TokenBucket(down, options);
  }

  get description(): string {
    return this.#inner.description;
  }

  get capabilities(): BlobCapabilities {
    return this.#inner.capabilities;
  }

  async put(name: string, body: readonly Uint8Array[], options: BlobPutOptions = {}): Promise<void> {
    await this.#upload?.take(bodyBytes(body), this.#signalOf(options));
    await this.#inner.put(name, body, options);
  }

  async get(name: string, options: BlobGetOptions = {}): Promise<Buffer> {
    // How much comes is known afterwards: it is owed then.
    await this.#download?.take(options.length ?? 0, this.#signalOf(options));
    const bytes = await this.#inner.get(name, options);
    if (options.length === undefined) this.#download?.owe(bytes.length);
    return bytes;
  }

  async stat(name: string, options: BlobCallOptions = {}): Promise<BlobStat | undefined> {
    return this.#inner.stat(name, options);
  }

  list(prefix: string, options: BlobListOptions = {}): AsyncGenerator<readonly BlobEntry[]> {
    return this.#inner.list(prefix, options);
  }

  async delete(names: readonly string[], options: BlobCallOptions = {}): Promise<void> {
    await this.#inner.delete(names, options);
  }

  async extendLock(name: string, untilMs: number, options: BlobCallOptions = {}): Promise<void> {
    await this.#inner.extendLock(name, untilMs, options);
  }

  async timeMs(options: BlobCallOptions = {}): Promise<number> {
    return this.#inner.timeMs(options);
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#inner.close();
  }

  #signalOf(options: BlobCallOptions): AbortSignal {
    const closing = this.#closing.signal;
    return options.signal === undefined ? closing : AbortSignal.any([options.signal, closing]);
  }
}

/** A rate of bytes. What was taken beyond it is a debt that later ones wait for, in the order they came. */
class TokenBucket {
  readonly #bytesPerMs: number;
  readonly #clock: Clock;
  readonly #timers: Timers;
  /** Never above a second's worth: what was not used is not saved up. */
  readonly #levelMax: number;
  #level: number;
  #updatedMs: number;
  #turn: Promise<void> = Promise.resolve();

  constructor(bytesPerSecond: number, { clock, timers }: BandwidthOptions) {
    assert(bytesPerSecond >= 1, "a limit is at least a byte per second");
    this.#bytesPerMs = bytesPerSecond / 1000;
    this.#clock = clock;
    this.#timers = timers;
    this.#levelMax = bytesPerSecond;
    this.#level = bytesPerSecond;
    this.#updatedMs = clock.monotonicMs();
  }

  /** Resolves when earlier bytes are paid for, and takes `bytes`. */
  async take(bytes: number, signal: AbortSignal): Promise<void> {
    const before = this.#turn;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#turn = promise;
    try {
      await before;
      for (this.#refill(); this.#level < 0; this.#refill())
        await waitFor(this.#timers, Math.max(1, Math.ceil(-this.#level / this.#bytesPerMs)), signal);
      this.owe(bytes);
    } finally {
      resolve();
    }
  }

  /** Takes `bytes` that have passed already. */
  owe(bytes: number): void {
    this.#level -= bytes;
  }

  #refill(): void {
    const nowMs = this.#clock.monotonicMs();
    this.#level = Math.min(this.#levelMax, this.#level + (nowMs - this.#updatedMs) * this.#bytesPerMs);
    this.#updatedMs = nowMs;
  }
}
