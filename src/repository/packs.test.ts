import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { beforeEach, describe, expect, test } from "vitest";
import { ByteReader, ByteWriter } from "../base/bytes.ts";
import { BlobError } from "../blob/blob-error.ts";
import type { BlobGetOptions, BlobStore } from "../blob/blob-store.ts";
import { CountingBlobs } from "../blob/counting-blobs.ts";
import { MemoryBlobs } from "../blob/testing/memory-blobs.ts";
import { randomBytesOf, seededRandom, testSeed } from "../journal/journal-fixture.ts";
import {
  CHUNK_PLACE_BYTES,
  type ChunkPlace,
  type PackId,
  packIdOfName,
  packName,
  readPlace,
  writePlace,
} from "./chunk-place.ts";
import { checkPack } from "./pack-codec.ts";
import { chunksOf } from "./pack-directory.ts";
import { PackReader } from "./pack-reader.ts";
import { BLOCK_RAW_BYTES, PackWriter, type SealedPack } from "./pack-writer.ts";
import { APP, flipped, keysOf, OTHER_APP, packOf, putPack, textOf } from "./packs-fixture.ts";

const keys = keysOf();
const GOLDEN = fileURLToPath(new URL("./golden/pack-v1.bin", import.meta.url));

/** Chunks of many lengths: blocks of many, of one, and longer than a block. */
const CHUNKS = [
  textOf(1, 1),
  textOf(2, 300_000),
  randomBytes(200_000),
  textOf(3, 400_000),
  randomBytes(700_000),
  textOf(4, BLOCK_RAW_BYTES),
  textOf(5, 50),
];

let store: CountingBlobs;

beforeEach(() => {
  store = new CountingBlobs(new MemoryBlobs());
});

const damaged = (pack: { name: string }) =>
  expect.objectContaining({ code: "REPOSITORY_DAMAGED", data: expect.objectContaining({ object: pack.name }) });

function reader(options: { cacheBytesMax?: number } = {}): PackReader {
  return new PackReader({ store, keys, ...options });
}

function placesOf(pack: SealedPack): ChunkPlace[] {
  return pack.chunks.map(({ place }) => place);
}

