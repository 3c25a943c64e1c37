/** What RocksKv makes of a directory that is locked, damaged, torn, foreign or full. */
import { spawn, spawnSync } from "node:child_process";
import {
  appendFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { checkRounds, roundAt } from "../../test/contract/kv-rounds.ts";
import { KvError } from "./kv-error.ts";
import type { KvStore } from "./kv-store.ts";
import { RocksKv } from "./rocks-kv.ts";

// Processes are started, on machines that do other things too.
vi.setConfig({ testTimeout: 30_000, hookTimeout: 30_000 });

const PROCESS = fileURLToPath(new URL("../../test/contract/kv-process.ts", import.meta.url));
const MEMORY_BYTES = 16 * 1024 * 1024;
const ROUNDS = 600;

let folder: string;
/** A store with tables and a log, closed. */
let sample: string;
let copies = 0;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "tidemark-kv-damage-"));
  sample = join(folder, "sample");
  const kv = await open(sample);
  for (let round = 0; round < ROUNDS; round += 1) await kv.batch(roundAt(round));
  await kv.close();
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

function open(directory: string, missing: "create" | "fail" = "create"): Promise<RocksKv> {
  return RocksKv.open({ directory, missing, memoryBytesMax: MEMORY_BYTES });
}

function fresh(): string {
  copies += 1;
  return join(folder, `copy-${copies}`);
}

function copyOf(directory: string): string {
  const copy = fresh();
  cpSync(directory, copy, { recursive: true });
  return copy;
}

function filesIn(directory: string, ending: string): string[] {
  return readdirSync(directory)
    .filter((name) => name.endsWith(ending))
    .map((name) => join(directory, name))
    .sort();
}

function manifestOf(directory: string): string {
  return join(directory, readFileSync(join(directory, "CURRENT"), "utf8").trim());
}

function overwrite(file: string, offset: number, length: number): void {
  const content = readFileSync(file);
  for (let index = offset; index < Math.min(offset + length, content.length); index += 1)
    content[index] = (content[index] ?? 0) ^ 0x5a;
  writeFileSync(file, content);
}

/** Zeros from `offset` to the end of its block of 32 KiB, as a page that never reached the disk. */
function zero(file: string, offset: number): void {
  const content = readFileSync(file);
  content.fill(0, offset, Math.min(content.length, (Math.floor(offset / 32_768) + 1) * 32_768));
  writeFileSync(file, content);
}

/** Where the batches of a RocksDB log begin (types 1, whole, and 2, first fragment; see rocks-log-seal.ts for the format). */
function recordOffsets(log: Buffer): number[] {
  const offsets: number[] = [];
  for (let at = 0; at + 7 <= log.length; ) {
    const blockLeft = 32_768 - (at % 32_768);
    if (blockLeft < 7) {
      at += blockLeft;
      continue;
    }
    const type = log.readUInt8(at + 6);
    if (type === 1 || type === 2) offsets.push(at);
    at += 7 + log.readUInt16LE(at + 4);
  }
  return offsets;
}

async function failureOf(work: Promise<unknown>): Promise<KvError> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(KvError);
  return error as KvError;
}

/** Opens in this process; expects `code` and a message that names the directory and says what is the matter. */
async function expectRefused(directory: string, code: KvError["code"], text: string): Promise<void> {
  const error = await failureOf(open(directory));
  expect(error).toMatchObject({ code, directory });
  expect(error.message).toContain(`"${directory}"`);
  expect(error.message).toContain(text);
}

describe("a locked store", () => {
  test("is refused to the process that has it, and to another, and is free after close", async () => {
    const directory = copyOf(sample);
    const kv = await open(directory);
    await expectRefused(directory, "KV_LOCKED", "this process already has it open");
    const other = spawnSync(process.execPath, [PROCESS, "open", directory], { encoding: "utf8" });
    expect(other.stdout).toContain("KV_LOCKED");
    expect(other.stdout).toContain(`"${directory}": another process has it open`);
    // The refusals did no harm to the one who has it.
    expect(checkRounds(kv)).toBe(ROUNDS - 1);
    await kv.close();
    expect(spawnSync(process.execPath, [PROCESS, "open", directory], { encoding: "utf8" }).stdout).toBe("opened\n");
  });
});

