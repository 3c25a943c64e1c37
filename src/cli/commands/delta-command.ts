import type { Command } from "commander";
import type { DeltaEntry, DeltaExtent, DeltaName, ShareDeltaPage } from "../../domain/admin-changes.ts";
import { textFromBytes } from "../../domain/byte-text.ts";
import { TidemarkError } from "../../domain/errors.ts";
import { isDirectory } from "../../domain/inode.ts";
import { body, type CommandContext } from "../leaf.ts";
import { formatBytes } from "../output/human.ts";
import type { Column, Style } from "../output/output.ts";
import type { ElsewhereOptions } from "../service-elsewhere.ts";
import type { Session } from "../session.ts";
import { needed, parsePlace } from "./arguments.ts";
import { AMBIGUOUS_NOTE } from "./mount-commands.ts";

type DeltaOptions = ElsewhereOptions & {
  readonly from: string;
  readonly to?: string;
  readonly filesFrom0?: boolean;
  readonly paths?: boolean;
  readonly deleted?: boolean;
  readonly trees?: boolean;
  readonly null?: boolean;
  readonly byPath?: boolean;
};

/** tidemark delta: what differs between two moments of a share, for incremental backups. */
export function addDeltaCommand(program: Command, context: CommandContext): void {
  body<DeltaOptions>(
    program
      .command("delta <path>")
      .description("files and ranges that differ between two moments of a share, for incremental backups")
      .requiredOption("--from <moment>", "the earlier moment: that of the backup before")
      .option("--to <moment>", "the later moment", "now")
      .option(
        "--files-from0",
        "paths that changed, came or went, for rsync --files-from=- --from0 --delete-missing-args",
      )
      .option("--paths", "only paths that are there at the later moment")
      .option("--deleted", "only paths at which nothing is any more")
      .option(
        "--trees",
        "with --paths: directories only where they are new, without what is below, for tools that take whole trees, as restic does",
      )
      .option("-0, --null", "with --paths or --deleted: paths end with a zero byte instead of a newline")
      .option("--by-path", "with --json: entries for everything below renamed directories too"),
    context,
    delta,
    "history",
  );
}

async function delta(session: Session, [path]: readonly string[], options: DeltaOptions): Promise<undefined> {
  const lists = [options.filesFrom0, options.paths, options.deleted].filter((each) => each === true).length;
  if (lists > 1)
    throw new TidemarkError("INVALID_ARGUMENT", "--files-from0, --paths and --deleted are different lists: choose one");
  if (lists === 0 && (options.null === true || options.trees === true))
    throw new TidemarkError("INVALID_ARGUMENT", "-0 and --trees are for lists of paths: add --paths or --deleted");
  if (lists === 1 && session.output.json)
    throw new TidemarkError("INVALID_ARGUMENT", "a list of paths is no JSON: leave out --json");
  const request = {
    path: parsePlace(needed(path)),
    from: session.moment(options.from),
    to: session.moment(options.to),
    byPath: lists === 1 || options.byPath === true,
  };
  const seen: Seen = {};
  const { changes } = await session.api();
  const pages = entriesOf(changes.shareDelta(request, session.callOptions), seen);
  if (lists === 1) await writePaths(session, pages, options);
  else await session.output.list(columnsOf(), pages, { empty: "Nothing differs." });
  const { page } = seen;
  if (page === undefined) return undefined;
  const { appId, from, to, foundIn } = page;
  if (from.ambiguous || to.ambiguous) session.output.note(AMBIGUOUS_NOTE);
  if (session.output.json) await session.output.value({ from, to, foundIn, app: appId });
  else session.output.note(`Next: --from lsn:${to.lsn}`);
  return undefined;
}

/** What every page says. */
type Seen = { page?: Omit<ShareDeltaPage, "entries"> };

async function* entriesOf(pages: AsyncIterable<ShareDeltaPage>, seen: Seen): AsyncGenerator<readonly DeltaEntry[]> {
  for await (const { entries, ...page } of pages) {
    seen.page = page;
    yield entries;
  }
}

