import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { afterEach, describe, expect, test } from "vitest";
import { silentLog } from "../../src/base/log.ts";
import { LIVE, type Lsn } from "../../src/domain/ids.ts";
import { seededRandom, testSeed } from "../../src/journal/journal-fixture.ts";
import { MemoryKv } from "../../src/kv/memory-kv.ts";
import { RocksKv } from "../../src/kv/rocks-kv.ts";
import { ManualClock } from "../model/manual-clock.ts";
import { dumpTree } from "./engine-dump.ts";
import { EngineRun, openEngineApp } from "./engine-run.ts";
import { LoopDisk, SHUTDOWN_LOG_WRITTEN, SHUTDOWN_NOTHING_WRITTEN, skipWithoutLoop } from "./loop-disk.ts";
import { crashRounds, roundsTimeoutMs } from "./rounds.ts";
import { until } from "./until.ts";

const skipped = skipWithoutLoop();

const ROUNDS = crashRounds(8);
const STEPS = 6000;
const RECORDS_MAX = 1800;
const MOMENTS = 3;
const DISK_BYTES = 1024 ** 3;
const CHILD = fileURLToPath(new URL("./engine-power-child.ts", import.meta.url));

/** The engine in a process of its own, and what it acknowledged. */
class EngineProcess {
  acknowledged = 0;
  synced = 0;
  readonly #child: ChildProcess;
  readonly #closed: Promise<void>;
  #stderr = "";

  constructor(folder: string, seed: number) {
    this.#child = spawn(process.execPath, [CHILD, folder, String(seed), String(STEPS)], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    const { stdout } = this.#child;
    if (stdout === null) throw new Error("no stdout");
    createInterface({ input: stdout }).on("line", (line) => {
      const [what, lsn] = line.split(" ");
      if (what === "synced") this.synced = Math.max(this.synced, Number(lsn));
      if (what === "acknowledged") this.acknowledged = Number(lsn);
    });
    this.#child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.#stderr += text;
    });
    this.#closed = new Promise((resolve) => this.#child.once("close", () => resolve()));
  }

  /** Throws when it has ended: only a cut may end it. */
  checkRuns(): void {
    const { exitCode, signalCode } = this.#child;
    if (exitCode !== null || signalCode !== null)
      throw new Error(`the engine ended with ${exitCode ?? signalCode}: ${this.#stderr}`);
  }

  /** Resolves when it is gone and everything it said is here. */
  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#closed;
  }
}

/** The same requests on an engine that never crashed, up to the record `last`. */
async function withReference<T>(options: { seed: number; last: Lsn }, use: (run: EngineRun) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(path.join(tmpdir(), "tidemark-reference-"));
  const clock = new ManualClock();
  const app = await openEngineApp({ folder, kv: new MemoryKv(), clock, log: silentLog });
  try {
    const run = EngineRun.begin(app, clock, { seed: options.seed, steps: STEPS });
    while (app.core.lastLsn < options.last) {
      const done = run.next();
      if (done === undefined) throw new Error(`the run makes ${app.core.lastLsn} records, not ${options.last}`);
      await Promise.resolve(done.reply).catch(() => {});
    }
    expect(app.core.lastLsn).toBe(options.last);
    return await use(run);
  } finally {
    await app.close();
    rmSync(folder, { recursive: true });
  }
}

describe.skipIf(skipped)("power cuts under an engine", { timeout: roundsTimeoutMs(60_000, 15_000, ROUNDS) }, () => {
  let disk: LoopDisk | undefined;
  let child: EngineProcess | undefined;

  afterEach(async () => {
    await child?.kill();
    disk?.[Symbol.dispose]();
  });

  test(`${ROUNDS} times: the journal ends at a record that was acknowledged, and the tree is what the requests up to it make`, async () => {
    const random = seededRandom(testSeed("engine-power"));
    disk = new LoopDisk(DISK_BYTES);
    let lost = 0;
    let kept = 0;
    let behind = 0;
    for (let round = 0; round < ROUNDS; round++) {
      const folder = path.join(disk.mountPoint, `round-${round}`);
      mkdirSync(folder);
      const seed = Math.floor(random() * 2 ** 31);
      const process = new EngineProcess(folder, seed);
      child = process;
      const enough = 2 + Math.floor(random() * RECORDS_MAX);
      await until(() => {
        process.checkRuns();
        return process.acknowledged >= enough;
      }, `the engine makes no progress, seed ${seed}`);
      // What was told before the cut: see journal-power.test.ts.
      const promised = process.synced;
      disk.cutPower(random() < 0.3 ? SHUTDOWN_LOG_WRITTEN : SHUTDOWN_NOTHING_WRITTEN);
      await process.kill();
      await disk.restore();

      const kv = await RocksKv.open({ directory: path.join(folder, "kv"), missing: "create" });
      const app = await openEngineApp({ folder, kv, clock: new ManualClock(), log: silentLog });
      const { lastLsn } = app.core;
      const where = `round ${round}, seed ${seed}, LSN ${lastLsn}`;
      expect(lastLsn, where).toBeGreaterThanOrEqual(promised);
      expect(lastLsn, where).toBeLessThanOrEqual(process.acknowledged + 1);
      behind = Math.max(behind, lastLsn - app.store.appliedLsn);
      lost += Math.max(0, process.acknowledged - lastLsn);
      kept += lastLsn;
      if (lastLsn > 0) await expectSameTrees(app, { seed, last: lastLsn, random, where });
      await app.close();
      await kv.close();
      rmSync(folder, { recursive: true });
    }
    console.log(
      `engine-power: ${ROUNDS} cuts, ${kept} records kept, ${lost} unsynced records lost, up to ${behind} replayed over the rows`,
    );
    // A run in which the power never took anything would have shown nothing.
    expect(lost).toBeGreaterThan(0);
  });

  const expectSameTrees = async (
    app: Awaited<ReturnType<typeof openEngineApp>>,
    { seed, last, random, where }: { seed: number; last: Lsn; random: () => number; where: string },
  ): Promise<void> => {
    await withReference({ seed, last }, async (reference) => {
      const moments = Array.from({ length: MOMENTS }, () => (1 + Math.floor(random() * last)) as Lsn);
      for (const at of [LIVE, ...moments]) {
        const found = await dumpTree(app.engine, reference.root, at);
        const wanted = await dumpTree(reference.app.engine, reference.root, at);
        const different = wanted.findIndex((line, index) => line !== found[index]);
        expect(found[different], `${where}, at ${at}`).toBe(wanted[different]);
        expect(found).toHaveLength(wanted.length);
      }
    });
  };
});
