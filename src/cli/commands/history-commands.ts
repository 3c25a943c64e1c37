import type { Command } from "commander";
import type { DiffEntry, FileVersion, FoundName, LogRecord, LogRequest } from "../../domain/admin-reading.ts";
import { bytesFromText, textFromBytes } from "../../domain/byte-text.ts";
import { TidemarkError } from "../../domain/errors.ts";
import { formatUtcTime, type MomentRef } from "../../domain/moment.ts";
import { parseSharePath } from "../../domain/share-path.ts";
import { body, type CommandContext } from "../leaf.ts";
import { formatActor, formatBytes, formatMode } from "../output/human.ts";
import type { Column, Style } from "../output/output.ts";
import type { Session } from "../session.ts";
import { needed, parseCount, parsePlace } from "./arguments.ts";

type LogOptions = {
  readonly path?: string;
  readonly since?: string;
  readonly until?: string;
  readonly newestFirst?: boolean;
  readonly limit?: string;
  readonly follow?: boolean;
};

/** tidemark log, history, diff and find. `follows`: there can be more to come. */
export function addHistoryCommands(
  program: Command,
  context: CommandContext,
  { follows }: { readonly follows: boolean },
): void {
  const logCommand = program
    .command("log <path>")
    .description("the journal of an app, a share or a path: every change, with when and by whom")
    .option("--path <path>", "only changes at or below this path inside the share")
    .option("--since <moment>", "only changes after this moment")
    .option("--until <moment>", "only changes up to this moment")
    .option("--newest-first", "instead of oldest first")
    .option("--limit <count>", "at most so many");
  if (follows) logCommand.option("--follow", "do not end: show changes as they happen");
  body<LogOptions>(logCommand, context, log, "history");
  body<{ since?: string; until?: string; limit?: string }>(
    program
      .command("history <path>")
      .description("the versions of one file, newest first, across renames and 'write temp + rename over'")
      .option("--since <moment>", "only versions after this moment")
      .option("--until <moment>", "only versions up to this moment")
      .option("--limit <count>", "at most so many"),
    context,
    history,
    "history",
  );
  body<{ from: string; to?: string }>(
    program
      .command("diff <path>")
      .description("what differs between two moments")
      .requiredOption("--from <moment>", "the earlier moment")
      .option("--to <moment>", "the later moment", "now"),
    context,
    diff,
    "history",
  );
  body<{ deleted?: boolean }>(
    program
      .command("find <path> <pattern>")
      .description("names over the whole history of an app or a share, e.g. '*.env': what is there, and what was")
      .option("--deleted", "only what is gone"),
    context,
    find,
    "history",
  );
}

async function log(session: Session, [path]: readonly string[], options: LogOptions): Promise<undefined> {
  if (options.follow === true && (options.until !== undefined || options.newestFirst === true)) {
    throw new TidemarkError("INVALID_ARGUMENT", "--follow shows what is to come: leave out --until and --newest-first");
  }
  const whole = options.path === undefined ? needed(path) : `${needed(path)}/${options.path}`;
  const request: LogRequest = {
    path: parseSharePath(whole),
    ...range(session, options),
    order: options.newestFirst === true ? "newest-first" : "oldest-first",
    ...(options.limit === undefined ? {} : { countMax: parseCount("--limit", options.limit, 1) }),
    follow: options.follow === true,
  };
  const pages = logPages(session, request);
  const columns: Column<LogRecord>[] = [
    { title: "LSN", align: "right", human: (record) => String(record.lsn) },
    { title: "TIME", human: (record) => session.time(record.time), plain: (record) => formatUtcTime(record.time) },
    { title: "OPERATION", human: (record) => record.op, style: operationStyle },
    { title: "BY", human: (record) => formatActor(record.actor) },
    { title: "PATH", human: recordPath },
    { title: "DETAILS", human: (record) => record.details.map(({ name, value }) => `${name}=${value}`).join(" ") },
  ];
  await session.output.list(columns, pages, { empty: "No changes." });
  return undefined;
}

/** A followed log without news goes on after so many restarts in a row; more are not what a restart is for. */
const QUIET_RESTARTS_MAX = 10;

/** The log; one that is followed goes on after a restart of the service, where it was. */
async function* logPages(session: Session, request: LogRequest): AsyncGenerator<readonly LogRecord[]> {
  let rest = request;
  for (let restarts = 0; ; restarts += 1) {
    try {
      for await (const page of (await session.api()).history.log(rest, session.callOptions)) {
        yield page;
        rest = after(rest, page);
        restarts = 0;
      }
      return;
    } catch (error) {
      const gone = error instanceof TidemarkError && error.code === "UNAVAILABLE";
      if (!request.follow || !gone || rest.countMax === 0 || restarts >= QUIET_RESTARTS_MAX) throw error;
      await session.reconnect();
    }
  }
}

/** What is left of a request when `page` has come. */
function after(request: LogRequest, page: readonly LogRecord[]): LogRequest {
  const last = page.at(-1);
  if (last === undefined) return request;
  const { countMax } = request;
  const from: MomentRef = { kind: "lsn", lsn: last.lsn };
  return { ...request, from, ...(countMax === undefined ? {} : { countMax: Math.max(0, countMax - page.length) }) };
}

