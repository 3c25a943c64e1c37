import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import type { Clock, Timestamp } from "../base/clock.ts";
import { type MemoryLog, memoryLog } from "../base/log.ts";
import { ManualTimers } from "../base/timers.ts";
import type { AppId, Lsn, MountId } from "../domain/ids.ts";
import { type FileOps, SystemFileOps } from "./file-ops.ts";
import { Journal, type JournalOptions } from "./journal.ts";
import type { JournalRecord, RecordDraft } from "./record.ts";

// For tests only: journals in folders of their own, drafts, and a file system that fails when told.

export const APP = "00112233445566778899aabbccddeeff" as AppId;

/** A clock that a test moves. */
export class ManualClock implements Clock {
  time: Timestamp = { sec: 1_700_000_000, nsec: 0 };
  ms = 0;

  now(): Timestamp {
    return this.time;
  }

  monotonicMs(): number {
    return this.ms;
  }
}

/** mulberry32: small, seeded, good enough to choose test cases. Numbers in [0, 1). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The seed of a random test: SEED, or a new one; printed, so that a failure can be repeated. */
export function testSeed(name: string): number {
  const seed = Number(process.env["SEED"] ?? Math.floor(Math.random() * 2 ** 32));
  console.log(`${name}: SEED=${seed}`);
  return seed;
}

/** Bytes that a generator chose. */
export function randomBytesOf(random: () => number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; at += 1) bytes[at] = random() * 256;
  return bytes;
}

/** A draft without data. */
export function draft(changes: Partial<RecordDraft> = {}): RecordDraft {
  return {
    op: 1,
    time: { sec: 1_700_000_000, nsec: 5 },
    actor: { mountId: 7 as MountId, uid: 1000, gid: 100, pid: 4242, label: "" },
    unique: 0,
    detail: Buffer.from("detail"),
    rows: [{ key: Buffer.from("Ikey"), value: Buffer.from("value") }],
    data: null,
    ...changes,
  };
}

/** A draft of any shape: with and without data, rows, label. */
export function randomDraft(random: () => number, dataBytesMax = 200_000): RecordDraft {
  const upTo = (max: number) => Math.floor(random() * (max + 1));
  const dataLength = random() < 0.5 ? 0 : random() < 0.7 ? upTo(5000) : upTo(dataBytesMax);
  const rows = Array.from({ length: upTo(6) }, () => ({
    key: randomBytesOf(random, upTo(60)),
    value: random() < 0.2 ? null : randomBytesOf(random, upTo(200)),
  }));
  return {
    op: upTo(255),
    time: { sec: upTo(2 ** 40) - 2 ** 39, nsec: upTo(999_999_999) },
    actor: {
      mountId: upTo(0xffff_ffff) as MountId,
      uid: upTo(0xffff_ffff),
      gid: upTo(0xffff_ffff),
      pid: upTo(0xffff_ffff),
      label: random() < 0.3 ? "cli restøre ✓" : "",
    },
    unique: upTo(2 ** 53 - 1),
    detail: randomBytesOf(random, upTo(80)),
    rows,
    data: dataLength === 0 ? null : randomBytesOf(random, dataLength),
  };
}

/** What a draft must look like when it is read again. */
export function contentOf(record: RecordDraft | JournalRecord): unknown {
  const { op, time, actor, unique, detail, rows } = record;
  const hex = rows.map(({ key, value }) => [key.toString("hex"), value === null ? null : value.toString("hex")]);
  return { op, time, actor, unique, detail: detail.toString("hex"), rows: hex };
}

/** The file system, failing when told. */
export class FaultyFileOps extends SystemFileOps {
  /** Bytes that may still be written; then ENOSPC, after a short write. */
  spaceBytes = Number.POSITIVE_INFINITY;
  /** Errors of the next calls, by method; each is thrown once. */
  readonly failNext: { sync?: string; write?: string; truncate?: string; create?: string } = {};
  /** While set, syncs wait for it. */
  syncGate: Promise<void> | undefined;
  syncCount = 0;
  /** Position and length of each write-back. */
  readonly writeBacks: { position: number; length: number }[] = [];

  override create(file: string): number {
    this.#fail("create");
    if (this.spaceBytes <= 0) throw errnoError("ENOSPC");
    return super.create(file);
  }

  override write(fd: number, parts: readonly Uint8Array[], position: number): number {
    this.#fail("write");
    const whole = Buffer.concat(parts);
    if (this.spaceBytes <= 0) throw errnoError("ENOSPC");
    const count = super.write(fd, [whole.subarray(0, Math.min(whole.length, this.spaceBytes))], position);
    this.spaceBytes -= count;
    return count;
  }

  override truncate(fd: number, length: number): void {
    this.#fail("truncate");
    super.truncate(fd, length);
  }

  override async sync(fd: number): Promise<void> {
    this.syncCount += 1;
    await this.syncGate;
    this.#fail("sync");
    await super.sync(fd);
  }

  override startWriteBack(fd: number, range: { position: number; length: number }): Promise<void> {
    this.writeBacks.push(range);
    return super.startWriteBack(fd, range);
  }

  #fail(method: keyof FaultyFileOps["failNext"]): void {
    const code = this.failNext[method];
    if (code === undefined) return;
    delete this.failNext[method];
    throw errnoError(code);
  }
}

function errnoError(code: string): Error {
  return Object.assign(new Error(code), { code });
}

/** A journal's folder and what belongs to it; `open` may be called again and again. */
export class JournalFixture {
  readonly folder = path.join(fs.mkdtempSync(path.join(os.tmpdir(), "journal-")), "journal");
  readonly clock = new ManualClock();
  readonly timers = new ManualTimers();
  readonly log: MemoryLog = memoryLog();
  ops: FileOps = new SystemFileOps();
  recovered: JournalRecord[] = [];
  readonly #opened: Journal[] = [];

  async open(options: Partial<JournalOptions> = {}): Promise<Journal> {
    this.recovered = [];
    const journal = await Journal.open({
      folder: this.folder,
      appId: APP,
      clock: this.clock,
      log: this.log,
      timers: this.timers,
      ops: this.ops,
      appliedLsn: 0 as Lsn,
      onRecord: (record) => this.recovered.push(record),
      ...options,
    });
    this.#opened.push(journal);
    return journal;
  }

  /** File names, sorted. */
  files(): string[] {
    return fs.readdirSync(this.folder).sort();
  }

  pathOf(index: number): string {
    return path.join(this.folder, this.files().at(index) ?? "none");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const journal of this.#opened) await journal.close().catch(() => undefined);
    fs.rmSync(path.dirname(this.folder), { recursive: true, force: true });
  }
}

/** Appends `draft`, placed first as an engine does. */
export function appendPlaced(journal: Journal, record: RecordDraft): { lsn: Lsn; segment: number; dataStart: number } {
  const placement = journal.place(record.data?.length ?? 0, 1000);
  journal.append(record);
  return placement;
}
