import { spawn } from "node:child_process";
import type { Log } from "../../base/log.ts";
import type { Timers } from "../../base/timers.ts";
import type { CallOptions } from "../../domain/admin-call.ts";
import { PAGE_ITEMS_MAX } from "../../domain/admin-call.ts";
import type { MountApi, MountInfo, MountRequest, MountState } from "../../domain/admin-catalogue.ts";
import { FsError, TidemarkError } from "../../domain/errors.ts";
import type { AppId, InodeId, Lsn, MountId, ShareId } from "../../domain/ids.ts";
import type { ResolvedMoment } from "../../domain/moment.ts";
import { formatAppRef } from "../../domain/share-path.ts";
import { hasInitFlag } from "../../gateway/fuse/init.ts";
import type { Mounted } from "../../gateway/fuse/mount.ts";
import { FILE_SYSTEM_TYPE, mountAt, readMountTable } from "../../gateway/fuse/mount-table.ts";
import type { NotificationLanes } from "../../gateway/fuse/notification-lanes.ts";
import type { FuseLoop } from "../../gateway/fuse/poll-loop.ts";
import { contextOf } from "../../meta/catalogue-api.ts";
import type { MountRow, SessionRow } from "../../meta/catalogue-rows.ts";
import { recentNews } from "../../meta/news.ts";
import { type OpenApp, SERVICE_CONTEXT } from "../../meta/open-app.ts";
import { findShare } from "../../meta/reading/find-share.ts";
import { resolveMoment, timeOfLsn } from "../../meta/reading/time.ts";
import type { MetadataService } from "../../meta/service.ts";
import { type ShareRow, sharesAt } from "../../meta/shares.ts";
import type { TokenGrant } from "../../meta/tokens/token-grant.ts";
import { ActiveMount } from "./active-mount.ts";
import type { MountHost } from "./mount-host.ts";
import type { MountTokens } from "./mount-tokens.ts";

export type MountsParts = {
  readonly service: MetadataService;
  readonly loop: FuseLoop;
  readonly lanes: NotificationLanes;
  readonly timers: Timers;
  readonly host: MountHost;
  readonly log: Log;
  readonly dataFolder: string;
  /** Ends the session of a mount on another node. */
  readonly endSession: (mount: MountId, reason: string) => void;
  /** For mounts that are held to a token. */
  readonly tokens: MountTokens;
};

/** News told at a time when catching up, so that the queue of notifications has room for what happens meanwhile. */
const NEWS_BATCH = 1000;

/** How long answers to what is asked again after a restart are held back at most. A restart takes about as long. */
const HOLD_ANSWERS_MS = 1000;

/** Notes of one order to erase, to one kernel: some ten seconds of its time. */
const FORGET_NOTES_MAX = 1_000_000;

/** The mounts of a service: made, served, ended; and carried over from the process before. */
export class Mounts implements MountApi {
  readonly #parts: MountsParts;
  readonly #active = new Map<number, ActiveMount>();
  /** Why a wanted mount is not there. */
  readonly #down = new Map<number, string>();
  #stopping = false;
  /** For apps with answers that are held back: lets them go. */
  readonly #heard = new Map<OpenApp, () => void>();
  /** Never rejects. */
  #catchingUp: Promise<void> = Promise.resolve();

  constructor(parts: MountsParts) {
    this.#parts = parts;
  }

  /** Goes on with mounts that outlived the former process, makes persistent ones again, forgets the rest. Then orphans nobody holds end. */
  async start(): Promise<void> {
    const { service, host } = this.#parts;
    const resumed = host.resumed();
    for (const row of service.catalogue.mounts()) {
      const mounted = resumed.get(String(row.id));
      if (mounted !== undefined) this.#serve(row, mounted, { resumed: true });
    }
    this.#holdAnswers();
    const gone = this.#local().filter((row) => !this.#active.has(row.id));
    for (const app of service.openApps()) app.engine.reapAbandoned(SERVICE_CONTEXT);
    for (const row of gone) await this.#again(row);
    await service.syncCatalogue();
    this.#catchingUp = this.#catchUp();
  }