/** `from` and `to` as typed, absent when they are. */
function range(session: Session, options: { since?: string; until?: string }): { from?: MomentRef; to?: MomentRef } {
  return {
    ...(options.since === undefined ? {} : { from: session.moment(options.since) }),
    ...(options.until === undefined ? {} : { to: session.moment(options.until) }),
  };
}

function recordPath(record: LogRecord): string {
  const share = record.share?.name ?? "";
  const path = inShare(share, record.path);
  return record.newPath === undefined ? path : `${path} → ${inShare(share, record.newPath)}`;
}

function inShare(share: string, path: Uint8Array): string {
  return path.length === 0 ? share : `${share}/${textFromBytes(path)}`;
}

function operationStyle(record: LogRecord): Style | undefined {
  if (/^(UNLINK|RMDIR|REAP|.*DELETE)$/.test(record.op)) return "red";
  return /^(CREATE|MKDIR|MKNOD|SYMLINK|LINK|TMPFILE|.*_CREATE)$/.test(record.op) ? "green" : undefined;
}

async function history(
  session: Session,
  [path]: readonly string[],
  options: { since?: string; until?: string; limit?: string },
): Promise<undefined> {
  const request = {
    path: parsePlace(needed(path)),
    ...range(session, options),
    ...(options.limit === undefined ? {} : { countMax: parseCount("--limit", options.limit, 1) }),
  };
  const pages = (await session.api()).history.history(request, session.callOptions);
  const columns: Column<FileVersion>[] = [
    { title: "SINCE", human: (v) => session.time(v.since.time), plain: (v) => formatUtcTime(v.since.time) },
    { title: "LSN", align: "right", human: (v) => String(v.since.lsn) },
    { title: "BY WAY OF", human: (v) => (v.recordCount > 1 ? `${v.op} ×${v.recordCount}` : v.op), plain: (v) => v.op },
    {
      title: "SIZE",
      align: "right",
      human: (v) => (v.absent ? "absent" : formatBytes(v.attributes.size)),
      plain: (v) => (v.absent ? "" : String(v.attributes.size)),
    },
    { title: "MODE", human: (v) => (v.absent ? "" : formatMode(v.attributes.mode)) },
    { title: "BY", human: (v) => formatActor(v.actor) },
    { title: "PATH", human: (v) => (v.path.length === 0 ? "." : textFromBytes(v.path)) },
  ];
  await session.output.list(columns, pages, { empty: "No versions in that time." });
  return undefined;
}

const DIFF_LETTERS: Readonly<Record<DiffEntry["kind"], { letter: string; style: Style }>> = {
  added: { letter: "A", style: "green" },
  removed: { letter: "D", style: "red" },
  changed: { letter: "M", style: "yellow" },
  moved: { letter: "R", style: "cyan" },
};

async function diff(
  session: Session,
  [path]: readonly string[],
  options: { from: string; to?: string },
): Promise<undefined> {
  const request = {
    path: parseSharePath(needed(path)),
    from: session.moment(options.from),
    to: session.moment(options.to),
  };
  const pages = (await session.api()).history.diff(request, session.callOptions);
  const columns: Column<DiffEntry>[] = [
    { title: "", human: (entry) => DIFF_LETTERS[entry.kind].letter, style: (entry) => DIFF_LETTERS[entry.kind].style },
    {
      title: "SIZE",
      align: "right",
      human: diffSize,
      plain: (entry) => String((entry.after ?? entry.before)?.size ?? ""),
    },
    { title: "CHANGES", human: (entry) => entry.changes.join(",") },
    { title: "PATH", human: diffPath },
  ];
  await session.output.list(columns, pages, { empty: "Nothing differs." });
  return undefined;
}

function diffSize({ before, after }: DiffEntry): string {
  if (before !== undefined && after !== undefined && before.size !== after.size) {
    return `${formatBytes(before.size)} → ${formatBytes(after.size)}`;
  }
  const one = after ?? before;
  return one === undefined ? "" : formatBytes(one.size);
}

function diffPath(entry: DiffEntry): string {
  const path = inShare(entry.share.name, entry.path);
  return entry.pathBefore === undefined ? path : `${inShare(entry.share.name, entry.pathBefore)} → ${path}`;
}

async function find(
  session: Session,
  [path, pattern]: readonly string[],
  options: { deleted?: boolean },
): Promise<undefined> {
  const request = {
    path: parseSharePath(needed(path)),
    pattern: bytesFromText(needed(pattern)),
    deletedOnly: options.deleted === true,
  };
  const pages = (await session.api()).history.find(request, session.callOptions);
  const columns: Column<FoundName>[] = [
    { title: "SINCE", human: ({ since }) => session.time(since.time), plain: ({ since }) => formatUtcTime(since.time) },
    {
      title: "UNTIL",
      human: ({ until }) => (until === undefined ? "now" : session.time(until.time)),
      plain: ({ until }) => (until === undefined ? "" : formatUtcTime(until.time)),
    },
    {
      title: "LAST AT",
      human: ({ until }) => (until === undefined ? "now" : `lsn:${until.lsn - 1}`),
      style: ({ until }) => (until === undefined ? "green" : "red"),
    },
    {
      title: "SIZE",
      align: "right",
      human: ({ attributes }) => formatBytes(attributes.size),
      plain: ({ attributes }) => String(attributes.size),
    },
    { title: "PATH", human: (found) => inShare(found.share.name, found.path) },
  ];
  await session.output.list(columns, pages, { empty: "No such name, now or ever." });
  return undefined;
}