describe("a damaged store is refused with its directory's name", () => {
  const damages: [string, string, (directory: string) => void][] = [
    ["CURRENT is missing", "CURRENT is missing", (directory) => rmSync(join(directory, "CURRENT"))],
    ["CURRENT is empty", "CURRENT", (directory) => truncateSync(join(directory, "CURRENT"))],
    ["CURRENT is garbage", "CURRENT", (directory) => writeFileSync(join(directory, "CURRENT"), "garbage")],
    [
      "CURRENT names no file",
      "MANIFEST-999999",
      (directory) => writeFileSync(join(directory, "CURRENT"), "MANIFEST-999999\n"),
    ],
    ["the manifest is missing", "MANIFEST", (directory) => rmSync(manifestOf(directory))],
    ["the manifest is cut", "MANIFEST", (directory) => truncateSync(manifestOf(directory), 12)],
    ["the manifest is overwritten", "MANIFEST", (directory) => overwrite(manifestOf(directory), 20, 40)],
    ["a table is missing", ".sst", (directory) => rmSync(filesIn(directory, ".sst")[0] ?? "")],
    ["a table is cut", ".sst", (directory) => truncateSync(filesIn(directory, ".sst")[0] ?? "", 1000)],
    [
      "a table's end is overwritten",
      ".sst",
      (directory) => {
        const file = filesIn(directory, ".sst")[0] ?? "";
        overwrite(file, statSync(file).size - 60, 60);
      },
    ],
  ];
  for (const [name, text, damage] of damages) {
    test(`when ${name}`, async () => {
      const directory = copyOf(sample);
      damage(directory);
      const before = filesIn(directory, ".sst");
      await expectRefused(directory, "KV_CORRUPT", text);
      // No table was tidied away: what is left can still be saved.
      expect(filesIn(directory, ".sst")).toEqual(before);
    });
  }

  test("and rows of a damaged block are an error when read, not absent", async () => {
    const directory = copyOf(sample);
    for (const file of filesIn(directory, ".sst")) overwrite(file, 0, statSync(file).size / 2);
    const kv = await open(directory);
    const failure = expect.objectContaining({
      code: "KV_CORRUPT",
      directory,
      message: expect.stringContaining(`"${directory}"`),
    });
    expect(() => kv.rangeSync({ limit: 10_000 })).toThrow(failure);
    expect(() => kv.getManySync(Array.from({ length: 300 }, (_, index) => Buffer.from(`row/${index}`)))).toThrow(
      failure,
    );
    await kv.close();
  });
});

describe("a directory without a store", () => {
  test("is made into one where asked, and refused where not", async () => {
    const directory = join(fresh(), "deep", "kv");
    expect(await failureOf(open(directory, "fail"))).toMatchObject({ code: "KV_MISSING", directory });
    const kv = await open(directory, "create");
    await kv.close();
    expect(statSync(directory).mode & 0o777).toBe(0o700);
    await (await open(directory, "fail")).close();
  });

  test("that holds something else is refused and left alone", async () => {
    const directory = fresh();
    mkdirSync(directory);
    writeFileSync(join(directory, "thesis.txt"), "years of work");
    await expectRefused(directory, "KV_FOREIGN", "thesis.txt");
    await expectRefused(join(directory, "thesis.txt"), "KV_FOREIGN", "not a directory");
    expect(readdirSync(directory)).toEqual(["thesis.txt"]);
  });

  test("in which creating one was interrupted is taken", async () => {
    const directory = fresh();
    mkdirSync(directory);
    for (const name of ["MANIFEST-000001", "IDENTITY", "LOCK"]) writeFileSync(join(directory, name), "");
    await (await open(directory)).close();
  });
});

