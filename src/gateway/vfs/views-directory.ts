import { FsError } from "../../domain/errors.ts";
import { type InodeId, LIVE, type Lsn } from "../../domain/ids.ts";
import { type Inode, S_IFDIR } from "../../domain/inode.ts";
import type { MetadataApi, RequestContext } from "../../domain/metadata-api.ts";
import { cookieOf, nameHash } from "../../meta/name-hash.ts";
import type { NodeAttributes } from "../fuse/attribute-codec.ts";
import type { ReaddirRequest } from "../fuse/directory-codec.ts";
import type { LookupRequest } from "../fuse/namespace-codec.ts";
import type { Reply } from "../fuse/reply.ts";
import { type VfsContext, VIEWS_SLOT, whenDone } from "./context.ts";
import { attributesOf, validityOf } from "./validity.ts";

/** The share's option may change: the kernel asks again. */
const VIEWS_VALIDITY = { slot: VIEWS_SLOT, attributesSec: 1, entrySec: 1 };

/** The number of `.tidemark` in its slot. */
export const VIEWS_INO = 1;

/** Cookies of names are 16 and above. */
const DOTS = [
  { name: Buffer.from("."), cookie: 1n },
  { name: Buffer.from(".."), cookie: 2n },
];

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
    const { header } = request;
    if (options.views() === "off") throw FsError.of("EACCES");
    const found = options.moments.find(request.name.toString("utf8"));
    return whenDone(found, (lsn) => {
      const result =
        lsn === undefined ? undefined : rootAt(api, { root: options.root, at: lsn }, this.#vfs.context(header));
      if (lsn === undefined || result === undefined) throw FsError.of("ENOENT");
      const slot = options.slots.slotOf(lsn);
      // The entry is asked for again after a second: a snapshot's name can be given to another moment. The nodes below are for ever.
      reply.entry(attributesOf(result, this.#vfs.numberOf(result.ino)), {
        ...validityOf(slot),
        entrySec: options.asksOpens ? 0 : 1,
      });
    });
  }

  /** Names of snapshots, in the order of their hashes, so that a listing goes on rightly when some come or go. */
  readdir(request: ReaddirRequest, reply: Reply, plus: boolean): void {
    const buffer = reply.directory(request.sizeBytes);
    const snapshots = this.#vfs.options.moments.snapshotNames().map((text) => {
      const name = Buffer.from(text, "utf8");
      return { name, cookie: cookieOf(nameHash(name, 0)) };
    });
    snapshots.sort((left, right) => (left.cookie < right.cookie ? -1 : 1));
    for (const { name, cookie } of [...DOTS, ...snapshots]) {
      if (cookie <= request.cookie) continue;
      const item = { name, slot: VIEWS_SLOT, ino: VIEWS_INO, type: S_IFDIR >> 12, cookie };
      if (!(plus ? buffer.addPlus(item, undefined) : buffer.add(item))) break;
    }
    reply.directoryDone();
  }

  #attributes(): NodeAttributes {
    const { options, api } = this.#vfs;
    const context = {
      actor: { mountId: options.mountId, uid: 0, gid: 0, pid: 0, label: "" },
      unique: 0,
      resent: false,
    };
    const root = api.execute({ op: "getattr", ino: options.root, at: LIVE }, context) as Inode;
    const mode = S_IFDIR | (options.views() === "users" && options.asksOpens ? 0o555 : 0o500);
    // A link count of 1 says that it tells nothing about subdirectories: there is one for each moment.
    return { ...root, ino: VIEWS_INO, generation: 0, mode, uid: 0, gid: 0, nlink: 1, size: 0n, allocatedBytes: 0n };
  }
}

/** The share's root at a moment; undefined when the share was not there yet, or the moment can't be read any more. */
function rootAt(
  api: MetadataApi,
  { root, at }: { root: InodeId; at: Lsn },
  context: RequestContext,
): Inode | undefined {
  try {
    const inode = api.execute({ op: "getattr", ino: root, at }, context);
    if (inode instanceof Promise) throw FsError.of("EIO");
    return inode;
  } catch (error) {
    if (error instanceof FsError && error.code === "ESTALE") return undefined;
    throw error;
  }
}
