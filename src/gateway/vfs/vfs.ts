import type { InodeId } from "../../domain/ids.ts";
import type { FuseOperations } from "../fuse/operations.ts";
import { VfsContext, type VfsOptions } from "./context.ts";
import { directoryOperations } from "./directories.ts";
import { fileOperations } from "./files.ts";
import { lockOperations } from "./locks.ts";
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
    ...lockOperations(vfs),
    forget: (forgotten) => {
      for (const { slot, ino, lookups } of forgotten) if (slot === 0 && ino !== 1) vfs.forget(ino as InodeId, lookups);
    },
  };
}
