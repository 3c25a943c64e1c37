/** `npm run bench:backup`: Tidemark beside restic and borg, on the same files, in one run. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { cpus, release, tmpdir, totalmem } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { interruptAll } from "../command.ts";
import { dropCaches, type Measured } from "./measure.ts";
import type { BackupTool } from "./tool.ts";
import { Borg } from "./tool-borg.ts";
import { Restic } from "./tool-restic.ts";
import { Tidemark } from "./tool-tidemark.ts";
import { FULL_SIZE, QUICK_SIZE, TreeMaker } from "./tree.ts";

const USAGE = `node test/bench/backup/main.ts [options]

  --quick           small sizes: a look, not a measurement
  --tools a,b       of tidemark, restic, borg (default: those that are here)
  --tidemark FILE   the CLI of another build
  --scratch DIR     where the scratch folder goes (default: the system's folder for temporary files)
  --json FILE       also write everything as JSON
  --keep            leave the scratch folder
`;

const BIG_FILE = "big.bin";
/** Which of the files is restored alone. */
const RESTORED_FILE = 1234;

type Row = { readonly name: string; readonly aim: string; readonly unit: "s" | "MB" };
type Cell = { readonly value: number; readonly measured?: Measured };

const ROWS = [
  { name: "start of the program", aim: "", unit: "s" },
  { name: "first backup", aim: "16", unit: "s" },
  { name: "nothing changed", aim: "0.1", unit: "s" },
  { name: "1 % changed", aim: "0.4", unit: "s" },
  { name: "first backup, one 2 GB file", aim: "", unit: "s" },
  { name: "one 4 KiB write into the 2 GB file", aim: "0.1", unit: "s" },
  { name: "restore one file", aim: "0.2", unit: "s" },
  { name: "restore all", aim: "12", unit: "s" },
  { name: "repository (the tree)", aim: "816", unit: "MB" },
  { name: "peak memory", aim: "250", unit: "MB" },
] as const satisfies readonly Row[];
type RowName = (typeof ROWS)[number]["name"];

type Results = Map<RowName, Map<string, Cell>>;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      quick: { type: "boolean", default: false },
      tools: { type: "string" },
      tidemark: { type: "string" },
      scratch: { type: "string", default: tmpdir() },
      json: { type: "string" },
      keep: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    process.stdout.write(USAGE);
    return;
  }
  const scratch = mkdtempSync(join(values.scratch, "tidemark-bench-backup-"));
  process.once("SIGINT", interruptAll);
  const all = [
    new Tidemark(join(scratch, "tidemark"), values.tidemark),
    new Restic(join(scratch, "restic")),
    new Borg(join(scratch, "borg")),
  ];
  const wanted = values.tools?.split(",");
  const tools = all.filter(({ name }) => wanted === undefined || wanted.includes(name));
  try {
    const maker = new TreeMaker(values.quick ? QUICK_SIZE : FULL_SIZE);
    const versions: string[] = [];
    const results: Results = new Map();
    for (const tool of tools) {
      const version = await tool.version();
      if (version === undefined) {
        process.stderr.write(`left out: ${tool.name} is not on this machine\n`);
        continue;
      }
      versions.push(version);
      await measureTool(tool, maker, { results, scratch });
    }
    process.stdout.write(report(results, versions, maker));
    if (values.json !== undefined) writeFileSync(values.json, JSON.stringify(plain(results), null, 2));
  } finally {
    for (const tool of tools) await tool.close().catch(() => undefined);
    if (!values.keep) rmSync(scratch, { recursive: true, force: true });
  }
}

