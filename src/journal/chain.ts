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

const NO_DATA_HASH = hash("sha256", Buffer.alloc(0), "buffer");

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
  #scratch = Buffer.allocUnsafeSlow(65_536);

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
    if (crc32(tail, tableChecksum) !== prefix.restChecksum) {
      throw damaged(segment, { lsn, position, fault: "the record's body does not match its checksum" });
    }
    const link = this.#reserve(CHAIN_HASH_BYTES + PREFIX_BYTES + bodyLength + CHAIN_HASH_BYTES);
    this.#state.hash.copy(link, 0);
    head.copy(link, CHAIN_HASH_BYTES, 0, PREFIX_BYTES);
    tail.copy(link, CHAIN_HASH_BYTES + PREFIX_BYTES, saltBytes);
    const salt = Buffer.from(tail.subarray(0, saltBytes));
    const inner = dataLength === 0 ? NO_DATA_HASH : this.#hashData(walked, salt, table);
    inner.copy(link, link.length - CHAIN_HASH_BYTES);
    return hash("sha256", link, "buffer");
  }

  #hashData(walked: WalkedRecord, salt: Buffer, table: Buffer): Buffer {
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
        const at = { lsn: prefix.lsn, position: dataStart + done + bad * BLOCK_BYTES };
        throw damaged(segment, { ...at, fault: "the data does not match its checksum" });
      }
      inner.update(piece);
    }
    return inner.digest();
  }

  #reserve(length: number): Buffer {
    if (length > this.#scratch.length) this.#scratch = Buffer.allocUnsafeSlow(length);
    return this.#scratch.subarray(0, length);
  }
}
