import { unreachable } from "../base/assert.ts";
import { FsError } from "../domain/errors.ts";
import type { MountId } from "../domain/ids.ts";
import type {
  Invalidation,
  MetadataApi,
  ReadRequest,
  ReplyMap,
  ReplyOf,
  Request,
  RequestContext,
  StatFs,
  WriteRequest,
} from "../domain/metadata-api.ts";
import { RECORD_OP } from "../domain/record-op.ts";
import type { EngineCore } from "./core.ts";
import { inodeOfDetail, readRangeDetail } from "./detail.ts";
import { create, mkdir, mknod, symlink, tmpfile } from "./ops/create.ts";
import { forget, reap } from "./ops/forget.ts";
import { dropLocks, getlk, mountBack, setlk } from "./ops/lock.ts";
import { link, rename, rmdir, unlink } from "./ops/names.ts";
import { getxattr, listxattr, lookup, lseek, map, read, readlink } from "./ops/read.ts";
import { readdir } from "./ops/readdir.ts";
import { setattr } from "./ops/setattr.ts";
import { copyRange, fallocate, write } from "./ops/write.ts";
import { removexattr, setxattr } from "./ops/xattr.ts";
import { SystemTurns, type Turns } from "./reading/turns.ts";

/** Memory of rows not yet applied at which writers begin to wait: about 100,000 rows, two seconds of the fastest create storm. */
export const PENDING_BYTES_MAX = 48 * 1024 * 1024;

/** Times a writer on a full disk tries again after room was made: other writers may have been faster. */
const ROOM_TRIES = 16;

export type EngineOptions = {
  readonly core: EngineCore;
  /** Resolves when the applier has made room in the overlay. */
  readonly waitForRoom: () => Promise<void>;
  /** Tries to make room on a full disk by dropping history; answers whether trying again is worth it. Absent: a full disk is full. */
  readonly makeRoom?: () => Promise<boolean>;
  /** What a change that takes space gets instead of being made; undefined: it is made. Cheap: asked for each. */
  readonly refusal?: () => FsError | undefined;
  /** Space of the disk, for statfs. */
  readonly diskSpace: () => { readonly totalBytes: bigint; readonly freeBytes: bigint };
  /** Called once, when `close` ran everything else. */
  readonly onClose: () => Promise<void>;
};

type AnyReply = ReplyMap[keyof ReplyMap];

/** What may be refused. The rest is needed to give space back, or takes next to none. */
const TAKES_SPACE: ReadonlySet<Mutation["op"]> = new Set([
  "create",
  "mknod",
  "mkdir",
  "symlink",
  "link",
  "tmpfile",
  "write",
  "fallocate",
  "copyRange",
  "setxattr",
]);

/** The engine of one app behind its port: dispatch, the duplicate table, back-pressure. What requests mean is in `ops/`. */
export class Engine implements MetadataApi {
  readonly core: EngineCore;
  readonly #options: EngineOptions;
  readonly #turns: Turns = new SystemTurns();
  #closing: Promise<void> | undefined;
  /** Times a writer had to wait for the applier. */
  stallCount = 0;
  /** How long writers waited for it, together. */
  stallMs = 0;

  constructor(options: EngineOptions) {
    this.core = options.core;
    this.#options = options;
  }

  execute<R extends Request>(request: R, context: RequestContext): ReplyOf<R> | Promise<ReplyOf<R>> {
    // The switches below answer each `op` with its own type; the compiler can't follow that through a generic union.
    return this.#dispatch(request, context) as ReplyOf<R> | Promise<ReplyOf<R>>;
  }

  subscribe(listener: (invalidation: Invalidation) => void): () => void {
    return this.core.subscribe(listener);
  }

  close(): Promise<void> {
    this.core.locks.waits.failAll(stopping());
    this.#closing ??= this.#options.onClose();
    return this.#closing;
  }

  /** A mount of a share of this app begins; `resumed`: it goes on under a new process. `elsewhere`: on another machine, where numbers of processes mean others. */
  attachMount(mount: MountId, options: { readonly resumed: boolean; readonly elsewhere?: boolean }): void {
    if (options.elsewhere === true) this.core.locks.elsewhere.add(mount);
    this.core.holders.attach(mount, { toldBelow: options.resumed ? this.core.nextInode : 0 });
  }

