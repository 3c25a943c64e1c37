import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { seededRandom, testSeed } from "../../src/journal/journal-fixture.ts";
import { skipWithout } from "../e2e/requirements.ts";
import { run, shell } from "../e2e/run.ts";
import { appIds, readJournal } from "./app-journal.ts";
import { CrashService } from "./crash-service.ts";
import { crashRounds, roundsTimeoutMs } from "./rounds.ts";
import { until } from "./until.ts";
import { Workload, type WorkloadResult } from "./workload.ts";

const skipped = skipWithout("python3", "git", "tar", "bash", "sqlite3");

const REPOSITORY = path.resolve(import.meta.dirname, "../..");
const VERIFY = path.join(import.meta.dirname, "workloads/verify.py");

const ROUNDS = crashRounds(12);
const DEATHS = Math.min(ROUNDS, 8);

/** The first one tells how far it is. */
const PROGRAMS = ["append.py", "storm.py", "locks.py", "mapped.py", "sqlite.py", "git-loop.sh", "tar-loop.sh"];

/** Rounds of append.py between two kills: from right after the start to a second or two. */
const PROGRESS_MAX = 60;

describe.skipIf(skipped)(
  "kill -9 of the service under load",
  { timeout: roundsTimeoutMs(180_000, 10_000, ROUNDS) },
  () => {
    let service: CrashService;
    let workloads: Workload[] = [];

    afterEach(async () => {
      for (const workload of workloads) await workload.killed();
      await service.dispose();
    });

    /** A service with a share mounted, and the workloads at work on it. */
    const begin = async (seed: number, programs: readonly string[]): Promise<string> => {
      service = new CrashService();
      const mount = await service.begin();
      await shell(
        `tar -C ${REPOSITORY} -cf ${service.folder}/archive.tar src/meta src/gateway node_modules/@grpc node_modules/@types/node`,
      );
      workloads = programs.map((program) => startWorkload(program, mount, seed));
      return mount;
    };

    const startWorkload = (program: string, mount: string, seed: number): Workload => {
      const folder = `${mount}/${program.replace(/\W.*/, "")}`;
      if (program === "storm.py")
        return new Workload(program, ["work", folder, `${service.folder}/manifest`, String(seed)]);
      if (program === "tar-loop.sh") return new Workload(program, [folder, `${service.folder}/archive.tar`]);
      return new Workload(program, [folder]);
    };

    const checkRun = (): void => {
      for (const workload of workloads) workload.checkRuns();
    };

    /** Lets the workloads check what they did, then everything once more from an empty kernel cache, after a stop and a start. */
    const end = async (mount: string): Promise<Map<string, WorkloadResult>> => {
      const results = new Map<string, WorkloadResult>();
      for (const workload of workloads) results.set(workload.name, await workload.finish());
      const before = await factsOf(mount);
      await service.stop();
      await expectEachRequestOnce(service.dataFolder);
      await service.start();
      await service.mountShare();
      expect(await factsOf(mount)).toBe(before);
      await run("python3", ["-B", VERIFY, `${mount}/storm`, `${service.folder}/manifest`]);
      expect(service.log).not.toContain("a defect");
      expect(service.log).not.toContain("damaged");
      return results;
    };

    test(`${ROUNDS} times: no application sees an error, nothing acknowledged is lost, nothing happens twice, locks are kept`, async () => {
      const seed = testSeed("kill");
      const random = seededRandom(seed);
      const mount = await begin(seed, PROGRAMS);
      const [pulse] = workloads as [Workload];
      const kills: bigint[] = [];
      for (let round = 0; round < ROUNDS; round++) {
        const enough = pulse.fact("progress") + 1 + Math.floor(random() * PROGRESS_MAX);
        await until(() => {
          checkRun();
          return pulse.fact("progress") > enough;
        }, "append.py made no progress");
        kills.push(await service.killService());
      }
      const results = await end(mount);
      await shell(
        `git -C ${mount}/git fsck --strict --no-progress; tar -C ${mount}/tar/tree --compare -f ${service.folder}/archive.tar`,
      );
      report(kills, results);
    });

    test(`${DEATHS} times between a change and its answer: the change is not made again`, async () => {
      const seed = testSeed("die-after-commit");
      const switchFile = path.join(mkdtempSync(path.join(tmpdir(), "tidemark-die-")), "die");
      process.env["TIDEMARK_NODE_OPTIONS"] = `--import ${new URL("./die-after-commit.ts", import.meta.url).href}`;
      process.env["CRASH_DIE"] = switchFile;
      try {
        const mount = await begin(seed, ["append.py", "storm.py", "sqlite.py"]);
        writeFileSync(switchFile, "");
        await until(() => {
          checkRun();
          return service.servedPids.length > DEATHS;
        }, "the service does not die");
        rmSync(switchFile);
        await end(mount);
      } finally {
        delete process.env["TIDEMARK_NODE_OPTIONS"];
        delete process.env["CRASH_DIE"];
        rmSync(path.dirname(switchFile), { recursive: true, force: true });
      }
    });
  },
);

/** Checksums of what the workloads left, but of the storm's tree, which has a manifest. */
async function factsOf(mount: string): Promise<string> {
  const { stdout } = await shell(
    `cd ${mount} && for each in append mapped sqlite; do if [ -d $each ]; then find $each -type f; fi; done | sort | xargs sha256sum && sqlite3 sqlite/data.db 'pragma integrity_check; select count(*), sum(n) from t'`,
  );
  return stdout;
}

/** No request of the kernel may have two records: a mutation that was sent again must have been answered from the first. */
async function expectEachRequestOnce(dataFolder: string): Promise<void> {
  for (const appId of appIds(dataFolder)) {
    const seen = new Set<string>();
    const twice: string[] = [];
    await readJournal(dataFolder, appId, ({ lsn, unique, actor, op }) => {
      if (unique === 0) return;
      const key = `${actor.mountId}:${unique}`;
      if (seen.has(key)) twice.push(`LSN ${lsn}, operation ${op}: request ${key}`);
      seen.add(key);
    });
    expect(twice).toEqual([]);
    expect(seen.size).toBeGreaterThan(1000);
  }
}

/** Prints what was done, and how long each outage was for an application: the call of append.py under way at the kill. */
function report(kills: readonly bigint[], results: ReadonlyMap<string, WorkloadResult>): void {
  const stalls = results.get("append.py")?.stalls ?? [];
  const outagesMs = kills.flatMap((kill) => {
    const at = Number(kill);
    const stall = stalls.find(([start, took]) => start + took > at && start < at + 200_000_000);
    return stall === undefined ? [] : [(stall[0] + stall[1] - at) / 1e6];
  });
  const sorted = outagesMs.sort((left, right) => left - right);
  const work = [...results].map(([name, { stalls: _, ...facts }]) => `${name} ${JSON.stringify(facts)}`).join(", ");
  console.log(`kill: ${kills.length} kills; ${work}`);
  console.log(
    `kill: outage as append.py saw it: median ${Math.round(sorted[sorted.length >> 1] ?? 0)} ms, longest ${Math.round(sorted.at(-1) ?? 0)} ms, of ${sorted.length}`,
  );
}
