import { FsError } from "../../domain/errors.ts";
import { LIVE } from "../../domain/ids.ts";
import type { Inode } from "../../domain/inode.ts";
import type { RequestContext } from "../../domain/metadata-api.ts";
import { ACL_ACCESS, type AclEntry, decodeAcl, grants } from "../../meta/acl.ts";
import type { RequestHeader } from "../fuse/frame.ts";
import type { Node, VfsContext } from "./context.ts";

/** Permissions asked for, as in a mode. */
export const MAY_READ = 4;
export const MAY_EXECUTE = 1;

/**
 * Who may look at the past from inside of a share. The kernel checks the mode and ACL that a file had at the moment; this adds the file of today: what
 * somebody may not read any more he may not read there either. A deleted file is for its last owner and root. Only where users may look at all: with
 * `views = root` the kernel lets nobody else into `.tidemark`, and opens are not even asked for.
 */
export class ViewPermissions {
  readonly #vfs: VfsContext;

  constructor(vfs: VfsContext) {
    this.#vfs = vfs;
  }

  /** Throws EACCES when views are off by now, or the caller lacks `wanted` on the file as it is today. Live nodes pass. */
  check(node: Node, header: RequestHeader, wanted: number): void {
    const { options, api } = this.#vfs;
    if (node.slot === 0) return;
    const views = options.views();
    if (views === "off") throw FsError.of("EACCES");
    if (!options.asksOpens || header.uid === 0) return;
    if (views !== "users") throw FsError.of("EACCES");
    const context = this.#vfs.context(header);
    const today = this.#today(node, context);
    if (today === undefined) {
      const then = now(api.execute({ op: "getattr", ino: node.ino, at: node.at }, context));
      if (then.uid !== header.uid) throw FsError.of("EACCES");
      return;
    }
    const caller = { uid: header.uid, gids: [header.gid, ...options.groupsOf(header.pid)] };
    if (!grants(today, this.#listOf(today, context), caller, wanted)) throw FsError.of("EACCES");
  }

  /** The inode as it is now; undefined when it was deleted. */
  #today(node: Node, context: RequestContext): Inode | undefined {
    try {
      const inode = now(this.#vfs.api.execute({ op: "getattr", ino: node.ino, at: LIVE }, context));
      return inode.nlink === 0 ? undefined : inode;
    } catch (error) {
      if (error instanceof FsError && error.code === "ESTALE") return undefined;
      throw error;
    }
  }

  #listOf(inode: Inode, context: RequestContext): readonly AclEntry[] | undefined {
    try {
      const wanted = { op: "getxattr", ino: inode.ino, name: ACL_ACCESS, at: LIVE } as const;
      return decodeAcl(now(this.#vfs.api.execute(wanted, context)));
    } catch (error) {
      if (error instanceof FsError && error.code === "ENODATA") return undefined;
      throw error;
    }
  }
}

/** Rows are read in the same turn. */
function now<T>(result: T | Promise<T>): T {
  if (result instanceof Promise) throw FsError.of("EIO");
  return result;
}
