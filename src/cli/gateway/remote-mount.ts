import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import type { Timers } from "../../base/timers.ts";
import { FsError } from "../../domain/errors.ts";
import { LIVE, type Lsn } from "../../domain/ids.ts";
import type { MetadataApi } from "../../domain/metadata-api.ts";
import type { ConnectionProblem, FuseConnection } from "../../gateway/fuse/connection.ts";
import type { Mounted } from "../../gateway/fuse/mount.ts";
import type { NotificationLanes } from "../../gateway/fuse/notification-lanes.ts";
import type { FuseLoop } from "../../gateway/fuse/poll-loop.ts";
import type { SharedLocks } from "../../gateway/vfs/context.ts";
import { KernelCache } from "../../gateway/vfs/kernel-cache.ts";
import { vfsOperations } from "../../gateway/vfs/vfs.ts";
import { supplementaryGroups } from "../service/process-groups.ts";
import { FatalSignals } from "./fatal-signals.ts";
import type { GatewaySession } from "./gateway-session.ts";
import type { LateCache } from "./late-cache.ts";
import type { KeptGrant } from "./mount-state.ts";

export type RemoteMountParts = {
  readonly session: GatewaySession;
  /** What reads and changes go through: the session, or a cache around it. */
  readonly api: MetadataApi;
  /** Told by the session of what others change. */
  readonly news: LateCache;
  /** As it was when the kernel mounted: what can't change for it any more. */
  readonly granted: KeptGrant;
  readonly mounted: Mounted;
  readonly loop: FuseLoop;
  readonly lanes: NotificationLanes;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
  /** The kernel has unmounted it. */
  readonly onEnd: () => void;
};

/** Moments of a mount that its node ids name, at most: as many as a person or a backup looks at. The service has them all; beyond it the oldest is asked for again. */
const SLOTS_MAX = 65_536;

/** A mount whose service is elsewhere: the kernel's requests go over the session, and what others change comes from there. */
export class RemoteMount {
  readonly #parts: RemoteMountParts;
  readonly #cache: KernelCache;
  readonly #connection: FuseConnection;
  readonly #fatalSignals: FatalSignals;
  readonly #stopping = new AbortController();
  readonly #lsnBySlot = new Map<number, Lsn>();
  readonly #slotByLsn = new Map<Lsn, number>();

  constructor(parts: RemoteMountParts) {
    this.#parts = parts;
    const { loop, mounted, granted, lanes, timers, clock } = parts;
    this.#fatalSignals = new FatalSignals({ timers });
    for (const { slot, lsn } of granted.viewSlots) this.#noteSlot(slot, lsn);
    this.#cache = new KernelCache({
      fd: mounted.fd,
      mountId: granted.mountId,
      root: granted.root,
      lanes,
      clock,
      timers,
    });
    void this.#cache.warm();
    parts.news.attach(this.#cache);
    this.#connection = loop.add({
      fd: mounted.fd,
      negotiated: mounted.negotiated,
      operations: this.#operations(),
      onEnd: () => {
        this.#fatalSignals.end();
        parts.onEnd();
      },
      onProblem: (problem) => this.#problem(problem),
      ...(mounted.marks === undefined ? {} : { marks: mounted.marks }),
      ...(mounted.resume === undefined ? {} : { resume: mounted.resume }),
    });
  }

  /** Stops serving; the descriptor is no longer used when this resolves. What waits for the service is given up. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#fatalSignals.end();
    await this.#parts.loop.remove(this.#connection);
    await this.#cache.abandon();
  }

  #operations(): ReturnType<typeof vfsOperations> {
    const { session, granted, clock, api, mounted } = this.#parts;
    const sharedLocks: SharedLocks | undefined =
      granted.locks === "shared"
        ? { resumed: mounted.resume !== undefined, stopping: this.#stopping.signal }
        : undefined;
    return vfsOperations({
      api: this.#cache.guard(api),
      mountId: granted.mountId,
      root: granted.root,
      at: granted.at,
      readOnly: granted.readOnly,
      views: () => session.grant.views,
      asksOpens: granted.asksOpens,
      groupsOf: supplementaryGroups,
      appends: "any",
      lease: { durationMs: () => session.validityMs, clock },
      kernel: this.#cache,
      givenUp: (reply) => this.#fatalSignals.of(reply),
      sharedLocks,
      slots: { slotOf: (lsn) => this.#slotOf(lsn), lsnOf: (slot) => this.#lsnBySlot.get(slot) },
      moments: { find: (name) => this.#findMoment(name), snapshotNames: () => session.snapshotNames() },
    });
  }

  async #findMoment(name: string): Promise<Lsn | undefined> {
    const found = await this.#parts.session.findMoment(name);
    if (found !== undefined) this.#noteSlot(found.slot, found.lsn);
    return found?.lsn;
  }

  /** The service has given a slot to every moment that it told of. */
  #slotOf(lsn: Lsn): number {
    const slot = this.#slotByLsn.get(lsn);
    if (slot === undefined) throw FsError.of("ESTALE");
    return slot;
  }

  #noteSlot(slot: number, lsn: Lsn): void {
    this.#lsnBySlot.set(slot, lsn);
    this.#slotByLsn.set(lsn, slot);
    const [oldest] = this.#lsnBySlot;
    if (oldest === undefined || this.#lsnBySlot.size <= SLOTS_MAX) return;
    this.#lsnBySlot.delete(oldest[0]);
    this.#slotByLsn.delete(oldest[1]);
  }

  #problem(problem: ConnectionProblem): void {
    const { log } = this.#parts;
    if (problem.kind === "malformed")
      log.error("the kernel sent something that is no request", { error: problem.error });
    else if (problem.kind === "refused")
      log.error("the kernel refused an answer", { opcode: problem.header.opcode, errno: problem.errno });
    else
      log.error("a request failed by a defect: answered EIO", { opcode: problem.header.opcode, error: problem.error });
  }
}

/** Whether a kernel that is mounted with this grant asks for opens: so that those of the past can be checked. */
export function asksOpens({ at, views }: { readonly at: Lsn; readonly views: "off" | "root" | "users" }): boolean {
  return at === LIVE && views === "users";
}
