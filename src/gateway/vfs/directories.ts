import { FsError } from "../../domain/errors.ts";
import { type InodeId, LIVE } from "../../domain/ids.ts";
import { isDirectory, S_IFDIR } from "../../domain/inode.ts";
import type { ReplyMap, RequestContext } from "../../domain/metadata-api.ts";
import { ENTRY_OUT_BYTES, type Validity } from "../fuse/attribute-codec.ts";
import type { DirectoryBuffer, ReaddirRequest } from "../fuse/directory-codec.ts";
import { FOPEN } from "../fuse/file-codec.ts";
import type { FuseOperations } from "../fuse/operations.ts";
import type { Reply } from "../fuse/reply.ts";
import { type Node, type VfsContext, whenDone } from "./context.ts";
import { attributesOf } from "./validity.ts";
import { MAY_READ } from "./view-permissions.ts";
import type { ViewsDirectory } from "./views-directory.ts";

/** Cookies of "." and ".."; the engine's are 16 and above. */
const DOT_COOKIE = 1n;
const DOTS_COOKIE = 2n;

/** Space that a usual entry takes: what is asked of the engine is a little more than what fits. */
const ENTRY_BYTES_MIN = 32;

/** The kernel may keep a listing until it is told otherwise. */
const OPENDIR_FLAGS = FOPEN.KEEP_CACHE | FOPEN.CACHE_DIR;

/**
 * Listing. There is usually no `opendir`: ENOSYS lets the kernel open directories without asking and keep listings (FUSE_NO_OPENDIR_SUPPORT), since
 * cookies need no state.
 */
export function directoryOperations(vfs: VfsContext, views: ViewsDirectory): FuseOperations {
  const listing: FuseOperations = {
    readdir: (request, reply) => list(vfs, views, request, reply, false),
    readdirplus: (request, reply) => list(vfs, views, request, reply, true),
  };
  if (!vfs.options.asksOpens) return listing;
  return {
    ...listing,
    opendir: (request, reply) => {
      const { header } = request;
      const checked = vfs.isViews(header.slot)
        ? undefined
        : vfs.permissions.check(vfs.node(header.slot, header.ino), { header, reply }, MAY_READ);
      return whenDone(checked, () => reply.opened(0, OPENDIR_FLAGS));
    },
    releasedir: (_request, reply) => reply.ok(),
  };
}

function list(
  vfs: VfsContext,
  views: ViewsDirectory,
  request: ReaddirRequest,
  reply: Reply,
  plus: boolean,
): void | Promise<void> {
  const { header, cookie } = request;
  if (vfs.isViews(header.slot)) return views.readdir(request, reply, plus);
  const node = vfs.node(header.slot, header.ino);
  const entriesMax = Math.ceil(request.sizeBytes / (plus ? ENTRY_OUT_BYTES + ENTRY_BYTES_MIN : ENTRY_BYTES_MIN));
  const from = cookie <= DOTS_COOKIE ? 0n : cookie;
  const context = vfs.context(header, reply);
  const askedMs = vfs.askedMs();
  const parent = cookie < DOTS_COOKIE ? parentOf(vfs, node, context) : undefined;
  const result = vfs.api.execute(
    { op: "readdir", ino: node.ino, cookie: from, entriesMax, plus, at: node.at },
    context,
  );
  const answer = (dots: InodeId | undefined, listing: ReplyMap["readdir"]): void => {
    const buffer = reply.directory(request.sizeBytes);
    if (dots === undefined || addDots(vfs, buffer, { node, parent: dots, cookie, plus })) {
      const validity = vfs.nameValidity({ slot: node.slot, directory: node.ino }, askedMs);
      addEntries(vfs, buffer, { node, validity }, listing, plus);
    }
    reply.directoryDone();
  };
  // Both are under way together.
  if (parent instanceof Promise) return Promise.all([parent, result]).then(([dots, listing]) => answer(dots, listing));
  return whenDone(result, (listing) => answer(parent, listing));
}

function parentOf(vfs: VfsContext, node: Node, context: RequestContext): InodeId | Promise<InodeId> {
  const found = vfs.api.execute({ op: "getattr", ino: node.ino, at: node.at }, context);
  return whenDone(found, (inode) => {
    if (!isDirectory(inode.mode)) throw FsError.of("ENOTDIR");
    return inode.parent === 0 ? inode.ino : inode.parent;
  });
}

type Dots = { readonly node: Node; readonly parent: InodeId; readonly cookie: bigint; readonly plus: boolean };

function addDots(vfs: VfsContext, buffer: DirectoryBuffer, dots: Dots): boolean {
  const { node, parent, plus } = dots;
  const items = [
    { name: Buffer.from("."), ino: node.ino, cookie: DOT_COOKIE },
    { name: Buffer.from(".."), ino: parent, cookie: DOTS_COOKIE },
  ];
  for (const { name, ino, cookie } of items) {
    if (cookie <= dots.cookie) continue;
    const item = { name, slot: node.slot, ino: vfs.numberOf(ino), type: S_IFDIR >> 12, cookie };
    if (!(plus ? buffer.addPlus(item, undefined) : buffer.add(item))) return false;
  }
  return true;
}

function addEntries(
  vfs: VfsContext,
  buffer: DirectoryBuffer,
  { node, validity }: { readonly node: Node; readonly validity: Validity },
  listing: ReplyMap["readdir"],
  plus: boolean,
): void {
  let full = false;
  for (const entry of listing.entries) {
    const number = vfs.numberOf(entry.ino);
    const item = { name: entry.name, slot: node.slot, ino: number, type: entry.type, cookie: entry.cookie };
    const known = entry.inode === undefined ? undefined : { attributes: attributesOf(entry.inode, number), validity };
    full ||= !(plus ? buffer.addPlus(item, known) : buffer.add(item));
    // The engine counts what it has listed as told to the kernel. What did not fit was not.
    if (full && known !== undefined && node.slot === 0 && node.at === LIVE) vfs.forget(entry.ino, 1);
    if (full && known === undefined) return;
  }
}
