import { unreachable } from "../../src/base/assert.ts";
import { FsError } from "../../src/domain/errors.ts";
import type { ReadRequest, ReplyMap, Request, WriteRequest } from "../../src/domain/metadata-api.ts";
import { removexattr, setattr, setxattr } from "./model-attributes.ts";
import { copyRange, fallocate, write } from "./model-data.ts";
import { create, forget, link, mkdir, mknod, rename, rmdir, symlink, tmpfile, unlink } from "./model-namespace.ts";
import { getxattr, listxattr, lookup, lseek, read, readdir, readlink } from "./model-read.ts";
import type { Change, ModelState } from "./model-state.ts";

/** Whether a request must have made a record ("changed"), must not ("unchanged"), or may ("maybe": it set what was set already). */
export type Effect = "changed" | "unchanged" | "maybe";

export type Applied = { readonly reply: ReplyMap[Request["op"]]; readonly effect: Effect };

const READS = ["lookup", "getattr", "readdir", "readlink", "getxattr", "listxattr", "read", "lseek", "statfs"];

export const isRead = (request: Request): request is ReadRequest => READS.includes(request.op);

/** Answers a read from `state`, whatever moment the request names: the caller chose the state. Throws FsError. */
export function readTree(state: ModelState, request: ReadRequest): ReplyMap[ReadRequest["op"]] {
  switch (request.op) {
    case "lookup":
      return lookup(state, request);
    case "getattr":
      return state.node(request.ino);
    case "readdir":
      return readdir(state, request);
    case "readlink":
      return readlink(state, request);
    case "getxattr":
      return getxattr(state, request);
    case "listxattr":
      return listxattr(state, request);
    case "read":
      return read(state, request);
    case "lseek":
      return lseek(state, request);
    case "map":
      // A model has no journal, so its bytes are nowhere.
      throw FsError.of("ENOSYS");
    case "getlk":
      // Locks are no part of the tree: `ModelLocks`.
      throw FsError.of("ENOSYS");
    case "statfs":
      return {
        blockBytes: 4096,
        blocksTotal: 2n ** 40n,
        blocksFree: 2n ** 39n,
        inodesTotal: 2n ** 40n,
        inodesFree: 2n ** 39n,
      };
    default:
      return unreachable(request);
  }
}

/** Runs a mutation on `state`. Throws FsError, and nothing has changed then. */
export function changeTree(state: ModelState, request: WriteRequest, change: Change): Applied {
  const before = state.snapshot();
  try {
    return dispatch(state, request, change);
  } catch (error) {
    state.restore(before);
    throw error;
  }
}

function dispatch(state: ModelState, request: WriteRequest, change: Change): Applied {
  switch (request.op) {
    case "mknod":
      return changed(mknod(state, request, change));
    case "mkdir":
      return changed(mkdir(state, request, change));
    case "symlink":
      return changed(symlink(state, request, change));
    case "tmpfile":
      return changed(tmpfile(state, request, change));
    case "link":
      return changed(link(state, request, change));
    case "unlink":
      return changed(unlink(state, request, change));
    case "rmdir":
      return changed(rmdir(state, request, change));
    case "removexattr":
      return changed(removexattr(state, request, change));
    default:
      return dispatchConditional(state, request, change);
  }
}

type Unconditional = "mknod" | "mkdir" | "symlink" | "tmpfile" | "link" | "unlink" | "rmdir" | "removexattr";

/** The requests that may succeed without changing anything. */
function dispatchConditional(
  state: ModelState,
  request: Exclude<WriteRequest, { op: Unconditional }>,
  change: Change,
): Applied {
  switch (request.op) {
    case "create": {
      const { node, changed } = create(state, request, change);
      return { reply: node, effect: changed ? "changed" : "unchanged" };
    }
    case "setattr": {
      const { node, changed } = setattr(state, request, change);
      return { reply: node, effect: changed ? "changed" : "maybe" };
    }
    case "rename":
      return { reply: undefined, effect: rename(state, request, change) ? "changed" : "maybe" };
    case "write": {
      const written = write(state, request, change);
      return { reply: written, effect: written > 0 ? "changed" : "maybe" };
    }
    case "fallocate":
      return { reply: undefined, effect: fallocate(state, request, change) ? "changed" : "maybe" };
    case "copyRange": {
      const copied = copyRange(state, request, change);
      return { reply: copied, effect: copied > 0n ? "changed" : "maybe" };
    }
    case "setxattr":
      return { reply: undefined, effect: setxattr(state, request, change) ? "changed" : "maybe" };
    case "fsync":
      state.node(request.ino);
      return { reply: undefined, effect: "unchanged" };
    case "setlk":
      throw FsError.of("ENOSYS");
    case "forget":
      return { reply: undefined, effect: forget(state, request) ? "changed" : "unchanged" };
    default:
      return unreachable(request);
  }
}

// `unlink` and its like answer nothing.
// biome-ignore lint/suspicious/noConfusingVoidType: the argument of a call that returns nothing
const changed = (reply: ReplyMap[Request["op"]] | void): Applied => ({ reply: reply ?? undefined, effect: "changed" });