  /** A mount has ended: its locks go, and orphans that only it held end too. */
  detachMount(mount: MountId, context: RequestContext): void {
    const { locks } = this.core;
    locks.waits.failAll(new FsError("EIO", "the mount has ended"), mount);
    this.dropLocks(mount, context);
    locks.elsewhere.delete(mount);
    locks.away.delete(mount);
    this.core.recent.forget(mount);
    for (const ino of this.core.holders.detach(mount)) reap(this.core, ino, context);
  }

  /** Drops the locks of a mount; others get them. Answers how many. Never fails: on a full disk it is recorded later. */
  dropLocks(mount: MountId, context: RequestContext): number {
    return dropLocks(this.core, (mountId) => mountId === mount, context);
  }

  /** Nobody has heard of a mount for too long: as `dropLocks`; and what of it waits for a lock gets none until `mountBack`. */
  mountAway(mount: MountId, context: RequestContext): number {
    this.core.locks.away.add(mount);
    return this.dropLocks(mount, context);
  }

  mountBack(mount: MountId): void {
    mountBack(this.core, mount);
  }

  /** Ends locks and orphans whose mounts no longer exist. Called once all mounts that go on are attached. */
  reapAbandoned(context: RequestContext): void {
    dropLocks(this.core, (mountId) => !this.core.holders.isAttached(mountId), context);
    for (const ino of this.core.holders.abandoned()) reap(this.core, ino, context);
  }

  #dispatch(request: Request, context: RequestContext): AnyReply | Promise<AnyReply> {
    if (this.#closing !== undefined) throw stopping();
    if ("at" in request) this.core.moments.check(request.at);
    switch (request.op) {
      case "lookup":
        return this.#held(context, lookup(this.core, request), request.at);
      case "readdir":
        return this.#list(context, request);
      case "getattr":
        return this.#attributes(request, context);
      case "readlink":
        return readlink(this.core, request);
      case "getxattr":
        return getxattr(this.core, request);
      case "listxattr":
        return listxattr(this.core, request);
      case "read":
        return read(this.core, request);
      case "map":
        return map(this.core, request);
      case "lseek":
        return lseek(this.core, request);
      case "statfs":
        return this.#statfs();
      case "getlk":
        return getlk(this.core, request, context);
      case "fsync":
        this.core.inode(request.ino);
        return this.core.journal.sync(this.core.lastLsn).then(() => undefined);
      case "forget":
        return forget(this.core, request, context);
      default:
        return this.#mutate(request, context);
    }
  }

