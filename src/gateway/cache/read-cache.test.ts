import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Clock } from "../../base/clock.ts";
import { MemoryLog } from "../../base/log.ts";
import type { AppId } from "../../domain/ids.ts";
import { CACHE_BYTES_MIN, type CachedPart, ReadCache } from "./read-cache.ts";
import { extentBytes, VOLUME_HEAD_BYTES } from "./volume-format.ts";

const APP = "00112233445566778899aabbccddeeff" as AppId;
const OTHER_APP = "ff112233445566778899aabbccddeeff" as AppId;
const MIB = 1024 * 1024;

let folder: string;
let log: MemoryLog;
let nowMs: number;
const clock: Clock = { now: () => ({ sec: 0, nsec: 0 }), monotonicMs: () => nowMs };

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tidemark-read-cache-"));
  log = new MemoryLog();
  nowMs = 0;
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

async function open(options: { app?: AppId; bytesMax?: number; at?: string } = {}): Promise<ReadCache> {
  const { app = APP, bytesMax = CACHE_BYTES_MIN, at = folder } = options;
  const cache = await ReadCache.open({ folder: at, app, bytesMax, clock, log });
  await cache.settled();
  return cache;
}

/** Bytes that tell of their place. */
function bytesAt(segment: number, position: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let index = 0; index < length; index++)
    bytes[index] = (segment * 31 + (position + index) * 7 + ((position + index) >> 8)) & 0xff;
  return bytes;
}

function keep(cache: ReadCache, segment: number, position: number, length: number): void {
  cache.keep([{ segment, position, data: bytesAt(segment, position, length) }]);
}

/** What is there of a range, as "held 0+100, gap 100+50"; held bytes are checked. */
async function look(cache: ReadCache, segment: number, position: number, length: number): Promise<string> {
  const parts = await cache.read({ segment, position }, length);
  for (const { from, length: bytes, data } of parts) {
    if (data !== undefined) expect(Buffer.from(data).equals(bytesAt(segment, position + from, bytes))).toBe(true);
  }
  return parts.map(describePart).join(", ");
}

function describePart({ from, length, data }: CachedPart): string {
  return `${data === undefined ? "gap" : "held"} ${from}+${length}`;
}

const volumes = (): string[] => readdirSync(folder).sort();

