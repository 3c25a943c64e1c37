import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { expect, test } from "vitest";
import { materialise } from "../../src/backup/materialise.ts";
import { SystemClock } from "../../src/base/clock.ts";
import { silentLog } from "../../src/base/log.ts";
import { DirectoryBlobs } from "../../src/blob/directory-blobs.ts";
import { seededRandom, testSeed } from "../../src/journal/journal-fixture.ts";
import { VerifiedStream } from "../../src/journal/verified-stream.ts";
import { MemoryKv } from "../../src/kv/memory-kv.ts";
import { AppRepository } from "../../src/repository/app-repository.ts";
import { PackReader } from "../../src/repository/pack-reader.ts";
import { appKeysOf, newKeysText, SHIPPED_APP } from "./shipper-keys.ts";

/** Each costs a process's start and what it ships; SHIPPER_KILLS is for a longer run. */
const KILLS = Number(process.env["SHIPPER_KILLS"] ?? 6);

type Place = { readonly data: string; readonly repository: string; readonly keyFile: string };

/** Runs the process until it has said so many times that more is protected, and a little longer. Answers what it said last. */
function killedAfter(
  place: Place,
  options: { readonly reports: number; readonly delayMs: number; readonly seed: number },
): Promise<number> {
  const { data, repository, keyFile } = place;
  const child = new URL("./shipper-child.ts", import.meta.url).pathname;
  return new Promise((resolve, reject) => {
    const running = spawn(process.execPath, [child, data, repository, keyFile, String(options.seed)], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    let said = "";
    let errors = "";
    let left = options.reports;
    running.stderr.on("data", (text: Buffer) => {
      errors += text.toString();
    });
    running.stdout.on("data", (text: Buffer) => {
      said += text.toString();
      left = options.reports - (said.match(/protected/g)?.length ?? 0);
      if (left <= 0) setTimeout(() => running.kill("SIGKILL"), options.delayMs);
    });
    running.on("exit", (_code, signal) => {
      if (signal !== "SIGKILL" || said.includes("failed"))
        reject(new Error(`the process ended by itself: ${said}${errors}`));
      const lsns = [...said.matchAll(/protected (\d+)\n/g)].map(([, lsn]) => Number(lsn));
      resolve(lsns.at(-1) ?? 0);
    });
  });
}

/** Compares every record in the repository, and every byte of data, with the journal on disk. Answers up to where they go. */
async function compare(repository: AppRepository, journal: string): Promise<number> {
  const packs = new PackReader({ store: repository.store, keys: repository.keys });
  const stream = new VerifiedStream({ folder: journal, appId: SHIPPED_APP, from: 1 as never });
  let lsn = 0;
  for await (const seal of repository.seals({ verify: "chain" })) {
    await stream.refresh(seal.head.to);
    for (const sealed of seal.records()) {
      lsn += 1;
      for (let record = stream.take(); ; record = stream.take()) {
        if (record === undefined) {
          await stream.fill();
          continue;
        }
        expect(record.fields.lsn).toBe(lsn);
        expect(record.prefix.equals(sealed.prefix) && record.body.equals(sealed.body)).toBe(true);
        const pieces = sealed.data?.pieces ?? [];
        const data = Buffer.from(record.data);
        const read = await packs.readMany(pieces.map(({ place }) => place));
        expect(Buffer.concat(read).equals(data), `the data of record ${lsn}`).toBe(true);
        break;
      }
    }
  }
  await stream.close();
  return lsn;
}

test("what was called protected is in the repository, complete, however often the service is killed", async () => {
  const random = seededRandom(testSeed("shipper kills"));
  const folder = mkdtempSync(path.join(tmpdir(), "tidemark-shipper-"));
  const place = {
    data: path.join(folder, "data"),
    repository: path.join(folder, "repo"),
    keyFile: path.join(folder, "key"),
  };
  mkdirSync(place.repository);
  mkdirSync(place.data);
  writeFileSync(place.keyFile, newKeysText());
  const store = await DirectoryBlobs.open(place.repository, { create: false });
  const keys = appKeysOf(readFileSync(place.keyFile, "utf8"));
  const repository = new AppRepository({ store, keys, lockDays: undefined, clock: new SystemClock() });
  try {
    let before = 0;
    for (let kill = 0; kill < KILLS; kill++) {
      const options = {
        reports: 1 + Math.floor(random() * 8),
        delayMs: Math.floor(random() * 60),
        seed: Math.floor(random() * 2 ** 31),
      };
      const protectedLsn = await killedAfter(place, options);
      expect(protectedLsn).toBeGreaterThanOrEqual(before);
      const reached = await compare(repository, path.join(place.data, "journal"));
      expect(reached).toBeGreaterThanOrEqual(protectedLsn);
      before = protectedLsn;
      const laid = await materialise({ app: repository, kv: new MemoryKv(), slot: 1, log: silentLog });
      expect(laid.lsn).toBe(reached);
    }
    expect(before).toBeGreaterThan(KILLS);
  } finally {
    await store.close();
    rmSync(folder, { recursive: true, force: true });
  }
}, 240_000);
