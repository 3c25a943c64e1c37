import { ByteReader, ByteWriter, readU40Be, readU64Be } from "../base/bytes.ts";
import type { Timestamp } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { TidemarkError } from "../domain/errors.ts";
import type { Lsn } from "../domain/ids.ts";
import type { RowOp } from "../journal/record.ts";
import { readBody } from "../journal/record-decoder.ts";
import { VerifiedStream } from "../journal/verified-stream.ts";
import type { KvOperation, KvStore } from "../kv/kv-store.ts";
import { decodeApplied } from "../meta/counters.ts";
import { plainKey, prefixEnd, TABLE } from "../meta/keys.ts";
import type { Turns } from "../meta/reading/turns.ts";
import { slotPrefix } from "../meta/row-store.ts";
import { decodeExtents, decodeJson, decodeSince } from "../meta/rows.ts";
import { decodeFloor } from "../meta/space/space-rows.ts";
import type { AppRepository } from "../repository/app-repository.ts";
import type { AppDescription } from "../repository/seal-head.ts";
import { countersToJson, encodeArchivedData, isFolderTable, runDataKey, runRowKey } from "./archive-rows.ts";
import { RunRows } from "./checkpoint-writer.ts";
import { BaseData, type DataPart } from "./ship-base-data.ts";
import { type DraftPiece, ShipChunks } from "./ship-chunks.ts";
import { type LocalJournal, localChain } from "./ship-local-chain.ts";
import type { ShipPacks } from "./ship-packs.ts";
import { placed } from "./ship-seal.ts";
import { NO_CONTENT } from "./ship-slices.ts";

export type BaseOptions = {
  readonly repository: AppRepository;
  readonly journal: LocalJournal;
  readonly epoch: number;
  readonly app: AppDescription;
  readonly packs: ShipPacks;
  readonly gear: Uint32Array;
  readonly log: Log;
  /** Where what was found is kept meanwhile: rows of `index` that begin with `scratch`, which nobody else has. */
  readonly index: KvStore;
  readonly scratch: Buffer;
  /** Throws when it is time to stop. */
  readonly check: () => void;
  readonly turns: Turns;
};

export type BaseEnd = { readonly lsn: Lsn; readonly chain: Buffer; readonly time: Timestamp };

/** Rows read at a time: some milliseconds, between which others get their turn. */
const PAGE_ROWS = 2000;

/** Places whose data are in flight before their rows are written. */
const PLACES_AT_ONCE = 10_000;
const BYTES_AT_ONCE = 64 * 1024 * 1024;

/**
 * Writes a base: a checkpoint of an app whose first records are not kept any more, made of its rows and the data they name (FORMAT.md, "Seal"). The rows are read while the applier goes on writing: those
 * of the records that it applied meanwhile are laid over what was read, whole, so that the result is the table as it was at the last of them, whichever rows had been read before and
 * which after. The space keeper must not raise the floor meanwhile, nor clean. Nothing names what a base that is cut short left behind.
 */
export async function writeBase(options: BaseOptions): Promise<BaseEnd> {
  const { repository, index, scratch } = options;
  const base = new Base(options);
  await index.deleteRange({ gte: scratch, lt: prefixEnd(scratch) });
  try {
    const before = base.applied();
    const rows = await repository.writeRun(base.rows());
    const { lsn, counters } = base.applied();
    const changed = new RunRows(repository, { runs: [], turn: () => base.turn() });
    const time = await base.changes(before.lsn, lsn, changed);
    const data = await repository.writeRun(base.data());
    const chain = await localChain(options.journal, lsn);
    if (chain === undefined) throw gone(lsn);
    const runs = [...(await changed.finish()), data, rows];
    await repository.publishCheckpoint({
      appId: repository.appId,
      epoch: options.epoch,
      sequence: 0,
      to: lsn,
      chain: chain.toString("hex"),
      runs: runs.filter((run) => run.rows > 0),
      counters: countersToJson(counters),
      app: options.app,
      ...base.floor(),
    });
    return { lsn, chain, time };
  } finally {
    await index.deleteRange({ gte: scratch, lt: prefixEnd(scratch) });
  }
}

class Base {
  readonly #options: BaseOptions;
  readonly #prefix: Buffer;

