import { test } from "vitest";
import { FsError } from "../../src/domain/errors.ts";
import { type InodeId, LIVE, type Lsn, type MountId } from "../../src/domain/ids.ts";
import { type Inode, S_IFREG } from "../../src/domain/inode.ts";
import type { ReplyOf, Request, RequestContext, SetAttributes } from "../../src/domain/metadata-api.ts";
import type { Harness, OpenHarness } from "../model/harness.ts";
import { ManualClock } from "../model/manual-clock.ts";

export const SECOND = 1_000_000_000;

/** Who asks: the overrides of one request's context. */
export type Who = {
  readonly uid?: number;
  readonly gid?: number;
  readonly mountId?: MountId;
  readonly unique?: number;
  readonly resent?: boolean;
};

/** A share under test with short words for the usual requests. The clock moves one second before each. */
export class Share {
  readonly clock: ManualClock;
  #harness: Harness;

  constructor(harness: Harness, clock: ManualClock) {
    this.#harness = harness;
    this.clock = clock;
  }

  get root(): InodeId {
    return this.#harness.root;
  }

  get lsn(): Lsn {
    return this.#harness.lastLsn();
  }

  get harness(): Harness {
    return this.#harness;
  }

  context(who: Who = {}): RequestContext {
    const base = this.#harness.context();
    const { actor } = base;
    const asked = {
      ...actor,
      uid: who.uid ?? actor.uid,
      gid: who.gid ?? actor.gid,
      mountId: who.mountId ?? actor.mountId,
    };
    return { actor: asked, unique: who.unique ?? base.unique, resent: who.resent ?? false };
  }

  async do<R extends Request>(request: R, who: Who = {}): Promise<ReplyOf<R>> {
    this.clock.step(SECOND);
    const reply = await this.#harness.api.execute(request, this.context(who));
    return reply;
  }

  /** The code a request fails with; "success" when it doesn't. Throws what is no FsError. */
  async refusal(request: Request, who: Who = {}): Promise<string> {
    try {
      await this.do(request, who);
    } catch (error) {
      if (error instanceof FsError) return error.code;
      throw error;
    }
    return "success";
  }

  async reopen(): Promise<void> {
    this.#harness = await this.#harness.reopen();
  }

  settle(): Promise<void> {
    return this.#harness.settle();
  }

  close(): Promise<void> {
    return this.#harness.close();
  }

  create(
    name: string,
    parent: InodeId = this.root,
    how: Who & { readonly mode?: number; readonly umask?: number } = {},
  ): Promise<Inode> {
    const mode = S_IFREG | (how.mode ?? 0o644);
    const request = {
      op: "create",
      parent,
      name: bytes(name),
      mode,
      umask: how.umask ?? 0,
      exclusive: true,
      truncate: false,
    } as const;
    return this.do(request, how);
  }

  mkdir(
    name: string,
    parent: InodeId = this.root,
    how: Who & { readonly mode?: number; readonly umask?: number } = {},
  ): Promise<Inode> {
    const mode = how.mode ?? 0o755;
    return this.do({ op: "mkdir", parent, name: bytes(name), mode, umask: how.umask ?? 0 }, how);
  }

  symlink(name: string, target: string, parent: InodeId = this.root): Promise<Inode> {
    return this.do({ op: "symlink", parent, name: bytes(name), target: bytes(target) });
  }

  link(ino: InodeId, name: string, parent: InodeId = this.root): Promise<Inode> {
    return this.do({ op: "link", ino, parent, name: bytes(name) });
  }

  unlink(name: string, parent: InodeId = this.root): Promise<undefined> {
    return this.do({ op: "unlink", parent, name: bytes(name) });
  }

  rmdir(name: string, parent: InodeId = this.root): Promise<undefined> {
    return this.do({ op: "rmdir", parent, name: bytes(name) });
  }

  rename(
    name: string,
    newName: string,
    how: { readonly parent?: InodeId; readonly newParent?: InodeId; readonly flags?: number } = {},
  ): Promise<undefined> {
    const { parent = this.root, newParent = this.root, flags = 0 } = how;
    return this.do({ op: "rename", parent, name: bytes(name), newParent, newName: bytes(newName), flags });
  }

  lookup(name: string, parent: InodeId = this.root, at: Lsn = LIVE): Promise<Inode> {
    return this.do({ op: "lookup", parent, name: bytes(name), at });
  }

  stat(ino: InodeId, at: Lsn = LIVE): Promise<Inode> {
    return this.do({ op: "getattr", ino, at });
  }

