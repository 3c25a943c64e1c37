import { compareTimestamps, type Timestamp } from "../../base/clock.ts";
import type { Timers } from "../../base/timers.ts";
import { type CallOptions, PAGE_BYTES_MAX, PAGE_ITEMS_MAX } from "../../domain/admin-call.ts";
import {
  type ChangesApi,
  type ChangesPage,
  type ChangesRequest,
  type DeltaEntry,
  HEARTBEAT_MS_DEFAULT,
  HEARTBEAT_MS_MAX,
  HEARTBEAT_MS_MIN,
  type ShareDeltaPage,
  type ShareDeltaRequest,
} from "../../domain/admin-changes.ts";
import { TidemarkError } from "../../domain/errors.ts";
import type { Lsn } from "../../domain/ids.ts";
import type { MomentRef, ResolvedMoment } from "../../domain/moment.ts";
import { joinNames, pathNames } from "../../domain/names.ts";
import { RECORD_OP } from "../../domain/record-op.ts";
import type { EngineCore } from "../core.ts";
import type { OpenApp } from "../open-app.ts";
import { floorOf, type ReadingParts } from "./apps.ts";
import { ChangeFeed } from "./change-feed.ts";
import { ChangeDescriber } from "./change-record.ts";
import { ChangeScope } from "./change-scope.ts";
import { toTidemarkError } from "./failures.ts";
import { feedGap, hasRecords, oldestFrom } from "./feed-gap.ts";
import { holding } from "./hold.ts";
import { momentText, shareOf } from "./locate.ts";
import { recordAt } from "./records.ts";
import { entryBytes, ShareDelta } from "./share-delta.ts";
import { resolveMoment } from "./time.ts";
import { Work } from "./work.ts";

export type ChangesParts = ReadingParts & { readonly timers: Timers };

/** What changed, for backup tools: the journal as a feed, and the difference of two moments. */
export class Changes implements ChangesApi {
  readonly #parts: ChangesParts;

  constructor(parts: ChangesParts) {
    this.#parts = parts;
  }

