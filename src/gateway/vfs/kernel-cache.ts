import { unreachable } from "../../base/assert.ts";
import type { Clock } from "../../base/clock.ts";
import type { Timers } from "../../base/timers.ts";
import { type InodeId, LIVE } from "../../domain/ids.ts";
import type { Invalidation, MetadataApi, ReplyOf, Request, RequestContext } from "../../domain/metadata-api.ts";
import type { CacheHolder } from "../../domain/session-api.ts";
import type { NotificationLanes } from "../fuse/notification-lanes.ts";
import type { Notifier } from "../fuse/notify.ts";
import type { Notification } from "../fuse/notify-codec.ts";
import type { Appends } from "./appends.ts";
import { CallsInFlight, lockedBy } from "./calls-in-flight.ts";
import { ContestedDirectories } from "./contested-directories.ts";
import { type KernelNames, VIEWS_SLOT } from "./context.ts";
import { VIEWS_INO } from "./views-directory.ts";

/**
 * One mount's kernel as a cache that others' changes make untrue: tells it what to forget, and says when it has.
 *
 * The kernel drops a name only under its directory's lock, and pages of a file only when nobody is reading or writing them. An application holds those for as long as its own call takes, which may be
 * waiting for another mount's kernel, and that for a call which waits for this one: a cycle. What never waits for an application is to drop attributes, and listings of directories. So:
 *
 * K1  An acknowledgement waits for a lock only as long as no call of this mount that is with us may hold it: locks of calls that have not come to us yet, and of reading, are given back without anybody
 *     else. When such a call comes, or after LOCK_MS whatever happens, the rest is seen to in another way (K3, K4).
 * K2  Where it would come to that often it doesn't come to it at all: the kernel keeps no names of directories that this mount and others change at the same time (ContestedDirectories).
 * K3  A name that could not be dropped yet. Before it looks at a name the kernel checks permission, with the attributes of the directory. So these are dropped, and may not be kept, and whoever asks
 *     for them (GETATTR) waits until the name is gone. He is not waited for by others, except if he has the directory's lock himself, on his way to change it; then he has to go first. While a call with
 *     us has the lock, it is somebody else's. Otherwise it may be his, and he waits only for LOCK_HOLDER_MS.
 * K4  Pages that could not be dropped yet are dropped when the write of this mount that is under way is answered. Somebody on this mount may read what he had until then: the one window there is,
 *     and only in files that both write at the same time.
 *
 * So no cycle of waits lasts: a call waits for acknowledgements; one of these waits for a lock that no waiting call of its mount holds, by K1; and who holds it otherwise waits for us only in a GETATTR,
 * for a bounded time, by K3. Notifications that wait for locks have lanes of their own for each mount, so that they are not in each other's way.
 *
 * FUSE_NOTIFY_INC_EPOCH (Linux 6.16), which has all names looked up again without any lock, is no way out: the kernel takes a name of an older epoch for a wrong one, and unmounts what somebody has
 * mounted below it (tried on 6.18: a tmpfs on a directory of the share was gone at the next look at it).
 */

/** An acknowledgement waits so long for a lock in the kernel. Usual is a tenth of a millisecond; on a machine with too much to do the thread that writes may have to wait for its turn. */
export const LOCK_MS = 500;

/** As long as the thread that writes news gets on with it, it is waited for so long: a restore may have thousands to tell. */
const BUSY_MS = 2000;

/** For pages of a file that this mount is writing: longer than a write needs that waits for nobody who waits for us. */
const WRITER_MS = 3;

/** A GETATTR of a directory one of whose names is to be dropped waits so long if it may be what keeps the name from being dropped. */
const LOCK_HOLDER_MS = 30;

/** The same if it can't be: the change that holds the lock is answered within a lease. */
const WALKER_MS = 10_000;

const ALL_DATA = { offset: 0n, length: 0n };

export type KernelCacheParts = {
  /** The mount's descriptor. */
  readonly fd: number;
  readonly mountId: number;
  /** The directory that the mount shows: the kernel calls it 1. */
  readonly root: InodeId;
  readonly lanes: NotificationLanes;
  readonly clock: Clock;
  readonly timers: Timers;
  /** Told of files whose content was changed elsewhere. */
  readonly appends?: Appends;
};

/** A directory with names that the kernel is to drop and has not. */
type Directory = {
  readonly ino: InodeId;
  /** How many names. */
  waiting: number;
  /** Resolved when they are dropped. */
  readonly dropped: PromiseWithResolvers<void>;
  /** One of them was acknowledged before it was dropped. */
  owes: boolean;
};

export class KernelCache implements CacheHolder, KernelNames {
  readonly #parts: KernelCacheParts;
  readonly #prompt: Notifier;
  readonly #names: Notifier;
  readonly #pages: Notifier;
  readonly #calls = new CallsInFlight();
  readonly #contested: ContestedDirectories;
  readonly #directories = new Map<InodeId, Directory>();
  /** What a lane has not managed to write in LOCK_MS: who comes after need not find that out again. */
  readonly #stuck = new Map<Notifier, Promise<void>>();