describe("the read cache", () => {
  test("answers what was kept, and says what is missing", async () => {
    const cache = await open();
    expect(await look(cache, 1, 0, 100)).toBe("gap 0+100");
    keep(cache, 1, 1000, 200_000);
    keep(cache, 1, 300_000, 10);
    keep(cache, 2, 1000, 10);
    await cache.settled();
    expect(await look(cache, 1, 1000, 200_000)).toBe("held 0+200000");
    expect(await look(cache, 1, 150_000, 100)).toBe("held 0+100");
    expect(await look(cache, 1, 0, 400_000)).toBe(
      "gap 0+1000, held 1000+200000, gap 201000+99000, held 300000+10, gap 300010+99990",
    );
    expect(await look(cache, 2, 900, 110)).toBe("gap 0+100, held 100+10");
    expect(cache.counts).toMatchObject({ hitBytes: 200_000 + 100 + 200_010 + 10, damaged: 0 });
    await cache.close();
  });

  test("keeps only what it has not", async () => {
    const cache = await open();
    keep(cache, 1, 0, 100);
    keep(cache, 1, 0, 100);
    keep(cache, 1, 50, 100);
    await cache.settled();
    expect(await look(cache, 1, 0, 150)).toBe("held 0+100, gap 100+50");
    keep(cache, 1, 0, 120);
    await cache.settled();
    keep(cache, 1, 0, 200);
    await cache.settled();
    expect(await look(cache, 1, 0, 250)).toBe("held 0+100, held 100+20, held 120+80, gap 200+50");
    expect(cache.bytes).toBe(VOLUME_HEAD_BYTES + extentBytes(100) + extentBytes(20) + extentBytes(80));
    await cache.close();
  });

  test("is found again by the next process, and by no other app", async () => {
    const first = await open();
    keep(first, 7, 4096, 100_000);
    await first.close();
    const second = await open();
    expect(await look(second, 7, 4096, 100_000)).toBe("held 0+100000");
    await second.close();
    const other = await open({ app: OTHER_APP });
    expect(await look(other, 7, 4096, 100_000)).toBe("gap 0+100000");
    expect(volumes()).toEqual([]);
    await other.close();
  });

  test("is found again whatever the sizes of its extents, and however they lie", async () => {
    const first = await open();
    const lengths = [1, 100, 4096, 65_535, 65_536, 65_537, 200_000, 8, 30_000, MIB, 5, 131_072, 17];
    const places = Array.from({ length: 120 }, (_, index) => ({
      at: index * 2 * MIB,
      length: lengths[index % lengths.length] as number,
    }));
    const held = places.slice(-60);
    for (const { at, length } of held) keep(first, 3, at, length);
    await first.close();
    const second = await open();
    for (const { at, length } of held) expect(await look(second, 3, at, length)).toBe(`held 0+${length}`);
    await second.close();
  });

  test("never takes more than its bound, and gives up what was not used for longest", async () => {
    const cache = await open();
    keep(cache, 1, 0, MIB);
    for (let index = 0; index < 40; index++) {
      keep(cache, 2, index * MIB, MIB);
      await cache.settled();
      expect(cache.bytes).toBeLessThanOrEqual(CACHE_BYTES_MIN);
      expect(volumes().reduce((sum, name) => sum + statSync(join(folder, name)).size, 0)).toBe(cache.bytes);
      expect(await look(cache, 1, 0, 100)).toBe("held 0+100");
    }
    expect(await look(cache, 2, 39 * MIB, MIB)).toBe(`held 0+${MIB}`);
    expect(await look(cache, 2, 0, MIB)).toBe(`gap 0+${MIB}`);
    expect(cache.bytes).toBeGreaterThan(CACHE_BYTES_MIN / 2);
    await cache.close();
  });

  test("takes no more than a smaller bound after a restart", async () => {
    const large = await open({ bytesMax: 4 * CACHE_BYTES_MIN });
    for (let index = 0; index < 40; index++) {
      keep(large, 2, index * MIB, MIB);
      await large.settled();
    }
    await large.close();
    const small = await open();
    expect(small.bytes).toBeLessThanOrEqual(CACHE_BYTES_MIN);
    expect(await look(small, 2, 39 * MIB, 10)).toBe("held 0+10");
    await small.close();
  });

  test("a damaged extent is dropped and told of once, the rest is good", async () => {
    const cache = await open();
    keep(cache, 1, 0, 200_000);
    keep(cache, 1, 200_000, 1000);
    keep(cache, 1, 300_000, 1000);
    await cache.settled();
    const file = join(folder, volumes()[0] as string);
    const bytes = readFileSync(file);
    const at = VOLUME_HEAD_BYTES + extentBytes(200_000) - 10;
    bytes[at] = (bytes[at] as number) ^ 1;
    bytes[bytes.length - 1] = (bytes.at(-1) as number) ^ 1;
    writeFileSync(file, bytes);
    // The damage is in the fourth 64 KiB: the first verify by themselves.
    expect(await look(cache, 1, 0, 100)).toBe("held 0+100");
    expect(await look(cache, 1, 0, 301_000)).toBe("gap 0+200000, held 200000+1000, gap 201000+99000, gap 300000+1000");
    expect(log.at("warn")).toHaveLength(1);
    expect(cache.counts.damaged).toBe(2);
    keep(cache, 1, 300_000, 1000);
    await cache.settled();
    expect(await look(cache, 1, 300_000, 1000)).toBe("held 0+1000");
    await cache.close();
  });

  test("bytes of one place never pass for those of another", async () => {
    const cache = await open();
    const same = Buffer.alloc(1000, 1);
    cache.keep([{ segment: 1, position: 0, data: same }]);
    cache.keep([{ segment: 1, position: 5000, data: Buffer.alloc(1000, 2) }]);
    await cache.settled();
    const file = join(folder, volumes()[0] as string);
    const bytes = readFileSync(file);
    const dataOf = (index: number): number => VOLUME_HEAD_BYTES + (index + 1) * extentBytes(1000) - 1000;
    bytes.copy(bytes, dataOf(1), dataOf(0), dataOf(0) + 1000);
    // The sum too, as if the disk had written to the wrong block.
    bytes.copy(bytes, dataOf(1) - 4, dataOf(0) - 4, dataOf(0));
    writeFileSync(file, bytes);
    expect((await cache.read({ segment: 1, position: 5000 }, 1000)).map(describePart)).toEqual(["gap 0+1000"]);
    await cache.close();
  });

  test("what a crash tore off is not there, at whatever byte, and what was before is", async () => {
    const cache = await open();
    keep(cache, 1, 0, 1000);
    keep(cache, 1, 1000, 1000);
    await cache.close();
    const file = join(folder, volumes()[0] as string);
    const whole = readFileSync(file);
    for (let length = 0; length < whole.length; length += 53) {
      writeFileSync(file, whole);
      truncateSync(file, length);
      const again = await open();
      const held = Math.floor((length - VOLUME_HEAD_BYTES) / extentBytes(1000));
      expect(await look(again, 1, 0, 2000)).toBe(["gap 0+2000", "held 0+1000, gap 1000+1000"][Math.max(held, 0)]);
      keep(again, 1, 1000, 500);
      await again.settled();
      expect(await look(again, 1, 1000, 500)).toBe("held 0+500");
      await again.close();
      rmSync(folder, { recursive: true });
      await (await open()).close();
    }
  });

  test("zeros where a crash left a hole are not taken for data", async () => {
    const cache = await open();
    keep(cache, 1, 0, 100_000);
    keep(cache, 1, 100_000, 1000);
    await cache.close();
    const file = join(folder, volumes()[0] as string);
    const bytes = readFileSync(file);
    bytes.fill(0, VOLUME_HEAD_BYTES + 4096, VOLUME_HEAD_BYTES + 8192);
    writeFileSync(file, bytes);
    const again = await open();
    expect(await look(again, 1, 0, 101_000)).toBe("gap 0+100000, held 100000+1000");
    await again.close();
  });

  test("a volume that is being read can go", async () => {
    const cache = await open();
    keep(cache, 1, 0, MIB);
    await cache.settled();
    const reading = Array.from({ length: 8 }, () => cache.read({ segment: 1, position: 0 }, MIB));
    for (let index = 0; index < 40; index++) keep(cache, 2, index * MIB, MIB);
    await cache.settled();
    for (const parts of await Promise.all(reading)) {
      for (const { data } of parts)
        if (data !== undefined) expect(Buffer.from(data).equals(bytesAt(1, 0, MIB))).toBe(true);
    }
    expect(log.lines).toEqual([]);
    await cache.close();
  });

  test("keeps no more waiting than a bound, and nothing after it was closed", async () => {
    const cache = await open({ bytesMax: 64 * MIB });
    for (let index = 0; index < 60; index++) keep(cache, 1, index * MIB, MIB);
    await cache.settled();
    expect(cache.bytes).toBeLessThanOrEqual(33 * MIB);
    expect(cache.bytes).toBeGreaterThan(16 * MIB);
    await cache.close();
    keep(cache, 1, 100 * MIB, MIB);
    await cache.settled();
    expect(log.lines).toEqual([]);
  });
});

