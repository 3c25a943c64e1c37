import type { Command } from "commander";
import type { ChangeCursor, ChangeRecord, ChangesPage, ChangesRequest } from "../../domain/admin-changes.ts";
import { textFromBytes } from "../../domain/byte-text.ts";
import { TidemarkError } from "../../domain/errors.ts";
import type { AppId } from "../../domain/ids.ts";
import { formatUtcTime } from "../../domain/moment.ts";
import { parseSharePath, type SharePath } from "../../domain/share-path.ts";
import { body, type CommandContext } from "../leaf.ts";
import { formatActor, formatBytes } from "../output/human.ts";
import type { Column } from "../output/output.ts";
import type { ElsewhereOptions } from "../service-elsewhere.ts";
import type { Session } from "../session.ts";
import { collect, needed } from "./arguments.ts";

type ChangesOptions = ElsewhereOptions & {
  readonly from?: string;
  readonly to?: string;
  readonly share?: string;
  readonly path?: string;
  readonly op?: readonly string[];
  readonly follow?: boolean;
};

/** tidemark changes: an app's journal for programs. */
export function addChangesCommand(program: Command, context: CommandContext): void {
  body<ChangesOptions>(
    program
      .command("changes <path>")
      .description("the change feed of an app or a share, for backup tools: every durable record after a cursor, once")
      .option(
        "--from <moment>",
        "only records after this moment: the cursor of the run before, as lsn:N (default: all)",
      )
      .option("--to <moment>", "only records up to this moment (default: what is durable now)")
      .option("--share <share>", "only records of this share")
      .option("--path <path>", "only records at or below this path inside the share, by the names of their time")
      .option("--op <operation>", "only this operation, e.g. WRITE; may be repeated", collect)
      .option("--follow", "do not end: go on with records as they become durable"),
    context,
    changes,
    "history",
  );
}

/** A line of JSON that is no record: how far everything was seen, and of which app. */
type CursorLine = { readonly cursor: ChangeCursor; readonly app: AppId };

async function changes(session: Session, [path]: readonly string[], options: ChangesOptions): Promise<undefined> {
  if (options.follow === true && options.to !== undefined)
    throw new TidemarkError("INVALID_ARGUMENT", "--follow shows what is to come: leave out --to");
  const request: ChangesRequest = {
    path: placeOf(needed(path), options),
    ...(options.from === undefined ? {} : { from: session.moment(options.from) }),
    ...(options.to === undefined ? {} : { to: session.moment(options.to) }),
    operations: (options.op ?? []).map((name) => name.toUpperCase()),
    follow: options.follow === true,
  };
  const feed = new Feed(session, request);
  try {
    await session.output.list(columnsOf(session), feed.lines(), { empty: "No changes." });
  } finally {
    feed.sayCursor();
  }
  return undefined;
}

/** `app`, `app/share` or `app/share/path`; `--share` and `--path` are further parts of it. */
function placeOf(text: string, { share, path }: ChangesOptions): SharePath {
  const whole = share === undefined ? text : `${text}/${share}`;
  const place = parseSharePath(whole);
  if (share !== undefined && parseSharePath(text).share !== undefined)
    throw new TidemarkError("INVALID_ARGUMENT", `"${text}" names a share already: leave out --share`);
  if (path === undefined) return place;
  if (place.share === undefined)
    throw new TidemarkError("INVALID_ARGUMENT", "--path is inside a share: name it, as in app/share or with --share");
  return parseSharePath(`${whole}/${path}`);
}

/** A followed feed without news goes on after so many restarts of the service in a row; more are not what a restart is for. */
const QUIET_RESTARTS_MAX = 10;

/** The feed, and where it is. One that is followed goes on after a restart of the service. */
class Feed {
  readonly #session: Session;
  #request: ChangesRequest;
  #cursor: ChangeCursor | undefined;
  #app: AppId | undefined;

  constructor(session: Session, request: ChangesRequest) {
    this.#session = session;
    this.#request = request;
  }