describe("after a crash the store is a prefix of its batches", () => {
  /** What `kill -9` leaves. */
  let crashed: string;

  beforeAll(() => {
    crashed = fresh();
    const child = spawnSync(process.execPath, [PROCESS, "die", crashed, `${ROUNDS}`], { encoding: "utf8" });
    expect(child).toMatchObject({ signal: "SIGKILL", stderr: "" });
  });

  test("the whole, when only the process died", async () => {
    await expectPrefix(copyOf(crashed), (applied) => expect(applied).toBe(ROUNDS - 1));
  });

  const damages: [string, (file: string, records: number[]) => void][] = [
    ["cut to nothing", (file) => truncateSync(file)],
    ["cut between two records", (file, records) => truncateSync(file, records[Math.floor(records.length / 2)])],
    [
      "cut inside a record",
      (file, records) => truncateSync(file, (records[Math.floor(records.length / 3)] ?? 0) + 1000),
    ],
    ["cut inside a header", (file, records) => truncateSync(file, (records[Math.floor(records.length / 4)] ?? 0) + 3)],
    [
      "overwritten inside a record",
      (file, records) => overwrite(file, (records[Math.floor(records.length / 5)] ?? 0) + 1000, 100),
    ],
    [
      "zero from a record to the end of the block",
      (file, records) => zero(file, records[Math.floor(records.length / 6)] ?? 0),
    ],
    ["zero at its start", (file) => zero(file, 0)],
  ];
  for (const [name, damage] of damages) {
    test(`whichever log is ${name}, with later logs whole`, async () => {
      const logs = filesIn(crashed, ".log").filter((file) => statSync(file).size > 0);
      expect(logs.length).toBeGreaterThan(1);
      const reached = new Set<number>();
      for (const log of logs) {
        const directory = copyOf(crashed);
        const file = join(directory, basename(log));
        damage(file, recordOffsets(readFileSync(file)));
        await expectPrefix(directory, (applied) => reached.add(applied));
        rmSync(directory, { recursive: true });
      }
      // The damage did reach rows: there are different prefixes among the results.
      expect(reached.size).toBeGreaterThan(1);
    });
  }

  test("with a block of zeros in the middle of the log, between whole batches", async () => {
    const directory = fresh();
    const kv = await open(directory);
    // Each of these batches fills a block of the log: 7 bytes of record header, 12 of batch header, 11 of the put, and the value.
    const value = Buffer.alloc(32_768 - 7 - 12 - 11, "x");
    for (let index = 0; index < 20; index += 1)
      await kv.batch([{ type: "put", key: Buffer.from(`b${10 + index}---`), value }]);
    const directoryThen = copyOf(directory);
    await kv.close();
    const log = filesIn(directoryThen, ".log")[0] ?? "";
    expect(recordOffsets(readFileSync(log))).toEqual(Array.from({ length: 20 }, (_, index) => index * 32_768));
    zero(log, 12 * 32_768);
    const again = await open(directoryThen);
    expect(again.rangeSync({ limit: 100 }).map((entry) => entry.key.toString("utf8", 0, 3))).toEqual(
      Array.from({ length: 12 }, (_, index) => `b${10 + index}`),
    );
    await again.close();
  });

  test("with bytes after the end of the log, or a log that is missing at the end", async () => {
    const withTail = copyOf(crashed);
    appendFileSync(filesIn(withTail, ".log").at(-1) ?? "", Buffer.alloc(5000, 0x33));
    await expectPrefix(withTail, (applied) => expect(applied).toBe(ROUNDS - 1));
    const withoutLast = copyOf(crashed);
    rmSync(filesIn(withoutLast, ".log").at(-1) ?? "");
    await expectPrefix(withoutLast, (applied) => expect(applied).toBeLessThan(ROUNDS - 1));
  });

  /** Opens, checks that it is a prefix, writes on, and checks after another opening that nothing came back or went away. */
  async function expectPrefix(directory: string, look: (applied: number) => void): Promise<void> {
    const kv: KvStore = await open(directory);
    const applied = checkRounds(kv);
    look(applied);
    for (let round = applied + 1; round < applied + 5; round += 1) await kv.batch(roundAt(round));
    await kv.close();
    const again = await open(directory);
    expect(checkRounds(again)).toBe(applied + 4);
    await again.close();
  }
});

describe("a process", () => {
  test("that is killed loses none of the batches it had written", async () => {
    const directory = fresh();
    let told = -1;
    for (const enough of [5, 300, 700]) {
      const child = spawn(process.execPath, [PROCESS, "write", directory], { stdio: ["ignore", "pipe", "inherit"] });
      told = await new Promise<number>((resolve) => {
        let output = "";
        child.stdout.setEncoding("utf8").on("data", (text: string) => {
          output += text;
          if (output.split("\n").length > enough) child.kill("SIGKILL");
        });
        child.once("close", () => resolve(output.split("\n").length - 2));
      });
      expect(child.signalCode).toBe("SIGKILL");
      const kv = await open(directory);
      expect(checkRounds(kv)).toBeGreaterThanOrEqual(told);
      await kv.close();
      rmSync(directory, { recursive: true });
    }
  });

  test("that ends without closing, or exits while another thread writes, ends quietly and loses nothing", async () => {
    for (const mode of ["leave", "exit-sharing"]) {
      const directory = fresh();
      const child = spawnSync(process.execPath, [PROCESS, mode, directory], { encoding: "utf8" });
      expect({ mode, status: child.status, signal: child.signal, stderr: child.stderr }).toEqual({
        mode,
        status: 0,
        signal: null,
        stderr: "",
      });
      const kv = await open(directory);
      expect(kv.rangeSync({ limit: 1 })).toHaveLength(1);
      await kv.close();
    }
  });
});
