import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import path from "node:path";
import { assert, present } from "../../base/assert.ts";
import type { Lsn } from "../../domain/ids.ts";
import { RECORD_OP } from "../../domain/record-op.ts";
import { CHAIN_START } from "../../journal/chain.ts";
import { dataOffset, PREFIX_BYTES, SALT_BYTES } from "../../journal/record.ts";
import { decodePrefix, isFault } from "../../journal/record-decoder.ts";
import { HEADER_BYTES, segmentName } from "../../journal/segment-file.ts";
import { addToCounters, type Counters, emptyCounters } from "../../meta/counters.ts";
import type { OpenApp } from "../../meta/open-app.ts";
import type { AppRepository } from "../../repository/app-repository.ts";
import type { ChunkPlace } from "../../repository/chunk-place.ts";
import { type ChunkTicket, PackWriter } from "../../repository/pack-writer.ts";
import type { AppDescription, SealHead } from "../../repository/seal-head.ts";
import { chainNext, journalRecordOf, type SealRecord } from "../../repository/seal-record.ts";
import {
  countersFromJson,
  countersToJson,
  encodeArchivedData,
  keptRows,
  runDataKey,
  runRowKey,
} from "../archive-rows.ts";

/** Data are cut here: several pieces for a large record, none of which begins where a read does. */
const CHUNK_BYTES = 50_000;

export const DESCRIPTION: AppDescription = {
  namespace: "default",
  name: "shop",
  labels: { tier: "gold" },
  created: { sec: 1_700_000_000, nsec: 5 },
  deleted: null,
};

type Raw = Omit<SealRecord, "data"> & { readonly segment: number; readonly dataStart: number; readonly bytes: Buffer };

/**
 * For tests: writes what a shipper writes, in the simplest way, everything in memory. Each `ship` is a seal; `checkpoint` adds one of all rows. For one app, whoever runs it: after a recovery it
 * goes on with the journal of the recovered one.
 */
export class SimpleShipper {
  description = DESCRIPTION;
  readonly #repository: AppRepository;
  readonly #rows = new Map<string, Buffer>();
  #counters: Counters = emptyCounters();
  #chain: Buffer = CHAIN_START;
  #lsn = 0 as Lsn;
  #previous: SealHead["previous"] = null;
  #epoch = 0;
  #sequence = 0;

  constructor(repository: AppRepository) {
    this.#repository = repository;
  }

  get lsn(): Lsn {
    return this.#lsn;
  }

