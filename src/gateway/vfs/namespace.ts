import { FsError } from "../../domain/errors.ts";
import type { Inode } from "../../domain/inode.ts";
import type { WriteRequest } from "../../domain/metadata-api.ts";
import { FOPEN } from "../fuse/file-codec.ts";
import type { RequestHeader } from "../fuse/frame.ts";
import type { PlainRequest } from "../fuse/misc-codec.ts";
import type * as codec from "../fuse/namespace-codec.ts";
import type { FuseOperations } from "../fuse/operations.ts";
import type { Reply } from "../fuse/reply.ts";
import { type Node, type VfsContext, VIEWS_NAME, whenDone } from "./context.ts";
import { attributesOf } from "./validity.ts";
import { MAY_EXECUTE } from "./view-permissions.ts";
import type { ViewsDirectory } from "./views-directory.ts";

const O_EXCL = 0o200;
const O_TRUNC = 0o1000;

/**
 * How a file is opened: what the kernel has in memory is right. Close needs no FLUSH when locks are the kernel's; else it carries an unlock, and the open file gets a number of its own (that of the
 * request, which is never used again, by no process).
 */
export function openedAs({ options }: VfsContext, { unique }: RequestHeader): { handle: number; flags: number } {
  if (options.sharedLocks === undefined) return { handle: 0, flags: FOPEN.KEEP_CACHE | FOPEN.NOFLUSH };
  return { handle: unique, flags: FOPEN.KEEP_CACHE };
}

type MakingRequest = Extract<WriteRequest, { op: "mknod" | "mkdir" | "symlink" }>;

/** Names: looking up, making, moving, removing. */
export function namespaceOperations(vfs: VfsContext, views: ViewsDirectory): FuseOperations {
  const make = (request: { readonly header: codec.LookupRequest["header"] }, wanted: MakingRequest, reply: Reply) => {
    refuseReserved(vfs, request.header, wanted.name);
    const askedMs = vfs.askedMs();
    return whenDone<Inode>(vfs.api.execute(wanted, vfs.context(request.header, reply)), (inode) =>
      reply.entry(inode, vfs.nameValidity({ slot: 0, directory: wanted.parent, name: wanted.name }, askedMs)),
    );
  };
  const parentOf = (header: codec.LookupRequest["header"]) => vfs.liveNode(header.slot, header.ino);
  return {
    lookup: (request, reply) => lookup(vfs, views, request, reply),
    mknod: (request, reply) => {
      const { name, mode, umask, rdev } = request;
      return make(request, { op: "mknod", parent: parentOf(request.header), name, mode, umask, rdev }, reply);
    },
    mkdir: (request, reply) => {
      const { name, mode, umask } = request;
      return make(request, { op: "mkdir", parent: parentOf(request.header), name, mode, umask }, reply);
    },
    symlink: (request, reply) => {
      const { name, target } = request;
      return make(request, { op: "symlink", parent: parentOf(request.header), name, target }, reply);
    },
    create: (request, reply) => create(vfs, request, reply),
    tmpfile: (request, reply) => {
      const { mode, umask } = request;
      const askedMs = vfs.askedMs();
      const result = vfs.api.execute(
        { op: "tmpfile", parent: parentOf(request.header), mode, umask },
        vfs.context(request.header, reply),
      );
      return whenDone(result, (inode) =>
        reply.created(inode, { validity: vfs.validity(0, askedMs), ...openedAs(vfs, request.header) }),
      );
    },
    link: (request, reply) => {
      const parent = parentOf(request.header);
      refuseReserved(vfs, request.header, request.name);
      if (request.sourceSlot !== 0) throw FsError.of("EXDEV");
      const ino = vfs.liveNode(request.sourceSlot, request.sourceIno);
      const askedMs = vfs.askedMs();
      const context = vfs.context(request.header, reply);
      const result = vfs.api.execute({ op: "link", ino, parent, name: request.name }, context);
      const about = { slot: 0, directory: parent, name: request.name };
      return whenDone(result, (inode) => reply.entry(inode, vfs.nameValidity(about, askedMs)));
    },
    unlink: (request, reply) => {
      const parent = parentOf(request.header);
      const context = vfs.context(request.header, reply);
      return whenDone(vfs.api.execute({ op: "unlink", parent, name: request.name }, context), () => reply.ok());
    },
    rmdir: (request, reply) => {
      const parent = parentOf(request.header);
      if (isReserved(vfs, request.header, request.name)) throw FsError.of("EBUSY");
      const context = vfs.context(request.header, reply);
      return whenDone(vfs.api.execute({ op: "rmdir", parent, name: request.name }, context), () => reply.ok());
    },
    rename: (request, reply) => rename(vfs, request, reply),
    readlink: (request, reply) => readlink(vfs, request, reply),
  };
}

