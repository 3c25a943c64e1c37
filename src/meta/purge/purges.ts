import type { CallOptions } from "../../domain/admin-call.ts";
import {
  PURGE_NAMED_MAX,
  PURGE_REASON_BYTES_MAX,
  type PurgeApi,
  type PurgePlan,
  type PurgeRequest,
  type PurgeResult,
} from "../../domain/admin-purge.ts";
import { TidemarkError } from "../../domain/errors.ts";
import type { AppId, InodeId, Lsn } from "../../domain/ids.ts";
import type { RequestContext } from "../../domain/metadata-api.ts";
import { pathNames } from "../../domain/names.ts";
import { formatSharePath, type SharePath } from "../../domain/share-path.ts";
import type { OpenApp } from "../open-app.ts";
import type { ReadingParts } from "../reading/apps.ts";
import { contextOf } from "../reading/context.ts";
import { toTidemarkError } from "../reading/failures.ts";
import { shareOf } from "../reading/locate.ts";
import { Work } from "../reading/work.ts";
import { runningRows } from "../restore/restores.ts";
import { AppSpace } from "../space/app-space.ts";
import { eraseNow, type PurgeStep } from "./erase-now.ts";
import { type Concerned, findConcerned, liveNames, named, sinceOf, snapshotsOf } from "./plan.ts";
import { commitOrder, prepareOrder } from "./write-order.ts";

export type PurgesParts = ReadingParts & {
  /** Where the app is backed up to; undefined: nowhere. */
  readonly repositoryOf?: (app: OpenApp) => PurgePlan["repository"];
  /** Has the kernels forget what they keep of these files, at all moments. Resolves when they were told. */
  readonly forgetPages?: (app: OpenApp, files: readonly InodeId[]) => Promise<void>;
  /** For tests: a step was just completed; it may throw, as a crash would. */
  readonly onStep?: (step: PurgeStep) => void;
};

/** Times an order is looked at anew because the files were written to meanwhile. */
const TRIES_MAX = 5;

/** Erasing content for ever: see README.md. */
export class Purges implements PurgeApi {
  readonly #parts: PurgesParts;
  readonly #erasing = new Set<Promise<void>>();
  readonly #stopping = new AbortController();

  constructor(parts: PurgesParts) {
    this.#parts = parts;
  }