  /** Tells the kernels of mounts that went on what the process before may not have told them any more. Beside everything else, in no particular order. */
  async #catchUp(): Promise<void> {
    const { service, log } = this.#parts;
    const live = [...this.#active.values()].filter(
      ({ row, mounted }) => row.at === undefined && mounted.resume !== undefined,
    );
    for (const app of service.openApps()) {
      const mounts = live.filter(({ row }) => row.appId === app.id);
      if (mounts.length === 0) continue;
      try {
        let told = 0;
        for await (const news of recentNews(app)) {
          if (this.#stopping) return;
          for (const mount of mounts) if (this.#active.has(mount.row.id)) mount.cache.tellDoubtful(news);
          if (++told % NEWS_BATCH === 0) await Promise.all(mounts.map(({ cache }) => cache.settled()));
        }
        await Promise.all(mounts.map(({ cache }) => cache.settled()));
      } catch (error) {
        log.error("mounts may not have heard of the last changes before the restart", {
          appId: app.id,
          error: String(error),
        });
      } finally {
        this.#heard.get(app)?.();
      }
    }
  }

  /** Changes that the process before made and did not answer are answered only when the other mounts have heard of them; soon, though: some may hear of them only when they are answered. */
  #holdAnswers(): void {
    for (const app of this.#parts.service.openApps()) {
      const live = [...this.#active.values()].filter(({ row }) => row.appId === app.id && row.at === undefined);
      if (live.length < 2) continue;
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#heard.set(app, resolve);
      this.#parts.timers.after(HOLD_ANSWERS_MS, resolve);
      app.coherent.recovering(promise);
    }
  }

  async mount(request: MountRequest, options?: CallOptions): Promise<MountInfo> {
    const { service } = this.#parts;
    this.#refuseOwnFolder(request.target);
    const app = service.find(request.app);
    const share = findShare(app.core, request.share);
    const at = request.at.kind === "now" ? undefined : (await resolveMoment(app.core, request.at)).lsn;
    if (at === undefined) this.#refuseDeleted(app, share);
    if (at !== undefined && request.locks === "shared")
      throw new TidemarkError("INVALID_ARGUMENT", "a view never changes: its locks can't be shared with anybody");
    const grant = await this.#parts.tokens.grantFor(request, { app, share, at });
    const { target, persist, allowSuid, allowDevices } = request;
    const readOnly = request.readOnly || at !== undefined || grant?.readOnly === true;
    const asksOpens = at === undefined && (grant?.viewsOf(share.views) ?? share.views) === "users";
    const draft = { appId: app.id, shareId: share.id, target, readOnly, persist, allowSuid, allowDevices, asksOpens };
    const locks = request.locks === "shared" ? { locks: request.locks } : {};
    const held = grant === undefined ? {} : { tokenId: grant.id, ...(grant.wholeShare ? {} : { root: grant.root }) };
    const row = service.catalogue.addMount(
      at === undefined ? { ...draft, ...locks, ...held } : { ...draft, ...held, at },
      contextOf(options),
    );
    try {
      await this.#make(row, grant);
    } catch (error) {
      grant?.release();
      service.catalogue.removeMount(row.id, SERVICE_CONTEXT);
      throw error;
    }
    await service.syncCatalogue();
    return await this.#info(row);
  }

  async umount(request: { target: string; lazy: boolean }): Promise<MountInfo> {
    const { service, host } = this.#parts;
    const elsewhere = this.#everywhere().find(
      ({ session, target }) => session !== undefined && `${nodeOf(session)}:${target}` === request.target,
    );
    if (elsewhere !== undefined) return await this.#endElsewhere(elsewhere);
    const row = this.#attached().find((mount) => mount.target === request.target);
    if (row === undefined)
      throw new TidemarkError("NOT_FOUND", `nothing of ours is mounted at "${request.target}": see \`tidemark mount\``);
    const info = await this.#info(row);
    if (this.#active.has(row.id)) await host.umount(row.target, { lazy: request.lazy });
    // One that a process before has left dead is in the way of whatever is mounted there next.
    else if (mountAt(readMountTable(), row.target)?.fileSystem === FILE_SYSTEM_TYPE)
      await host.umount(row.target, { lazy: true });
    if (request.lazy && this.#active.has(row.id)) service.catalogue.detachMount(row.id, SERVICE_CONTEXT);
    else await this.#ended(row);
    await service.syncCatalogue();
    return { ...info, state: "stopping" };
  }

  /** A mount of another node: its gateway may be gone for good, and is told if it is not. */
  async #endElsewhere(row: MountRow): Promise<MountInfo> {
    const info = await this.#info(row);
    this.#parts.endSession(row.id, "an administrator has ended the mount");
    await this.#parts.service.syncCatalogue();
    return { ...info, state: "stopping" };
  }

  async *listMounts(): AsyncGenerator<readonly MountInfo[]> {
    const rows = this.#parts.service.catalogue.mounts().sort((left, right) => (left.target < right.target ? -1 : 1));
    for (let at = 0; at < rows.length; at += PAGE_ITEMS_MAX)
      yield await Promise.all(rows.slice(at, at + PAGE_ITEMS_MAX).map((row) => this.#info(row)));
  }

  /** Where a share is mounted live, if anywhere. */
  shareMounted(appId: AppId, shareId: ShareId): string | undefined {
    const row = this.#everywhere().find(
      (mount) => mount.appId === appId && mount.shareId === shareId && mount.at === undefined,
    );
    return row?.session === undefined ? row?.target : `${row.target} on ${nodeOf(row.session)}`;
  }

  /**
   * Writes back what programs changed through memory maps on the app's mounts. In processes of their own: whoever opens a path of a mount waits
   * for our answers, and this process must not wait for itself.
   */
  async writeBack(appId: AppId): Promise<void> {
    const rows = this.#attached().filter((row) => this.#active.has(row.id));
    const live = rows.filter((row) => row.appId === appId && row.at === undefined && !row.readOnly);
    await Promise.all(live.map((row) => syncFileSystem(row.target)));
  }

  /** Resolves when the kernels of all mounts have been told of every change made until now. Never to be awaited by an answer to a mount. */
  async settled(): Promise<void> {
    await Promise.all([...this.#active.values()].map(({ cache }) => cache.settled()));
  }

  /**
   * Has the kernels of all mounts of an app forget the pages of files, at all moments. Resolves when they were told. Answers false when that were too many notes: pages of views may be kept then, until they are
   * unmounted or the kernel drops them.
   */
  async forgetPages(app: OpenApp, files: readonly InodeId[]): Promise<boolean> {
    const slots = [0, ...[...this.#parts.service.catalogue.slotsOf(app.id)].map(({ slot }) => slot)];
    const isWhole = slots.length * files.length <= FORGET_NOTES_MAX;
    for (const active of [...this.#active.values()].filter(({ row }) => row.appId === app.id))
      for (const slot of isWhole ? slots : [0])
        for (const ino of files) if (this.#active.has(active.row.id)) await active.cache.forgetPages(ino, slot);
    await this.settled();
    return isWhole;
  }

  /** Shares of an app with a live mount. */
  mountedShares(appId: AppId): ReadonlySet<ShareId> {
    const live = this.#everywhere().filter((row) => row.appId === appId && row.at === undefined);
    return new Set(live.map((row) => row.shareId));
  }

  /** Ends all mounts, those in use lazily. Persistent ones are remembered. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#catchingUp;
    const attached = new Set(this.#attached().map((row) => row.id));
    for (const { row } of [...this.#active.values()]) {
      if (attached.has(row.id))
        await this.#parts.host.umount(row.target, { lazy: true }).catch((error: unknown) => {
          this.#parts.log.error("cannot unmount", { target: row.target, error: String(error) });
        });
      await this.#ended(row);
    }
  }

  /** The process ends but the supervisor keeps the mounts for the next one. */
  async detach(): Promise<void> {
    for (const active of this.#active.values()) await active.stop();
  }

  /** Mounts that a path leads to. */
  #attached(): MountRow[] {
    return this.#local().filter((row) => row.detached !== true);
  }

  /** Mounts that a path leads to, here or on another node. */
  #everywhere(): MountRow[] {
    return this.#parts.service.catalogue.mounts().filter((row) => row.detached !== true);
  }

  /** Mounts of this machine. */
  #local(): MountRow[] {
    return this.#parts.service.catalogue.mounts().filter((row) => row.session === undefined);
  }

  async #again(row: MountRow): Promise<void> {
    const { service, log } = this.#parts;
    service.catalogue.removeMount(row.id, SERVICE_CONTEXT);
    if (!row.persist) return;
    const { id: _id, since: _since, ...draft } = row;
    const isUsers = row.at === undefined && this.#viewsOf(row) === "users";
    const asksOpens = isUsers && (row.tokenId === undefined || row.asksOpens === true);
    const next = service.catalogue.addMount({ ...draft, asksOpens }, SERVICE_CONTEXT);
    try {
      await this.#make(next);
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      this.#down.set(next.id, message);
      log.error("a persistent mount could not be made again", { target: row.target, error: message });
    }
  }

  async #make(row: MountRow, granted?: TokenGrant): Promise<void> {
    const { service, host, tokens } = this.#parts;
    const name = service.nameOf(row.appId);
    const { app, share } = this.#find(row);
    const grant = granted ?? tokens.resume(row, { app, share });
    const mounted = await host.mount(String(row.id), {
      target: row.target,
      source: `tidemark:${formatAppRef(name)}/${share.name}`,
      readOnly: row.readOnly,
      suid: row.allowSuid,
      dev: row.allowDevices,
      locks: row.locks === "shared" ? "service" : "kernel",
      // What a token allowed may end, also for pages that the kernel has.
      ...(grant === undefined ? {} : { pages: "follow-attributes", access: grant.access }),
    });
    this.#serve(row, mounted, { resumed: false, grant });
    // From now on changes wait for news that others get: nobody should have to wait for threads that start, too.
    const live = [...this.#active.values()].filter(
      (active) => active.row.appId === row.appId && active.row.at === undefined,
    );
    if (row.at === undefined && live.length > 1) await Promise.all(live.map(({ cache }) => cache.warm()));
  }

  #serve(
    row: MountRow,
    mounted: Mounted,
    { resumed, grant }: { readonly resumed: boolean; readonly grant?: TokenGrant | undefined },
  ): void {
    const { app, share } = this.#find(row);
    // A view reads past rows only: no live orphan has to wait for it.
    if (row.at === undefined) app.engine.attachMount(row.id, { resumed });
    // Then it was mounted anew, and nobody is left who could unlock.
    if (resumed && !hasInitFlag(mounted.negotiated, "HAS_RESEND")) app.engine.dropLocks(row.id, SERVICE_CONTEXT);
    const guard = this.#parts.tokens.guard(row, { app, share, grant });
    const onEnd = (): void => {
      this.#ended(row).catch((error: unknown) =>
        this.#parts.log.error("a mount's end failed", { target: row.target, error: String(error) }),
      );
    };
    const views = (): ShareRow["views"] => guard?.grant.viewsOf(this.#viewsOf(row)) ?? this.#viewsOf(row);
    this.#active.set(row.id, new ActiveMount({ ...this.#parts, app, share, row, mounted, onEnd, views, guard }));
  }

  /** Who may look at the past of a mount's share now. */
  #viewsOf(row: MountRow): ShareRow["views"] {
    const app = this.#parts.service.get(row.appId);
    const shares = app === undefined ? [] : sharesAt(app.core, app.core.lastLsn);
    return shares.find((share) => share.id === row.shareId)?.views ?? "off";
  }

  /** A mount is gone: everything that was kept for it goes too. Once. */
  async #ended(row: MountRow): Promise<void> {
    const { service, host } = this.#parts;
    const active = this.#active.get(row.id);
    this.#active.delete(row.id);
    this.#down.delete(row.id);
    if (active !== undefined) {
      await active.stop();
      await host.release(String(row.id), active.mounted);
      this.#detach(row);
    }
    if (!(this.#stopping && row.persist)) service.catalogue.removeMount(row.id, SERVICE_CONTEXT);
  }

  /** On a full disk orphans stay: they end when the service starts next. */
  #detach(row: MountRow): void {
    const app = this.#parts.service.get(row.appId);
    try {
      app?.engine.detachMount(row.id, SERVICE_CONTEXT);
    } catch (error) {
      if (!(error instanceof FsError)) throw error;
      this.#parts.log.warn("orphans of an ended mount stay for now", { target: row.target, error: error.message });
    }
  }

  #find(row: MountRow): { readonly app: OpenApp; readonly share: ShareRow } {
    const app = this.#parts.service.get(row.appId);
    const share =
      app === undefined
        ? undefined
        : sharesAt(app.core, app.core.lastLsn).find((candidate) => candidate.id === row.shareId);
    if (app === undefined || share === undefined)
      throw new TidemarkError("NOT_FOUND", `the share of the mount at "${row.target}" is gone`);
    return { app, share };
  }

  #refuseOwnFolder(target: string): void {
    const { dataFolder } = this.#parts;
    if (target === dataFolder || target.startsWith(`${dataFolder}/`)) {
      throw new TidemarkError(
        "FAILED_PRECONDITION",
        `"${target}" lies in the data folder: choose a directory outside of it`,
      );
    }
  }

  #refuseDeleted(app: OpenApp, share: ShareRow): void {
    const row = this.#parts.service.catalogue.app(app.id);
    if (row?.deletedAt === undefined && share.deletedAt === undefined) return;
    throw new TidemarkError(
      "FAILED_PRECONDITION",
      "it is deleted: mount it with --at to read it, or undelete it first",
    );
  }