  /** Records; for programs also the cursor, where it got on without any, and at the end. */
  async *lines(): AsyncGenerator<readonly ChangeRecord[]> {
    for (let restarts = 0; ; restarts += 1) {
      try {
        const api = await this.#session.api();
        for await (const page of api.changes.changes(this.#request, this.#session.callOptions)) {
          restarts = 0;
          yield* this.#linesOf(page);
        }
        yield* this.#end();
        return;
      } catch (error) {
        const gone = error instanceof TidemarkError && error.code === "UNAVAILABLE";
        if (!this.#request.follow || !gone || restarts >= QUIET_RESTARTS_MAX) throw error;
        await this.#session.reconnect();
      }
    }
  }

  *#linesOf({ appId, records, cursor }: ChangesPage): Generator<readonly ChangeRecord[]> {
    // The name may be another app's when the feed is gone on with: from here on this one is meant.
    const { path, from: _from, fromTime: _time, ...rest } = this.#request;
    const app = { ...path.app, id: appId };
    const time = cursor.time === undefined ? {} : { fromTime: cursor.time };
    this.#request = { ...rest, path: { ...path, app }, from: { kind: "lsn", lsn: cursor.lsn }, ...time };
    this.#cursor = cursor;
    this.#app = appId;
    if (records.length > 0) yield records;
    // Also when it is the one before: so a feed that is idle can be told from one that hangs.
    else if (this.#request.follow) yield* this.#end();
  }

  /** The cursor as a line of its own, for programs. A table shows records only; a line of JSON can be either. */
  *#end(): Generator<readonly ChangeRecord[]> {
    if (!this.#session.output.json || this.#cursor === undefined || this.#app === undefined) return;
    const line: CursorLine = { cursor: this.#cursor, app: this.#app };
    yield [line as unknown as ChangeRecord];
  }

  /** For people, and for scripts that look at no JSON: where to go on. */
  sayCursor(): void {
    const { output } = this.#session;
    if (this.#cursor !== undefined && !output.json) output.note(`Next: --from lsn:${this.#cursor.lsn}`);
  }
}

function columnsOf(session: Session): Column<ChangeRecord>[] {
  return [
    { title: "LSN", align: "right", human: (record) => String(record.lsn) },
    { title: "TIME", human: (record) => session.time(record.time), plain: (record) => formatUtcTime(record.time) },
    { title: "OPERATION", human: (record) => record.op },
    { title: "INODE", align: "right", human: (record) => (record.ino === 0 ? "" : String(record.ino)) },
    {
      title: "SIZE",
      align: "right",
      human: (record) => (record.attributes === undefined ? "" : formatBytes(record.attributes.size)),
      plain: (record) => String(record.attributes?.size ?? ""),
    },
    { title: "BY", human: (record) => formatActor(record.actor) },
    { title: "PATH", human: pathText },
    { title: "DETAILS", human: detailText },
  ];
}

function pathText({ share, paths, newPath, crossing }: ChangeRecord): string {
  const inShare = (path: Buffer): string =>
    path.length === 0 ? (share?.name ?? "") : `${share?.name ?? ""}/${textFromBytes(path)}`;
  const border = crossing === undefined ? "" : ` (${crossing})`;
  if (newPath === undefined) return `${paths.map(inShare).join(" ") || (share?.name ?? "")}${border}`;
  return `${paths.map(inShare).join(" ")} → ${inShare(newPath)}${border}`;
}

function detailText(record: ChangeRecord): string {
  const { range, allocation, source, set, xattr, target, details, contentReplaced } = record;
  const words: string[] = [];
  if (range !== undefined) words.push(`offset=${range.offset} length=${range.length}`);
  if (allocation !== undefined) words.push(allocation);
  if (source !== undefined) words.push(`source=${source.ino}+${source.offset}`);
  if (set.length > 0) words.push(`set=${set.join(",")}`);
  if (xattr !== undefined) words.push(`xattr=${textFromBytes(xattr)}`);
  if (target !== undefined && record.op === "SYMLINK") words.push(`target=${textFromBytes(target)}`);
  if (contentReplaced) words.push("new content");
  for (const { name, value } of details) words.push(`${name}=${value}`);
  return words.join(" ");
}
