import { randomBytes } from "node:crypto";
import {
  closeSync,
  cpSync,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { EXIT_CODES } from "../../src/cli/exit-codes.ts";
import type { JournalRecord } from "../../src/journal/record.ts";
import { skipWithout } from "../e2e/requirements.ts";
import { appIds, readJournal } from "./app-journal.ts";
import { CrashService } from "./crash-service.ts";

const skipped = skipWithout();

const BLOCK_BYTES = 65_536;
const MEBIBYTE = 1024 * 1024;
/** More than a segment holds. */
const FILLER_BYTES = 70 * MEBIBYTE;
const DAMAGED_BLOCK = 19;

const DAMAGED = EXIT_CODES.DAMAGED.code;
const CONFLICT = EXIT_CODES.CONFLICT.code;

type StatusJson = { readonly service: { readonly alarms: readonly { readonly message: string }[] } };

describe.skipIf(skipped)("damage in the data folder", { timeout: 120_000 }, () => {
  let service: CrashService;
  let mount: string;

  beforeEach(async () => {
    service = new CrashService();
    mount = await service.begin();
  });
  afterEach(() => service.dispose());

  /** The service must not start, with this exit code, and say this. */
  const expectRefusal = async (code: number, text: string, refused = service): Promise<void> => {
    const message = await refused.start().then(
      () => "it started",
      (error: Error) => error.message,
    );
    expect(message).toContain(`ended with ${code}:`);
    expect(message).toContain(text);
  };

  const segmentsFolder = (): string =>
    path.join(service.dataFolder, "apps", appIds(service.dataFolder)[0] ?? "", "journal");
  const segments = (): string[] =>
    readdirSync(segmentsFolder())
      .sort()
      .map((name) => path.join(segmentsFolder(), name));
  /** Records of a stopped service, in order. */
  const records = async (): Promise<JournalRecord[]> => {
    const found: JournalRecord[] = [];
    for (const appId of appIds(service.dataFolder))
      await readJournal(service.dataFolder, appId, (record) => found.push(record));
    return found;
  };
  const segmentOf = (record: JournalRecord): string =>
    path.join(segmentsFolder(), `${record.segment.toString(16).padStart(16, "0")}.seg`);

  test("a flipped byte in a sealed segment's data: reading that block is EIO and an alarm, everything else is there", async () => {
    const data = randomBytes(3 * MEBIBYTE);
    writeFileSync(`${mount}/damaged`, data);
    writeFileSync(`${mount}/whole`, data);
    const filler = randomBytes(FILLER_BYTES);
    writeFileSync(`${mount}/filler`, filler);
    await service.stop();
    expect(segments().length).toBeGreaterThan(1);
    const [segment = ""] = segments();
    const place = readFileSync(segment).indexOf(
      data.subarray(DAMAGED_BLOCK * BLOCK_BYTES, DAMAGED_BLOCK * BLOCK_BYTES + 100),
    );
    flipByte(segment, place + 1000);

    await service.start();
    await service.mountShare();
    const fd = openSync(`${mount}/damaged`, "r");
    const failed: number[] = [];
    for (let block = 0; block < data.length / BLOCK_BYTES; block++) {
      const wanted = data.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES);
      try {
        expect(readAll(fd, block * BLOCK_BYTES, BLOCK_BYTES).equals(wanted), `block ${block}`).toBe(true);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "EIO") throw error;
        failed.push(block);
      }
    }
    closeSync(fd);
    expect(failed).toEqual([DAMAGED_BLOCK]);
    expect(readFileSync(`${mount}/whole`).equals(data)).toBe(true);
    expect(readFileSync(`${mount}/filler`).equals(filler)).toBe(true);
    const { alarms } = (await service.json<StatusJson>("status")).service;
    expect(alarms).toHaveLength(1);
    expect(alarms[0]?.message).toContain("damaged");
    expect((await service.cliWith({ anyStatus: true }, "cat", "shop/files/damaged")).status).not.toBe(0);

    // Writing the block anew heals it.
    const again = openSync(`${mount}/damaged`, "r+");
    writeSync(again, data, DAMAGED_BLOCK * BLOCK_BYTES, BLOCK_BYTES, DAMAGED_BLOCK * BLOCK_BYTES);
    closeSync(again);
    expect(readFileSync(`${mount}/damaged`).equals(data)).toBe(true);
  });

  test("a damaged record head in the durable part is refused at the start, by name, and nothing is changed", async () => {
    for (let index = 0; index < 50; index++) writeFileSync(`${mount}/f${index}`, `content ${index}`);
    await service.stop();
    const record = (await records()).at(-20);
    if (record === undefined) throw new Error("no record");
    const segment = segmentOf(record);
    flipByte(segment, record.position + 10);
    const before = readFileSync(segment);
    await expectRefusal(DAMAGED, `${path.basename(segment)} is damaged at byte ${record.position}`);
    expect(readFileSync(segment).equals(before)).toBe(true);
    flipByte(segment, record.position + 10);
    await service.start();
    await service.mountShare();
    expect(readFileSync(`${mount}/f49`, "utf8")).toBe("content 49");
  });

  test("a journal that lost its end is refused: its rows are there already", async () => {
    for (let index = 0; index < 50; index++) writeFileSync(`${mount}/f${index}`, `content ${index}`);
    await service.stop();
    const record = (await records()).at(-20);
    if (record === undefined) throw new Error("no record");
    truncateSync(segmentOf(record), record.position);
    await expectRefusal(DAMAGED, "the journal does not reach LSN");
  });

  test("a missing segment is refused by name", async () => {
    writeFileSync(`${mount}/filler`, randomBytes(FILLER_BYTES));
    await service.stop();
    const last = segments().at(-1) ?? "";
    cpSync(last, `${service.folder}/kept`);
    rmSync(last);
    await expectRefusal(DAMAGED, "the journal does not reach LSN");
    cpSync(`${service.folder}/kept`, last);
    await service.start();
  });

  test("a key-value store that was deleted is built again from the journals", async () => {
    writeFileSync(`${mount}/kept`, "kept");
    mkdirSync(`${mount}/folder`);
    writeFileSync(`${mount}/folder/more`, randomBytes(100_000));
    const more = readFileSync(`${mount}/folder/more`);
    const before = await service.lastLsn();
    await service.stop();
    rmSync(path.join(service.dataFolder, "kv"), { recursive: true });
    await service.start();
    await service.mountShare();
    expect(readFileSync(`${mount}/kept`, "utf8")).toBe("kept");
    expect(readFileSync(`${mount}/folder/more`).equals(more)).toBe(true);
    expect((await service.cli("ls", "shop/files", "--at", `lsn:${before}`)).stdout).toContain("kept");
    // And it is used: another start reads it.
    await service.stop();
    await service.start();
    await service.mountShare();
    expect(readFileSync(`${mount}/kept`, "utf8")).toBe("kept");
  });

  test("a damaged key-value store is refused with its directory's name", async () => {
    await service.stop();
    const kv = path.join(service.dataFolder, "kv");
    cpSync(kv, `${service.folder}/kept`, { recursive: true });
    rmSync(path.join(kv, "CURRENT"));
    await expectRefusal(DAMAGED, JSON.stringify(`key-value store in "${kv}"`).slice(1, -1));
    rmSync(kv, { recursive: true });
    cpSync(`${service.folder}/kept`, kv, { recursive: true });
    const manifest = path.join(kv, readdirSync(kv).find((name) => name.startsWith("MANIFEST")) ?? "");
    flipByte(manifest, 20);
    await expectRefusal(DAMAGED, JSON.stringify(`key-value store in "${kv}"`).slice(1, -1));
    rmSync(kv, { recursive: true });
    cpSync(`${service.folder}/kept`, kv, { recursive: true });
    await service.start();
  });

  test("a second service on the folder, a newer folder and a foreign one are refused", async () => {
    const second = new CrashService({ dataFolder: service.dataFolder });
    await expectRefusal(CONFLICT, "is used by process", second);
    rmSync(second.folder, { recursive: true });
    expect(readdirSync(mount)).toEqual([]);
    await service.stop();

    const identity = path.join(service.dataFolder, "tidemark.json");
    const text = readFileSync(identity, "utf8");
    writeFileSync(identity, JSON.stringify({ ...(JSON.parse(text) as object), version: 99 }));
    await expectRefusal(DAMAGED, "written by a newer program: format version 99");
    writeFileSync(identity, text.slice(0, 20));
    await expectRefusal(DAMAGED, "tidemark.json is damaged");
    rmSync(identity);
    await expectRefusal(DAMAGED, "it has no tidemark.json");
    writeFileSync(identity, text);
    await service.start();
  });
});

/** Changes one byte of a file; the same call again undoes it. */
function flipByte(file: string, position: number): void {
  const fd = openSync(file, "r+");
  const byte = Buffer.alloc(1);
  if (position >= fstatSync(fd).size) throw new Error("past the end");
  readSync(fd, byte, 0, 1, position);
  byte[0] = (byte[0] ?? 0) ^ 0x10;
  writeSync(fd, byte, 0, 1, position);
  closeSync(fd);
}

/** Reads `length` bytes, however many calls that takes. */
function readAll(fd: number, position: number, length: number): Buffer {
  const buffer = Buffer.alloc(length);
  for (let done = 0; done < length; ) {
    const count = readSync(fd, buffer, done, length - done, position + done);
    if (count === 0) throw new Error("the file ends early");
    done += count;
  }
  return buffer;
}
