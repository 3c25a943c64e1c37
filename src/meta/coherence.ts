import { assert } from "../base/assert.ts";
import { ABSENT_NAMES_MS } from "../domain/absent-names.ts";
import { FsError } from "../domain/errors.ts";
import { type InodeId, LIVE, type MountId } from "../domain/ids.ts";
import type { Inode } from "../domain/inode.ts";
import type {
  Invalidation,
  MetadataApi,
  ReplyMap,
  ReplyOf,
  Request,
  RequestContext,
  WriteRequest,
} from "../domain/metadata-api.ts";
import type { CacheHolder } from "../domain/session-api.ts";
import { AttachedCache, type WaitingRead } from "./attached-cache.ts";
import type { EngineCore } from "./core.ts";

/**
 * Keeps the caches of an app's mounts coherent: what a call has changed is seen through every mount as soon as the call has returned.
 *
 * Caches that may hold what a change made untrue are told inside the change's commit, and the change is answered when they have acknowledged, except to the mount that made it: that knows, and to wait
 * for its own kernel would be to wait for oneself. A change of the service itself (mount 0) waits for nobody.
 *
 * Invariants
 * C1  While there are two caches or more, whatever one is told goes through `execute` and is kept in its account; an answer is accounted for before it is given.
 * C2  Told is forgotten: after news of something a cache counts as not holding it, until it is told of it again. Who has to tell it again before the news is acknowledged waits for that instead.
 * C3  An answer that waited is true when it is given: what it says of an inode is read again, and so is content that was changed while it was being read.
 *
 * No cycle of waits: the engine answers before anybody waits, so a waiting answer holds nothing of ours, only what its caller holds in its own kernel. A cache's acknowledgement may need that. How a
 * kernel gets out of it, in bounded time, is its holder's business (`gateway/vfs/kernel-cache.ts`); a holder that does not acknowledge in time is one that lost its lease.
 */

/** Answers that are an inode. */
const INODE_ANSWERS: ReadonlySet<Request["op"]> = new Set<WriteRequest["op"]>([
  "create",
  "mknod",
  "mkdir",
  "symlink",
  "link",
  "tmpfile",
  "setattr",
]);

/** What changes something that others may have cached. */
const CHANGES: ReadonlySet<Request["op"]> = new Set<WriteRequest["op"]>([
  "create",
  "mknod",
  "mkdir",
  "symlink",
  "link",
  "tmpfile",
  "setattr",
  "unlink",
  "rmdir",
  "rename",
  "write",
  "fallocate",
  "copyRange",
  "setxattr",
  "removexattr",
]);

/** Times that content is read again because it was changed meanwhile. After that the kernel, which drops it once it has it, has to do. */
const READS_MAX = 4;

/** Values of `#direct` beside a mount's id, which is 1 or more. */
const EVERYBODY = -1;
const NOBODY = -2;

type AnyReply = ReplyMap[keyof ReplyMap];
type Content = ReplyMap["read"] | ReplyMap["map"];

/** What the engine has to be for this. */
export interface CoherentEngine extends MetadataApi {
  readonly core: EngineCore;
}

export class Coherence implements MetadataApi {
  readonly #engine: CoherentEngine;
  readonly #caches = new Map<MountId, AttachedCache>();
  /** The mount whose changes concern no other cache, EVERYBODY, or NOBODY. */
  #direct: number = EVERYBODY;
  #unsubscribe: (() => void) | undefined;
  /** Until when answers to requests that are asked again are held back. */
  #recovery: Promise<void> | undefined;
  /** The call that is being executed now, in this turn, and whom it has to wait for. */
  #running: { readonly mountId: number; readonly waits: Promise<void>[] } | undefined;

  constructor(engine: CoherentEngine) {
    this.#engine = engine;
  }

