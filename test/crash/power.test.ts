import { existsSync, writeFileSync } from "node:fs";
import path from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { RECORD_OP } from "../../src/domain/record-op.ts";
import { seededRandom, testSeed } from "../../src/journal/journal-fixture.ts";
import { skipWithout } from "../e2e/requirements.ts";
import { run } from "../e2e/run.ts";
import { appIds, readJournal } from "./app-journal.ts";
import { CrashService, isAlive } from "./crash-service.ts";
import { LoopDisk, SHUTDOWN_LOG_WRITTEN, SHUTDOWN_NOTHING_WRITTEN, skipWithoutLoop } from "./loop-disk.ts";
import { crashRounds, roundsTimeoutMs } from "./rounds.ts";
import { until } from "./until.ts";
import { Workload } from "./workload.ts";

const skipped = skipWithout("python3", "mkfs.ext4") || skipWithoutLoop();

const ROUNDS = crashRounds(8);
const DISK_BYTES = 2 * 1024 ** 3;
const STORMS = 3;
/** Records of the first storm before a cut. */
const RECORDS_MAX = 500;
const SHUTDOWN_MODES = [
  SHUTDOWN_LOG_WRITTEN,
  SHUTDOWN_NOTHING_WRITTEN,
  SHUTDOWN_NOTHING_WRITTEN,
  SHUTDOWN_NOTHING_WRITTEN,
];

const workloadFile = (name: string): string => path.join(import.meta.dirname, "workloads", name);

/** One storm of one round: a process with a folder of its own, so that its records are a sequence that can be repeated. */
type Storm = { readonly workload: Workload; readonly folder: string; readonly seed: number; readonly manifest: string };

describe.skipIf(skipped)("power cuts under load", { timeout: roundsTimeoutMs(120_000, 20_000, ROUNDS) }, () => {
  let service: CrashService;
  let disk: LoopDisk;
  let storms: Storm[] = [];

  afterEach(async () => {
    for (const { workload } of storms) await workload.killed();
    await service.dispose();
    disk[Symbol.dispose]();
  });

  const startStorms = (mount: string, round: number, random: () => number): Storm[] =>
    Array.from({ length: STORMS }, (_, index) => {
      const seed = Math.floor(random() * 2 ** 31);
      const folder = `storm-${round}-${index}`;
      const manifest = path.join(service.folder, `${folder}.json`);
      return {
        workload: new Workload("storm.py", ["power", `${mount}/${folder}`, manifest, String(seed)]),
        folder,
        seed,
        manifest,
      };
    });

  /** Cuts, and brings the disk back with no process of ours left. */
  const loseAndRestorePower = async (mount: string, mode: number): Promise<void> => {
    disk.cutPower(mode);
    // Fails at the next call that needs the service; reads may go on from the kernel's memory until then.
    for (const { workload } of storms) await workload.result();
    const pid = service.servedPids.at(-1) ?? 0;
    await service.killAll();
    await until(() => !isAlive(pid), "the service did not die");
    await run("umount", ["-l", mount]);
    await disk.restore();
  };

  test(`${ROUNDS} times: all that was fsynced is there, and each process finds exactly the first of its changes`, async () => {
    const random = seededRandom(testSeed("power"));
    disk = new LoopDisk(DISK_BYTES);
    service = new CrashService({ dataFolder: path.join(disk.mountPoint, "data") });
    const mount = await service.begin();
    const all: Storm[] = [];
    const sums = { acknowledged: 0, synced: 0, kept: 0 };
    for (let round = 0; round < ROUNDS; round++) {
      storms = startStorms(mount, round, random);
      all.push(...storms);
      const enough = 1 + Math.floor(random() * RECORDS_MAX);
      await until(() => {
        for (const { workload } of storms) workload.checkRuns();
        return (storms[0]?.workload.fact("progress") ?? 0) >= enough;
      }, "the storms make no progress");
      // What was told before the cut: see journal-power.test.ts.
      const promised = new Map(storms.map((storm) => [storm, storm.workload.fact("synced")]));
      await loseAndRestorePower(
        mount,
        SHUTDOWN_MODES[Math.floor(random() * SHUTDOWN_MODES.length)] ?? SHUTDOWN_NOTHING_WRITTEN,
      );
      const kept = await recordsByProcess(service.dataFolder);
      await service.start();
      await service.mountShare();
      for (const storm of storms) {
        const { acknowledged, kept: found } = await expectPrefix(
          mount,
          storm,
          kept.get(storm.workload.fact("pid")) ?? [],
          promised.get(storm) ?? 0,
        );
        sums.acknowledged += acknowledged;
        sums.synced += storm.workload.fact("synced");
        sums.kept += found;
      }
    }
    // What the earlier cuts left is still as it was.
    for (const { folder, manifest } of all) {
      if (existsSync(path.join(mount, folder)))
        await run("python3", ["-B", workloadFile("verify.py"), path.join(mount, folder), manifest]);
    }
    console.log(
      `power: ${ROUNDS} cuts; ${sums.acknowledged} changes acknowledged, ${sums.synced} of them before an fsync, ${sums.kept} kept`,
    );
    // A run in which the power never took anything would have shown nothing.
    expect(sums.kept).toBeLessThan(sums.acknowledged);
    expect(sums.synced).toBeGreaterThan(0);
  });

  /** The tree must be what the storm's first calls made, as many as the journal has: repeats them in the workload's model. Answers how many. */
  const expectPrefix = async (
    mount: string,
    storm: Storm,
    records: readonly StormRecord[],
    promised: number,
  ): Promise<{ acknowledged: number; kept: number }> => {
    const { workload, folder, manifest, seed } = storm;
    const acknowledged = Number((await workload.result())["calls"]);
    const file = `${manifest}.records`;
    writeFileSync(file, JSON.stringify(records));
    const { stdout } = await run("python3", [
      "-B",
      workloadFile("storm.py"),
      file,
      path.join(mount, folder),
      manifest,
      String(seed),
    ]);
    const { calls: kept } = JSON.parse(stdout) as { calls: number };
    expect(kept, folder).toBeGreaterThanOrEqual(promised);
    // One more may have been under way.
    expect(kept, folder).toBeLessThanOrEqual(acknowledged + 1);
    if (records.length === 0) expect(existsSync(path.join(mount, folder))).toBe(false);
    else await run("python3", ["-B", workloadFile("verify.py"), path.join(mount, folder), manifest]);
    return { acknowledged, kept };
  };
});

/** A record as storm.py takes it: the operation, and the bytes of a WRITE. */
type StormRecord = readonly [string, number];

const OPERATION_NAMES = new Map<number, string>(Object.entries(RECORD_OP).map(([name, number]) => [number, name]));

/** The records in the journal of each process, by process id; the journal must end at a record that verifies. */
async function recordsByProcess(dataFolder: string): Promise<Map<number, StormRecord[]>> {
  const found = new Map<number, StormRecord[]>();
  for (const appId of appIds(dataFolder)) {
    await readJournal(dataFolder, appId, ({ actor, op, dataLength }) => {
      const records = found.get(actor.pid) ?? [];
      records.push([OPERATION_NAMES.get(op) ?? `${op}`, dataLength]);
      found.set(actor.pid, records);
    });
  }
  return found;
}