/** All rows of one tool, each from cold. */
async function measureTool(
  tool: BackupTool,
  maker: TreeMaker,
  { results, scratch }: { results: Results; scratch: string },
): Promise<void> {
  let peakBytes = 0;
  const step = async (name: RowName, work: () => Promise<Measured>): Promise<void> => {
    process.stderr.write(`${tool.name}: ${name}\n`);
    await tool.restart();
    await dropCaches();
    const measured = await work();
    peakBytes = Math.max(peakBytes, measured.peakBytes);
    set(results, name, tool.name, { value: measured.seconds, measured });
  };
  const size = async (name: RowName, bytes: number): Promise<void> =>
    set(results, name, tool.name, { value: bytes / 1e6 });
  await tool.prepare();
  maker.makeTree(tool.root("tree"));
  await step("start of the program", () => tool.startUp());
  peakBytes = 0;
  await step("first backup", () => tool.backup("tree"));
  await size("repository (the tree)", await tool.repositoryBytes("tree"));
  await step("nothing changed", () => tool.backup("tree"));
  const changed = maker.changeOnePercent(tool.root("tree"), 1);
  process.stderr.write(`${tool.name}: ${changed} files changed\n`);
  await step("1 % changed", () => tool.backup("tree"));
  await tool.settle();
  const to = join(scratch, "restored", tool.name);
  mkdirSync(join(to, "all"), { recursive: true });
  mkdirSync(join(to, "one"), { recursive: true });
  await step("restore one file", () =>
    tool.restoreFile(maker.pathOf(RESTORED_FILE % maker.size.fileCount), join(to, "one")),
  );
  await step("restore all", () => tool.restoreAll(join(to, "all")));
  rmSync(to, { recursive: true, force: true });
  const big = join(tool.root("big"), BIG_FILE);
  maker.makeBigFile(big);
  await step("first backup, one 2 GB file", () => tool.backup("big"));
  maker.changeBigFile(big, 1);
  await step("one 4 KiB write into the 2 GB file", () => tool.backup("big"));
  await size("peak memory", peakBytes);
  await tool.close();
  rmSync(join(scratch, tool.name), { recursive: true, force: true });
}

function set(results: Results, row: RowName, tool: string, cell: Cell): void {
  const cells = results.get(row) ?? new Map<string, Cell>();
  cells.set(tool, cell);
  results.set(row, cells);
}

function report(results: Results, versions: readonly string[], maker: TreeMaker): string {
  const { fileCount, treeBytes, bigBytes } = maker.size;
  const tools = versions.map((version) => version.split(" ")[0] ?? "");
  const lines = [
    `Linux ${release()}, ${cpus().length} CPUs (${cpus()[0]?.model ?? "unknown"}), ${(totalmem() / 2 ** 30).toFixed(1)} GiB, Node ${process.versions.node}`,
    `${versions.join(", ")}; local directory; ${fileCount} files of ${(treeBytes / 1e9).toFixed(2)} GB, and one of ${(bigBytes / 1e9).toFixed(2)} GB of random bytes`,
    "Before each step caches are dropped and the service is started again. In brackets: CPU seconds of all processes, MB read from the disk.",
    "",
    `${"".padEnd(36)}${tools.map((tool) => tool.padStart(26)).join("")}${"aim".padStart(8)}`,
    ...ROWS.map((row) => line(row, results, tools)),
    "",
  ];
  return lines.join("\n");
}

function line(row: (typeof ROWS)[number], results: Results, tools: readonly string[]): string {
  const cells = tools.map((tool) => {
    const cell = results.get(row.name)?.get(tool);
    if (cell === undefined) return "-".padStart(26);
    const { value, measured } = cell;
    const extra =
      measured === undefined ? "" : ` (${measured.cpuSeconds.toFixed(1)}, ${(measured.readBytes / 1e6).toFixed(0)})`;
    return `${value.toFixed(row.unit === "s" ? 2 : 0)}${extra}`.padStart(26);
  });
  return `${`${row.name}, ${row.unit}`.padEnd(36)}${cells.join("")}${row.aim.padStart(8)}`;
}

function plain(results: Results): unknown {
  return Object.fromEntries([...results].map(([row, cells]) => [row, Object.fromEntries(cells)]));
}

await main();
