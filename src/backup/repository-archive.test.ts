import { afterEach, beforeEach, expect, test } from "vitest";
import { SystemClock } from "../base/clock.ts";
import { type MemoryLog, memoryLog } from "../base/log.ts";
import { ManualTimers } from "../base/timers.ts";
import { MemoryBlobs } from "../blob/testing/memory-blobs.ts";
import type { AppId, Lsn } from "../domain/ids.ts";
import { MemoryKv } from "../kv/memory-kv.ts";
import { AppKeys, newAppKeyMaterial } from "../repository/app-keys.ts";
import { AppRepository } from "../repository/app-repository.ts";
import { packName } from "../repository/chunk-place.ts";
import { PackWriter } from "../repository/pack-writer.ts";
import { ArchiveIndex } from "./archive-index.ts";
import { encodeArchivedData, runDataKey } from "./archive-rows.ts";
import { RepositoryArchive } from "./repository-archive.ts";
import { DESCRIPTION } from "./testing/simple-shipper.ts";

const SEGMENT = 5;
const DATA_START = 200;
const BYTES = Buffer.from("0123456789abcdefghijklmnopqrstuvwxyz");

let app: AppRepository;
let index: ArchiveIndex;
let timers: ManualTimers;
let log: MemoryLog;
let archive: RepositoryArchive;
let connect: () => Promise<AppRepository>;

beforeEach(async () => {
  const keys = new AppKeys(newAppKeyMaterial({ appId: "a".repeat(32) as AppId }));
  app = new AppRepository({ store: new MemoryBlobs(), keys, lockDays: undefined, clock: new SystemClock() });
  const writer = new PackWriter(keys);
  const ticket = writer.add(keys.chunkId(BYTES), BYTES);
  const pack = await writer.finish();
  await app.store.put(pack.name, pack.body);
  const kv = new MemoryKv();
  index = new ArchiveIndex(kv, 1);
  const { place } = ticket;
  if (place === undefined) throw new Error("no place");
  // Bytes 10 to 20 were never shipped.
  const pieces = [
    { skip: 0, length: 10, place: { ...place, length: 10 } },
    { skip: 20, length: 16, place: { ...place, chunkOffset: place.chunkOffset + 20, length: 16 } },
  ];
  const value = encodeArchivedData({ dataLength: BYTES.length, pieces });
  await kv.batch([index.dataOperation(runDataKey(SEGMENT, DATA_START), value)]);
  timers = new ManualTimers();
  log = memoryLog();
  connect = async () => app;
  archive = new RepositoryArchive({
    firstLsn: 3 as Lsn,
    lastLsn: 9 as Lsn,
    lastTime: undefined,
    description: "the store",
    index,
    connect: () => connect(),
    log,
    timers,
    readWaitMs: 1000,
  });
});

afterEach(() => archive.close());

const place = (skip: number, length: number, dataStart = DATA_START) => ({
  segment: SEGMENT,
  dataStart,
  dataLength: BYTES.length,
  skip,
  length,
});

const alarms = (): string[] => log.lines.filter(({ level }) => level === "alarm").map(({ message }) => message);

test("any part of a record's data is read, across its pieces", async () => {
  expect((await archive.readData(place(2, 5))).toString()).toBe("23456");
  expect((await archive.readData(place(25, 11))).toString()).toBe("pqrstuvwxyz");
  expect((await archive.readData(place(3, 0))).length).toBe(0);
  expect((await archive.readMany([place(0, 3), place(30, 2)])).map(String)).toEqual(["012", "uv"]);
});

test("bytes that are not there are EIO and one alarm, never invented", async () => {
  for (const wrong of [place(5, 10), place(12, 2), place(0, 1, 999), { ...place(0, 1), dataLength: 30 }])
    await expect(archive.readData(wrong)).rejects.toMatchObject({ code: "EIO" });
  const before = alarms().length;
  await expect(archive.readData(place(12, 2))).rejects.toMatchObject({ code: "EIO" });
  expect(alarms().length).toBe(before);
});

test("a store that doesn't answer is EIO after a bounded wait, and is read again when it does", async () => {
  connect = () => new Promise(() => {});
  const read = archive.readData(place(0, 5));
  const refused = expect(read).rejects.toMatchObject({
    code: "EIO",
    message: expect.stringContaining("did not answer"),
  });
  timers.advance(1000);
  await refused;
  expect(alarms()).toEqual([expect.stringContaining("can't be had now")]);
});

test("after a failure to connect reads fail at once, and some seconds later it is tried again", async () => {
  let attempts = 0;
  connect = () => {
    attempts++;
    return Promise.reject(Object.assign(new Error("no route"), { code: "BLOB_UNREACHABLE", retryable: true }));
  };
  for (let read = 0; read < 5; read++)
    await expect(archive.readData(place(0, 5))).rejects.toMatchObject({ code: "EIO" });
  expect(attempts).toBe(1);
  expect(alarms()).toHaveLength(1);
  connect = async () => app;
  timers.advance(5000);
  expect((await archive.readData(place(0, 5))).toString()).toBe("01234");
});

test("data whose pack was written anew since are found where the latest checkpoint says", async () => {
  const data = index.data(SEGMENT, DATA_START);
  const old = data?.pieces[0]?.place.pack;
  if (data === undefined || old === undefined) throw new Error("no data");
  const writer = new PackWriter(app.keys);
  const ticket = writer.add(app.keys.chunkId(BYTES), BYTES);
  const pack = await writer.finish();
  await app.store.put(pack.name, pack.body);
  const pieces = data.pieces.map((piece) => ({ ...piece, place: { ...piece.place, pack: ticket.place?.pack ?? old } }));
  const row = { key: runDataKey(SEGMENT, DATA_START), value: encodeArchivedData({ ...data, pieces }) };
  await app.publishCheckpoint({
    appId: app.appId,
    epoch: 1,
    sequence: 0,
    to: 9 as Lsn,
    chain: "0".repeat(64),
    runs: [await app.writeRun([[row]])],
    counters: {},
    app: DESCRIPTION,
    floor: null,
    kept: [],
  });
  await app.store.delete([packName(app.tag, old)]);
  expect((await archive.readData(place(2, 5))).toString()).toBe("23456");
  expect(alarms()).toEqual([]);
});

test("records that are not kept, or can't be had, are told apart", async () => {
  const read = async (from: number) => {
    for await (const _ of archive.readRecords(from as Lsn, from as Lsn));
  };
  await expect(read(2)).rejects.toMatchObject({ code: "OUT_OF_HISTORY" });
  await expect(read(4)).rejects.toMatchObject({ code: "OUT_OF_HISTORY" });
  await archive.close();
  await expect(read(4)).rejects.toMatchObject({ code: "UNAVAILABLE" });
  await expect(archive.readData(place(0, 5))).rejects.toMatchObject({ code: "EIO" });
});
