import type { Log } from "../../base/log.ts";
import type { Timers } from "../../base/timers.ts";
import { type InodeId, LIVE } from "../../domain/ids.ts";
import type { ConnectionProblem, FuseConnection } from "../../gateway/fuse/connection.ts";
import type { Mounted } from "../../gateway/fuse/mount.ts";
import type { NotificationLanes } from "../../gateway/fuse/notification-lanes.ts";
import type { FuseLoop } from "../../gateway/fuse/poll-loop.ts";
import { Appends } from "../../gateway/vfs/appends.ts";
import type { SharedLocks } from "../../gateway/vfs/context.ts";
import { KernelCache } from "../../gateway/vfs/kernel-cache.ts";
import { vfsOperations } from "../../gateway/vfs/vfs.ts";
import type { MountRow } from "../../meta/catalogue-rows.ts";
import type { OpenApp } from "../../meta/open-app.ts";
import type { MetadataService } from "../../meta/service.ts";
import type { ShareRow } from "../../meta/shares.ts";
import type { TokenGuard } from "../../meta/tokens/guard.ts";
import { findMoment, snapshotNames } from "./app-moments.ts";
import { supplementaryGroups } from "./process-groups.ts";

export type ActiveMountParts = {
  readonly service: MetadataService;
  readonly loop: FuseLoop;
  readonly lanes: NotificationLanes;
  readonly timers: Timers;
  readonly log: Log;
  readonly app: OpenApp;
  readonly share: ShareRow;
  readonly row: MountRow;
  readonly mounted: Mounted;
  readonly onEnd: () => void;
  /** Who may look into `.tidemark` by the share's option as it is now. */
  readonly views: () => ShareRow["views"];
  /** What the mount is held to, if it is. */
  readonly guard: TokenGuard | undefined;
};

/** How long a kernel relies on what it was told while a token allowed it: a token that is revoked has ended everywhere after that. */
const TOKEN_LEASE_MS = 1000;

/** Notes to a kernel at a time when it is to forget everything. */
const FORGET_BATCH = 1000;

/** How old an answer about the share's option may be: it is needed for every look at the past. */
const VIEWS_OPTION_MS = 1000;

/** One mount that is being served: the connection, and the news of other mounts' changes for its kernel. */
export class ActiveMount {
  readonly row: MountRow;
  readonly mounted: Mounted;
  readonly connection: FuseConnection;
  readonly #parts: ActiveMountParts;
  readonly cache: KernelCache;
  readonly #detach: () => void;
  readonly #appends: Appends;
  readonly #stopping = new AbortController();
  #views: { readonly atMs: number; readonly value: ShareRow["views"] } | undefined;

  constructor(parts: ActiveMountParts) {
    this.#parts = parts;
    this.row = parts.row;
    this.mounted = parts.mounted;
    const { loop, mounted, onEnd } = parts;
    this.#appends = new Appends({ resumed: mounted.resume !== undefined });
    this.cache = new KernelCache({
      fd: mounted.fd,
      mountId: parts.row.id,
      root: this.#root,
      lanes: parts.lanes,
      clock: parts.service.clock,
      timers: parts.timers,
      appends: this.#appends,
    });
    this.connection = loop.add({
      fd: mounted.fd,
      negotiated: mounted.negotiated,
      operations: this.#operations(),
      onEnd,
      onProblem: (problem) => this.#problem(problem),
      ...(mounted.marks === undefined ? {} : { marks: mounted.marks }),
      ...(mounted.resume === undefined ? {} : { resume: mounted.resume }),
    });
    const { app, row } = parts;
    const known = { root: this.#root, isNew: mounted.resume === undefined };
    this.#detach = row.at === undefined ? app.coherent.attach(row.id, this.cache, known) : () => {};
    parts.guard?.grant.onEnded((reason) => this.#forgetAll(reason));
  }

  /** Why everything is refused there by now, if it is. */
  get tokenEnded(): string | undefined {
    const ended = this.#parts.guard?.grant.ended;
    return ended === undefined ? undefined : `its token is good no more: ${ended}`;
  }

  /** Stops serving; the descriptor is no longer used when this resolves. */
  async stop(): Promise<void> {
    this.#detach();
    this.#stopping.abort();
    await this.#parts.loop.remove(this.connection);
    await this.#parts.guard?.close();
    await this.cache.abandon();
  }

  #operations(): ReturnType<typeof vfsOperations> {
    const { service, app, row, guard } = this.#parts;
    return vfsOperations({
      api: this.cache.guard(guard ?? app.coherent),
      mountId: row.id,
      root: this.#root,
      at: row.at ?? LIVE,
      readOnly: row.readOnly,
      views: () => this.#viewsNow(),
      asksOpens: row.asksOpens ?? false,
      groupsOf: supplementaryGroups,
      appends: this.#appends,
      absentNamesMs: () => app.coherent.absentNamesMs,
      kernel: this.cache,
      ...(guard === undefined ? {} : { lease: { durationMs: () => TOKEN_LEASE_MS, clock: service.clock } }),
      sharedLocks: this.#sharedLocks(),
      slots: {
        slotOf: (lsn) => service.viewSlot(app.id, lsn),
        lsnOf: (slot) => service.catalogue.lsnOf(app.id, slot),
      },
      moments: { find: (name) => findMoment(app, name), snapshotNames: () => snapshotNames(app) },
    });
  }

  /** The directory that the mount shows. */
  get #root(): InodeId {
    return this.#parts.guard?.grant.root ?? this.#parts.share.root;
  }

  /** The mount's token is good no more: what is mapped into memory is given up, too. The rest the kernel does not rely on for longer than TOKEN_LEASE_MS. */
  #forgetAll(reason: string): void {
    const { app, row, log } = this.#parts;
    log.warn("the token of a mount has ended: everything there is refused", { target: row.target, reason });
    const held = app.core.holders.heldBy(row.id);
    const forget = async (): Promise<void> => {
      let told = 0;
      for (const ino of held) {
        if (this.#stopping.signal.aborted) return;
        await this.cache.forgetPages(ino, 0);
        if (++told % FORGET_BATCH === 0) await this.cache.settled();
      }
    };
    forget().catch((error: unknown) =>
      log.error("a kernel may keep pages of a mount whose token has ended", { error }),
    );
  }

  #sharedLocks(): SharedLocks | undefined {
    if (this.row.locks !== "shared") return undefined;
    return { resumed: this.mounted.resume !== undefined, stopping: this.#stopping.signal };
  }

  /** The share's option; a mount whose kernel does not ask for opens lets only root in. */
  #viewsNow(): ShareRow["views"] {
    const nowMs = this.#parts.service.clock.monotonicMs();
    if (this.#views === undefined || nowMs - this.#views.atMs >= VIEWS_OPTION_MS) {
      this.#views = { atMs: nowMs, value: this.#parts.views() };
    }
    return this.#views.value;
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