describe("a pack", () => {
  test("gives back its chunks, one by one and all together, through a pool or inline", async () => {
    for (const compress of ["inline", "pool"] as const) {
      const writer = new PackWriter(keys, { compress });
      const tickets = [];
      for (const chunk of CHUNKS) {
        await writer.flow();
        tickets.push(writer.add(keys.chunkId(chunk), chunk));
      }
      const pack = await writer.finish();
      await putPack(store, pack);
      expect(tickets.map(({ place }) => place)).toEqual(placesOf(pack));
      expect(pack.bytes).toBe(Buffer.concat(pack.body).length);
      for (const [index, place] of placesOf(pack).entries()) {
        expect((await reader().read(place)).equals(CHUNKS[index] ?? Buffer.alloc(0))).toBe(true);
      }
      expect((await reader().readMany(placesOf(pack))).map((chunk) => keys.chunkId(chunk))).toEqual(
        pack.chunks.map(({ id }) => id),
      );
    }
  });

  test("is put together from chunks of any lengths", async () => {
    const random = seededRandom(testSeed("packs of any chunks"));
    for (let round = 0; round < 8; round += 1) {
      const chunks = Array.from({ length: 1 + Math.floor(random() * 60) }, (_, index) => {
        const length = 1 + Math.floor(random() ** 4 * 300_000);
        return random() < 0.5 ? textOf(round * 100 + index, length) : randomBytesOf(random, length);
      }).filter((chunk) => chunk.length > 8);
      if (chunks.length === 0) continue;
      const pack = await packOf(keys, chunks, `round ${round}`);
      await putPack(store, pack);
      const order = placesOf(pack).sort(() => random() - 0.5);
      const read = await reader({ cacheBytesMax: random() * 1_000_000 }).readMany(order);
      const byPlace = new Map(placesOf(pack).map((place, index) => [place, chunks[index]]));
      for (const [index, place] of order.entries())
        expect(read[index]?.equals(byPlace.get(place) ?? Buffer.alloc(0))).toBe(true);
      expect(checkPack(keys, pack.id, Buffer.concat(pack.body)).faults).toEqual([]);
    }
  });

  test("tells what is in it by itself", async () => {
    const pack = await packOf(keys, CHUNKS);
    await putPack(store, pack);
    for (const options of [{}, { bytes: pack.bytes }])
      expect(chunksOf(await reader().readDirectory(pack.id, options))).toEqual(pack.chunks);
    const { directory, faults } = checkPack(keys, pack.id, Buffer.concat(pack.body));
    expect([chunksOf(directory), faults]).toEqual([pack.chunks, []]);
  });

  test("tells what is in it with a directory longer than what is read at first", async () => {
    const chunks = Array.from({ length: 4000 }, (_, index) => Buffer.from(`chunk ${index}`));
    const pack = await packOf(keys, chunks);
    await putPack(store, pack);
    expect(chunksOf(await reader().readDirectory(pack.id))).toEqual(pack.chunks);
    expect(store.counters.gets).toBe(2);
  });

  test("knows its chunks while it is written, and when it has enough", async () => {
    const writer = new PackWriter(keys);
    const chunk = randomBytes(1_000_000);
    const ticket = writer.add(keys.chunkId(chunk), chunk);
    expect(writer.find(keys.chunkId(chunk))).toBe(ticket);
    expect(writer.find(keys.chunkId(Buffer.from("another")))).toBeUndefined();
    expect(() => writer.add(keys.chunkId(chunk), chunk)).toThrow("in this pack already");
    expect([writer.full, writer.chunkCount]).toEqual([false, 1]);
    for (let index = 0; index < 33; index += 1) {
      const more = randomBytes(1_048_576);
      if (!writer.full) writer.add(keys.chunkId(more), more);
    }
    expect(writer.full).toBe(true);
    expect((await writer.finish()).bytes).toBeGreaterThan(32 * 1024 * 1024);
  });

  test("keeps what it was given, even if the caller uses its buffer again", async () => {
    const writer = new PackWriter(keys, { compress: "pool" });
    const buffer = Buffer.alloc(1000, "first");
    const id = keys.chunkId(buffer);
    writer.add(id, buffer);
    buffer.fill("other");
    const pack = await writer.finish();
    await putPack(store, pack);
    expect(keys.chunkId(await reader().read(pack.chunks[0]?.place as ChunkPlace))).toEqual(id);
  });

  test("takes no more room than its chunks, but for 36 bytes each and 29 for a block", async () => {
    const chunks = Array.from({ length: 50 }, () => randomBytes(20_000));
    const pack = await packOf(keys, chunks);
    const blocks = 2;
    expect(pack.bytes).toBeLessThan(50 * 20_000 + 50 * 36 + blocks * 17 + blocks * 12 + 100);
    expect((await packOf(keys, [textOf(1, 500_000)])).bytes).toBeLessThan(350_000);
  });

  test("its sample of version 1 is read as it was written", () => {
    const bytes = readFileSync(GOLDEN);
    const id = GOLDEN_PACK as PackId;
    const { directory, faults } = checkPack(keys, id, bytes);
    expect(faults).toEqual([]);
    expect(
      chunksOf(directory).map(({ id: chunk, place }) => [
        chunk.toString("hex"),
        place.offset,
        place.chunkOffset,
        place.length,
      ]),
    ).toEqual(GOLDEN_CHUNKS);
  });
});

