import { ERRNO, FsError } from "../../domain/errors.ts";
import type { InodeId } from "../../domain/ids.ts";
import type { FuseOperations } from "../fuse/operations.ts";
import { VfsContext, type VfsOptions } from "./context.ts";
import { directoryOperations } from "./directories.ts";
import { fileOperations } from "./files.ts";
import { namespaceOperations } from "./namespace.ts";
import { ViewsDirectory } from "./views-directory.ts";
import { xattrOperations } from "./xattrs.ts";

/** The kernel's requests on one mount, in terms of the engine: the file system behind a FUSE connection. */
export function vfsOperations(options: VfsOptions): FuseOperations {
  const vfs = new VfsContext(options);
  const views = new ViewsDirectory(vfs);
  return {
    ...namespaceOperations(vfs, views),
    ...fileOperations(vfs, views),
    ...directoryOperations(vfs, views),
    ...xattrOperations(vfs),
    forget: (forgotten) => {
      for (const { slot, ino, lookups } of forgotten) if (slot === 0 && ino !== 1) forget(vfs, ino as InodeId, lookups);
    },
  };
}

/** FORGET has no answer: an orphan that can't be ended now (a full disk) stays one, and ends with the mount. */
export function forget(vfs: VfsContext, ino: InodeId, lookups: number): void {
  const actor = { mountId: vfs.options.mountId, uid: 0, gid: 0, pid: 0, label: "" };
  try {
    vfs.api.execute({ op: "forget", ino, lookups }, { actor, unique: 0, resent: false });
  } catch (error) {
    if (!(error instanceof FsError) || (error.errno !== ERRNO.ENOSPC && error.errno !== ERRNO.EIO)) throw error;
  }
}
