import fs from "node:fs";
import path from "node:path";
import { SystemFileOps } from "../journal/file-ops.ts";
import type { AppObjects } from "../repository/app-objects.ts";
import { BlockCache } from "../repository/block-cache.ts";
import { mapBounded } from "../repository/map-bounded.ts";
import { OBJECT_HEADER_BYTES } from "../repository/object-cipher.ts";
import { openFrames } from "../repository/object-codec.ts";
import { damagedObject } from "../repository/object-errors.ts";
import { RunBlockRows } from "../repository/runs/block-rows.ts";
import type { RunBlock, RunPart, RunRef } from "../repository/runs/run-codec.ts";
import { indexStart, type OpenPart, openBlock, openPart, tailStart } from "../repository/runs/run-part.ts";

/** Parts fetched at a time: up to 32 MiB each are in memory. */
const FETCHED_AT_A_TIME = 3;

/** Blocks kept in memory, by their bytes. */
const BLOCK_BYTES_KEPT = 32 * 1024 * 1024;

const FILES = new SystemFileOps();

type LocalPart = OpenPart & { readonly fd: number };

/**
 * Runs of a repository as files of a cache folder, encrypted as they are there, so that their rows can be read in the turn in which they are asked for. A file is whole and verified when it has its name; each block
 * is verified again when it is read. Only what is asked for is decrypted and parsed.
 */
export class RunFiles {
  readonly #folder: string;
  readonly #objects: AppObjects;
  readonly #open = new Map<string, LocalPart>();
  readonly #blocks = new BlockCache<RunBlockRows>(BLOCK_BYTES_KEPT);

  constructor(folder: string, objects: AppObjects) {
    this.#folder = folder;
    this.#objects = objects;
  }

  /** Has all parts of `runs` here, and no others. Throws REPOSITORY_DAMAGED, BlobError, the file system's errors. */
  async have(runs: readonly RunRef[]): Promise<void> {
    fs.mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
    const wanted = new Map(runs.flatMap(({ parts }) => parts.map((part) => [part.id, part] as const)));
    for (const name of fs.readdirSync(this.#folder)) if (!wanted.has(name)) this.#remove(name);
    const missing = [...wanted.values()].filter((part) => this.#bytesOf(part.id) !== part.bytes);
    await mapBounded(missing, FETCHED_AT_A_TIME, (part) => this.#fetch(part));
  }

  /** The index of a part. Throws REPOSITORY_DAMAGED, the file system's errors. */
  part(part: RunPart): OpenPart {
    return this.#opened(part);
  }

  /** The rows of a block. Throws as `part`, RangeError. */
  rows(part: RunPart, block: RunBlock): RunBlockRows {
    const key = `${part.id} ${block.offset}`;
    const kept = this.#blocks.get(key);
    if (kept !== undefined) return kept;
    const open = this.#opened(part);
    const stored = readAt(open.fd, { from: block.offset, length: block.storedBytes, name: open.name });
    const rows = new RunBlockRows(openBlock(open, block, stored), block.rows);
    this.#blocks.set(key, rows);
    return rows;
  }

  /** Forgets what is in memory, and with `remove` the files. */
  close({ remove }: { readonly remove: boolean }): void {
    for (const { fd } of this.#open.values()) fs.closeSync(fd);
    this.#open.clear();
    this.#blocks.clear();
    if (remove) fs.rmSync(this.#folder, { recursive: true, force: true });
  }

  #opened(part: RunPart): LocalPart {
    const known = this.#open.get(part.id);
    if (known !== undefined) return known;
    const name = this.#objects.name("runs", part.id);
    const fd = fs.openSync(this.#path(part.id), "r");
    try {
      const header = readAt(fd, { name, from: 0, length: Math.min(OBJECT_HEADER_BYTES, part.bytes) });
      const open = this.#openAt(fd, { part, name, header, from: tailStart(part) });
      this.#open.set(part.id, open);
      return open;
    } catch (error) {
      fs.closeSync(fd);
      throw error;
    }
  }

  #openAt(
    fd: number,
    { part, name, header, from }: { part: RunPart; name: string; header: Buffer; from: number },
  ): LocalPart {
    const tail = readAt(fd, { name, from, length: part.bytes - from });
    const start = indexStart(part, name, tail);
    if (start < from) return this.#openAt(fd, { part, name, header, from: start });
    return { ...openPart(this.#objects.keys, { part, name, header, tail }), fd };
  }

  async #fetch(part: RunPart): Promise<void> {
    const name = this.#objects.name("runs", part.id);
    const bytes = await this.#objects.readRange(name, { from: 0, length: part.bytes });
    for await (const _ of openFrames(this.#objects.keys, { kind: "run", name }, [bytes]));
    openPart(this.#objects.keys, { part, name, header: bytes, tail: bytes });
    const beside = `${this.#path(part.id)}.new`;
    fs.writeFileSync(beside, bytes, { mode: 0o600 });
    fs.renameSync(beside, this.#path(part.id));
  }

  #remove(name: string): void {
    const open = this.#open.get(name);
    if (open !== undefined) fs.closeSync(open.fd);
    this.#open.delete(name);
    fs.rmSync(this.#path(name), { force: true });
  }

  #bytesOf(id: string): number | undefined {
    return fs.statSync(this.#path(id), { throwIfNoEntry: false })?.size;
  }

  #path(id: string): string {
    return path.join(this.#folder, id);
  }
}

function readAt(fd: number, range: { readonly from: number; readonly length: number; readonly name: string }): Buffer {
  const { from, length, name } = range;
  const buffer = Buffer.allocUnsafeSlow(length);
  if (FILES.readNow(fd, buffer, from) < length) throw damagedObject(name, "the copy of it in the cache ends too early");
  return buffer;
}
