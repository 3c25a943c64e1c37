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

/** Rounds of append.py between two kills: from right after the start to a second or two. */
const PROGRESS_MAX = 60;

describe.skipIf(skipped)("kill -9 of the service under load", { timeout: roundsTimeoutMs(180_000, 10_000, ROUNDS) }, () => {
  let service: CrashService;
  let workloads: Workload[] = [];

  afterEach(async () => {
    for (const workload of workloads) await workload.killed();
    await service.dispose();
  });

  const startWorkloads = (mount: string, seed: number): Workload[] => {
    const { folder } = service;
    return [
      new Workload("append.py", [`${mount}/append`]),
      new Workload("storm.py", ["work", `${mount}/storm`, `${folder}/manifest`, String(seed)]),
      new Workload("locks.py", [`${mount}/locks`]),
      new Workload("mapped.py", [`${mount}/mapped`]),
      new Workload("sqlite.py", [`${mount}/sqlite`]),
      new Workload("git-loop.sh", [`${mount}/git`]),
      new Workload("tar-loop.sh", [`${mount}/tar`, `${folder}/archive.tar`]),
    ];
  };

  test(`${ROUNDS} times: no application sees an error, nothing acknowledged is lost, nothing happens twice, locks are kept`, async () => {
    const seed = testSeed("kill");
    const random = seededRandom(seed);
    service = new CrashService();
    await service.start();
    await service.cli("app", "create", "shop");
    await service.cli("share", "create", "shop/files");
    const mount = await service.mount("shop/files", "mnt");
    await shell(`tar -C ${REPOSITORY} -cf ${service.folder}/archive.tar src/meta src/gateway node_modules/@grpc node_modules/@types/node`);
    workloads = startWorkloads(mount, seed);
    const [pulse] = workloads as [Workload];

    const kills: bigint[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const enough = pulse.fact("progress") + 1 + Math.floor(random() * PROGRESS_MAX);
      await until(() => {
        for (const workload of workloads) workload.checkRuns();
        return pulse.fact("progress") > enough;
      }, "append.py made no progress");
      kills.push(await service.killService());
    }
    const results = new Map<string, WorkloadResult>();
    for (const workload of workloads) results.set(workload.name, await workload.finish());

    const before = await copyFacts(mount);
    await service.stop();
    await expectEachRequestOnce(service.dataFolder);
    // Again, from an empty kernel cache, and after a start without a supervisor that kept anything.
    await service.start();
    await service.mount("shop/files", "mnt");
    expect(await copyFacts(mount)).toBe(before);
    await run("python3", ["-B", VERIFY, `${mount}/storm`, `${service.folder}/manifest`]);
    await shell(`git -C ${mount}/git fsck --strict --no-progress; tar -C ${mount}/tar/tree --compare -f ${service.folder}/archive.tar`);
    report(kills, results);
    expect(service.log).not.toContain("a defect");
    expect(service.log).not.toContain("damaged");
  });
});

/** Checksums of what the workloads left, but of the storm's tree, which has a manifest. */
async function copyFacts(mount: string): Promise<string> {
  const { stdout } = await shell(`cd ${mount} && find append mapped sqlite -type f | sort | xargs sha256sum && sqlite3 sqlite/data.db 'pragma integrity_check; select count(*), sum(n) from t'`);
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
  console.log(`kill: outage as append.py saw it: median ${Math.round(sorted[sorted.length >> 1] ?? 0)} ms, longest ${Math.round(sorted.at(-1) ?? 0)} ms, of ${sorted.length}`);
}