  set(ino: InodeId, set: SetAttributes): Promise<Inode> {
    return this.do({ op: "setattr", ino, set });
  }

  write(ino: InodeId, data: string | Uint8Array, offset = 0n): Promise<number> {
    const lent = Buffer.from(typeof data === "string" ? bytes(data) : data);
    return this.do({ op: "write", ino, offset, data: lent, killPrivileges: false });
  }

  async read(
    ino: InodeId,
    how: { readonly offset?: bigint; readonly length?: number; readonly at?: Lsn } = {},
  ): Promise<Buffer> {
    const { offset = 0n, length = 1024 * 1024, at = LIVE } = how;
    return Buffer.concat(await this.do({ op: "read", ino, offset, length, at }));
  }

  /** Content as text. */
  async text(ino: InodeId, at: Lsn = LIVE): Promise<string> {
    return (await this.read(ino, { at })).toString("latin1");
  }

  /** Sorted names of a directory, read in pages of `entriesMax`. */
  async names(
    ino: InodeId = this.root,
    how: { readonly at?: Lsn; readonly entriesMax?: number } = {},
  ): Promise<string[]> {
    const { at = LIVE, entriesMax = 100 } = how;
    const found: string[] = [];
    for (let cookie = 0n; ; ) {
      const page = await this.do({ op: "readdir", ino, cookie, entriesMax, plus: false, at });
      found.push(...page.entries.map((entry) => entry.name.toString("latin1")));
      if (page.end) return found.sort();
      cookie = page.entries.at(-1)?.cookie ?? cookie;
      if (found.length > 100_000) throw new Error("readdir does not end");
    }
  }

  setxattr(
    ino: InodeId,
    name: string,
    value: string | Buffer,
    how: { readonly flags?: number; readonly killSgid?: boolean } = {},
  ): Promise<undefined> {
    const { flags = 0, killSgid = false } = how;
    return this.do({ op: "setxattr", ino, name: bytes(name), value: bytes(value), flags, killSgid });
  }

  getxattr(ino: InodeId, name: string, at: Lsn = LIVE): Promise<Buffer> {
    return this.do({ op: "getxattr", ino, name: bytes(name), at });
  }

  removexattr(ino: InodeId, name: string): Promise<undefined> {
    return this.do({ op: "removexattr", ino, name: bytes(name) });
  }

  async xattrs(ino: InodeId, at: Lsn = LIVE): Promise<string[]> {
    return (await this.do({ op: "listxattr", ino, at })).map((name) => name.toString("latin1")).sort();
  }

  fallocate(ino: InodeId, mode: number, offset: bigint, length: bigint): Promise<undefined> {
    return this.do({ op: "fallocate", ino, mode, offset, length });
  }

  /** The start of data or of a hole; "end" for ENXIO. */
  async seek(ino: InodeId, whence: "data" | "hole", offset: bigint, at: Lsn = LIVE): Promise<bigint | "end"> {
    try {
      return await this.do({ op: "lseek", ino, offset, whence, at });
    } catch (error) {
      if (error instanceof FsError && error.code === "ENXIO") return "end";
      throw error;
    }
  }

  forget(ino: InodeId, who: Who = {}): Promise<undefined> {
    return this.do({ op: "forget", ino }, who);
  }
}

/** Bytes of a name or content, text meaning latin1. */
export function bytes(text: string | Buffer): Buffer {
  return typeof text === "string" ? Buffer.from(text, "latin1") : text;
}

/** Registers a test of one behaviour, run on a fresh share. */
export type Behaviour = (name: string, act: (share: Share) => Promise<void>) => void;

/** Behaviours run on shares that `open` opens. */
export function behavioursOn(open: OpenHarness): Behaviour {
  return (name, act) => {
    test(name, async () => {
      const clock = new ManualClock();
      const share = new Share(await open({ clock }), clock);
      try {
        await act(share);
      } finally {
        await share.close();
      }
    });
  };
}

/** Codes for an inode that is not there (any more). */
export const GONE = ["ENOENT", "ESTALE"];

/** Whole seconds of a time, for comparisons of what moved. */
export function changedTimes(before: Inode, after: Inode): string {
  const moved = (key: "atime" | "mtime" | "ctime" | "btime"): boolean =>
    before[key].sec !== after[key].sec || before[key].nsec !== after[key].nsec;
  return (["atime", "mtime", "ctime", "btime"] as const).filter(moved).join(" ");
}
