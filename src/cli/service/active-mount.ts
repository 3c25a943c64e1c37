import type { Log } from "../../base/log.ts";
import { LIVE, type Lsn } from "../../domain/ids.ts";
import type { Invalidation } from "../../domain/metadata-api.ts";
import { parseUtcTime } from "../../domain/moment.ts";
import { isSnapshotName } from "../../domain/names.ts";
import type { ConnectionProblem, FuseConnection } from "../../gateway/fuse/connection.ts";
import type { Mounted } from "../../gateway/fuse/mount.ts";
import type { Notifier } from "../../gateway/fuse/notify.ts";
import type { FuseLoop } from "../../gateway/fuse/poll-loop.ts";
import { vfsOperations } from "../../gateway/vfs/vfs.ts";
import type { MountRow } from "../../meta/catalogue-rows.ts";
import { plainKey, prefixEnd, TABLE } from "../../meta/keys.ts";
import type { OpenApp } from "../../meta/open-app.ts";
import { resolveMoment } from "../../meta/reading/time.ts";
import type { MetadataService } from "../../meta/service.ts";
import type { ShareRow } from "../../meta/shares.ts";

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
};

/** Snapshot names shown in a listing of `.tidemark`. */
const SNAPSHOTS_LISTED_MAX = 10_000;

/** One mount that is being served: the connection, and the news of other mounts' changes for its kernel. */
export class ActiveMount {
  readonly row: MountRow;
  readonly mounted: Mounted;
  readonly connection: FuseConnection;
  readonly #parts: ActiveMountParts;
  readonly #unsubscribe: () => void;

  constructor(parts: ActiveMountParts) {
    this.#parts = parts;
    this.row = parts.row;
    this.mounted = parts.mounted;
    const { loop, mounted, onEnd } = parts;
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
      ? parts.app.engine.subscribe((invalidation) => this.#invalidate(invalidation))
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
      views: share.views,
      slots: {
        slotOf: (lsn) => service.viewSlot(app.id, lsn),
        lsnOf: (slot) => service.catalogue.lsnOf(app.id, slot),
      },
      moments: { find: (name) => findMoment(app, name), snapshotNames: () => snapshotNames(app) },
    });
  }

  #invalidate(invalidation: Invalidation): void {
    const { row, share, notifier, mounted } = this.#parts;
    if (invalidation.excluding === row.id) return;
    const { fd } = mounted;
    const number = (ino: number): number => (ino === share.root ? 1 : ino);
    // Nobody waits here: an answer must never wait for its own mount's kernel, and a full queue is waited for by whoever makes many changes.
    if (invalidation.kind === "inode") {
      const data = invalidation.data ? { offset: 0n, length: 0n } : undefined;
      void notifier.notify({ kind: "inode", fd, slot: 0, ino: number(invalidation.ino), data });
      return;
    }
    const { parent, name } = invalidation;
    void notifier.notify({ kind: "entry", fd, slot: 0, parentIno: number(parent), name, expireOnly: false });
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

/** What a name inside `.tidemark` means: a snapshot, or an absolute time in UTC. */
function findMoment(app: OpenApp, name: string): Promise<Lsn | undefined> | undefined {
  const time = parseUtcTime(name);
  if (time === undefined && !isSnapshotName(name)) return undefined;
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