describe("reading", () => {
  test("asks once for a block, and for neighbouring blocks together", async () => {
    const pack = await packOf(keys, CHUNKS);
    await putPack(store, pack);
    const one = reader();
    await one.readMany(placesOf(pack));
    expect(store.counters.gets).toBe(1);
    await one.readMany(placesOf(pack));
    for (const place of placesOf(pack)) await one.read(place);
    expect(store.counters.gets).toBe(1);
  });

  test("asks once when several ask for the same block at the same time", async () => {
    const pack = await packOf(keys, [textOf(1, 1000), textOf(2, 1000)]);
    await putPack(store, pack);
    const one = reader();
    const [first, second] = placesOf(pack) as [ChunkPlace, ChunkPlace];
    const read = await Promise.all([one.read(first), one.read(second), one.read(first)]);
    expect(read.map((chunk) => chunk.equals(textOf(1, 1000)))).toEqual([true, false, true]);
    expect(store.counters.gets).toBe(1);
  });

  test("asks once for a block that several ask for among others", async () => {
    const pack = await packOf(keys, CHUNKS);
    await putPack(store, pack);
    const one = reader();
    const places = placesOf(pack);
    const [read, some, single] = await Promise.all([
      one.readMany(places),
      one.readMany(places.slice(1, 3)),
      one.read(places[3] as ChunkPlace),
    ]);
    expect(read.every((chunk, index) => chunk.equals(CHUNKS[index] ?? Buffer.alloc(0)))).toBe(true);
    expect([...some, single].every((chunk, index) => chunk.equals(CHUNKS[index + 1] ?? Buffer.alloc(0)))).toBe(true);
    expect(store.counters.gets).toBe(1);
  });

  test("what another reader's failure kept from coming is read all the same", async () => {
    const lost = await packOf(keys, [textOf(1, 1000)], "lost");
    const pack = await packOf(keys, [textOf(2, 1000)], "there");
    await putPack(store, pack);
    const one = reader();
    // Four reads go on at a time: the fifth waits, and is not begun when the first has failed.
    const others = await Promise.all([3, 4, 5].map((seed) => packOf(keys, [textOf(seed, 1000)], `pack ${seed}`)));
    const both = one.readMany([lost, ...others, pack].flatMap(placesOf));
    const alone = one.readMany(placesOf(pack));
    await expect(both).rejects.toMatchObject({ code: "REPOSITORY_DAMAGED" });
    expect(await alone).toEqual([textOf(2, 1000)]);
  });

  test("keeps no more than its cache may", async () => {
    const chunks = Array.from({ length: 6 }, () => randomBytes(500_000));
    const pack = await packOf(keys, chunks);
    await putPack(store, pack);
    const one = reader({ cacheBytesMax: 1_200_000 });
    const places = placesOf(pack);
    for (const place of places) await one.read(place);
    await one.read(places[5] as ChunkPlace);
    await one.read(places[4] as ChunkPlace);
    expect(store.counters.gets).toBe(6);
    await one.read(places[0] as ChunkPlace);
    expect(store.counters.gets).toBe(7);
  });

  test("keeps no block for the sake of a small chunk of it", async () => {
    const pack = await packOf(keys, [textOf(1, 20_000), textOf(2, 450_000)]);
    await putPack(store, pack);
    const [small, large] = placesOf(pack) as [ChunkPlace, ChunkPlace];
    for (const one of [reader(), reader({ cacheBytesMax: 0 })]) {
      const [alone] = await one.readMany([small]);
      expect(alone?.equals(textOf(1, 20_000))).toBe(true);
      // Its own memory, or a piece of the pool of small buffers.
      expect(alone?.buffer.byteLength).toBeLessThan(100_000);
      const both = await one.readMany([large, small]);
      expect(both.map((chunk) => chunk.length)).toEqual([450_000, 20_000]);
    }
  });

  test("asks for little at a time, and for nothing more after a failure", async () => {
    const packs: SealedPack[] = [];
    for (let index = 0; index < 40; index += 1) packs.push(await packOf(keys, [textOf(index, 1000)], `pack ${index}`));
    let now = 0;
    let most = 0;
    let asked = 0;
    const slow: BlobStore = Object.assign(Object.create(store), {
      get: async (name: string, options: BlobGetOptions): Promise<Buffer> => {
        asked += 1;
        now += 1;
        most = Math.max(most, now);
        // Others get their turn.
        await new Promise((resolve) => setImmediate(resolve));
        now -= 1;
        return await store.get(name, options);
      },
    });
    const places = packs.flatMap(placesOf);
    await expect(new PackReader({ store: slow, keys }).readMany(places)).rejects.toMatchObject({
      code: "REPOSITORY_DAMAGED",
    });
    expect(asked).toBeLessThan(10);
    for (const pack of packs) await putPack(store, pack);
    expect(await new PackReader({ store: slow, keys }).readMany(places)).toHaveLength(40);
    expect(most).toBe(4);
  });

  test("hands on what the store says, if it isn't about the object", async () => {
    const pack = await packOf(keys, CHUNKS);
    const gone = new BlobError("BLOB_UNREACHABLE", "the store does not answer");
    const faulty: BlobStore = Object.assign(Object.create(store), {
      get: () => Promise.reject(gone),
      stat: () => Promise.reject(gone),
    });
    const one = new PackReader({ store: faulty, keys });
    const [place] = placesOf(pack) as [ChunkPlace];
    await expect(one.read(place)).rejects.toBe(gone);
    await expect(one.readMany([place])).rejects.toBe(gone);
    await expect(one.readDirectory(pack.id)).rejects.toBe(gone);
  });

  test("a place behind the end of its block is damage of whoever named it", async () => {
    const pack = await packOf(keys, [textOf(1, 1000)]);
    await putPack(store, pack);
    const [place] = placesOf(pack) as [ChunkPlace];
    const wrong = { ...place, chunkOffset: 1, length: 1000 };
    await expect(reader().read(wrong)).rejects.toMatchObject({ code: "REPOSITORY_DAMAGED" });
    await expect(reader().readMany([place, wrong])).rejects.toMatchObject({ code: "REPOSITORY_DAMAGED" });
  });

  test("goes on after a failure", async () => {
    const pack = await packOf(keys, CHUNKS);
    const one = reader();
    const [place] = placesOf(pack) as [ChunkPlace];
    await expect(one.read(place)).rejects.toEqual(damaged(pack));
    await putPack(store, pack);
    expect((await one.read(place)).equals(CHUNKS[0] as Buffer)).toBe(true);
  });
});

