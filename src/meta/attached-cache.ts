import { unreachable } from "../base/assert.ts";
import { ABSENT_NAMES_MS } from "../domain/absent-names.ts";
import type { InodeId, MountId } from "../domain/ids.ts";
import { LIVE } from "../domain/ids.ts";
import type { Invalidation, ReplyMap, Request } from "../domain/metadata-api.ts";
import type { CacheHolder } from "../domain/session-api.ts";
import { ATTRIBUTES, CacheKnowledge, DATA } from "./cache-knowledge.ts";
import { dentryCacheKey, type EngineCore } from "./core.ts";

/** The kernel counts from when the caller runs again, which on a loaded machine is after we have answered: so absent names are kept in mind twice as long as they are good. */
const ABSENT_MARGIN = 2;

const DOUBTFUL = { doubtful: true } as const;

/** A read that waits, and whether what it reads was changed meanwhile. */
export type WaitingRead = { readonly ino: InodeId; changed: boolean };

type InodeInvalidation = Invalidation & { readonly kind: "inode" };
type EntryInvalidation = Invalidation & { readonly kind: "entry" };

/**
 * One mount's kernel, as Coherence sees it: what it may hold, and the news it has not acknowledged.
 *
 * While news of something is not acknowledged, later news of the same is not told again unless the cache has asked for it anew in between; the change that brought it waits for the earlier news then.
 */
export class AttachedCache {
  readonly mountId: MountId;
  /** Reads of this mount that are answered later. */
  readonly reads = new Set<WaitingRead>();
  readonly #core: EngineCore;
  readonly #holder: CacheHolder;
  readonly #root: InodeId;
  /** Absent while this is the only cache: then nobody keeps account. */
  #knowledge: CacheKnowledge | undefined;
  /** News under way, by inode and by name. */
  readonly #inodes = new Map<InodeId, Promise<void>>();
  readonly #names = new Map<string, Promise<void>>();
  /** Ends the waiting for each piece of news under way. */
  readonly #releases = new Set<() => void>();

  constructor(
    core: EngineCore,
    of: { readonly mountId: MountId; readonly root: InodeId; readonly holder: CacheHolder },
  ) {
    this.#core = core;
    this.mountId = of.mountId;
    this.#root = of.root;
    this.#holder = of.holder;
  }

  /** Begins to keep account of what the mount is told; what it was told before is in doubt, if there was any time. */
  keepAccount({ isNew }: { readonly isNew: boolean }): void {
    const anyAbsentUntilMs = isNew ? 0 : this.#nowMs() + ABSENT_NAMES_MS.alone * ABSENT_MARGIN;
    this.#knowledge ??= new CacheKnowledge({ below: this.#core.nextInode, anyAbsentUntilMs });
  }

  /** There is no other cache any more. */
  dropAccount(): void {
    this.#knowledge = undefined;
  }

