/**
 * Every request the kernel can send, and what becomes of it. The numbers are those of `enum fuse_opcode` in linux/fuse.h; a test compares
 * the table with the header of the machine. Opcodes newer than Debian 12's header (7.38) are STATX (7.39) and COPY_FILE_RANGE_64 (7.45).
 */
export const OPCODE = {
  LOOKUP: 1,
  FORGET: 2,
  GETATTR: 3,
  SETATTR: 4,
  READLINK: 5,
  SYMLINK: 6,
  MKNOD: 8,
  MKDIR: 9,
  UNLINK: 10,
  RMDIR: 11,
  RENAME: 12,
  LINK: 13,
  OPEN: 14,
  READ: 15,
  WRITE: 16,
  STATFS: 17,
  RELEASE: 18,
  FSYNC: 20,
  SETXATTR: 21,
  GETXATTR: 22,
  LISTXATTR: 23,
  REMOVEXATTR: 24,
  FLUSH: 25,
  INIT: 26,
  OPENDIR: 27,
  READDIR: 28,
  RELEASEDIR: 29,
  FSYNCDIR: 30,
  GETLK: 31,
  SETLK: 32,
  SETLKW: 33,
  ACCESS: 34,
  CREATE: 35,
  INTERRUPT: 36,
  BMAP: 37,
  DESTROY: 38,
  IOCTL: 39,
  POLL: 40,
  NOTIFY_REPLY: 41,
  BATCH_FORGET: 42,
  FALLOCATE: 43,
  READDIRPLUS: 44,
  RENAME2: 45,
  LSEEK: 46,
  COPY_FILE_RANGE: 47,
  SETUPMAPPING: 48,
  REMOVEMAPPING: 49,
  SYNCFS: 50,
  TMPFILE: 51,
  STATX: 52,
  COPY_FILE_RANGE_64: 53,
  CUSE_INIT: 4096,
  CUSE_INIT_BSWAP_RESERVED: 1_048_576,
  FUSE_INIT_BSWAP_RESERVED: 436_207_616,
} as const;

/** The name of an opcode, as in fuse.h without its prefix. */
export type OpcodeName = keyof typeof OPCODE;

/**
 * operation: decoded and given to the file system; ENOSYS when that does not implement it.
 * connection: answered (or noted, where there is no answer) by the connection itself.
 * ENOSYS: answered so, once; the kernel then does without.
 * never: does not come on a file system's connection; ENOSYS should it come all the same.
 */
export type Handling = "operation" | "connection" | "ENOSYS" | "never";

/** What becomes of each opcode, and why where it isn't plain. */
export const OPCODE_TABLE: Readonly<Record<OpcodeName, { readonly handling: Handling; readonly why: string }>> = {
  LOOKUP: { handling: "operation", why: "names; also . and .. of a node for NFS export (FUSE_EXPORT_SUPPORT)" },
  FORGET: { handling: "operation", why: "no reply; ends orphans" },
  GETATTR: { handling: "operation", why: "attributes" },
  SETATTR: { handling: "operation", why: "chmod, chown, truncate, utimensat" },
  READLINK: { handling: "operation", why: "symbolic links" },
  SYMLINK: { handling: "operation", why: "symbolic links" },
  MKNOD: { handling: "operation", why: "device nodes, FIFOs, sockets; regular files over NFS" },
  MKDIR: { handling: "operation", why: "directories" },
  UNLINK: { handling: "operation", why: "names" },
  RMDIR: { handling: "operation", why: "directories" },
  RENAME: { handling: "operation", why: "rename without flags; decoded as rename with flags 0" },
  LINK: { handling: "operation", why: "hard links" },
  OPEN: { handling: "operation", why: "a file system that answers ENOSYS is opened without messages" },
  READ: { handling: "operation", why: "data" },
  WRITE: { handling: "operation", why: "data" },
  STATFS: { handling: "operation", why: "space" },
  RELEASE: { handling: "operation", why: "last close of a handle" },
  FSYNC: { handling: "operation", why: "durability" },
  SETXATTR: { handling: "operation", why: "extended attributes, POSIX ACLs" },
  GETXATTR: { handling: "operation", why: "extended attributes, POSIX ACLs" },
  LISTXATTR: { handling: "operation", why: "extended attributes" },
  REMOVEXATTR: { handling: "operation", why: "extended attributes" },
  FLUSH: { handling: "operation", why: "each close; needed with locks in the service" },
  INIT: { handling: "connection", why: "answered once, at mount, by negotiateInit" },
  OPENDIR: { handling: "operation", why: "ENOSYS opens directories without messages and lets the kernel cache them" },
  READDIR: { handling: "operation", why: "listing" },
  RELEASEDIR: { handling: "operation", why: "last close of a directory handle" },
  FSYNCDIR: { handling: "operation", why: "durability" },
  GETLK: { handling: "operation", why: "only with locks in the service" },
  SETLK: { handling: "operation", why: "only with locks in the service" },
  SETLKW: { handling: "operation", why: "only with locks in the service; may wait, and be interrupted" },
  ACCESS: { handling: "ENOSYS", why: "mounts have default_permissions: the kernel decides from mode and ACL" },
  CREATE: { handling: "operation", why: "open with O_CREAT" },
  INTERRUPT: { handling: "connection", why: "aborts the signal of the request if it is still running; no reply" },
  BMAP: { handling: "ENOSYS", why: "maps to blocks of a block device; there is none" },
  DESTROY: { handling: "connection", why: "last message of a fuseblk mount; acknowledged" },
  IOCTL: { handling: "operation", why: "a file system without it: ENOTTY for the caller" },
  POLL: { handling: "operation", why: "ENOSYS means always ready, which is right for regular files" },
  NOTIFY_REPLY: { handling: "connection", why: "answers FUSE_NOTIFY_RETRIEVE, which is never sent; ignored" },
  BATCH_FORGET: { handling: "operation", why: "many FORGETs in one message; no reply" },
  FALLOCATE: { handling: "operation", why: "allocate, punch, zero range" },
  READDIRPLUS: { handling: "operation", why: "listing with attributes" },
  RENAME2: { handling: "operation", why: "rename with flags" },
  LSEEK: { handling: "operation", why: "SEEK_DATA and SEEK_HOLE" },
  COPY_FILE_RANGE: { handling: "operation", why: "copies extents; answer limited to 32 bits" },
  SETUPMAPPING: { handling: "ENOSYS", why: "DAX of virtiofs only" },
  REMOVEMAPPING: { handling: "ENOSYS", why: "DAX of virtiofs only" },
  SYNCFS: { handling: "ENOSYS", why: "sent by virtiofs only: sync -f is no durability call on FUSE, fsync is" },
  TMPFILE: { handling: "operation", why: "open with O_TMPFILE" },
  STATX: { handling: "operation", why: "birth time" },
  COPY_FILE_RANGE_64: { handling: "operation", why: "COPY_FILE_RANGE with a 64-bit answer" },
  CUSE_INIT: { handling: "never", why: "character devices in user space" },
  CUSE_INIT_BSWAP_RESERVED: { handling: "never", why: "reserved: an INIT of the other byte order" },
  FUSE_INIT_BSWAP_RESERVED: { handling: "never", why: "reserved: an INIT of the other byte order" },
};

const NAMES = new Map<number, OpcodeName>();
for (const name of Object.keys(OPCODE) as OpcodeName[]) NAMES.set(OPCODE[name], name);

/** The name of opcode `code`, or undefined for one newer than this table. */
export function opcodeName(code: number): OpcodeName | undefined {
  return NAMES.get(code);
}