/** open(2) with O_CREAT of a name that the kernel does not know. */
function create(vfs: VfsContext, request: codec.CreateRequest, reply: Reply): void | Promise<void> {
  const { header, name, mode, umask, flags } = request;
  const parent = vfs.liveNode(header.slot, header.ino);
  refuseReserved(vfs, header, name);
  const exclusive = (flags & O_EXCL) !== 0;
  const truncate = (flags & O_TRUNC) !== 0;
  const wanted = { op: "create", parent, name, mode, umask, exclusive, truncate } as const;
  const askedMs = vfs.askedMs();
  return whenDone(vfs.api.execute(wanted, vfs.context(header, reply)), (inode) =>
    reply.created(inode, {
      validity: vfs.nameValidity({ slot: 0, directory: parent, name }, askedMs),
      ...openedAs(vfs, header),
    }),
  );
}

function lookup(
  vfs: VfsContext,
  views: ViewsDirectory,
  request: codec.LookupRequest,
  reply: Reply,
): void | Promise<void> {
  const { header, name } = request;
  if (vfs.isViews(header.slot)) return views.lookup(request, reply);
  if (isReserved(vfs, header, name)) return views.enter(reply);
  const node = vfs.node(header.slot, header.ino);
  if (name[0] === 0x2e && (name.length === 1 || (name.length === 2 && name[1] === 0x2e)))
    return lookupDots(vfs, request, reply);
  const checked = vfs.permissions.check(node, { header, reply }, MAY_EXECUTE);
  if (checked !== undefined) return checked.then(() => find(vfs, node, request, reply));
  return find(vfs, node, request, reply);
}

/** The look-up itself. */
function find(vfs: VfsContext, node: Node, request: codec.LookupRequest, reply: Reply): void | Promise<void> {
  const { header, name } = request;
  const askedMs = vfs.askedMs();
  const absent = (error: unknown): void => {
    if (!(error instanceof FsError) || error.code !== "ENOENT") throw error;
    reply.noEntry(vfs.absentSec(node, name, askedMs));
  };
  const present = (inode: Inode): void => {
    const about = { slot: header.slot, directory: node.ino, name, ino: inode.ino };
    reply.entry(attributesOf(inode, vfs.numberOf(inode.ino)), vfs.nameValidity(about, askedMs));
  };
  let result: Inode | Promise<Inode>;
  try {
    result = vfs.api.execute({ op: "lookup", parent: node.ino, name, at: node.at }, vfs.context(header, reply));
  } catch (error) {
    return absent(error);
  }
  if (result instanceof Promise) return result.then(present, absent);
  present(result);
}

/** "." and ".." of a directory that is known by its number only: NFS servers and open_by_handle_at reconnect paths with them (FUSE_EXPORT_SUPPORT). */
function lookupDots(vfs: VfsContext, request: codec.LookupRequest, reply: Reply): void | Promise<void> {
  const { header } = request;
  const node = vfs.node(header.slot, header.ino);
  const context = vfs.context(header, reply);
  const askedMs = vfs.askedMs();
  const dot = request.name.length === 1;
  const itself = vfs.api.execute({ op: "getattr", ino: node.ino, at: node.at }, context);
  return whenDone(itself, ({ ino, parent }) => {
    const wanted = dot || parent === 0 ? ino : parent;
    const found = vfs.api.execute({ op: "getattr", ino: wanted, at: node.at, tells: true }, context);
    return whenDone(found, (inode) =>
      reply.entry(attributesOf(inode, vfs.numberOf(inode.ino)), vfs.validity(header.slot, askedMs, inode.ino)),
    );
  });
}

function rename(vfs: VfsContext, request: codec.RenameRequest, reply: Reply): void | Promise<void> {
  const { header, name, newName, flags } = request;
  if (header.slot !== request.newSlot) throw FsError.of("EXDEV");
  const parent = vfs.liveNode(header.slot, header.ino);
  const newParent = vfs.liveNode(request.newSlot, request.newParentIno);
  if (isReserved(vfs, header, name)) throw FsError.of("EXDEV");
  if (isReserved(vfs, { slot: request.newSlot, ino: request.newParentIno }, newName)) throw FsError.of("EEXIST");
  const result = vfs.api.execute({ op: "rename", parent, name, newParent, newName, flags }, vfs.context(header, reply));
  return whenDone(result, () => reply.ok());
}

function readlink(vfs: VfsContext, request: PlainRequest, reply: Reply): void | Promise<void> {
  const { header } = request;
  const node = vfs.node(header.slot, header.ino);
  const result = vfs.api.execute({ op: "readlink", ino: node.ino, at: node.at }, vfs.context(header, reply));
  return whenDone(result, (target) => reply.data(target));
}

/** Whether the name is `.tidemark` in the root of a share that has views. */
export function isReserved(
  vfs: VfsContext,
  parent: { readonly slot: number; readonly ino: number },
  name: Buffer,
): boolean {
  if (name.length !== VIEWS_NAME.length || !vfs.isRoot(parent.slot, parent.ino)) return false;
  return name.equals(VIEWS_NAME) && vfs.hasViews;
}

function refuseReserved(vfs: VfsContext, parent: { readonly slot: number; readonly ino: number }, name: Buffer): void {
  if (isReserved(vfs, parent, name)) throw FsError.of("EEXIST");
}
