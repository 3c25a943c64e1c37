import { beforeEach, describe, expect, test } from "vitest";
import { MemoryBlobs } from "../blob/testing/memory-blobs.ts";
import { seededRandom, testSeed } from "../journal/journal-fixture.ts";
import { MemoryKv } from "../kv/memory-kv.ts";
import { ChunkIndex } from "./chunk-index.ts";
import type { PackedChunk, PackId } from "./chunk-place.ts";
import { chunksOf } from "./pack-directory.ts";
import { PackReader } from "./pack-reader.ts";
import { keysOf, packOf, putPack } from "./packs-fixture.ts";

const keys = keysOf();
const PREFIX = Buffer.from("app 1 ");

let kv: MemoryKv;
let index: ChunkIndex;

beforeEach(() => {
  kv = new MemoryKv();
  index = new ChunkIndex(kv, { prefix: PREFIX });
});

const idOf = (chunk: string): Buffer => keys.chunkId(Buffer.from(chunk));

/** A pack that need not exist, of chunks that are named. */
function packed(pack: number, chunks: readonly string[]): { pack: PackId; chunks: PackedChunk[] } {
  const id = pack.toString(16).padStart(32, "0") as PackId;
  const place = { pack: id, offset: 40, storedLength: 100, rawLength: 4 * chunks.length, length: 4 };
  return {
    pack: id,
    chunks: chunks.map((chunk, at) => ({ id: idOf(chunk), place: { ...place, chunkOffset: 4 * at } })),
  };
}

async function add(pack: number, chunks: readonly string[]): Promise<PackId> {
  const each = packed(pack, chunks);
  await index.addPack(each.pack, each.chunks);
  return each.pack;
}

function found(chunks: readonly string[]): (string | undefined)[] {
  return index.getMany(chunks.map(idOf)).map((place) => place?.pack.replace(/^0+/, ""));
}

describe("the index of chunks", () => {
  test("finds chunks where they are, and no others", async () => {
    await add(1, ["a", "b"]);
    await add(2, ["c"]);
    expect(found(["a", "b", "c", "d"])).toEqual(["1", "1", "2", undefined]);
    expect(index.get(idOf("b"))).toEqual(packed(1, ["a", "b"]).chunks[1]?.place);
    expect(index.get(idOf("d"))).toBeUndefined();
    expect([index.chunkCount, index.packCount]).toEqual([3, 2]);
  });

  test("is the same when it is opened again", async () => {
    await add(1, ["a", "b"]);
    index = new ChunkIndex(kv, { prefix: PREFIX });
    expect([found(["a"]), index.chunkCount, index.packCount]).toEqual([["1"], 2, 1]);
  });

  test("adding a pack again changes nothing", async () => {
    await add(1, ["a", "b"]);
    await add(1, ["a", "b"]);
    expect([index.chunkCount, index.packCount, [...index.packs()].length]).toEqual([2, 1, 1]);
  });

  test("a dropped pack's chunks are found no more, but for those that a newer pack has", async () => {
    const first = await add(1, ["a", "b"]);
    await add(2, ["b", "c"]);
    expect(index.chunkCount).toBe(3);
    await index.dropPack(first);
    await index.dropPack(first);
    expect(found(["a", "b", "c"])).toEqual([undefined, "2", "2"]);
    expect([index.covers(first), index.chunkCount, index.packCount]).toEqual([false, 2, 1]);
  });

  test("never names a pack that was dropped, whatever the order, and counts right", async () => {
    const random = seededRandom(testSeed("chunk index"));
    const covered = new Map<number, string[]>();
    for (let round = 0; round < 300; round += 1) {
      const pack = Math.floor(random() * 12);
      if (covered.has(pack)) {
        await index.dropPack(packed(pack, []).pack);
        covered.delete(pack);
      } else {
        const chunks = [...new Set(Array.from({ length: 6 }, () => `${Math.floor(random() * 30)}`))];
        await add(pack, chunks);
        covered.set(pack, chunks);
      }
      const all = Array.from({ length: 30 }, (_, chunk) => `${chunk}`);
      const places = index.getMany(all.map(idOf));
      for (const [at, place] of places.entries()) {
        if (place === undefined) continue;
        const inPack = covered.get(Number.parseInt(place.pack, 16));
        expect(inPack, `round ${round}`).toContain(all[at]);
      }
      expect(index.chunkCount).toBe(places.filter((place) => place !== undefined).length);
      expect([...index.packs()]).toEqual(
        [...covered.keys()].sort((a, b) => a - b).map((each) => packed(each, []).pack),
      );
    }
  });

  test("keeps to its prefix: beside others, and when it is cleared", async () => {
    const others = ["app 0 ", "app 1", "app 1 q", "app 2 "].map(
      (prefix) => new ChunkIndex(kv, { prefix: Buffer.from(prefix) }),
    );
    const pack = packed(7, ["a"]);
    for (const other of others) await other.addPack(pack.pack, pack.chunks);
    await add(1, ["a", "b"]);
    await index.clear();
    expect([found(["a", "b"]), [...index.packs()], index.chunkCount, index.packCount]).toEqual([
      [undefined, undefined],
      [],
      0,
      0,
    ]);
    for (const other of others)
      expect([other.get(idOf("a"))?.pack, [...other.packs()]]).toEqual([pack.pack, [pack.pack]]);
  });

  test("takes and lists many more packs and chunks than one read of the store gives", async () => {
    const chunks = Array.from({ length: 25_000 }, (_, at) => `${at}`);
    await add(1, chunks);
    expect(found(chunks).every((pack) => pack === "1")).toBe(true);
    for (let pack = 2; pack <= 10_050; pack += 1) await add(pack, []);
    expect([...index.packs()]).toHaveLength(10_050);
    expect([...index.packs(packed(10_000, []).pack)]).toHaveLength(50);
    await index.dropPack(packed(1, []).pack);
    expect(index.chunkCount).toBe(0);
  });
});