describe("every fault of a pack is found:", () => {
  const small = [textOf(1, 400), randomBytes(100), textOf(2, BLOCK_RAW_BYTES - 300), textOf(3, 50)];

  test("a flipped byte in any region, by whoever reads that region", async () => {
    const pack = await packOf(keys, [textOf(1, 300), randomBytes(40)]);
    const bytes = Buffer.concat(pack.body);
    for (let at = 0; at < bytes.length; at += 1) {
      const changed = flipped(bytes, at);
      let faults = 0;
      try {
        faults = checkPack(keys, pack.id, changed).faults.length;
      } catch (error) {
        expect(error).toEqual(at === 4 ? expect.objectContaining({ code: "REPOSITORY_NEWER" }) : damaged(pack));
        faults = 1;
      }
      expect(faults, `byte ${at}`).toBe(1);
    }
  });

  test("a damaged block costs its own chunks and no others", async () => {
    const pack = await packOf(keys, small);
    const second = pack.chunks.find(({ place }) => place.offset > 40)?.place as ChunkPlace;
    const bytes = flipped(Buffer.concat(pack.body), second.offset + 20);
    await putPack(store, pack, bytes);
    const { faults } = checkPack(keys, pack.id, bytes);
    const lost = pack.chunks.filter(({ place }) => place.offset === second.offset);
    expect(faults).toEqual([{ error: damaged(pack), chunks: lost }]);
    for (const { place } of pack.chunks) {
      const read = reader().read(place);
      if (place.offset === second.offset) await expect(read).rejects.toEqual(damaged(pack));
      else expect(await read).toHaveLength(place.length);
    }
    await expect(reader().readMany(placesOf(pack))).rejects.toEqual(damaged(pack));
  });

  test("a pack that is missing, empty, or cut off at any length", async () => {
    const pack = await packOf(keys, [textOf(1, 300)]);
    const bytes = Buffer.concat(pack.body);
    const missing = expect.objectContaining({ code: "REPOSITORY_DAMAGED", data: { object: pack.name, missing: true } });
    await expect(reader().read(placesOf(pack)[0] as ChunkPlace)).rejects.toEqual(missing);
    await expect(reader().readDirectory(pack.id)).rejects.toEqual(missing);
    for (let length = 0; length < bytes.length; length += 1) {
      const cutStore = new MemoryBlobs();
      await cutStore.put(pack.name, [bytes.subarray(0, length)]);
      const cut = new PackReader({ store: cutStore, keys });
      await expect(cut.readDirectory(pack.id), `${length} bytes`).rejects.toEqual(damaged(pack));
      expect(() => checkPack(keys, pack.id, bytes.subarray(0, length))).toThrow(damaged(pack));
      const block = placesOf(pack)[0] as ChunkPlace;
      if (length < block.offset + block.storedLength) await expect(cut.read(block)).rejects.toEqual(damaged(pack));
    }
  });

  test("packs that were swapped, blocks in each other's place, and places that are wrong", async () => {
    const [left, right] = [await packOf(keys, small, "left"), await packOf(keys, small, "right")];
    await putPack(store, left, Buffer.concat(right.body));
    for (const place of placesOf(left)) await expect(reader().read(place)).rejects.toEqual(damaged(left));
    await expect(reader().readDirectory(left.id)).rejects.toEqual(damaged(left));
    expect(() => checkPack(keys, left.id, Buffer.concat(right.body))).toThrow(damaged(left));

    const twin = await packOf(keys, [randomBytes(BLOCK_RAW_BYTES), randomBytes(BLOCK_RAW_BYTES)], "twin");
    const [first, second] = placesOf(twin) as [ChunkPlace, ChunkPlace];
    expect(first.storedLength).toBe(second.storedLength);
    const bytes = Buffer.concat(twin.body);
    const block = (place: ChunkPlace): Buffer => bytes.subarray(place.offset, place.offset + place.storedLength);
    const parts = [
      bytes.subarray(0, first.offset),
      block(second),
      block(first),
      bytes.subarray(second.offset + second.storedLength),
    ];
    await putPack(store, twin, Buffer.concat(parts));
    for (const place of [first, second]) await expect(reader().read(place)).rejects.toEqual(damaged(twin));

    await putPack(store, right);
    const [place] = placesOf(right) as [ChunkPlace];
    for (const wrong of [
      { offset: place.offset + 1 },
      { storedLength: place.storedLength - 1 },
      { rawLength: place.rawLength - 1 },
      { rawLength: place.rawLength + 1 },
    ])
      await expect(reader().read({ ...place, ...wrong })).rejects.toEqual(damaged(right));
  });

  test("a pack of another app, or of this one with another key", async () => {
    for (const other of [keysOf(OTHER_APP), keysOf(APP, "other")]) {
      const pack = await packOf(other, small);
      await store.put(packName(keys.tag, pack.id), pack.body);
      const here = { name: packName(keys.tag, pack.id) };
      await expect(reader().read(placesOf(pack)[0] as ChunkPlace)).rejects.toEqual(damaged(here));
      await expect(reader().readDirectory(pack.id)).rejects.toEqual(damaged(here));
      await store.delete([here.name]);
    }
  });

  test("chunks that are not what their ids say", async () => {
    const writer = new PackWriter(keys);
    const good = Buffer.from("good");
    writer.add(keys.chunkId(good), good);
    writer.add(keys.chunkId(Buffer.from("said")), Buffer.from("kept"));
    const pack = await writer.finish();
    const { faults } = checkPack(keys, pack.id, Buffer.concat(pack.body));
    expect(faults).toEqual([{ error: damaged(pack), chunks: [pack.chunks[1]] }]);
  });
});