  /** Ships what the app's journal has that is not shipped yet, in seals of at most `recordsMax`. */
  async ship(app: OpenApp, options: { readonly folder: string; readonly recordsMax?: number }): Promise<void> {
    await app.journal.sync(app.core.lastLsn);
    if (this.#epoch === 0) this.#epoch = await this.#repository.claimEpoch({ host: "test", service: "test" });
    const records = [...rawRecords(app, options.folder, this.#lsn)];
    const count = options.recordsMax ?? records.length;
    for (let at = 0; at < records.length; at += count) await this.#seal(records.slice(at, at + count));
  }

  /** Begins a new epoch, as a service does that starts. */
  restart(): void {
    this.#epoch = 0;
    this.#sequence = 0;
  }

  async checkpoint(): Promise<void> {
    const keys = [...this.#rows.keys()].sort((left, right) => (left < right ? -1 : 1));
    const rows = keys.map((key) => ({ key: Buffer.from(key, "latin1"), value: present(this.#rows.get(key), "row") }));
    const run = await this.#repository.writeRun([rows]);
    await this.#repository.publishCheckpoint({
      appId: this.#repository.appId,
      epoch: this.#epoch,
      sequence: this.#sequence,
      to: this.#lsn,
      chain: this.#chain.toString("hex"),
      runs: [run],
      counters: countersToJson(this.#counters),
      app: this.description,
      floor: null,
      kept: [],
    });
    assert(countersFromJson(countersToJson(this.#counters)).inodeCount === this.#counters.inodeCount, "totals");
  }

  async #seal(raw: readonly Raw[]): Promise<void> {
    const places = await this.#pack(raw);
    const records = raw.map(({ prefix, inner, salt, body, segment, dataStart, bytes }, index): SealRecord => {
      if (bytes.length === 0) return { prefix, inner, salt, body, data: null };
      let skip = 0;
      const pieces = (places[index] ?? []).map((place) => {
        const piece = { skip, length: place.length, place };
        skip += place.length;
        return piece;
      });
      return { prefix, inner, salt, body, data: { segment, dataStart, pieces } };
    });
    for (const record of records) this.#take(record);
    const decoded = records.map(journalRecordOf);
    const first = present(decoded[0], "a record");
    const last = present(decoded.at(-1), "a record");
    const link = await this.#repository.publishSeal(
      {
        appId: this.#repository.appId,
        epoch: this.#epoch,
        sequence: ++this.#sequence,
        previous: this.#previous,
        from: first.lsn,
        to: last.lsn,
        firstTime: first.time,
        lastTime: last.time,
        chain: this.#chain.toString("hex"),
        app: this.description,
        writer: { host: "test", service: "test" },
        packs: [],
        journalBytes: 0,
      },
      records,
    );
    this.#lsn = last.lsn;
    this.#previous = { epoch: link.epoch, sequence: link.sequence, hash: link.hash.toString("hex") };
  }

  #take(record: SealRecord): void {
    this.#chain = chainNext(this.#chain, record);
    const decoded = journalRecordOf(record);
    const rows = keptRows(decoded);
    addToCounters(this.#counters, rows);
    for (const { key, value } of rows) {
      const name = runRowKey(key).toString("latin1");
      if (value === null) this.#rows.delete(name);
      else this.#rows.set(name, Buffer.from(value));
    }
    if (record.data === null || decoded.op === RECORD_OP.RELOCATE) return;
    const { segment, dataStart, pieces } = record.data;
    const value = encodeArchivedData({ dataLength: decoded.dataLength, pieces });
    this.#rows.set(runDataKey(segment, dataStart).toString("latin1"), value);
  }

  /** Data of several records in one chunk, as a shipper's runs have them: a record's place is a part of one. */
  async #pack(raw: readonly Raw[]): Promise<ChunkPlace[][]> {
    const { keys, store } = this.#repository;
    const isData = ({ prefix, bytes }: Raw): boolean => bytes.length > 0 && prefix.readUInt8(5) !== RECORD_OP.RELOCATE;
    const all = Buffer.concat(raw.filter(isData).map(({ bytes }) => bytes));
    if (all.length === 0) return raw.map(() => []);
    const writer = new PackWriter(keys);
    const tickets: ChunkTicket[] = [];
    for (let at = 0; at < all.length; at += CHUNK_BYTES) {
      const chunk = all.subarray(at, at + CHUNK_BYTES);
      const id = keys.chunkId(chunk);
      tickets.push(writer.find(id) ?? writer.add(id, chunk));
    }
    const pack = await writer.finish();
    await store.put(pack.name, pack.body);
    let at = 0;
    return raw.map((record) => {
      const places: ChunkPlace[] = [];
      if (!isData(record)) return places;
      for (let left = record.bytes.length; left > 0; ) {
        const place = present(tickets[Math.floor(at / CHUNK_BYTES)]?.place, "a place");
        const within = at % CHUNK_BYTES;
        const length = Math.min(left, place.length - within);
        places.push({ ...place, chunkOffset: place.chunkOffset + within, length });
        at += length;
        left -= length;
      }
      return places;
    });
  }
}

/** The records after `after` as they stand in the segments' files. */
function* rawRecords(app: OpenApp, folder: string, after: Lsn): Generator<Raw> {
  for (const { segment, lastLsn } of app.journal.segments()) {
    if (lastLsn <= after) continue;
    const file = readFileSync(path.join(folder, segmentName(segment)));
    const seed = file.readUInt32BE(44);
    for (let at = HEADER_BYTES; at < file.length; ) {
      const prefix = decodePrefix(file, at, seed);
      assert(!isFault(prefix), "a record of the journal");
      const { dataLength, length, lsn } = prefix;
      const dataAt = at + dataOffset(dataLength);
      const bytes = file.subarray(dataAt, dataAt + dataLength);
      const saltEnd = dataAt + dataLength + (dataLength > 0 ? SALT_BYTES : 0);
      const salt = file.subarray(dataAt + dataLength, saltEnd);
      const inner = createHash("sha256")
        .update(salt)
        .update(file.subarray(at + PREFIX_BYTES, dataAt))
        .update(bytes);
      if (lsn > after) {
        yield {
          prefix: Buffer.from(file.subarray(at, at + PREFIX_BYTES)),
          inner: dataLength > 0 ? inner.digest() : null,
          salt: dataLength > 0 ? Buffer.from(salt) : null,
          body: Buffer.from(file.subarray(saltEnd, at + length)),
          segment,
          dataStart: dataAt,
          bytes,
        };
      }
      at += length;
    }
  }
}
