/** The command line. */
import { tmpdir } from "node:os";
import { resolve } from "node:path";
import { parseArgs } from "node:util";

export const USAGE = `node test/bench/main.ts [options]

  --rounds N           interleaved rounds (default 5; with --quick 1)
  --rows a,b           only these rows, by id; "stat" is stat-cold, stat-kernel-cold and stat-warm
  --targets a,b        of plain, c, c-tuned, tidemark (default: all)
  --target NAME=DIR    also measure DIR, a directory of any file system mounted already; may be repeated
  --tidemark FILE      the CLI of another build (default: bin/tidemark of this repository)
  --quick              small sizes: a look, not a measurement
  --files N            files of the memory row (default 100000)
  --history [N]        also measure a second target with N changes behind it (default 1000000) and compare
  --history-of NAME    the target that gets the history (default tidemark)
  --trips              count the kernel's requests per operation instead of measuring time
  --profile            write CPU profiles of the Tidemark service to bench-out/profile
  --scratch DIR        where the scratch folder goes (default: the system's folder for temporary files)
  --json FILE          also write everything as JSON
  --list               print the ids of the rows
`;

export const TARGET_KINDS = ["plain", "c", "c-tuned", "tidemark"] as const;
export type TargetKind = (typeof TARGET_KINDS)[number];

export type BenchOptions = {
  rounds: number;
  rows: string[] | undefined;
  targets: TargetKind[];
  extraTargets: { name: string; dir: string }[];
  tidemark: string | undefined;
  quick: boolean;
  memoryFileCount: number | undefined;
  history: { changeCount: number; of: TargetKind } | undefined;
  trips: boolean;
  profile: boolean;
  scratchParent: string;
  json: string | undefined;
  list: boolean;
  help: boolean;
};

/** The default of `--history` without a number: what the project's aim is stated for. */
const HISTORY_CHANGES_DEFAULT = 1_000_000;

/** Throws an Error fit to be shown when the arguments are not understood. */
export function parseOptions(argv: readonly string[]): BenchOptions {
  const { values } = parseArgs({
    args: withHistoryDefault(argv),
    options: {
      rounds: { type: "string" },
      rows: { type: "string" },
      targets: { type: "string" },
      target: { type: "string", multiple: true },
      tidemark: { type: "string" },
      quick: { type: "boolean", default: false },
      files: { type: "string" },
      history: { type: "string" },
      "history-of": { type: "string", default: "tidemark" },
      trips: { type: "boolean", default: false },
      profile: { type: "boolean", default: false },
      scratch: { type: "string", default: tmpdir() },
      json: { type: "string" },
      list: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  const once = values.quick || values.trips;
  const targets = list(values.targets)?.map(targetKind) ?? [...TARGET_KINDS];
  return {
    rounds: values.rounds === undefined ? (once ? 1 : 5) : count("--rounds", values.rounds),
    rows: list(values.rows),
    targets,
    extraTargets: (values.target ?? []).map(extraTarget),
    tidemark: values.tidemark === undefined ? undefined : resolve(values.tidemark),
    quick: values.quick,
    memoryFileCount: values.files === undefined ? undefined : count("--files", values.files),
    history: historyOf(values.history, targetKind(values["history-of"]), targets),
    trips: values.trips,
    profile: values.profile,
    scratchParent: resolve(values.scratch),
    json: values.json,
    list: values.list,
    help: values.help,
  };
}

/** parseArgs knows no options with an optional value. */
function withHistoryDefault(argv: readonly string[]): string[] {
  return argv.map((argument, index) => {
    const bare = argument === "--history" && !/^\d+$/.test(argv[index + 1] ?? "");
    return bare ? `--history=${HISTORY_CHANGES_DEFAULT}` : argument;
  });
}

function historyOf(changes: string | undefined, of: TargetKind, targets: readonly TargetKind[]) {
  if (changes === undefined) return undefined;
  if (!targets.includes(of)) throw new Error(`--history is made on ${of}, which is not among the targets`);
  return { changeCount: count("--history", changes), of };
}

function list(text: string | undefined): string[] | undefined {
  return text?.split(",").filter((item) => item !== "");
}

function count(option: string, text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1)
    throw new Error(`${option} takes a whole number from 1 on, not "${text}"`);
  return value;
}

function targetKind(text: string): TargetKind {
  const kind = TARGET_KINDS.find((known) => known === text);
  if (kind === undefined) throw new Error(`no target "${text}"; there are: ${TARGET_KINDS.join(", ")}`);
  return kind;
}

function extraTarget(text: string): { name: string; dir: string } {
  const [, name, dir] = /^([\w.+-]+)=(.+)$/.exec(text) ?? [];
  if (name === undefined || dir === undefined) throw new Error(`--target takes NAME=DIR, not "${text}"`);
  return { name, dir: resolve(dir) };
}
