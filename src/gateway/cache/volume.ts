import { type FileHandle, open, unlink } from "node:fs/promises";
import type { AppId } from "../../domain/ids.ts";
import {
  decodeExtentHead,
  EXTENT_HEAD_BYTES_MAX,
  encodeVolumeHead,
  isVolumeHead,
  type Place,
  VOLUME_HEAD_BYTES,
} from "./volume-format.ts";

/** An extent and where its data are. */
export type CachedExtent = Place & {
  readonly length: number;
  readonly sums: readonly number[];
  readonly volume: Volume;
  /** Offset of the data in the volume's file. */
  readonly at: number;
};

/** Read at a time when looking for heads: a volume of small extents has many in it, one of large extents costs a read for each. */
const SCAN_WINDOW_BYTES = 64 * 1024;

/** One file of the cache. Errors are those of node:fs. */
export class Volume {
  readonly number: number;
  readonly #path: string;
  readonly #file: FileHandle;
  /** Bytes in use: what lies behind them is nothing. */
  #bytes: number;
  #readers = 0;
  #closed = false;
  readonly extents: CachedExtent[] = [];
  /** When something of it was last wanted: larger is later. */
  lastUse = 0;

  private constructor(at: { path: string; number: number; file: FileHandle; bytes: number }) {
    this.#path = at.path;
    this.number = at.number;
    this.#file = at.file;
    this.#bytes = at.bytes;
  }

  /** Makes an empty one. Nothing is left behind when that fails. */
  static async create(path: string, options: { number: number; app: AppId }): Promise<Volume> {
    const file = await open(path, "wx+", 0o600);
    try {
      await file.write(encodeVolumeHead(options.app), 0, VOLUME_HEAD_BYTES, 0);
    } catch (error) {
      await file.close();
      await unlink(path);
      throw error;
    }
    return new Volume({ path, number: options.number, file, bytes: VOLUME_HEAD_BYTES });
  }

  /** Opens one that is there. undefined: it is none of `app`, or of another version. */
  static async open(path: string, options: { number: number; app: AppId }): Promise<Volume | undefined> {
    const file = await open(path, "r+");
    try {
      const head = Buffer.alloc(VOLUME_HEAD_BYTES);
      const { bytesRead } = await file.read(head, 0, head.length, 0);
      if (bytesRead === head.length && isVolumeHead(head, options.app)) {
        const { size } = await file.stat();
        return new Volume({ path, number: options.number, file, bytes: size });
      }
    } catch (error) {
      await file.close();
      throw error;
    }
    await file.close();
    return undefined;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** The extents of an opened volume in their order; what follows the first that is not whole was never finished, and is cut off. */
  async *scan(): AsyncGenerator<CachedExtent, void, undefined> {
    const window = Buffer.alloc(SCAN_WINDOW_BYTES);
    let [start, end] = [0, 0];
    let at = VOLUME_HEAD_BYTES;
    while (at < this.#bytes) {
      if (at + EXTENT_HEAD_BYTES_MAX > end && end < this.#bytes) {
        const { bytesRead } = await this.#file.read(window, 0, window.length, at);
        [start, end] = [at, at + bytesRead];
      }
      const extent = at < end ? decodeExtentHead(window.subarray(at - start, end - start)) : undefined;
      if (extent === undefined || at + extent.dataAt + extent.length > this.#bytes) break;
      const { segment, position, length, sums, dataAt } = extent;
      yield { segment, position, length, sums, volume: this, at: at + dataAt };
      at += dataAt + length;
    }
    if (at < this.#bytes) await this.#cut(at);
  }

  /** Appends bytes; answers where they begin. After a failure it is as it was. One at a time. */
  async append(bytes: Buffer): Promise<number> {
    const at = this.#bytes;
    let written = 0;
    try {
      while (written < bytes.length) {
        written += (await this.#file.write(bytes, written, bytes.length - written, at + written)).bytesWritten;
      }
    } catch (error) {
      await this.#cut(at).catch(() => {});
      throw error;
    }
    this.#bytes += bytes.length;
    return at;
  }

  /** `length` bytes from `at` on, or fewer where the file ends. May be called until `remove`; what runs then is finished. */
  async read(at: number, length: number): Promise<Buffer> {
    const buffer = Buffer.allocUnsafe(length);
    this.#readers++;
    try {
      const { bytesRead } = await this.#file.read(buffer, 0, length, at);
      return buffer.subarray(0, bytesRead);
    } finally {
      this.#readers--;
      if (this.#readers === 0 && this.#closed) await this.#file.close();
    }
  }

  /** Takes the file away; the descriptor goes with the last reader. */
  async remove(): Promise<void> {
    await unlink(this.#path);
    await this.close();
  }

  /** Closes it when nobody reads any more. Once. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#readers === 0) await this.#file.close();
  }

  async #cut(bytes: number): Promise<void> {
    await this.#file.truncate(bytes);
    this.#bytes = bytes;
  }
}