  /** Nobody answers for the cache any more: nobody waits for it either. */
  end(): void {
    for (const release of this.#releases) release();
  }

  /** Resolves when all news under way now is acknowledged; undefined: it is. */
  acknowledged(): Promise<void> | undefined {
    if (this.#releases.size === 0) return undefined;
    return Promise.all([...this.#inodes.values(), ...this.#names.values()]).then(() => {});
  }

  /** Tells the cache of a change, if it may hold what is no longer true. Answers what to wait for: until it holds nothing of before. */
  tell(invalidation: Invalidation): Promise<void> | undefined {
    switch (invalidation.kind) {
      case "inode":
        return this.#tellInode(invalidation);
      case "entry":
        return this.#tellEntry(invalidation);
      case "snapshot":
        return this.#send(invalidation);
      default:
        return unreachable(invalidation);
    }
  }

  /** Tells the cache what it may know already. */
  tellAgain(invalidation: Invalidation): void {
    if (invalidation.kind === "inode") this.#sendAbout(invalidation, invalidation.ino, undefined, DOUBTFUL);
    else if (invalidation.kind === "snapshot") this.#send(invalidation, DOUBTFUL);
    else {
      const { parent, name } = invalidation;
      this.#sendAbout(invalidation, parent, dentryCacheKey(parent, name), DOUBTFUL);
    }
  }

  /** Notes what the answer to a request of this mount lets its kernel remember. */
  learn<R extends Request>(request: R, reply: ReplyMap[R["op"]]): void {
    const knowledge = this.#knowledge;
    if (knowledge === undefined || ("at" in request && request.at !== LIVE)) return;
    switch (request.op) {
      case "lookup":
      case "getattr":
      case "setattr":
      case "create":
      case "mknod":
      case "mkdir":
      case "symlink":
      case "link":
      case "tmpfile":
        knowledge.learn((reply as ReplyMap["lookup"]).ino, ATTRIBUTES);
        break;
      case "readdir":
        knowledge.learn(request.ino, DATA);
        for (const { inode } of (reply as ReplyMap["readdir"]).entries)
          if (inode !== undefined) knowledge.learn(inode.ino, ATTRIBUTES);
        break;
      // Access lists are remembered with the attributes.
      case "getxattr":
      case "listxattr":
        knowledge.learn(request.ino, ATTRIBUTES);
        break;
      default:
        this.learnAsked(request);
    }
  }

  /** Notes what a request of this mount will let its kernel remember, however it is answered. */
  learnAsked(request: Request): void {
    const { op } = request;
    if (op !== "read" && op !== "map" && op !== "readlink" && op !== "write") return;
    if (op === "write" || request.at === LIVE) this.#knowledge?.learn(request.ino, DATA);
  }

  /** Notes that a lookup of this mount found nothing. */
  learnAbsent(parent: InodeId, name: Buffer): void {
    const nowMs = this.#nowMs();
    const untilMs = nowMs + ABSENT_NAMES_MS.shared * ABSENT_MARGIN;
    this.#knowledge?.learnAbsent(dentryCacheKey(parent, name), { untilMs, nowMs });
  }

  #tellInode(invalidation: InodeInvalidation): Promise<void> | undefined {
    const { ino, data } = invalidation;
    if (data) for (const read of this.reads) if (read.ino === ino) read.changed = true;
    const what = data ? ATTRIBUTES | DATA : ATTRIBUTES;
    if (!this.#mayHold(ino, what)) return this.#inodes.get(ino);
    this.#knowledge?.forget(ino, what);
    return this.#sendAbout(invalidation, ino);
  }

  #tellEntry(invalidation: EntryInvalidation): Promise<void> | undefined {
    const { parent, name, before, excluding } = invalidation;
    if (!this.#isTold(parent)) return undefined;
    const key = dentryCacheKey(parent, name);
    const told = before === undefined || (before !== 0 && this.#isTold(before));
    if (told || (this.#knowledge?.mayHoldAbsent(key, this.#nowMs()) ?? true)) {
      this.#knowledge?.forgetAbsent(key);
      this.#knowledge?.forget(parent, ATTRIBUTES | DATA);
      return this.#sendAbout(invalidation, parent, key);
    }
    const listing = this.#tellInode({ kind: "inode", ino: parent, data: true, listing: true, excluding });
    const earlier = this.#names.get(key);
    return earlier === undefined || listing === undefined ? (earlier ?? listing) : both(earlier, listing);
  }

  /** Whether the mount's kernel may know the inode at all. It is told of it before it can hold anything of it. */
  #isTold(ino: InodeId): boolean {
    const { holders } = this.#core;
    return ino === this.#root || !holders.isAttached(this.mountId) || holders.isHeldBy(this.mountId, ino);
  }

  #mayHold(ino: InodeId, what: number): boolean {
    return (this.#knowledge?.mayHold(ino, what) ?? true) && this.#isTold(ino);
  }

  #sendAbout(
    invalidation: Invalidation,
    ino: InodeId,
    name?: string,
    options?: typeof DOUBTFUL,
  ): Promise<void> | undefined {
    const answer = this.#send(invalidation, options);
    if (answer === undefined) return undefined;
    this.#inodes.set(ino, answer);
    if (name !== undefined) this.#names.set(name, answer);
    void answer.then(() => {
      if (this.#inodes.get(ino) === answer) this.#inodes.delete(ino);
      if (name !== undefined && this.#names.get(name) === answer) this.#names.delete(name);
    });
    return answer;
  }

  #send(invalidation: Invalidation, options?: typeof DOUBTFUL): Promise<void> | undefined {
    const answer = this.#holder.tell(invalidation, options);
    if (answer === undefined) return undefined;
    const { promise, resolve } = Promise.withResolvers<void>();
    const release = (): void => {
      this.#releases.delete(release);
      resolve();
    };
    this.#releases.add(release);
    // A holder promises not to reject. If it does, nobody hangs.
    answer.then(release, release);
    return promise;
  }

  #nowMs(): number {
    return this.#core.clock.monotonicMs();
  }
}

function both(first: Promise<void>, second: Promise<void>): Promise<void> {
  return Promise.all([first, second]).then(() => {});
}
