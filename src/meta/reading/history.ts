import type { CallOptions, Pages } from "../../domain/admin-call.ts";
import type {
  DiffEntry,
  FileVersion,
  FoundName,
  HistoryApi,
  LogRecord,
  LogRequest,
} from "../../domain/admin-reading.ts";
import { TidemarkError } from "../../domain/errors.ts";
import type { Lsn } from "../../domain/ids.ts";
import type { MomentRef } from "../../domain/moment.ts";
import { NamePattern } from "../../domain/name-pattern.ts";
import { joinNames, pathNames } from "../../domain/names.ts";
import type { SharePath } from "../../domain/share-path.ts";
import type { OpenApp } from "../open-app.ts";
import { floorOf, type ReadingParts } from "./apps.ts";
import { Diff } from "./diff.ts";
import { FileVersions } from "./file-versions.ts";
import { findNames } from "./find-names.ts";
import { holding } from "./hold.ts";
import { lastHolder } from "./last-holder.ts";
import { notThere, shareOf } from "./locate.ts";
import { LogDescriber } from "./log-record.ts";
import { logRecords } from "./log-stream.ts";
import { paged } from "./pages.ts";
import { resolveMoment } from "./time.ts";
import { Work } from "./work.ts";

/** Fixed parts of a log record, a version, a difference in a page, about. */
const ITEM_BYTES = 300;

/** What happened, from the journal and the rows it left. */
export class History implements HistoryApi {
  readonly #parts: ReadingParts;

  constructor(parts: ReadingParts) {
    this.#parts = parts;
  }

  async *log(request: LogRequest, options?: CallOptions): Pages<LogRecord> {
    checkLog(request);
    const work = new Work(this.#parts, options);
    const app = await this.#parts.apps.find(request.path.app);
    const { core } = app;
    const share = request.path.share === undefined ? undefined : shareOf(app, request.path);
    const path = joinNames(pathNames(request.path.path));
    const range = await this.#range(app, request);
    const describer = new LogDescriber(core, share === undefined ? { path } : { share: share.id, path });
    const records = logRecords(core, describer, { range, order: request.order, follow: request.follow, work });
    yield* paged(
      limited(records, request.countMax),
      (record) => ITEM_BYTES + record.path.length + (record.newPath?.length ?? 0),
    );
  }

  async *history(
    request: { path: SharePath; from?: MomentRef; to?: MomentRef; countMax?: number },
    options?: CallOptions,
  ): Pages<FileVersion> {
    checkCount(request.countMax);
    const work = new Work(this.#parts, options);
    const app = await this.#parts.apps.find(request.path.app);
    const share = shareOf(app, request.path);
    const names = pathNames(request.path.path);
    const to = await this.#moment(app, request.to ?? { kind: "now" });
    const from = request.from === undefined ? undefined : await this.#moment(app, request.from);
    const holder = lastHolder(app.core, share.root, names, to.lsn);
    if (holder === undefined) throw notThere(request.path, to);
    const floor = Math.min(app.core.moments.floor, to.lsn) as Lsn;
    const versions = new FileVersions(app.core, { from: from?.lsn ?? (0 as Lsn), floor, work });
    const walk = holding([{ core: app.core, at: to.lsn }], () => versions.walk(holder, joinNames(names)));
    yield* paged(limited(walk, request.countMax), (version) => ITEM_BYTES + version.path.length);
  }

  async *diff(request: { path: SharePath; from: MomentRef; to: MomentRef }, options?: CallOptions): Pages<DiffEntry> {
    const work = new Work(this.#parts, options);
    const app = await this.#parts.apps.find(request.path.app);
    const names = pathNames(request.path.path);
    const place = { names, path: joinNames(names) };
    const scope = request.path.share === undefined ? place : { ...place, share: shareOf(app, request.path) };
    const from = (await this.#moment(app, request.from)).lsn;
    const to = (await this.#moment(app, request.to)).lsn;
    const { core } = app;
    const moments = [
      { core, at: from },
      { core, at: to },
    ];
    const entries = holding(moments, () => new Diff(core, { scope, from, to, work }).entries());
    yield* paged(entries, (entry) => ITEM_BYTES + entry.path.length + (entry.pathBefore?.length ?? 0));
  }

  async *find(
    request: { path: SharePath; pattern: Buffer; deletedOnly: boolean },
    options?: CallOptions,
  ): Pages<FoundName> {
    const pattern = new NamePattern(request.pattern);
    if (request.path.path.length > 0)
      throw new TidemarkError(
        "INVALID_ARGUMENT",
        "names are looked for in an app or a share: leave out the path inside",
      );
    const work = new Work(this.#parts, options);
    const app = await this.#parts.apps.find(request.path.app);
    const share = request.path.share === undefined ? undefined : shareOf(app, request.path);
    const scope = { pattern, deletedOnly: request.deletedOnly, ...(share === undefined ? {} : { share: share.id }) };
    yield* paged(findNames(app.core, scope, work), (found) => ITEM_BYTES + found.path.length);
  }

  #moment(app: OpenApp, at: MomentRef) {
    return resolveMoment(app.core, at, floorOf(this.#parts, app));
  }

  async #range(app: OpenApp, request: LogRequest): Promise<{ from: Lsn; to: Lsn }> {
    // Before the floor there are records, but not the names of their time.
    const from = request.from === undefined ? app.core.moments.floor : (await this.#moment(app, request.from)).lsn;
    const to = request.to === undefined ? app.core.lastLsn : (await this.#moment(app, request.to)).lsn;
    return { from: (from + 1) as Lsn, to };
  }
}

function checkLog(request: LogRequest): void {
  checkCount(request.countMax);
  if (!request.follow) return;
  if (request.order !== "oldest-first")
    throw new TidemarkError("INVALID_ARGUMENT", "a log that is followed comes oldest first");
  if (request.to !== undefined)
    throw new TidemarkError("INVALID_ARGUMENT", "a log that is followed has no end: leave `to` out");
}

function checkCount(count: number | undefined): void {
  if (count === undefined || (Number.isSafeInteger(count) && count > 0)) return;
  throw new TidemarkError("INVALID_ARGUMENT", `${count} is not a count: expected a whole number above 0`);
}

/** The first `countMax` items. */
async function* limited<T>(
  batches: AsyncIterable<readonly T[]>,
  countMax = Number.POSITIVE_INFINITY,
): AsyncGenerator<readonly T[]> {
  let left = countMax;
  for await (const batch of batches) {
    if (batch.length >= left) {
      yield batch.slice(0, left);
      return;
    }
    left -= batch.length;
    yield batch;
  }
}
