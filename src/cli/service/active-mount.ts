import { unreachable } from "../../base/assert.ts";
import { compareTimestamps } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import { type InodeId, LIVE, type Lsn } from "../../domain/ids.ts";
import type { Invalidation } from "../../domain/metadata-api.ts";
import { parseUtcTime } from "../../domain/moment.ts";
import { isSnapshotName } from "../../domain/names.ts";
import type { ConnectionProblem, FuseConnection } from "../../gateway/fuse/connection.ts";
import type { Mounted } from "../../gateway/fuse/mount.ts";
import type { Notifier } from "../../gateway/fuse/notify.ts";
import type { Notification } from "../../gateway/fuse/notify-codec.ts";
import type { FuseLoop } from "../../gateway/fuse/poll-loop.ts";
import { Appends } from "../../gateway/vfs/appends.ts";
import { VIEWS_SLOT } from "../../gateway/vfs/context.ts";
import { vfsOperations } from "../../gateway/vfs/vfs.ts";
import { VIEWS_INO } from "../../gateway/vfs/views-directory.ts";
import type { MountRow } from "../../meta/catalogue-rows.ts";
import { plainKey, prefixEnd, TABLE } from "../../meta/keys.ts";
import type { OpenApp } from "../../meta/open-app.ts";
import { resolveMoment } from "../../meta/reading/time.ts";
import type { MetadataService } from "../../meta/service.ts";
import type { ShareRow } from "../../meta/shares.ts";
import { supplementaryGroups } from "./process-groups.ts";

export type ActiveMountParts = {
  readonly service: MetadataService;
  readonly loop: FuseLoop;
  readonly notifier: Notifier;
  readonly log: Log;
  readonly app: OpenApp;
  readonly share: ShareRow;
  readonly row: MountRow;
  readonly mounted: Mounted;
  readonly onEnd: () => void;
  /** Who may look into `.tidemark` by the share's option as it is now. */
  readonly views: () => ShareRow["views"];
};

/** How old an answer about the share's option may be: it is needed for every look at the past. */
const VIEWS_OPTION_MS = 1000;

const ALL_DATA = { offset: 0n, length: 0n };

/** Snapshot names shown in a listing of `.tidemark`. */
const SNAPSHOTS_LISTED_MAX = 10_000;

/** One mount that is being served: the connection, and the news of other mounts' changes for its kernel. */
export class ActiveMount {
  readonly row: MountRow;
  readonly mounted: Mounted;
  readonly connection: FuseConnection;
  readonly #parts: ActiveMountParts;
  readonly #unsubscribe: () => void;
  readonly #appends: Appends;
  #views: { readonly atMs: number; readonly value: ShareRow["views"] } | undefined;

  constructor(parts: ActiveMountParts) {
    this.#parts = parts;
    this.row = parts.row;
    this.mounted = parts.mounted;
    const { loop, mounted, onEnd } = parts;
    this.#appends = new Appends({ resumed: mounted.resume !== undefined });
    this.connection = loop.add({
      fd: mounted.fd,
      negotiated: mounted.negotiated,
      operations: this.#operations(),
      onEnd,
      onProblem: (problem) => this.#problem(problem),
      ...(mounted.marks === undefined ? {} : { marks: mounted.marks }),
      ...(mounted.resume === undefined ? {} : { resume: mounted.resume }),
    });
    const isLive = parts.row.at === undefined;
    this.#unsubscribe = isLive
      ? parts.app.engine.subscribe((invalidation) => this.invalidate(invalidation, { doubtful: false }))
      : () => {};
  }

  /** Stops serving; the descriptor is no longer used when this resolves. */
  async stop(): Promise<void> {
    this.#unsubscribe();
    await this.#parts.loop.remove(this.connection);
    await this.#parts.notifier.abandon(this.mounted.fd);
  }

