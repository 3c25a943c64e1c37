import type { FileOps } from "./file-ops.ts";
import type { SegmentFolder } from "./segment-folder.ts";

/** A segment open for reading. */
export type OpenSegment = {
  readonly segment: number;
  readonly fd: number;
  readonly seed: number;
  /** Small number of the segment in this process, for keys of caches. */
  readonly ordinal: number;
  /** Reads under way: it is not closed before they end. */
  users: number;
  /** Out of the cache: closed when the last user is done. */
  released: boolean;
};

/** Segments open for reading: a bounded number of sealed ones, least recently used out first, and those being written. */
export class SegmentFiles {
  readonly #folder: SegmentFolder;
  readonly #ops: FileOps;
  readonly #sealedMax: number;
  readonly #sealed = new Map<number, OpenSegment>();
  readonly #written = new Map<number, OpenSegment>();
  #nextOrdinal = 1;
  #latest: OpenSegment | undefined;

  constructor(folder: SegmentFolder, options: { ops: FileOps; sealedMax: number }) {
    this.#folder = folder;
    this.#ops = options.ops;
    this.#sealedMax = options.sealedMax;
  }

  /** Takes over `fd`, which is being written to. It stays open until `seal`. */
  addWritten(segment: number, fd: number, seed: number): void {
    this.#written.set(segment, this.#entry(segment, fd, seed));
  }

  /** The segment gets no writes any more: from now on it may be closed like others. */
  seal(segment: number): void {
    const entry = this.#written.get(segment);
    if (entry === undefined) return;
    this.#written.delete(segment);
    this.#remember(entry);
  }

  /** The open segment. Throws DATA_DAMAGED or DATA_FOLDER_FOREIGN for its header, or Node's errors of opening. */
  open(segment: number): OpenSegment {
    if (this.#latest?.segment === segment && !this.#latest.released) return this.#latest;
    const entry = this.#written.get(segment) ?? this.#fromCache(segment) ?? this.#openFile(segment);
    this.#latest = entry;
    return entry;
  }

  /** Ends a use begun with `users += 1`. */
  release(entry: OpenSegment): void {
    entry.users -= 1;
    if (entry.released && entry.users === 0) this.#ops.close(entry.fd);
  }

  /** Closes a segment that is going to be removed. */
  forget(segment: number): void {
    const entry = this.#sealed.get(segment);
    if (entry !== undefined) this.#drop(entry);
  }

  /** Closes everything, the segments being written too. */
  closeAll(): void {
    for (const entry of [...this.#sealed.values(), ...this.#written.values()]) this.#drop(entry);
    this.#written.clear();
  }

  #fromCache(segment: number): OpenSegment | undefined {
    const entry = this.#sealed.get(segment);
    if (entry === undefined) return undefined;
    this.#sealed.delete(segment);
    this.#sealed.set(segment, entry);
    return entry;
  }

  #openFile(segment: number): OpenSegment {
    const { seed } = this.#folder.readHeader(segment);
    const fd = this.#ops.open(this.#folder.pathOf(segment), "read");
    const entry = this.#entry(segment, fd, seed);
    this.#remember(entry);
    return entry;
  }

  #entry(segment: number, fd: number, seed: number): OpenSegment {
    return { segment, fd, seed, ordinal: this.#nextOrdinal++, users: 0, released: false };
  }

  #remember(entry: OpenSegment): void {
    this.#sealed.set(entry.segment, entry);
    for (const oldest of this.#sealed.values()) {
      if (this.#sealed.size <= this.#sealedMax) break;
      if (oldest !== entry) this.#drop(oldest);
    }
  }

  #drop(entry: OpenSegment): void {
    this.#sealed.delete(entry.segment);
    entry.released = true;
    if (this.#latest === entry) this.#latest = undefined;
    if (entry.users === 0) this.#ops.close(entry.fd);
  }
}