const canMount = process.getuid?.() === 0;
if (!canMount && process.env["CI"] === undefined)
  console.log("the read cache on a full disk is skipped: mounting a tmpfs needs root");

describe.skipIf(!canMount && process.env["CI"] === undefined)("on a full disk", () => {
  function run(command: string, options: string[]): void {
    expect(spawnSync(command, options, { encoding: "utf8" })).toMatchObject({ status: 0, stderr: "" });
  }

  test("it gives room back, goes on with what it has, and keeps again later", async () => {
    const disk = join(folder, "disk");
    spawnSync("mkdir", [disk]);
    run("mount", ["-t", "tmpfs", "-o", "size=8m", "tmpfs", disk]);
    try {
      const cache = await open({ at: join(disk, "cache"), bytesMax: 64 * MIB });
      for (let index = 0; index < 12; index++) {
        keep(cache, 1, index * MIB, MIB);
        await cache.settled();
      }
      expect(log.at("warn")).toHaveLength(1);
      const held = cache.bytes;
      expect(held).toBeLessThan(8 * MIB);
      keep(cache, 3, 0, 1000);
      await cache.settled();
      expect([cache.bytes, await look(cache, 3, 0, 1000)]).toEqual([held, "gap 0+1000"]);
      nowMs = 61_000;
      keep(cache, 3, 0, 1000);
      await cache.settled();
      expect(await look(cache, 3, 0, 1000)).toBe("held 0+1000");
      await cache.close();
    } finally {
      run("umount", [disk]);
    }
  });
});
