import { createHash, hash } from "node:crypto";
import { crc32 } from "node:zlib";
import type { AppId, Lsn } from "../domain/ids.ts";
import { BLOCK_BYTES, CHECKSUM_BYTES, dataOffset, PREFIX_BYTES, saltLength } from "./record.ts";
import { damagedBlock } from "./record-decoder.ts";
import { damaged, SegmentWalker, type WalkedRecord } from "./segment-walker.ts";

// FORMAT.md, "Chain".

export const CHAIN_HASH_BYTES = 32;

/** h(0). */
export const CHAIN_START = Buffer.alloc(CHAIN_HASH_BYTES);

/** The inner hash of a record without data. */
export const NO_DATA_HASH: Buffer = hash("sha256", Buffer.alloc(0), "buffer");

/** Data is hashed and verified in pieces of this size, a whole number of blocks. */
const PIECE_BYTES = 16 * BLOCK_BYTES;

/** The chain up to and with record `lsn`. */
export type ChainState = { readonly lsn: Lsn; readonly hash: Buffer };

/** Called at the end of each segment passed. */
export type SegmentEndListener = (segment: number, end: ChainState) => void;

/**
 * Computes the chain over a journal's durable part, data included: for a worker. Verifies every byte on the way. Memory: one window and one piece of data. Begin
 * at the journal's start, or at a segment's with the state at the end of the one before.
 */
export class Chain {
  readonly #walker: SegmentWalker;
  readonly #piece = Buffer.allocUnsafeSlow(PIECE_BYTES);
  #state: ChainState;
  #segment: number | undefined;
  readonly #linker = new ChainLinker();

  constructor(folder: string, appId: AppId, start: ChainState = { lsn: 0 as Lsn, hash: CHAIN_START }) {
    this.#walker = new SegmentWalker(folder, appId);
    this.#state = start;
  }

  /** How far it has come. */
  get state(): ChainState {
    return this.#state;
  }

  /**
   * Goes on up to `to`, which must be durable. Throws DATA_DAMAGED, naming segment and position, where a record or its data does not verify; the state is
   * that of the record before then.
   */
  advance(to: Lsn, onSegmentEnd: SegmentEndListener = () => {}): ChainState {
    this.#walker.refresh();
    for (let lsn = (this.#state.lsn + 1) as Lsn; lsn <= to; lsn = (lsn + 1) as Lsn) {
      const walked = this.#walker.goTo(lsn, "prefix");
      if (this.#segment !== undefined && this.#segment !== walked.segment) onSegmentEnd(this.#segment, this.#state);
      this.#segment = walked.segment;
      this.#state = { lsn, hash: this.#hashRecord(walked) };
    }
    return this.#state;
  }

  close(): void {
    this.#walker.close();
  }

  #hashRecord(walked: WalkedRecord): Buffer {
    const { prefix, position, scanner, seed, segment } = walked;
    const { dataLength, bodyLength, lsn } = prefix;
    const saltBytes = saltLength(dataLength);
    const headLength = dataOffset(dataLength);
    const head = Buffer.from(scanner.readBytes(position, headLength));
    const table = head.subarray(PREFIX_BYTES);
    const tail = scanner.readBytes(position + headLength + dataLength, saltBytes + bodyLength);
    const tableChecksum = table.length > 0 ? crc32(table, seed) : seed;
    const body = tail.subarray(saltBytes);
    if (crc32(tail, tableChecksum) !== prefix.restChecksum) {
      const inner = this.#erasedHash(walked, body);
      if (inner !== undefined) return this.#link(head, body).finish(inner);
      throw damaged(segment, { lsn, position, fault: "the record's body does not match its checksum" });
    }
    const link = this.#link(head, body);
    const salt = Buffer.from(tail.subarray(0, saltBytes));
    if (dataLength === 0) return link.finish(NO_DATA_HASH);
    return link.finish(this.#hashData(walked, { salt, table, body }));
  }

  #link(head: Buffer, body: Buffer): ChainLinker {
    return this.#linker.begin(this.#state.hash, head.subarray(0, PREFIX_BYTES), body);
  }

  /** The inner hash that stands for erased data; undefined: nothing was erased of the record, or its body does not verify. */
  #erasedHash({ prefix, position, segment, seed }: WalkedRecord, body: Buffer): Buffer | undefined {
    const erasure = prefix.dataLength === 0 ? undefined : this.#walker.erasures.find(segment, position);
    if (erasure === undefined || erasure.lsn !== prefix.lsn || erasure.isBodyDamaged) return undefined;
    return crc32(body, seed) === erasure.bodyChecksum ? erasure.inner : undefined;
  }

  #hashData(walked: WalkedRecord, { salt, table, body }: { salt: Buffer; table: Buffer; body: Buffer }): Buffer {
    const { prefix, position, fd, segment } = walked;
    const inner = createHash("sha256").update(salt).update(table);
    const dataStart = position + dataOffset(prefix.dataLength);
    for (let done = 0; done < prefix.dataLength; done += PIECE_BYTES) {
      const piece = this.#piece.subarray(0, Math.min(PIECE_BYTES, prefix.dataLength - done));
      const count = this.#walker.ops.readNow(fd, piece, dataStart + done);
      const bad =
        count < piece.length
          ? 0
          : damagedBlock(table.subarray(0, table.length - (CHECKSUM_BYTES * done) / BLOCK_BYTES), piece);
      if (bad >= 0) {
        // It was being erased just now.
        const inner = this.#erasedHash(walked, body);
        if (inner !== undefined) return inner;
        const at = { lsn: prefix.lsn, position: dataStart + done + bad * BLOCK_BYTES };
        throw damaged(segment, { ...at, fault: "the data does not match its checksum" });
      }
      inner.update(piece);
    }
    return inner.digest();
  }
}

/** Computes h(n) in memory that is used again. */
export class ChainLinker {
  #scratch = Buffer.allocUnsafeSlow(65_536);
  #length = 0;

  /** Takes h(n-1), the prefix and the body, which may be gone when `finish` is called. */
  begin(previous: Buffer, prefix: Buffer, body: Buffer): this {
    this.#length = CHAIN_HASH_BYTES + PREFIX_BYTES + body.length + CHAIN_HASH_BYTES;
    if (this.#length > this.#scratch.length) this.#scratch = Buffer.allocUnsafeSlow(this.#length);
    previous.copy(this.#scratch, 0);
    prefix.copy(this.#scratch, CHAIN_HASH_BYTES);
    body.copy(this.#scratch, CHAIN_HASH_BYTES + PREFIX_BYTES);
    return this;
  }

  /** h(n), given the inner hash. */
  finish(inner: Buffer): Buffer {
    inner.copy(this.#scratch, this.#length - CHAIN_HASH_BYTES);
    return hash("sha256", this.#scratch.subarray(0, this.#length), "buffer");
  }
}