  async *changes(request: ChangesRequest, options?: CallOptions): AsyncGenerator<ChangesPage> {
    checkRequest(request);
    const work = new Work(this.#parts, options);
    const app = await this.#parts.apps.find(request.path.app);
    const { core } = app;
    const describer = new ChangeDescriber(core, scopeOf(app, request), operationsOf(request.operations));
    const from = await this.#from(app, request);
    const to = request.follow ? undefined : await this.#to(app, from, request.to);
    if (!hasRecords(core, from, to ?? core.lastLsn)) throw feedGap(core, from);
    const { fromTime } = request;
    const cursor = { lsn: from, ...(fromTime === undefined ? {} : { time: fromTime }) };
    const feed = new ChangeFeed(core, {
      appId: app.id,
      describer,
      from: cursor,
      ...(to === undefined ? {} : { to }),
      heartbeatMs: request.heartbeatMs ?? HEARTBEAT_MS_DEFAULT,
      timers: this.#parts.timers,
      work,
    });
    yield* feed.pages();
  }

  async *shareDelta(request: ShareDeltaRequest, options?: CallOptions): AsyncGenerator<ShareDeltaPage> {
    const work = new Work(this.#parts, options);
    const app = await this.#parts.apps.find(request.path.app);
    const { core } = app;
    const share = shareOf(app, request.path);
    const scope = scopeOf(app, request);
    const from = await this.#moment(app, request.from);
    const to = await this.#moment(app, request.to);
    if (to.lsn < from.lsn)
      throw new TidemarkError("INVALID_ARGUMENT", `\`to\`, ${momentText(to)}, is before \`from\`, ${momentText(from)}`);
    const moments = [
      { core, at: from.lsn },
      { core, at: to.lsn },
    ];
    const parts = { appId: app.id, from, to };
    yield* holding(moments, async function* () {
      await makeDurable(core, to.lsn);
      const names = pathNames(request.path.path);
      const root = scope.root ?? share.root;
      const delta = new ShareDelta(core, {
        scope,
        root,
        names,
        from: from.lsn,
        to: to.lsn,
        byPath: request.byPath,
        work,
      });
      const foundIn = await delta.find();
      let isFirst = true;
      for await (const entries of inPages(delta.entries())) {
        yield { ...parts, foundIn, entries };
        isFirst = false;
      }
      if (isFirst) yield { ...parts, foundIn, entries: [] };
    });
  }

  #moment(app: OpenApp, at: MomentRef): Promise<ResolvedMoment> {
    return resolveMoment(app.core, at, floorOf(this.#parts, app));
  }

  async #from(app: OpenApp, { from, fromTime }: ChangesRequest): Promise<Lsn> {
    const { core } = app;
    const lsn = from === undefined ? (0 as Lsn) : await this.#fromLsn(app, from);
    if (lsn < oldestFrom(core)) throw feedGap(core, lsn);
    if (fromTime !== undefined && lsn > 0) await checkTime(core, lsn, fromTime);
    return lsn;
  }

  async #fromLsn(app: OpenApp, from: MomentRef): Promise<Lsn> {
    const { core } = app;
    if (from.kind === "lsn") {
      if (!Number.isSafeInteger(from.lsn) || from.lsn < 0)
        throw new TidemarkError("INVALID_ARGUMENT", `${from.lsn} is not an LSN`);
      if (from.lsn > core.lastLsn) throw otherWay(core, from.lsn, `ends with LSN ${core.lastLsn}`);
      return from.lsn;
    }
    try {
      return (await this.#moment(app, from)).lsn;
    } catch (error) {
      const lsn = error instanceof TidemarkError && error.code === "OUT_OF_HISTORY" ? error.data["lsn"] : undefined;
      throw typeof lsn === "number" ? feedGap(core, lsn as Lsn) : error;
    }
  }

  /** The end of the range, durable. */
  async #to(app: OpenApp, from: Lsn, to: MomentRef | undefined): Promise<Lsn> {
    const { core } = app;
    if (to === undefined) return Math.max(from, core.journal.durableLsn) as Lsn;
    const end = await this.#moment(app, to);
    if (end.lsn < from)
      throw new TidemarkError("INVALID_ARGUMENT", `\`to\`, ${momentText(end)}, is before \`from\`, LSN ${from}`);
    await makeDurable(core, end.lsn);
    return end.lsn;
  }
}

function checkRequest({ follow, to, heartbeatMs }: ChangesRequest): void {
  if (follow && to !== undefined)
    throw new TidemarkError("INVALID_ARGUMENT", "a feed that is followed has no end: leave `to` out");
  if (heartbeatMs === undefined || (heartbeatMs >= HEARTBEAT_MS_MIN && heartbeatMs <= HEARTBEAT_MS_MAX)) return;
  throw new TidemarkError(
    "INVALID_ARGUMENT",
    `a heartbeat of ${heartbeatMs} ms is not possible: expected ${HEARTBEAT_MS_MIN} to ${HEARTBEAT_MS_MAX}`,
  );
}

function operationsOf(names: readonly string[]): ReadonlySet<string> | undefined {
  for (const name of names) {
    if (name in RECORD_OP) continue;
    throw new TidemarkError(
      "INVALID_ARGUMENT",
      `"${name}" is not an operation: expected some of ${Object.keys(RECORD_OP).join(", ")}`,
    );
  }
  return names.length === 0 ? undefined : new Set(names);
}

function scopeOf(app: OpenApp, { path, within }: Pick<ChangesRequest, "path" | "within">): ChangeScope {
  const share = path.share === undefined ? undefined : shareOf(app, path);
  const names = joinNames(pathNames(path.path));
  if (within !== undefined && share === undefined)
    throw new TidemarkError("INTERNAL", "a part of a share was asked for without the share");
  return new ChangeScope(app.core, {
    path: names,
    ...(share === undefined ? {} : { share }),
    ...(within === undefined ? {} : { within }),
  });
}

/** Nothing that a power loss could take back leaves the machine. */
async function makeDurable(core: EngineCore, lsn: Lsn): Promise<void> {
  if (lsn <= core.journal.durableLsn) return;
  try {
    await core.journal.sync(lsn);
  } catch (error) {
    throw toTidemarkError(error, `making LSN ${lsn} durable`);
  }
}

/** Throws FAILED_PRECONDITION when the record is another one than the cursor was made from. */
async function checkTime(core: EngineCore, lsn: Lsn, time: Timestamp): Promise<void> {
  try {
    const record = await recordAt(core, lsn);
    if (compareTimestamps(record.time, time) !== 0) throw otherWay(core, lsn, "has another record there");
  } catch (error) {
    // It may be the last one that went: the ones after it are what counts.
    if (!(error instanceof TidemarkError) || error.code !== "OUT_OF_HISTORY") throw error;
  }
}

function otherWay(core: EngineCore, lsn: Lsn, what: string): TidemarkError {
  const message =
    `there is nothing to go on from at LSN ${lsn}: the journal ${what}. Either that is not a cursor of this app, or the app was recovered as of an earlier moment since. ` +
    `To begin again: read everything as of a moment (lsn:${core.lastLsn} is the present; a snapshot keeps one), then go on from that`;
  return new TidemarkError("FAILED_PRECONDITION", message, { data: { lsn: core.lastLsn, asked: lsn } });
}

async function* inPages(entries: AsyncIterable<DeltaEntry>): AsyncGenerator<readonly DeltaEntry[]> {
  let page: DeltaEntry[] = [];
  let bytes = 0;
  for await (const entry of entries) {
    const size = entryBytes(entry);
    if (page.length > 0 && (page.length === PAGE_ITEMS_MAX || bytes + size > PAGE_BYTES_MAX)) {
      yield page;
      page = [];
      bytes = 0;
    }
    page.push(entry);
    bytes += size;
  }
  if (page.length > 0) yield page;
}