describe("places", () => {
  const place: ChunkPlace = {
    pack: "0f".repeat(16) as PackId,
    offset: 40,
    storedLength: 1000,
    rawLength: 2000,
    chunkOffset: 500,
    length: 1500,
  };

  test("come back from their 36 bytes", () => {
    const writer = new ByteWriter();
    writePlace(writer, place);
    expect(writer.length).toBe(CHUNK_PLACE_BYTES);
    expect(readPlace(new ByteReader(writer.finish()))).toEqual(place);
  });

  test("that can't be are refused", () => {
    const wrong = [
      { length: 1501 },
      { length: 0 },
      { chunkOffset: 0xffff_ffff },
      { rawLength: 0xffff_ffff },
      { storedLength: 0 },
    ];
    for (const change of wrong) {
      const writer = new ByteWriter();
      writePlace(writer, { ...place, ...change });
      expect(() => readPlace(new ByteReader(writer.finish())), JSON.stringify(change)).toThrow(RangeError);
    }
    expect(() => readPlace(new ByteReader(Buffer.alloc(35)))).toThrow(RangeError);
  });

  test("names of packs are listed in the order of ids, and give their id back", () => {
    const name = packName("ab".repeat(16), place.pack);
    expect(name).toBe(`apps/${"ab".repeat(16)}/packs/0f/${place.pack}`);
    expect(packIdOfName(name)).toBe(place.pack);
    for (const other of ["", place.pack, `packs/00/${place.pack}`, `${name}0`, `${name}/x`, name.toUpperCase()])
      expect(packIdOfName(other)).toBeUndefined();
  });
});

const GOLDEN_PACK = "ceeac997976c3ef0c5ea723128538b22";
/** Id, offset of the block, offset in the block, length. */
const GOLDEN_CHUNKS = [
  ["08bc7059612758f394d759ccfc3c0973627cbd2793bdf1fc28774fab324bb8c4", 40, 0, 300000],
  ["69175e2beb04209316d48c98b428f563135fad42e4c3ccfae683c1fa466e3023", 40, 300000, 13],
  ["83f331c5f927b4c81de871ee76b447dd856d23a1785d0d5239f9216302da96f6", 127, 0, 600000],
  ["467b0d4957bf3fdedd8e82deb89cc4e5ed5c2e8a8bb7de5d9001c13375586b27", 222, 0, 320],
];