  #mutate(request: Mutation, context: RequestContext): AnyReply | Promise<AnyReply> {
    if (context.resent) {
      const found = this.#answerAgain(context);
      if (found !== undefined) return found.reply;
    }
    const refusal = TAKES_SPACE.has(request.op) ? this.#options.refusal?.() : undefined;
    if (refusal !== undefined) throw refusal;
    if (this.core.store.pendingBytes > PENDING_BYTES_MAX) return this.#mutateLater(request, context);
    return this.#attempt(request, context);
  }

  #attempt(request: Mutation, context: RequestContext): AnyReply | Promise<AnyReply> {
    try {
      return this.#run(request, context);
    } catch (error) {
      if (this.#options.makeRoom === undefined || !isNoSpace(error)) throw error;
      return this.#runInRoom(keptRequest(request), context);
    }
  }

  /** A disk that is full of history is not full: the writer waits while some of it goes. Throws ENOSPC when there is none to drop. */
  async #runInRoom(request: Mutation, context: RequestContext): Promise<AnyReply> {
    for (let tries = 0; tries < ROOM_TRIES && (await this.#options.makeRoom?.()) === true; tries++) {
      try {
        return await this.#run(request, context);
      } catch (error) {
        if (!isNoSpace(error)) throw error;
      }
    }
    throw FsError.of("ENOSPC");
  }

  /** Back-pressure: slows the writer, not the loop. The data is borrowed only for this turn, so it is copied here. */
  async #mutateLater(request: Mutation, context: RequestContext): Promise<AnyReply> {
    const kept = keptRequest(request);
    this.stallCount++;
    const sinceMs = this.core.clock.monotonicMs();
    while (this.core.store.pendingBytes > PENDING_BYTES_MAX) await this.#options.waitForRoom();
    this.stallMs += this.core.clock.monotonicMs() - sinceMs;
    return this.#attempt(kept, context);
  }

  #run(request: Mutation, context: RequestContext): AnyReply | Promise<AnyReply> {
    const { core } = this;
    switch (request.op) {
      case "mknod":
        return this.#held(context, mknod(core, request, context));
      case "create":
        return this.#held(context, create(core, request, context));
      case "mkdir":
        return this.#held(context, mkdir(core, request, context));
      case "symlink":
        return this.#held(context, symlink(core, request, context));
      case "link":
        return this.#held(context, link(core, request, context));
      case "tmpfile":
        return tmpfile(core, request, context);
      case "unlink":
        return unlink(core, request, context);
      case "rmdir":
        return rmdir(core, request, context);
      case "rename":
        return rename(core, request, context);
      case "write":
        return write(core, request, context);
      case "setattr":
        return setattr(core, request, context);
      case "fallocate":
        return fallocate(core, request, context);
      case "copyRange":
        core.moments.check(request.sourceAt);
        return copyRange(core, request, context);
      case "setxattr":
        return setxattr(core, request, context);
      case "removexattr":
        return removexattr(core, request, context);
      case "setlk":
        return setlk(core, request, context);
      default:
        return unreachable(request);
    }
  }

  /** Notes that the mount's kernel is being told of the inode. */
  #held(context: RequestContext, inode: ReplyMap["lookup"], at = Number.MAX_SAFE_INTEGER): ReplyMap["lookup"] {
    if (context.actor.mountId !== 0 && at === Number.MAX_SAFE_INTEGER)
      this.core.holders.hold(context.actor.mountId, inode.ino);
    return inode;
  }

  #attributes(request: ReadRequest & { op: "getattr" }, context: RequestContext): ReplyMap["getattr"] {
    const inode = this.core.inodeAt(request.ino, request.at);
    return request.tells === true ? this.#held(context, inode, request.at) : inode;
  }

  #list(
    context: RequestContext,
    request: ReadRequest & { op: "readdir" },
  ): ReplyMap["readdir"] | Promise<ReplyMap["readdir"]> {
    const reply = readdir(this.core, request, this.#turns);
    // A kernel counts only what it is told of the present, which never has to wait.
    if (reply instanceof Promise) return reply;
    for (const { inode } of reply.entries) if (inode !== undefined) this.#held(context, inode, request.at);
    return reply;
  }

  /** A request that the dead process may have carried out: if its record is there, the reply is rebuilt from it. */
  #answerAgain(context: RequestContext): { readonly reply: AnyReply } | undefined {
    const found = this.core.recent.find(context.actor.mountId, context.unique);
    if (found === undefined) return undefined;
    switch (found.op) {
      case RECORD_OP.CREATE:
      case RECORD_OP.MKNOD:
      case RECORD_OP.MKDIR:
      case RECORD_OP.SYMLINK:
      case RECORD_OP.LINK:
      case RECORD_OP.TMPFILE:
        return { reply: this.#held(context, this.core.inode(inodeOfDetail(found.detail))) };
      case RECORD_OP.SETATTR:
        return { reply: this.core.inode(inodeOfDetail(found.detail)) };
      case RECORD_OP.WRITE:
        return { reply: Number(readRangeDetail(found.detail).length) };
      case RECORD_OP.COPY_RANGE:
        return { reply: readRangeDetail(found.detail).length };
      default:
        return { reply: undefined };
    }
  }

  #statfs(): StatFs {
    const { totalBytes, freeBytes } = this.#options.diskSpace();
    const blockBytes = 4096;
    const live = this.core.counters.liveBytes > 0n ? this.core.counters.liveBytes : 0n;
    const total = live + freeBytes < totalBytes ? live + freeBytes : totalBytes;
    return {
      blockBytes,
      blocksTotal: total / BigInt(blockBytes),
      blocksFree: freeBytes / BigInt(blockBytes),
      inodesTotal: 2n ** 40n,
      inodesFree: 2n ** 40n - BigInt(this.core.nextInode),
    };
  }
}

/** A request that outlives its turn: what it borrows is copied. */
function keptRequest(request: Mutation): Mutation {
  return request.op === "write" ? { ...request, data: Buffer.from(request.data) } : request;
}

function stopping(): FsError {
  return new FsError("EIO", "the service is stopping");
}

function isNoSpace(error: unknown): boolean {
  return error instanceof FsError && error.code === "ENOSPC";
}

type Mutation = Exclude<WriteRequest, { op: "fsync" } | { op: "forget" }>;
