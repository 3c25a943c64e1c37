import { FsError } from "../../domain/errors.ts";
import type { FuseOperations } from "../fuse/operations.ts";
import type { Reply } from "../fuse/reply.ts";
import { unlessRefused, type VfsContext, whenDone } from "./context.ts";
import { MAY_READ } from "./view-permissions.ts";

const NUL = Buffer.alloc(1);
const USER_PREFIX = Buffer.from("user.");
const ACL_PREFIX = Buffer.from("system.posix_acl_");

/** Extended attributes, POSIX ACLs among them. */
export function xattrOperations(vfs: VfsContext): FuseOperations {
  return {
    getxattr: (request, reply) => {
      const { header, name, sizeBytes } = request;
      if (vfs.isViews(header.slot)) throw FsError.of("ENODATA");
      const node = vfs.node(header.slot, header.ino);
      // The other namespaces are guarded by the kernel alone, as everywhere.
      const guarded = name.subarray(0, USER_PREFIX.length).equals(USER_PREFIX);
      const get = (): void | Promise<void> => {
        const wanted = { op: "getxattr", ino: node.ino, name, at: node.at } as const;
        return whenDone(vfs.api.execute(wanted, vfs.context(header, reply)), (value) =>
          answer(reply, value, sizeBytes),
        );
      };
      return whenDone(guarded ? vfs.permissions.check(node, { header, reply }, MAY_READ) : undefined, get);
    },
    listxattr: (request, reply) => {
      const { header, sizeBytes } = request;
      if (vfs.isViews(header.slot)) return answer(reply, Buffer.alloc(0), sizeBytes);
      const node = vfs.node(header.slot, header.ino);
      const result = vfs.api.execute({ op: "listxattr", ino: node.ino, at: node.at }, vfs.context(header, reply));
      return whenDone(result, (names) => answer(reply, Buffer.concat(names.flatMap((name) => [name, NUL])), sizeBytes));
    },
    setxattr: (request, reply) => {
      const { header, name, value, flags } = request;
      const ino = vfs.liveNode(header.slot, header.ino);
      const wanted = { op: "setxattr", ino, name, value, flags, killSgid: request.killSgid } as const;
      return whenDone(vfs.api.execute(wanted, vfs.context(header, reply)), () => reply.ok());
    },
    removexattr: (request, reply) => {
      const { header, name } = request;
      const ino = vfs.liveNode(header.slot, header.ino);
      const remove = () => vfs.api.execute({ op: "removexattr", ino, name }, vfs.context(header, reply));
      // Linux: taking away an ACL that is not there succeeds (setting an empty one comes here, too).
      const isAcl = name.subarray(0, ACL_PREFIX.length).equals(ACL_PREFIX);
      return whenDone(isAcl ? unlessRefused("ENODATA", remove, undefined) : remove(), () => reply.ok());
    },
  };
}

/** As getxattr(2): with size 0 the length is asked for; a value that does not fit is ERANGE. */
function answer(reply: Reply, value: Buffer, sizeBytes: number): void {
  if (sizeBytes === 0) reply.xattrSize(value.length);
  else if (value.length > sizeBytes) throw FsError.of("ERANGE");
  else reply.data(value);
}