  async #info(row: MountRow): Promise<MountInfo> {
    const name = this.#parts.service.nameOf(row.appId);
    const { app, share } = this.#find(row);
    const message = this.#down.get(row.id) ?? this.#active.get(row.id)?.tokenEnded;
    const served: MountState = row.detached === true ? "stopping" : "active";
    const { session } = row;
    const here: MountState = this.#active.has(row.id) ? served : "down";
    const there: MountState = session?.awaySince === undefined ? "active" : "down";
    const state = session === undefined ? here : there;
    return {
      id: row.id,
      share: { id: share.id, name: share.name, app: { id: row.appId, ...name } },
      target: row.target,
      ...(row.at === undefined ? {} : { at: await describeView(app, row.at as Lsn) }),
      readOnly: row.readOnly,
      persist: row.persist,
      locks: row.locks ?? "kernel",
      ...(row.tokenId === undefined ? {} : { tokenId: row.tokenId }),
      state,
      ...(message === undefined ? {} : { message }),
      ...(session === undefined ? {} : { node: nodeOf(session) }),
      since: row.since,
    };
  }
}

/** sync(1) -f: syncfs(2), which writes the dirty pages of a mount as WRITE requests. Throws UNAVAILABLE when it fails. */
function syncFileSystem(target: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn("sync", ["-f", "--", target], { stdio: "ignore" });
    const failed = (why: string): void =>
      reject(new TidemarkError("UNAVAILABLE", `the pages of "${target}" could not be written back: ${why}`));
    child.once("error", (error) => failed(error.message));
    child.once("exit", (code) => (code === 0 ? resolve() : failed(`sync ended with ${code}`)));
  });
}

/** How a node is called; without TLS it has no name. */
function nodeOf(session: SessionRow): string {
  return session.node === "" ? "loopback" : session.node;
}

/** The moment of a view, with its wall time. */
async function describeView(app: OpenApp, lsn: Lsn): Promise<ResolvedMoment> {
  const time = await timeOfLsn(app.core, lsn);
  return { lsn, ambiguous: false, ...(time === undefined ? {} : { time }) };
}