  #operations(): ReturnType<typeof vfsOperations> {
    const { service, app, share, row } = this.#parts;
    return vfsOperations({
      api: app.engine,
      mountId: row.id,
      root: share.root,
      at: row.at ?? LIVE,
      readOnly: row.readOnly,
      views: () => this.#viewsNow(),
      asksOpens: row.asksOpens ?? false,
      groupsOf: supplementaryGroups,
      appends: this.#appends,
      misplaced: (ino) => this.#tellInode(ino, true),
      slots: {
        slotOf: (lsn) => service.viewSlot(app.id, lsn),
        lsnOf: (slot) => service.catalogue.lsnOf(app.id, slot),
      },
      moments: { find: (name) => findMoment(app, name), snapshotNames: () => snapshotNames(app) },
    });
  }

  /** The share's option; a mount whose kernel does not ask for opens lets only root in. */
  #viewsNow(): ShareRow["views"] {
    const nowMs = this.#parts.service.clock.monotonicMs();
    if (this.#views === undefined || nowMs - this.#views.atMs >= VIEWS_OPTION_MS) {
      this.#views = { atMs: nowMs, value: this.#parts.views() };
    }
    return this.#views.value;
  }

  /**
   * Has the kernel forget what a change made elsewhere. `doubtful`: it may know already; then names are only asked for again, since to drop one that is
   * right would take working directories and mount points below it along.
   */
  invalidate(invalidation: Invalidation, options: { readonly doubtful: boolean }): void {
    if (invalidation.excluding === this.row.id) return;
    const { fd } = this.mounted;
    switch (invalidation.kind) {
      case "inode":
        if (invalidation.data) this.#appends.changedElsewhere(invalidation.ino);
        this.#tellInode(invalidation.ino, invalidation.data);
        break;
      case "entry":
        this.#tell({
          kind: "entry",
          fd,
          slot: 0,
          parentIno: this.#number(invalidation.parent),
          name: invalidation.name,
          expireOnly: options.doubtful,
        });
        // A name the kernel has not looked up may all the same be missing in a listing it keeps.
        this.#tellInode(invalidation.parent, true);
        break;
      case "snapshot":
        // A view that somebody works in stays one, whatever its name means now: so this is only asked for again, too.
        this.#tell({
          kind: "entry",
          fd,
          slot: VIEWS_SLOT,
          parentIno: VIEWS_INO,
          name: invalidation.name,
          expireOnly: true,
        });
        this.#tell({ kind: "inode", fd, slot: VIEWS_SLOT, ino: VIEWS_INO, data: ALL_DATA });
        break;
      default:
        unreachable(invalidation);
    }
  }

  #tellInode(ino: InodeId, data: boolean): void {
    const { fd } = this.mounted;
    this.#tell({ kind: "inode", fd, slot: 0, ino: this.#number(ino), data: data ? ALL_DATA : undefined });
  }

  /** Nobody waits here: an answer must never wait for its own mount's kernel, and a full queue is waited for by whoever makes many changes. */
  #tell(notification: Notification): void {
    void this.#parts.notifier.notify(notification);
  }

  #number(ino: InodeId): number {
    return ino === this.#parts.share.root ? 1 : ino;
  }

  #problem(problem: ConnectionProblem): void {
    const { log, row } = this.#parts;
    const where = { mount: row.id, target: row.target };
    if (problem.kind === "malformed")
      log.error("the kernel sent something that is no request", { ...where, error: problem.error });
    else if (problem.kind === "refused") {
      log.error("the kernel refused an answer", { ...where, opcode: problem.header.opcode, errno: problem.errno });
    } else
      log.error("a request failed by a defect: answered EIO", {
        ...where,
        opcode: problem.header.opcode,
        error: problem.error,
      });
  }
}

/** What a name inside `.tidemark` means: a snapshot, or an absolute time in UTC. A time to come is nothing yet: a view never changes. */
function findMoment(app: OpenApp, name: string): Promise<Lsn | undefined> | undefined {
  const time = parseUtcTime(name);
  if (time === undefined && !isSnapshotName(name)) return undefined;
  if (time !== undefined && compareTimestamps(time, app.core.clock.now()) > 0) return undefined;
  const moment = time === undefined ? ({ kind: "snapshot", name } as const) : ({ kind: "time", time } as const);
  return resolveMoment(app.core, moment).then(
    (resolved) => (resolved.lsn === 0 ? undefined : resolved.lsn),
    () => undefined,
  );
}

function snapshotNames(app: OpenApp): string[] {
  const gte = plainKey(TABLE.SNAPSHOT);
  const rows = app.store.range({ gte, lt: prefixEnd(gte), limit: SNAPSHOTS_LISTED_MAX });
  return rows.map((row) => row.key.subarray(1).toString("utf8"));
}
