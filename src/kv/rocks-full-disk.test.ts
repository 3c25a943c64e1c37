import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { checkRounds, roundAt } from "../../test/contract/kv-rounds.ts";
import { KvError } from "./kv-error.ts";
import { RocksKv } from "./rocks-kv.ts";

/** RocksDB looks every 5 seconds whether there is room again. */
const RECOVERY_MS_MAX = 30_000;

const canMount = process.getuid?.() === 0;
if (!canMount && process.env["CI"] === undefined)
  console.log("rocks-full-disk.test.ts is skipped: mounting a tmpfs needs root");

describe.skipIf(!canMount && process.env["CI"] === undefined)("on a full disk", () => {
  let folder: string;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "tidemark-kv-full-"));
    run("mount", ["-t", "tmpfs", "-o", "size=24m", "tmpfs", folder]);
  });

  afterEach(() => {
    run("umount", [folder]);
    rmSync(folder, { recursive: true });
  });

  function run(command: string, options: string[]): void {
    expect(spawnSync(command, options, { encoding: "utf8" })).toMatchObject({ status: 0, stderr: "" });
  }

  test("a batch fails whole with KV_NO_SPACE, reads go on, and writing goes on by itself when there is room", async () => {
    const directory = join(folder, "kv");
    let kv = await RocksKv.open({ directory, missing: "create", memoryBytesMax: 16 * 1024 * 1024 });
    const { round, error } = await writeUntilFull(kv, 0);
    expect(error).toMatchObject({ code: "KV_NO_SPACE", directory });
    expect(checkRounds(kv)).toBe(round - 1);
    await expect(kv.batch(roundAt(round))).rejects.toMatchObject({ code: "KV_NO_SPACE" });

    run("mount", ["-o", "remount,size=200m", folder]);
    await expect
      .poll(
        () =>
          kv.batch(roundAt(round)).then(
            () => true,
            () => false,
          ),
        { timeout: RECOVERY_MS_MAX, interval: 200 },
      )
      .toBe(true);
    for (let next = round + 1; next < round + 200; next += 1) await kv.batch(roundAt(next));
    await kv.close();
    kv = await RocksKv.open({ directory, missing: "fail", memoryBytesMax: 16 * 1024 * 1024 });
    expect(checkRounds(kv)).toBe(round + 199);
    await kv.close();
  }, 60_000);

  test("the store closes, and opens with all that was written when there is room", async () => {
    const directory = join(folder, "kv");
    const kv = await RocksKv.open({ directory, missing: "create", memoryBytesMax: 16 * 1024 * 1024 });
    const { round } = await writeUntilFull(kv, 0);
    // It may say that it could not write what it still had in memory; the log has it.
    await kv.close().catch((error: unknown) => expect(error).toMatchObject({ name: "KvError", directory }));
    run("mount", ["-o", "remount,size=200m", folder]);
    const again = await RocksKv.open({ directory, missing: "fail", memoryBytesMax: 16 * 1024 * 1024 });
    expect(checkRounds(again)).toBe(round - 1);
    await again.close();
  });

  /** Returns the first round that was refused. */
  async function writeUntilFull(kv: RocksKv, start: number): Promise<{ round: number; error: unknown }> {
    for (let round = start; round < 10_000; round += 1) {
      try {
        await kv.batch(roundAt(round));
      } catch (error) {
        expect(error).toBeInstanceOf(KvError);
        return { round, error };
      }
    }
    throw new Error("the disk did not fill up");
  }
});
