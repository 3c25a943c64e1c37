import { FsError } from "../../domain/errors.ts";
import { LIVE } from "../../domain/ids.ts";
import { type Inode, S_IFDIR } from "../../domain/inode.ts";
import type { ReaddirRequest } from "../fuse/directory-codec.ts";
import type { LookupRequest } from "../fuse/namespace-codec.ts";
import type { Reply } from "../fuse/reply.ts";
import type { NodeAttributes } from "../fuse/attribute-codec.ts";
import { VIEWS_SLOT, type VfsContext, whenDone } from "./context.ts";
import { attributesOf, validityOf } from "./validity.ts";

/** Snapshot names may come and go without the kernel being told: it asks again. */
const VIEWS_VALIDITY = { slot: VIEWS_SLOT, attributesSec: 1, entrySec: 86_400 };

/** The number of `.tidemark` in its slot. */
const VIEWS_INO = 1;

/** The hidden `.tidemark` of a share's root: a directory for each snapshot, and for any absolute UTC time that is looked up. */
export class ViewsDirectory {
  readonly #vfs: VfsContext;

  constructor(vfs: VfsContext) {
    this.#vfs = vfs;
  }

  /** Answers the look-up of `.tidemark` in the root. */
  enter(reply: Reply): void {
    reply.entry(this.#attributes(), VIEWS_VALIDITY);
  }

  getattr(reply: Reply): void {
    reply.attributes(this.#attributes(), VIEWS_VALIDITY);
  }

  statx(reply: Reply): void {
    reply.statx(this.#attributes(), VIEWS_VALIDITY);
  }

  /** A snapshot or a time: the share's root as it was then. */
  lookup(request: LookupRequest, reply: Reply): void | Promise<void> {
    const { options, api } = this.#vfs;
    const found = options.moments.find(request.name.toString("utf8"));
    return whenDone(found, (lsn) => {
      if (lsn === undefined) throw FsError.of("ENOENT");
      const result = api.execute({ op: "getattr", ino: options.root, at: lsn }, this.#vfs.context(request.header));
      if (result instanceof Promise) throw FsError.of("EIO");
      const slot = options.slots.slotOf(lsn);
      // The entry is asked for again after a second: a snapshot's name can be given to another moment. The nodes below are for ever.
      reply.entry(attributesOf(result, this.#vfs.numberOf(result.ino)), { ...validityOf(slot), entrySec: 1 });
    });
  }

  readdir(request: ReaddirRequest, reply: Reply, plus: boolean): void {
    const buffer = reply.directory(request.sizeBytes);
    const names = [".", "..", ...this.#vfs.options.moments.snapshotNames()];
    for (let index = Number(request.cookie); index < names.length; index++) {
      const name = Buffer.from(names[index] ?? "", "utf8");
      const item = { name, slot: VIEWS_SLOT, ino: VIEWS_INO, type: S_IFDIR >> 12, cookie: BigInt(index + 1) };
      if (!(plus ? buffer.addPlus(item, undefined) : buffer.add(item))) break;
    }
    reply.directoryDone();
  }

  #attributes(): NodeAttributes {
    const { options, api } = this.#vfs;
    const context = { actor: { mountId: options.mountId, uid: 0, gid: 0, pid: 0, label: "" }, unique: 0, resent: false };
    const root = api.execute({ op: "getattr", ino: options.root, at: LIVE }, context) as Inode;
    const mode = S_IFDIR | (options.views === "users" ? 0o555 : 0o500);
    return { ...root, ino: VIEWS_INO, mode, uid: 0, gid: 0, nlink: 2, size: 0n, allocatedBytes: 0n };
  }
}