/** Paths as bytes, each with an end of its own: what other programs read. */
async function writePaths(
  session: Session,
  pages: AsyncIterable<readonly DeltaEntry[]>,
  options: DeltaOptions,
): Promise<void> {
  const end = options.filesFrom0 === true || options.null === true ? 0 : NEWLINE;
  for await (const page of pages) {
    const lines: Buffer[] = [];
    for (const entry of page) {
      for (const path of wantedPaths(entry, options)) {
        if (end === NEWLINE && path.includes(NEWLINE)) {
          const message = `the path "${textFromBytes(path)}" has a newline in it, and would be taken for two: use -0`;
          throw new TidemarkError("INVALID_ARGUMENT", message);
        }
        // "." is the root for every tool that takes relative paths.
        lines.push(path.length === 0 ? DOT : path, Buffer.from([end]));
      }
    }
    if (lines.length > 0) await session.output.write(Buffer.concat(lines));
  }
}

function wantedPaths(entry: DeltaEntry, { paths, deleted, trees }: DeltaOptions): Buffer[] {
  const wanted: Buffer[] = [];
  for (const name of entry.names) {
    if (name.state === "removed") {
      // What another name has taken, and what went with its directory, is told by those.
      if (paths !== true && name.now === "nothing") wanted.push(name.path);
    } else if (deleted !== true && !(trees === true && isLeftToTrees(entry, name))) wanted.push(name.path);
  }
  return wanted;
}

/** Of directories, those that got a new name are taken with all that is below. What is below is then taken twice; tools don't mind. */
function isLeftToTrees({ after }: DeltaEntry, name: DeltaName): boolean {
  return after !== undefined && isDirectory(after.mode) && name.state === "kept";
}

const NEWLINE = 0x0a;
const DOT = Buffer.from(".");

const KIND_LETTERS: Readonly<Record<DeltaEntry["kind"], { letter: string; style: Style }>> = {
  created: { letter: "A", style: "green" },
  deleted: { letter: "D", style: "red" },
  changed: { letter: "M", style: "yellow" },
};

function columnsOf(): Column<DeltaEntry>[] {
  const isMoved = ({ kind, names }: DeltaEntry): boolean =>
    kind === "changed" &&
    names.some(({ state }) => state === "removed") &&
    names.some(({ state }) => state === "added");
  return [
    {
      title: "",
      human: (entry) => (isMoved(entry) ? "R" : KIND_LETTERS[entry.kind].letter),
      style: (entry) => (isMoved(entry) ? "cyan" : KIND_LETTERS[entry.kind].style),
    },
    { title: "INODE", align: "right", human: ({ ino }) => String(ino) },
    {
      title: "SIZE",
      align: "right",
      human: sizeText,
      plain: ({ after, before }) => String((after ?? before)?.size ?? ""),
    },
    {
      title: "TO COPY",
      align: "right",
      human: ({ extents }) => (extents.length === 0 ? "" : formatBytes(dataBytes(extents))),
      plain: ({ extents }) => String(dataBytes(extents)),
    },
    { title: "CHANGES", human: ({ changes }) => changes.join(",") },
    { title: "PATH", human: namesText },
  ];
}

function sizeText({ before, after }: DeltaEntry): string {
  if (before !== undefined && after !== undefined && before.size !== after.size && !isDirectory(after.mode))
    return `${formatBytes(before.size)} → ${formatBytes(after.size)}`;
  const one = after ?? before;
  return one === undefined || isDirectory(one.mode) ? "" : formatBytes(one.size);
}

function dataBytes(extents: readonly DeltaExtent[]): bigint {
  return extents.reduce((sum, { kind, length }) => (kind === "data" ? sum + length : sum), 0n);
}

/** "old → new" of a rename; else all names, those that went in brackets. */
function namesText({ names }: DeltaEntry): string {
  const text = (path: Buffer): string => (path.length === 0 ? "." : textFromBytes(path));
  const removed = names.filter(({ state }) => state === "removed").map(({ path }) => text(path));
  const there = names.filter(({ state }) => state !== "removed").map(({ path }) => text(path));
  if (removed.length === 0) return there.join("  ");
  return there.length === 0 ? removed.join("  ") : `${removed.join("  ")} → ${there.join("  ")}`;
}