  async planPurge(request: PurgeRequest, options?: CallOptions): Promise<PurgePlan> {
    const work = new Work(this.#parts, options);
    const { app, place } = await this.#find(request.path);
    return this.#planOf(app, await this.#concerned(app, place, formatSharePath(request.path), work), work);
  }

  async purge(request: PurgeRequest & { readonly reason: string }, options?: CallOptions): Promise<PurgeResult> {
    const reason = checkReason(request.reason);
    const work = new Work(this.#parts, options);
    const { app, place } = await this.#find(request.path);
    try {
      const { shared, liveToo } = request;
      const order = { path: formatSharePath(request.path), reason, shared, liveToo };
      const done = await app.core.data.moving(() =>
        this.#write({ app, place, order, context: contextOf(options) }, work),
      );
      // From here on it is carried through, whether anybody waits for it or not.
      await this.#parts.forgetPages?.(app, [...done.concerned.files.keys(), ...done.concerned.sharers.keys()]);
      await this.#erase(app);
      if (done.lsn !== undefined) {
        const fields = { appId: app.id, path: order.path, reason, lsn: done.lsn };
        this.#parts.log.warn("content was erased by order", fields);
      }
      const openCount = (await sinceOf(app, done.concerned.since.keys(), new Work(this.#parts))).size;
      return { plan: done.plan, openCount, ...(done.lsn === undefined ? {} : { lsn: done.lsn, time: done.time }) };
    } catch (error) {
      throw toTidemarkError(error, "erasing");
    }
  }

  /** Ends what was cut short: at the start of the service, for each app. */
  async finish(app: OpenApp): Promise<void> {
    await this.#erase(app);
  }

  /** Ends what is being erased, after the segment it is at: the next start goes on. To be called before apps are closed. */
  async close(): Promise<void> {
    this.#stopping.abort();
    await Promise.allSettled(this.#erasing);
  }

  async #erase(app: OpenApp): Promise<void> {
    const erasing = eraseNow(app, { signal: this.#stopping.signal, onStep: this.#parts.onStep });
    this.#erasing.add(erasing);
    try {
      await erasing;
    } finally {
      this.#erasing.delete(erasing);
    }
  }

  /** Up to the record, which is written when nothing came in between. */
  async #write(
    about: { app: OpenApp; place: Place; order: Order; context: RequestContext },
    work: Work,
  ): Promise<{ plan: PurgePlan; concerned: Concerned; lsn?: Lsn; time: ReturnType<typeof timeOf> }> {
    const { app, place, order, context } = about;
    for (let tries = 1; ; tries++) {
      const concerned = await this.#concerned(app, place, order.path, work);
      const plan = await this.#planOf(app, concerned, work);
      refuse(plan, order);
      refuseRestoring(app);
      await this.#deleteLive(app, concerned, { liveToo: order.liveToo, context }, work);
      const prepared = await prepareOrder(app, concerned, work);
      if (wasWritten(app, concerned)) {
        if (tries < TRIES_MAX) continue;
        throw new TidemarkError(
          "FAILED_PRECONDITION",
          "files of the order are being written to all the time: stop who does that first",
        );
      }
      refuseRestoring(app);
      // From here on nobody can cancel it.
      const writing = { prepared, concerned, order: { ...order, context } };
      const lsn = await commitOrder(app, writing, () => this.#between(app));
      this.#parts.onStep?.("committed");
      return { plan, concerned, time: timeOf(app), ...(lsn === undefined ? {} : { lsn }) };
    }
  }

  /** Between two records of one order: others have the loop, and rows the time to be applied. */
  async #between(app: OpenApp): Promise<void> {
    await new AppSpace(app).breathe(new Work(this.#parts));
    await this.#parts.turns.next();
    refuseRestoring(app);
  }

  async #deleteLive(
    app: OpenApp,
    concerned: Concerned,
    { liveToo, context }: { liveToo: boolean; context: RequestContext },
    work: Work,
  ): Promise<void> {
    if (!liveToo) return;
    for (const { parent, name } of [...liveNames(app, concerned.since.keys())]) {
      await app.engine.execute({ op: "unlink", parent, name }, context);
      if (work.due) await work.pause();
    }
  }

  async #find(path: SharePath): Promise<{ app: OpenApp; place: Place }> {
    const app = await this.#parts.apps.find(path.app);
    return { app, place: { root: shareOf(app, path).root, names: pathNames(path.path) } };
  }

  async #concerned(app: OpenApp, place: Place, path: string, work: Work): Promise<Concerned> {
    const concerned = await findConcerned(app, place, work);
    if (concerned.files.size > 0) return concerned;
    const message = `there never was a file at or below "${path}", as far back as history is kept`;
    throw new TidemarkError("NOT_FOUND", message);
  }

  async #planOf(app: OpenApp, concerned: Concerned, work: Work): Promise<PurgePlan> {
    const { files, sharers, bytes, copies, since } = concerned;
    const live = new Set<InodeId>();
    for (const { ino } of liveNames(app, since.keys())) {
      live.add(ino);
      if (work.due) await work.pause();
    }
    const found = await snapshotsOf(app, files, work);
    const repository = this.#parts.repositoryOf?.(app);
    const shared = [...sharers].map(([ino, sharedBytes]) => ({ ino, bytes: BigInt(sharedBytes) }));
    return {
      app: { id: app.id as AppId, ...this.#parts.apps.nameOf(app.id) },
      fileCount: files.size,
      files: named(app, iterable(files.keys())),
      versionCount: concerned.stateCount,
      recordCount: bytes.recordCount,
      bytes: BigInt(bytes.bytes + copies.bytes),
      liveCount: live.size,
      live: named(app, iterable(live)),
      sharedCount: shared.length,
      shared: named(app, shared),
      snapshotCount: found.length,
      snapshots: found.slice(0, PURGE_NAMED_MAX).map(({ name }) => name),
      ...(repository === undefined ? {} : { repository }),
    };
  }
}

type Place = { readonly root: InodeId; readonly names: readonly Buffer[] };

type Order = { readonly path: string; readonly reason: string; readonly shared: boolean; readonly liveToo: boolean };

function* iterable(inodes: Iterable<InodeId>): Generator<{ readonly ino: InodeId }> {
  for (const ino of inodes) yield { ino };
}

function timeOf({ core }: OpenApp) {
  return core.lastTime ?? core.clock.now();
}

/** Whether any of the files was written to since they were looked at; deleting one is nothing that adds bytes. */
function wasWritten(app: OpenApp, { since }: Concerned): boolean {
  for (const [ino, lsn] of since) {
    const row = app.core.findInodeNow(ino);
    if (row !== undefined && row.since !== lsn) return true;
  }
  return false;
}

/** What a restore puts back is told by what can be read: that must not change under it. */
function refuseRestoring(app: OpenApp): void {
  if (runningRows(app).length > 0)
    throw new TidemarkError("FAILED_PRECONDITION", "a restore of this app is running: wait for it, or cancel it");
}

function refuse(plan: PurgePlan, { shared, liveToo }: Order): void {
  const list = (files: readonly { readonly path: Buffer }[], count: number): string => {
    const shown = files.slice(0, SHOWN_MAX).map(({ path }) => path.toString());
    return `${shown.join(", ")}${count > shown.length ? `, … (${count} in all)` : ""}`;
  };
  if (plan.liveCount > 0 && !liveToo)
    throw new TidemarkError(
      "FAILED_PRECONDITION",
      `still there: ${list(plan.live, plan.liveCount)}. Delete what is to be erased first, or say --live-too. Nothing was erased`,
      { data: { reason: "live" } },
    );
  if (plan.sharedCount > 0 && !shared)
    throw new TidemarkError(
      "FAILED_PRECONDITION",
      `other files share these bytes, because they were copied or restored: ${list(plan.shared, plan.sharedCount)}. Say --shared to erase the bytes there too. Nothing was erased`,
      { data: { reason: "shared" } },
    );
}

/** Paths named in a refusal. */
const SHOWN_MAX = 5;

function checkReason(reason: string): string {
  const text = reason.trim();
  const bytes = Buffer.byteLength(text);
  if (bytes > 0 && bytes <= PURGE_REASON_BYTES_MAX) return text;
  throw new TidemarkError(
    "INVALID_ARGUMENT",
    `say why, in at most ${PURGE_REASON_BYTES_MAX} bytes: it is kept with the order for as long as the app is`,
  );
}