  /**
   * From now on the cache of `mountId` is told of changes made elsewhere; `root` is the directory that the mount shows, which its kernel knows without being told; `isNew`: it
   * has not been told of anything else yet. Answers how to stop: nobody waits for it any more then. The engine must know the mount (`attachMount`). One cache for each mount at a time.
   */
  attach(
    mountId: MountId,
    holder: CacheHolder,
    { root, isNew = false }: { readonly root: InodeId; readonly isNew?: boolean },
  ): () => void {
    assert(!this.#caches.has(mountId), "a mount has one cache");
    const cache = new AttachedCache(this.#engine.core, { mountId, holder, root });
    this.#caches.set(mountId, cache);
    this.#unsubscribe ??= this.#engine.subscribe((invalidation) => this.#tell(invalidation));
    if (this.#caches.size > 1) cache.keepAccount({ isNew });
    this.#changed();
    return () => {
      if (this.#caches.get(mountId) !== cache) return;
      this.#caches.delete(mountId);
      cache.end();
      this.#changed();
    };
  }

  /**
   * Tells one cache of a change again: the process before may not have come to it any more. It may know already. Until it has acknowledged, no change that is asked for again is answered.
   */
  tellAgain(mountId: MountId, invalidation: Invalidation): void {
    const cache = this.#caches.get(mountId);
    if (cache === undefined || invalidation.excluding === mountId) return;
    cache.tellAgain(invalidation);
  }

  /**
   * Caches may not have heard of the last changes that a former process made, and these may not have been answered: until `heard` resolves (it does, in bounded time), changes that are asked for again
   * are not answered.
   */
  recovering(heard: Promise<void>): void {
    this.#recovery = heard;
    this.#changed();
    void heard.then(() => {
      this.#recovery = undefined;
      this.#changed();
    });
  }

  /** How long a kernel may remember, from now on, that a name is absent. */
  get absentNamesMs(): number {
    return this.#direct === NOBODY ? ABSENT_NAMES_MS.shared : ABSENT_NAMES_MS.alone;
  }

  execute<R extends Request>(request: R, context: RequestContext): ReplyOf<R> | Promise<ReplyOf<R>> {
    const { mountId } = context.actor;
    if (this.#direct !== mountId && this.#direct !== EVERYBODY)
      return this.#execute(request, context) as ReplyOf<R> | Promise<ReplyOf<R>>;
    // The usual case, on the hottest path: nobody else has anything cached.
    const reply = this.#engine.execute(request, context);
    if (!(reply instanceof Promise) || !CHANGES.has(request.op)) return reply;
    // Others may come before it is answered.
    return this.#later({ request, context }, reply) as Promise<ReplyOf<R>>;
  }

  subscribe(listener: (invalidation: Invalidation) => void): () => void {
    return this.#engine.subscribe(listener);
  }

  close(): Promise<void> {
    return this.#engine.close();
  }

  #changed(): void {
    const caches = [...this.#caches.values()];
    const [first] = caches;
    if (caches.length > 1) {
      this.#direct = NOBODY;
      for (const cache of caches) cache.keepAccount({ isNew: false });
      return;
    }
    this.#direct = first?.mountId ?? EVERYBODY;
    if (this.#recovery !== undefined) this.#direct = NOBODY;
    first?.dropAccount();
    if (first !== undefined) return;
    this.#unsubscribe?.();
    this.#unsubscribe = undefined;
  }

  /** Called by the engine inside a commit. */
  #tell(invalidation: Invalidation): void {
    for (const cache of this.#caches.values()) {
      if (cache.mountId === invalidation.excluding) continue;
      const wait = cache.tell(invalidation);
      if (wait !== undefined && this.#running !== undefined && this.#running.mountId !== cache.mountId)
        this.#running.waits.push(wait);
    }
  }

  #execute(request: Request, context: RequestContext): AnyReply | Promise<AnyReply> {
    const { mountId } = context.actor;
    const asker = this.#caches.get(mountId);
    const waits: Promise<void>[] = [];
    // Keeps C1 for what is answered later.
    asker?.learnAsked(request);
    let reply: AnyReply | Promise<AnyReply>;
    this.#running = mountId === 0 ? undefined : { mountId, waits };
    try {
      reply = this.#engine.execute(request, context);
    } catch (error) {
      if (asker !== undefined) learnRefusal(asker, request, error);
      throw error;
    } finally {
      this.#running = undefined;
    }
    if (reply instanceof Promise) {
      const isContent = (request.op === "read" || request.op === "map") && request.at === LIVE;
      if (!isContent || asker === undefined) return this.#later({ request, context }, reply);
      return this.#content(request, { context, asker }, reply as Promise<Content>);
    }
    asker?.learn(request, reply);
    // Carried out by a process that died before it could tell others, perhaps: see `tellAgain` and `recovering`.
    if (context.resent && CHANGES.has(request.op)) {
      const heard = this.#recovery ?? Promise.resolve();
      return this.#later(
        { request, context },
        heard.then(() => reply),
      );
    }
    if (waits.length === 0) return reply;
    return Promise.all(waits).then(() => this.#refreshed(request, reply, asker));
  }

  /** The engine itself had to wait, and the change (if it is one) came in a turn of its own: whatever is under way by now may have to do with it. */
  async #later({ request, context }: Call, pending: Promise<AnyReply>): Promise<AnyReply> {
    const { mountId } = context.actor;
    const reply = await pending;
    if (CHANGES.has(request.op) && mountId !== 0) {
      const others = [...this.#caches.values()].filter((cache) => cache.mountId !== mountId);
      await Promise.all(others.map((cache) => cache.acknowledged()));
    }
    return this.#refreshed(request, reply, this.#caches.get(mountId));
  }

  /** Keeps C3. The kernel has the pages locked that it reads, so it drops stale ones only after it got them. */
  async #content(
    request: Request & { op: "read" | "map" },
    { context, asker }: { readonly context: RequestContext; readonly asker: AttachedCache },
    first: Promise<Content>,
  ): Promise<Content> {
    let pending: Content | Promise<Content> = first;
    for (let reads = 1; ; reads++) {
      const read: WaitingRead = { ino: request.ino, changed: false };
      asker.reads.add(read);
      try {
        const content: Content = await pending;
        asker.learnAsked(request);
        if (!read.changed || reads >= READS_MAX) return content;
      } finally {
        asker.reads.delete(read);
      }
      pending = this.#engine.execute(request, context);
    }
  }

  /** Keeps C3: another mount may have changed the inode meanwhile, and the news of that may have come before this answer. */
  #refreshed(request: Request, reply: AnyReply, asker: AttachedCache | undefined): AnyReply {
    const fresh = INODE_ANSWERS.has(request.op)
      ? (this.#engine.core.findInodeNow((reply as Inode).ino) ?? reply)
      : reply;
    asker?.learn(request, fresh as ReplyMap[typeof request.op]);
    return fresh;
  }
}

type Call = { readonly request: Request; readonly context: RequestContext };

function learnRefusal(asker: AttachedCache, request: Request, error: unknown): void {
  if (request.op !== "lookup" || request.at !== LIVE) return;
  if (error instanceof FsError && error.code === "ENOENT") asker.learnAbsent(request.parent, request.name);
}
