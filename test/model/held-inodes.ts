import type { InodeId, MountId } from "../../src/domain/ids.ts";
import { LIVE } from "../../src/domain/ids.ts";
import type { Inode } from "../../src/domain/inode.ts";
import type { ReplyMap, Request, RequestContext } from "../../src/domain/metadata-api.ts";

/** Requests whose answer makes a kernel know the inode (the replies with fuse_entry_out), when they read the present. */
const TELLING = ["lookup", "mknod", "create", "mkdir", "symlink", "link", "tmpfile"];

/** Which mounts' kernels know which inodes, as the kernel counts: from the first answer that names one to its FORGET. */
export class HeldInodes {
  readonly #byMount = new Map<MountId, Set<InodeId>>();

  /** Notes what an answer tells the kernel of the mount that asked. */
  note(request: Request, reply: ReplyMap[Request["op"]], context: RequestContext): void {
    if ("at" in request && request.at !== LIVE) return;
    if (TELLING.includes(request.op)) this.#tell(context.actor.mountId, (reply as Inode).ino);
    if (request.op !== "readdir" || !request.plus) return;
    for (const entry of (reply as ReplyMap["readdir"]).entries) this.#tell(context.actor.mountId, entry.ino);
  }

  #tell(mount: MountId, ino: InodeId): void {
    const held = this.#byMount.get(mount) ?? new Set();
    this.#byMount.set(mount, held.add(ino));
  }

  forget(mount: MountId, ino: InodeId): void {
    this.#byMount.get(mount)?.delete(ino);
  }

  isHeld(ino: InodeId): boolean {
    return [...this.#byMount.values()].some((held) => held.has(ino));
  }
}
