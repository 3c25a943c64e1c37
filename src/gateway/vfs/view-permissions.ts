import { FsError } from "../../domain/errors.ts";
import { LIVE } from "../../domain/ids.ts";
import type { Inode } from "../../domain/inode.ts";
import type { RequestContext } from "../../domain/metadata-api.ts";
import { ACL_ACCESS, type AclEntry, decodeAcl, grants } from "../../meta/acl.ts";
import type { RequestHeader } from "../fuse/frame.ts";
import type { Reply } from "../fuse/reply.ts";
import { type Node, unlessRefused, type VfsContext, whenDone } from "./context.ts";

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

  /**
   * Throws or rejects with EACCES when views are off by now, or the caller lacks `wanted` on the file as it is today. Live nodes pass. Nothing when it was decided in this turn.
   */
  check(
    node: Node,
    from: { readonly header: RequestHeader; readonly reply: Reply },
    wanted: number,
  ): undefined | Promise<undefined> {
    const { options } = this.#vfs;
    if (node.slot === 0) return undefined;
    const views = options.views();
    if (views === "off") throw FsError.of("EACCES");
    const { header } = from;
    if (!options.asksOpens || header.uid === 0) return undefined;
    if (views !== "users") throw FsError.of("EACCES");
    const context = this.#vfs.context(header, from.reply);
    return whenDone<Inode | undefined, undefined>(this.#today(node, context), (today) => {
      if (today === undefined) return this.#wasTheirs(node, { header, context });
      return whenDone(this.#listOf(today, context), (list) => {
        const caller = { uid: header.uid, gids: [header.gid, ...options.groupsOf(header.pid)] };
        if (!grants(today, list, caller, wanted)) throw FsError.of("EACCES");
        return undefined;
      });
    });
  }

  /** Throws EACCES unless the caller was the owner of a file that is deleted. */
  #wasTheirs(
    node: Node,
    { header, context }: { header: RequestHeader; context: RequestContext },
  ): undefined | Promise<undefined> {
    const then = this.#vfs.api.execute({ op: "getattr", ino: node.ino, at: node.at }, context);
    return whenDone(then, ({ uid }) => {
      if (uid !== header.uid) throw FsError.of("EACCES");
      return undefined;
    });
  }

  /** The inode as it is now; undefined when it was deleted. */
  #today(node: Node, context: RequestContext): Inode | undefined | Promise<Inode | undefined> {
    const find = (): Inode | Promise<Inode> =>
      this.#vfs.api.execute({ op: "getattr", ino: node.ino, at: LIVE }, context);
    return whenDone<Inode | undefined, Inode | undefined>(unlessRefused("ESTALE", find, undefined), (inode) =>
      inode?.nlink === 0 ? undefined : inode,
    );
  }

  #listOf(
    inode: Inode,
    context: RequestContext,
  ): readonly AclEntry[] | undefined | Promise<readonly AclEntry[] | undefined> {
    const wanted = { op: "getxattr", ino: inode.ino, name: ACL_ACCESS, at: LIVE } as const;
    const find = (): Buffer | Promise<Buffer> => this.#vfs.api.execute(wanted, context);
    return whenDone(unlessRefused("ENODATA", find, undefined), (value) =>
      value === undefined ? undefined : decodeAcl(value),
    );
  }
}