  constructor(options: BaseOptions) {
    this.#options = options;
    this.#prefix = slotPrefix(options.journal.slot);
  }

  applied(): { readonly lsn: Lsn; readonly counters: ReturnType<typeof decodeApplied>["counters"] } {
    const row = this.#get(plainKey(TABLE.APPLIED));
    if (row === undefined) throw gone(0 as Lsn);
    const { lsn, counters } = decodeApplied(row);
    return { lsn: lsn as Lsn, counters };
  }

  /** Lets others in, and throws when it is time to stop. */
  async turn(): Promise<void> {
    this.#options.check();
    await this.#options.turns.next();
  }

  /** The app's rows, in order, as rows of a run. Notes the places that they name. */
  async *rows(): AsyncGenerator<RowOp[]> {
    const { journal } = this.#options;
    const lt = prefixEnd(this.#prefix);
    for (let gt: Buffer = this.#prefix; ; ) {
      const page = journal.kv.rangeSync({ gt, lt, limit: PAGE_ROWS });
      const rows = page
        .map(({ key, value }) => ({ key: key.subarray(this.#prefix.length) as Buffer, value }))
        .filter(({ key }) => !isFolderTable(key.readUInt8(0)));
      await this.#notePlaces(rows);
      if (rows.length > 0) yield rows.map(({ key, value }) => ({ key: runRowKey(key), value }));
      const last = page.at(-1);
      if (last === undefined) return;
      gt = last.key;
      await this.turn();
    }
  }

  /** Adds the rows of the records after `from` up to `to`, of which the second there is always one. Answers the time of that. */
  async changes(from: Lsn, to: Lsn, rows: RunRows): Promise<Timestamp> {
    const { folder, appId } = this.#options.journal;
    const first = Math.min(from + 1, to) as Lsn;
    const stream = new VerifiedStream({ folder, appId, from: first });
    let time: Timestamp = { sec: 0, nsec: 0 };
    try {
      await stream.refresh(to);
      while (!stream.isDone) {
        const record = stream.take();
        if (record === undefined) {
          await stream.fill();
          continue;
        }
        time = { sec: record.fields.sec, nsec: record.fields.nsec };
        if (record.fields.lsn <= from) continue;
        const changed = readBody(Buffer.from(record.body)).rows.filter(({ key }) => !isFolderTable(key.readUInt8(0)));
        await this.#notePlaces(changed);
        for (const { key, value } of changed) rows.put(runRowKey(key), value);
        if (rows.isFull) await rows.flush();
      }
    } finally {
      await stream.close();
    }
    return time;
  }

  /** Stores the data of all places that were noted. Gives the rows that say where they are. */
  async *data(): AsyncGenerator<RowOp[]> {
    const { journal, packs, gear, index, scratch, check } = this.#options;
    const source = new BaseData(journal);
    const chunks = new ShipChunks(gear, packs);
    try {
      let batch: { key: Buffer; dataLength: number; pieces: DraftPiece[] }[] = [];
      let bytes = 0;
      const finish = async (): Promise<RowOp[]> => {
        await chunks.end();
        packs.rotate();
        await packs.settled();
        const rows = batch.map(({ key, dataLength, pieces }) => ({
          key,
          value: encodeArchivedData({ dataLength, pieces: placed(pieces) }),
        }));
        batch = [];
        bytes = 0;
        return rows;
      };
      const lt = prefixEnd(scratch);
      for (let gt: Buffer = scratch; ; ) {
        const page = index.rangeSync({ gt, lt, limit: PAGE_ROWS });
        for (const { key, value } of page) {
          check();
          const place = decodePlace(key.subarray(scratch.length), value);
          const pieces: DraftPiece[] = [];
          for (const { skip, data } of await this.#read(source, place)) {
            await chunks.add({ ...sliceOf(place, skip), skip, length: data.length }, data, pieces);
            bytes += data.length;
          }
          batch.push({ key: runDataKey(place.segment, place.dataStart), dataLength: place.dataLength, pieces });
          if (batch.length >= PLACES_AT_ONCE || bytes >= BYTES_AT_ONCE) yield await finish();
        }
        const last = page.at(-1);
        if (last === undefined || page.length < PAGE_ROWS) break;
        gt = last.key;
      }
      if (batch.length > 0) yield await finish();
    } finally {
      source.close();
    }
  }

  /** What is damaged stays out: all the rest of the app is worth a base. Reading it from the repository fails as it does here. */
  async #read(source: BaseData, place: NamedPlace): Promise<DataPart[]> {
    try {
      return await source.read(place);
    } catch (error) {
      if (!(error instanceof TidemarkError) || error.code !== "DATA_DAMAGED") throw error;
      const { repository, log } = this.#options;
      log.alarm("stored data is damaged or missing: the base is without it", { appId: repository.appId, cause: error });
      return [];
    }
  }

  /** From where on moments can be read, and which before. */
  floor(): { readonly floor: { readonly lsn: Lsn; readonly time: Timestamp } | null; readonly kept: Lsn[] } {
    const row = this.#get(plainKey(TABLE.FLOOR));
    if (row === undefined) return { floor: null, kept: [] };
    const { floor, time } = decodeFloor(row);
    const gte = Buffer.concat([this.#prefix, plainKey(TABLE.SNAPSHOT)]);
    const kept = new Set<Lsn>();
    for (let gt: Buffer = gte; ; ) {
      const page = this.#options.journal.kv.rangeSync({ gt, lt: prefixEnd(gte), limit: PAGE_ROWS });
      for (const { value } of page) {
        const { lsn } = decodeJson<{ lsn: Lsn }>(decodeSince(value).bytes);
        if (lsn < floor) kept.add(lsn);
      }
      const last = page.at(-1);
      if (last === undefined || page.length < PAGE_ROWS) break;
      gt = last.key;
    }
    return { floor: { lsn: floor, time }, kept: [...kept].sort((left, right) => left - right) };
  }

  #get(key: Buffer): Buffer | undefined {
    return this.#options.journal.kv.getSync(Buffer.concat([this.#prefix, key]));
  }

  async #notePlaces(rows: readonly RowOp[]): Promise<void> {
    const operations: KvOperation[] = [];
    for (const { key, value } of rows) {
      if (value === null || (key[0] !== TABLE.SLICE && key[0] !== TABLE.CHECKPOINT)) continue;
      const content = readU64Be(key, 1);
      const chunk = readU40Be(key, 9);
      for (const { segment, dataStart, dataLength, start, skip } of decodeExtents(value)) {
        if (segment === 0) continue;
        const place = { segment, dataStart, dataLength, content, chunk, start: start - skip };
        operations.push(placeOperation(this.#options.scratch, place));
      }
    }
    for (let from = 0; from < operations.length; from += PLACES_AT_ONCE)
      await this.#options.index.batch(operations.slice(from, from + PLACES_AT_ONCE));
  }
}

/** Data that some row names, and where one of them says it stands: byte 0 at `start` of a chunk of a content. Below 0: before it. */
export type NamedPlace = {
  readonly segment: number;
  readonly dataStart: number;
  readonly dataLength: number;
  readonly content: number;
  readonly chunk: number;
  readonly start: number;
};

function placeOperation(scratch: Buffer, place: NamedPlace): KvOperation {
  const key = new ByteWriter(64).bytes(scratch).u64(place.segment).u32(place.dataStart).finish();
  const value = new ByteWriter(25).u32(place.dataLength).u64(place.content).u40(place.chunk).i64(place.start).finish();
  return { type: "put", key, value };
}

function decodePlace(key: Buffer, value: Buffer): NamedPlace {
  const at = new ByteReader(key);
  const reader = new ByteReader(value);
  const segment = at.u64();
  const dataStart = at.u32();
  const dataLength = reader.u32();
  const content = reader.u64();
  const chunk = reader.u40();
  return { segment, dataStart, dataLength, content, chunk, start: reader.i64() };
}

/** Only where it is said plainly: what is taken for nobody's costs deduplication, nothing else. */
function sliceOf(
  { content, chunk, start }: NamedPlace,
  skip: number,
): { content: number; chunk: number; start: number } {
  return start < 0 ? { content: NO_CONTENT, chunk: 0, start: 0 } : { content, chunk, start: start + skip };
}

function gone(lsn: Lsn): TidemarkError {
  return new TidemarkError("OUT_OF_HISTORY", `the journal does not reach from its rows at LSN ${lsn} to its end`);
}