  constructor(parts: KernelCacheParts) {
    this.#parts = parts;
    this.#contested = new ContestedDirectories(parts.clock);
    this.#prompt = parts.lanes.prompt;
    this.#names = parts.lanes.assign();
    this.#pages = parts.lanes.assign();
  }

  /** Has the kernel forget what a change made elsewhere. Resolves when nobody on this mount sees what was before (but K4), in bounded time: usually a fraction of a millisecond, at most BUSY_MS and LOCK_MS. */
  tell(
    invalidation: Invalidation,
    { doubtful }: { readonly doubtful: boolean } = { doubtful: false },
  ): void | Promise<void> {
    if (invalidation.excluding === this.#parts.mountId) return;
    switch (invalidation.kind) {
      case "inode":
        return this.#tellInode(invalidation);
      case "entry":
        // To drop a name that is right would take working directories and mount points below it along.
        return this.#tellEntry(invalidation, { expireOnly: doubtful });
      case "snapshot":
        return this.#tellSnapshot(invalidation.name);
      default:
        unreachable(invalidation);
    }
  }

  /** The same for what the kernel may know already, for whoever tells much and waits for `settled` now and then. */
  tellDoubtful(invalidation: Invalidation): void {
    if (invalidation.excluding === this.#parts.mountId) return;
    if (invalidation.kind === "snapshot") void this.#tellSnapshot(invalidation.name);
    else if (invalidation.kind === "inode") {
      if (invalidation.data) this.#parts.appends?.changedElsewhere(invalidation.ino);
      void this.#pages.notify(this.#inode(invalidation.ino, invalidation.data));
    } else {
      void this.#names.notify(this.#entry(invalidation, { expireOnly: true }));
      void this.#pages.notify(this.#inode(invalidation.parent, true));
    }
  }

  /** `api` for the operations of this mount: which of its calls hold locks in the kernel is known by them, and some wait for names to be dropped. */
  guard(api: MetadataApi): MetadataApi {
    return {
      execute: (request, context) => this.#execute(api, request, context),
      subscribe: (listener) => api.subscribe(listener),
      close: () => api.close(),
    };
  }

  /** Not while it has names in a directory that it should not have any more: by asking for the attributes it waits for them to go. */
  mayKeepAttributes(ino: InodeId): boolean {
    return this.#directories.size === 0 || this.#directories.get(ino)?.owes !== true;
  }

  mayKeepNames(directory: InodeId, name?: Buffer): boolean {
    return this.#contested.mayKeep(directory, name);
  }

  /** Starts what writes notifications, before somebody has to wait for that too. */
  async warm(): Promise<void> {
    await Promise.all(this.#notifiers.map((notifier) => notifier.warm()));
  }

  /** Has the kernel forget the pages of a file, also of one in a view (`slot` 0: what is mounted itself). Resolves when that is queued. */
  async forgetPages(ino: InodeId, slot: number): Promise<void> {
    const { fd } = this.#parts;
    const number = slot === 0 ? this.#number(ino) : ino;
    await this.#pages.notify({ kind: "inode", fd, slot, ino: number, data: ALL_DATA });
  }

  /** Resolves when the kernel has forgotten all it was told of until now. Never to be awaited by an answer to this mount. */
  async settled(): Promise<void> {
    await Promise.all(this.#notifiers.map((notifier) => notifier.settled(this.#parts.fd)));
  }

  /** The mount is gone: nothing more is told. The descriptor is no longer used when this resolves. */
  async abandon(): Promise<void> {
    await Promise.all(this.#notifiers.map((notifier) => notifier.abandon(this.#parts.fd)));
  }

  get #notifiers(): readonly Notifier[] {
    return [this.#prompt, this.#names, this.#pages];
  }

  #execute<R extends Request>(api: MetadataApi, request: R, context: RequestContext): ReplyOf<R> | Promise<ReplyOf<R>> {
    if (request.op === "getattr" && this.#directories.size > 0 && request.at === LIVE) {
      const directory = this.#directories.get(request.ino);
      if (directory?.owes === true) return this.#walk(request.ino, directory).then(() => api.execute(request, context));
    }
    this.#contested.changedHere(request);
    const reply = api.execute(request, context);
    // What was answered at once holds no lock any more.
    if (reply instanceof Promise) this.#calls.add(lockedBy(request), reply);
    return reply;
  }

  /** Somebody is about to look at names of the directory. */
  async #walk(ino: InodeId, directory: Directory): Promise<void> {
    await this.#within(directory.dropped.promise, this.#calls.isChanging(ino) ? WALKER_MS : LOCK_HOLDER_MS);
  }

  #tellInode({ ino, data, listing }: Invalidation & { readonly kind: "inode" }): Promise<void> {
    if (listing === true) this.#contested.changedElsewhere(ino, { isOurs: this.#calls.isChanging(ino) });
    if (!data || listing === true) return this.#tellPrompt(this.#inode(ino, data));
    this.#parts.appends?.changedElsewhere(ino);
    const dropped = this.#pages.written(this.#inode(ino, true));
    return this.#tellPages(ino, dropped);
  }

  async #tellPages(ino: InodeId, dropped: Promise<void>): Promise<void> {
    let isDropped = await this.#dropped(this.#pages, ino, dropped);
    if (!isDropped && this.#calls.isChanging(ino)) isDropped = await this.#within(dropped, WRITER_MS);
    if (!isDropped) await this.#tellPrompt(this.#inode(ino, false));
  }

  #tellEntry(
    invalidation: Invalidation & { readonly kind: "entry" },
    how: { readonly expireOnly: boolean },
  ): Promise<void> {
    const { parent, name } = invalidation;
    this.#contested.changedElsewhere(parent, { isOurs: this.#calls.isChanging(parent) });
    // Also of a name that the kernel does not have: it may all the same be missing in a listing that it keeps.
    const listing = this.#tellPrompt(this.#inode(parent, true));
    if (this.#contested.isFresh(parent, name)) return listing;
    const dropped = this.#names.written(this.#entry(invalidation, how));
    void dropped.then(() => this.#contested.dropped(parent, name));
    return this.#tellName(this.#waitingDirectory(parent, dropped), dropped, listing);
  }

  async #tellName(directory: Directory, dropped: Promise<void>, listing: Promise<void>): Promise<void> {
    const isDropped = await this.#dropped(this.#names, directory.ino, dropped);
    if (!isDropped && !directory.owes) {
      // In this order: whoever gets the attributes from now on waits, and what the kernel got before it forgets.
      directory.owes = true;
      await this.#tellPrompt(this.#inode(directory.ino, false));
    }
    await listing;
  }

  /** Notes that a name of the directory is to be dropped. */
  #waitingDirectory(ino: InodeId, dropped: Promise<void>): Directory {
    let directory = this.#directories.get(ino);
    if (directory === undefined) {
      directory = { ino, waiting: 0, dropped: Promise.withResolvers<void>(), owes: false };
      this.#directories.set(ino, directory);
    }
    const found = directory;
    found.waiting++;
    void dropped.then(() => {
      if (--found.waiting > 0) return;
      this.#directories.delete(ino);
      found.dropped.resolve();
    });
    return found;
  }

  async #tellSnapshot(name: Buffer): Promise<void> {
    const { fd } = this.#parts;
    const slot = VIEWS_SLOT;
    // A view that somebody works in stays one, whatever its name means now: so this is only asked for again.
    const entry = this.#names.written({ kind: "entry", fd, slot, parentIno: VIEWS_INO, name, expireOnly: true });
    const listing = this.#tellPrompt({ kind: "inode", fd, slot, ino: VIEWS_INO, data: ALL_DATA });
    await Promise.all([this.#inTime(this.#names, entry), listing]);
  }

  /** What needs no lock. Resolves in LOCK_MS at the latest all the same: the thread that writes may be in trouble. */
  async #tellPrompt(notification: Notification): Promise<void> {
    await this.#inTime(this.#prompt, this.#prompt.written(notification));
  }

  /** Answers whether the kernel has dropped names in, or pages of, the inode: in time, and before a call of this mount was known to hold the lock that this needs. */
  async #dropped(lane: Notifier, ino: InodeId, dropped: Promise<void>): Promise<boolean> {
    let isDropped = false;
    void dropped.then(() => {
      isDropped = true;
    });
    await this.#inTime(lane, this.#calls.changingOr(ino, dropped));
    return isDropped;
  }

