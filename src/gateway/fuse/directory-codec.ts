import { ENTRY_OUT_BYTES, encodeEntryOut, type NodeAttributes, type Validity } from "./attribute-codec.ts";
import type { RequestFrame, RequestHeader } from "./frame.ts";
import { align8, Wire } from "./wire.ts";

/** READDIR and READDIRPLUS. */
export type ReaddirRequest = {
  readonly header: RequestHeader;
  readonly handle: number;
  /** Where to go on: 0n starts, else the cookie of the last entry that was delivered. */
  readonly cookie: bigint;
  /** Bytes that the answer may have: pass to `reply.directory`. */
  readonly sizeBytes: number;
};

export function decodeReaddir(frame: RequestFrame): ReaddirRequest {
  return { header: frame.header, handle: frame.safe64(0), cookie: frame.u64(8), sizeBytes: frame.u32(16) };
}

/** One name of a listing. */
export type DirectoryItem = {
  readonly name: Uint8Array;
  readonly slot: number;
  readonly ino: number;
  /** d_type: S_IFMT part of the mode, shifted right by 12. */
  readonly type: number;
  /** Continues after this entry; never 0n. */
  readonly cookie: bigint;
};

/** FUSE_NAME_OFFSET. */
const DIRENT_HEAD_BYTES = 24;

/** Largest answer to one READDIR that is filled: the kernel asks for a page up to max_pages; more entries than this need another request. */
const DIRECTORY_REPLY_BYTES_MAX = 256 * 1024;

/** Collects the entries of one answer to READDIR or READDIRPLUS. Ends when it is full: the kernel asks again with the last cookie. */
export class DirectoryBuffer {
  readonly #wire: Wire;
  #limit = 0;
  #length = 0;

  constructor() {
    this.#wire = new Wire(DIRECTORY_REPLY_BYTES_MAX);
  }

  /** Empties it, for an answer of at most `sizeBytes`. */
  start(sizeBytes: number): void {
    this.#limit = Math.min(sizeBytes, DIRECTORY_REPLY_BYTES_MAX);
    this.#length = 0;
  }

  /** Adds an entry of a READDIR answer. False when there is no room: it was not added, send what there is. */
  add(item: DirectoryItem): boolean {
    const at = this.#length;
    const end = at + align8(DIRENT_HEAD_BYTES + item.name.length);
    if (end > this.#limit) return false;
    this.#dirent(at, item);
    this.#length = end;
    return true;
  }

  /**
   * Adds an entry of a READDIRPLUS answer. With `attributes` the kernel counts a lookup of the inode (not for "." and ".."); without, it
   * learns the name only. False when there is no room.
   */
  addPlus(item: DirectoryItem, plus: { attributes: NodeAttributes; validity: Validity } | undefined): boolean {
    const at = this.#length;
    const end = at + align8(ENTRY_OUT_BYTES + DIRENT_HEAD_BYTES + item.name.length);
    if (end > this.#limit) return false;
    if (plus === undefined) this.#wire.clear(at, ENTRY_OUT_BYTES);
    else encodeEntryOut(this.#wire, at, plus);
    this.#dirent(at + ENTRY_OUT_BYTES, item);
    this.#length = end;
    return true;
  }

  /** What was collected. */
  view(): Buffer {
    return this.#wire.bytes.subarray(0, this.#length);
  }

  #dirent(at: number, item: DirectoryItem): void {
    const wire = this.#wire;
    wire.setNode(at, item.slot, item.ino);
    wire.setU64(at + 8, item.cookie);
    wire.setU32(at + 16, item.name.length);
    wire.setU32(at + 20, item.type);
    const nameAt = at + DIRENT_HEAD_BYTES;
    wire.bytes.set(item.name, nameAt);
    const end = nameAt + item.name.length;
    wire.clear(end, align8(end) - end);
  }
}
