import { FsError } from "../../domain/errors.ts";
import { LIVE, type Lsn } from "../../domain/ids.ts";
import { type Inode, S_IFDIR } from "../../domain/inode.ts";
import type { RequestContext } from "../../domain/metadata-api.ts";
import { cookieOf, nameHash } from "../../meta/name-hash.ts";
import type { NodeAttributes } from "../fuse/attribute-codec.ts";
import type { ReaddirRequest } from "../fuse/directory-codec.ts";
import type { LookupRequest } from "../fuse/namespace-codec.ts";
import type { Reply } from "../fuse/reply.ts";
import { unlessRefused, type VfsContext, VIEWS_SLOT, whenDone } from "./context.ts";
import { attributesOf } from "./validity.ts";

/** The share's option may change: the kernel asks again. */
const VIEWS_VALIDITY = { slot: VIEWS_SLOT, attributesSec: 1, entrySec: 1 };

/** How long a name in it is kept. */
const MOMENT_ENTRY_SEC = 1;

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
  enter(reply: Reply): void | Promise<void> {
    return whenDone(this.#attributes(), (attributes) => reply.entry(attributes, VIEWS_VALIDITY));
  }

  getattr(reply: Reply): void | Promise<void> {
    return whenDone(this.#attributes(), (attributes) => reply.attributes(attributes, VIEWS_VALIDITY));
  }

  statx(reply: Reply): void | Promise<void> {
    return whenDone(this.#attributes(), (attributes) => reply.statx(attributes, VIEWS_VALIDITY));
  }

  /** A snapshot or a time: the share's root as it was then. */
  lookup(request: LookupRequest, reply: Reply): void | Promise<void> {
    const { options } = this.#vfs;
    if (options.views() === "off") throw FsError.of("EACCES");
    const askedMs = this.#vfs.askedMs();
    return whenDone(options.moments.find(request.name.toString("utf8")), (at) => {
      if (at === undefined) throw FsError.of("ENOENT");
      const root = rootAt(this.#vfs, at, this.#vfs.context(request.header, reply));
      return whenDone<Inode | undefined>(root, (inode) => {
        if (inode === undefined) throw FsError.of("ENOENT");
        return whenDone(options.slots.slotOf(at), (slot) => this.#answer(reply, inode, { slot, askedMs }));
      });
    });
  }

  /** The entry is asked for again after a second: a snapshot's name can be given to another moment. The nodes below are for ever. */
  #answer(reply: Reply, inode: Inode, { slot, askedMs }: { readonly slot: number; readonly askedMs: number }): void {
    const validity = this.#vfs.validity(slot, askedMs);
    const entrySec = Math.min(validity.entrySec, MOMENT_ENTRY_SEC);
    reply.entry(attributesOf(inode, this.#vfs.numberOf(inode.ino)), { ...validity, entrySec });
  }

  /** Names of snapshots, in the order of their hashes, so that a listing goes on rightly when some come or go. */
  readdir(request: ReaddirRequest, reply: Reply, plus: boolean): void | Promise<void> {
    const names = this.#vfs.options.moments.snapshotNames();
    return whenDone<readonly string[]>(names, (texts) => this.#list(texts, { request, reply, plus }));
  }

  #list(
    texts: readonly string[],
    { request, reply, plus }: { readonly request: ReaddirRequest; readonly reply: Reply; readonly plus: boolean },
  ): void {
    const buffer = reply.directory(request.sizeBytes);
    const snapshots = texts.map((text) => {
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

  #attributes(): NodeAttributes | Promise<NodeAttributes> {
    const { options, api } = this.#vfs;
    const mode = S_IFDIR | (options.views() === "users" && options.asksOpens ? 0o555 : 0o500);
    // A link count of 1 says that it tells nothing about subdirectories: there is one for each moment.
    const own = { ino: VIEWS_INO, generation: 0, mode, uid: 0, gid: 0, nlink: 1, size: 0n, allocatedBytes: 0n };
    const root = api.execute({ op: "getattr", ino: options.root, at: LIVE }, this.#vfs.ownContext());
    return whenDone<Inode, NodeAttributes>(root, (inode) => ({ ...inode, ...own }));
  }
}

/** The share's root at a moment; undefined when the share was not there yet, or the moment can't be read any more. */
function rootAt(vfs: VfsContext, at: Lsn, context: RequestContext): Inode | undefined | Promise<Inode | undefined> {
  const wanted = { op: "getattr", ino: vfs.options.root, at } as const;
  return unlessRefused("ESTALE", (): Inode | Promise<Inode> => vfs.api.execute(wanted, context), undefined);
}