  /** Answers whether the lane has written in time. */
  async #inTime(lane: Notifier, written: Promise<void>): Promise<boolean> {
    if (this.#stuck.has(lane)) return false;
    for (let waitedMs = 0; waitedMs < BUSY_MS; waitedMs += LOCK_MS) {
      const { batchCount } = lane;
      if (await this.#within(written, LOCK_MS)) return true;
      if (lane.batchCount === batchCount) break;
    }
    this.#stuck.set(lane, written);
    void written.then(() => {
      if (this.#stuck.get(lane) === written) this.#stuck.delete(lane);
    });
    return false;
  }

  /** Answers whether `done` was resolved before `delayMs` had passed. */
  #within(done: Promise<void>, delayMs: number): Promise<boolean> {
    return new Promise((resolve) => {
      const stop = this.#parts.timers.after(delayMs, () => resolve(false));
      void done.then(() => {
        stop();
        resolve(true);
      });
    });
  }

  #inode(ino: InodeId, data: boolean): Notification {
    return { kind: "inode", fd: this.#parts.fd, slot: 0, ino: this.#number(ino), data: data ? ALL_DATA : undefined };
  }

  #entry(
    { parent, name }: Invalidation & { readonly kind: "entry" },
    { expireOnly }: { readonly expireOnly: boolean },
  ): Notification {
    return { kind: "entry", fd: this.#parts.fd, slot: 0, parentIno: this.#number(parent), name, expireOnly };
  }

  #number(ino: InodeId): number {
    return ino === this.#parts.root ? 1 : ino;
  }
}
