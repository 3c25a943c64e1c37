import { assert } from "../../base/assert.ts";
import { align8, Wire } from "./wire.ts";

/**
 * Memory that requests are read into. A request answered in its turn leaves its memory for the next one; one that must wait keeps its piece of
 * a chunk until it is done, and reading goes on behind it. So nothing is copied, and small requests that wait cost little.
 *
 * Invariants:
 * 1. `space` answers memory that no request holds.
 * 2. A chunk is used again only when no request holds a piece of it.
 */

/** Frames of the largest size that fit a chunk: fewer chunks change hands when large writes wait. */
const FRAMES_PER_CHUNK = 4;

/** Chunks that may be held at once: with frames of 1 MiB, 64 MiB of waiting requests; then reading pauses until one is done. */
const CHUNKS_MAX = 16;

/** Empty chunks kept for later. */
const CHUNKS_KEPT = 2;

type Chunk = { readonly wire: Wire; used: number; holders: number };

export class ReadArena {
  readonly #frameBytesMax: number;
  readonly #free: Chunk[] = [];
  #current: Chunk | undefined;
  #chunkCount = 0;

  constructor(frameBytesMax: number) {
    this.#frameBytesMax = align8(frameBytesMax);
  }

  /** Room for one frame of the largest size, or undefined while too many requests wait. Valid until the next call of `space` or `hold`. */
  space(): { wire: Wire; at: number; memory: Buffer } | undefined {
    const chunk = this.#currentChunk();
    if (chunk === undefined) return undefined;
    return {
      wire: chunk.wire,
      at: chunk.used,
      memory: chunk.wire.bytes.subarray(chunk.used, chunk.used + this.#frameBytesMax),
    };
  }

  /** Keeps the first `bytes` of the last `space`; the returned function gives them back, once. */
  hold(bytes: number): () => void {
    const chunk = this.#current;
    assert(chunk !== undefined, "hold without space");
    chunk.used += align8(bytes);
    chunk.holders++;
    assert(chunk.used <= chunk.wire.bytes.length);
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      this.#release(chunk);
    };
  }

  #currentChunk(): Chunk | undefined {
    const chunk = this.#current;
    if (chunk !== undefined && chunk.used + this.#frameBytesMax <= chunk.wire.bytes.length) return chunk;
    const next = this.#free.pop() ?? this.#allocate();
    // Keeps I2: a full chunk is forgotten here and comes back through its last holder.
    if (next !== undefined) this.#current = next;
    return next;
  }

  #allocate(): Chunk | undefined {
    if (this.#chunkCount >= CHUNKS_MAX) return undefined;
    this.#chunkCount++;
    return { wire: new Wire(this.#frameBytesMax * FRAMES_PER_CHUNK), used: 0, holders: 0 };
  }

  #release(chunk: Chunk): void {
    chunk.holders--;
    if (chunk.holders > 0) return;
    chunk.used = 0;
    if (chunk === this.#current) return;
    if (this.#free.length < CHUNKS_KEPT) this.#free.push(chunk);
    else this.#chunkCount--;
  }
}