describe("reconciling with the store", () => {
  test("adds the packs that are missing from their directories, and drops those that are gone", async () => {
    const store = new MemoryBlobs();
    const reader = new PackReader({ store, keys });
    const packs = await Promise.all(
      Array.from({ length: 11 }, (_, at) =>
        packOf(keys, [Buffer.from(`chunk ${at}`), Buffer.from("shared")], `pack ${at}`),
      ),
    );
    for (const pack of packs.slice(1)) await putPack(store, pack);
    const [gone, known] = packs;
    if (gone === undefined || known === undefined) throw new Error("unreachable");
    await index.addPack(gone.id, gone.chunks);
    await index.addPack(known.id, known.chunks);

    const read: PackId[] = [];
    const readChunks = async (pack: PackId): Promise<PackedChunk[]> => {
      read.push(pack);
      return chunksOf(await reader.readDirectory(pack));
    };
    const listed = packs
      .slice(1)
      .map(({ id }) => id)
      .sort();
    expect(await index.reconcile({ listed, readChunks })).toEqual({ added: 9, dropped: 1 });
    expect(read).not.toContain(known.id);
    expect([...index.packs()]).toEqual(listed);
    const chunks = packs.map((_, at) => Buffer.from(`chunk ${at}`));
    const places = index.getMany(chunks.map((chunk) => keys.chunkId(chunk)));
    expect(places[0]).toBeUndefined();
    for (const [at, place] of places.entries()) {
      if (place !== undefined) expect(await reader.read(place)).toEqual(chunks[at]);
    }
    expect(await index.reconcile({ listed, readChunks })).toEqual({ added: 0, dropped: 0 });
  });

  test("an error of the listing drops nothing behind it, and the next one goes on from there", async () => {
    await add(1, ["a"]);
    await add(3, ["c"]);
    async function* broken(): AsyncGenerator<PackId> {
      yield packed(1, []).pack;
      yield packed(2, []).pack;
      throw new Error("the listing broke off");
    }
    const readChunks = async (): Promise<PackedChunk[]> => packed(2, ["b"]).chunks;
    await expect(index.reconcile({ listed: broken(), readChunks })).rejects.toThrow("broke off");
    expect(found(["a", "c"])).toEqual(["1", "3"]);
    const listed = [1, 2].map((pack) => packed(pack, []).pack);
    expect(await index.reconcile({ listed, readChunks })).toMatchObject({ dropped: 1 });
    expect(found(["a", "b", "c"])).toEqual(["1", "2", undefined]);
  });

  test("a listing that is not in order is refused before anything is dropped for it", async () => {
    await add(1, ["a"]);
    await add(2, ["b"]);
    const listed = [packed(2, []).pack, packed(1, []).pack];
    await expect(index.reconcile({ listed, readChunks: async () => [] })).rejects.toThrow("ascending");
  });
});
