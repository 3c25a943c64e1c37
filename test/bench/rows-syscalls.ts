/** The rows that workload.c measures: plain system calls on files. */
import { type Bench, sampleOf, type WorkloadOptions } from "./bench.ts";
import type { FixtureName, Row, Sample, Unit } from "./row.ts";
import type { BenchTarget } from "./target.ts";

/** How the caches are before the row: nothing known, only the server's own known, everything known. */
type Temperature = "cold" | "kernel-cold" | "warm";

const TEMPERATURES: readonly Temperature[] = ["cold", "kernel-cold", "warm"];
const BLOCK = 4096;
const BIG_BLOCK = 1 << 20;

const writes: Row[] = [
  {
    id: "seq-write",
    title: "sequential write 1 MiB + fsync",
    unit: "MB/s",
    aim: "0.6 ext4, or 700",
    measure: (bench, target) =>
      bench.inFreshDir(target, (dir) =>
        workloadRow(bench, target, { command: "seqwrite", dir, size: bench.sizes.bigBytes, block: BIG_BLOCK }, "MB/s"),
      ),
  },
  randomWrite({ id: "rand-write", title: "random write 4 KiB, one fsync at end", aim: "C", fsync: 0 }),
  randomWrite({ id: "rand-write-fsync", title: "random write 4 KiB, fsync each", aim: "0.8 C", fsync: 1 }),
  createRow({ id: "create", title: "create + write 4 KiB + close", aim: "8 k", fsync: 0 }),
];

const createSynced = createRow({
  id: "create-fsync",
  title: "create + write 4 KiB + fsync + close",
  aim: "2.4 k",
  fsync: 1,
});

const rename: Row = {
  id: "rename",
  title: "rename",
  unit: "/s",
  aim: "10 k",
  fixtures: ["files"],
  measure: async (bench, target) =>
    workloadRow(bench, target, { command: "rename", dir: await bench.fixture(target, "files"), ...tree(bench) }, "/s"),
};

const openReadView: Row = {
  id: "open-read-view",
  title: "open + read 4 KiB + close, view, warm",
  unit: "/s",
  aim: "100 k",
  needsView: true,
  fixtures: ["files"],
  measure: async (bench, target) => {
    const live = await bench.fixture(target, "files");
    const view = await target.openView();
    try {
      const dir = live.replace(target.dir, view.dir);
      return await measureAt(bench, target, { command: "openread", dir, block: BLOCK, ...tree(bench) }, "warm", "/s");
    } finally {
      await view.close();
    }
  },
};

/** In the order of the table. */
export const SYSCALL_ROWS: readonly Row[] = [
  ...writes.slice(0, 1),
  ...reads({ id: "seq-read", title: "sequential read", unit: "MB/s", fixture: "big", aims: ["ext4", "", "0.8 ext4"] }),
  ...writes.slice(1),
  ...reads({ id: "stat", title: "stat", unit: "/s", fixture: "files", aims: ["30 k", "", "400 k"] }),
  ...reads({
    id: "open-read",
    title: "open + read 4 KiB + close",
    unit: "/s",
    fixture: "files",
    aims: ["8 k", "", "25 k"],
  }),
  openReadView,
  rename,
  createSynced,
];

type Job = WorkloadOptions & { command: string };

async function workloadRow(bench: Bench, target: BenchTarget, job: Job, unit: Unit): Promise<Sample> {
  const { command, ...options } = job;
  return sampleOf(unit, await bench.workload(target, command, options));
}

function tree(bench: Bench): { count: number; perdir: number } {
  return { count: bench.sizes.fileCount, perdir: bench.sizes.filesPerDir };
}

function randomWrite(row: { id: string; title: string; aim: string; fsync: 0 | 1 }): Row {
  return {
    id: row.id,
    title: row.title,
    unit: "/s",
    aim: row.aim,
    fixtures: ["random"],
    measure: async (bench, target) => {
      const dir = await bench.fixture(target, "random");
      const count = row.fsync === 1 ? bench.sizes.randomSyncedWrites : bench.sizes.randomWrites;
      const size = bench.sizes.randomBytes;
      return workloadRow(
        bench,
        target,
        { command: "randwrite", dir, size, block: BLOCK, count, fsync: row.fsync },
        "/s",
      );
    },
  };
}

function createRow(row: { id: string; title: string; aim: string; fsync: 0 | 1 }): Row {
  return {
    id: row.id,
    title: row.title,
    unit: "/s",
    aim: row.aim,
    measure: (bench, target) =>
      bench.inFreshDir(target, (dir) => {
        const count = row.fsync === 1 ? bench.sizes.syncedCreateCount : bench.sizes.createCount;
        const perdir = bench.sizes.filesPerDir;
        return workloadRow(
          bench,
          target,
          { command: "create", dir, count, perdir, size: BLOCK, fsync: row.fsync },
          "/s",
        );
      }),
  };
}

type ReadRows = { id: string; title: string; unit: Unit; fixture: FixtureName; aims: readonly string[] };

/** One row for each temperature. */
function reads(rows: ReadRows): Row[] {
  return TEMPERATURES.map((temperature, index) => ({
    id: `${rows.id}-${temperature}`,
    title: `${rows.title}, ${temperature}`,
    unit: rows.unit,
    aim: rows.aims[index] ?? "",
    fixtures: [rows.fixture],
    measure: async (bench, target) => {
      const dir = await bench.fixture(target, rows.fixture);
      return measureAt(bench, target, readJob(bench, rows, dir), temperature, rows.unit);
    },
    unavailable: async () =>
      temperature === "warm" || process.getuid?.() === 0 ? undefined : "dropping caches needs root",
  }));
}

function readJob(bench: Bench, rows: ReadRows, dir: string): Job {
  if (rows.fixture === "big") return { command: "seqread", dir, block: BIG_BLOCK };
  return { command: rows.id === "stat" ? "stat" : "openread", dir, block: BLOCK, ...tree(bench) };
}

async function measureAt(
  bench: Bench,
  target: BenchTarget,
  job: Job,
  temperature: Temperature,
  unit: Unit,
): Promise<Sample> {
  if (temperature === "cold") await bench.makeCold(target);
  if (temperature === "kernel-cold") await bench.dropCaches(target);
  if (temperature !== "warm") return workloadRow(bench, target, job, unit);
  await workloadRow(bench, target, job, unit);
  return workloadRow(bench, target, { ...job, minms: bench.sizes.warmMs }, unit);
}
