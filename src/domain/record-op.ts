/** Operations of journal records; the numbers are on disk and never change their meaning. `detail` is encoded as said beside each (big endian; u40 inode numbers; `name` = u8 length and bytes). */
export const RECORD_OP = {
  /** ino u40, parent u40, name. */
  CREATE: 1,
  MKNOD: 2,
  MKDIR: 3,
  /** ino u40, parent u40, name (the target is in the inode). */
  SYMLINK: 4,
  /** ino u40, parent u40, name. */
  LINK: 5,
  /** ino u40 (O_TMPFILE). */
  TMPFILE: 6,
  /** ino u40, parent u40, name. */
  UNLINK: 7,
  RMDIR: 8,
  /** ino u40, parent u40, name, new parent u40, new name, replaced ino u40 (0 = none), flags u8. */
  RENAME: 9,
  /** ino u40, offset u64, length u64. */
  WRITE: 10,
  /** ino u40, mask u16 of what was set: 1 mode, 2 uid, 4 gid, 8 size, 16 atime, 32 mtime, 64 ctime; size u64. */
  SETATTR: 11,
  /** ino u40, mode u32, offset u64, length u64. */
  FALLOCATE: 12,
  /** ino u40, offset u64, length u64, source ino u40, source offset u64. */
  COPY_RANGE: 13,
  /** ino u40, name. */
  SETXATTR: 14,
  REMOVEXATTR: 15,
  /** ino u40: the last holder of an unlinked file let go. */
  REAP: 16,
  /** ino u40 (0: several). The rows say which locks are held now; none of them is history. */
  LOCK: 17,
  /** share id 16 bytes, name. */
  SHARE_CREATE: 32,
  SHARE_UPDATE: 33,
  SHARE_DELETE: 34,
  SHARE_UNDELETE: 35,
  /** UTF-8 JSON {name, lsn, …}. */
  SNAPSHOT_CREATE: 40,
  SNAPSHOT_DELETE: 41,
  /** UTF-8 JSON: {id, kind: "restore" | "undo", path, at, …}. Brackets a restore; the records between carry its changes. */
  RESTORE_BEGIN: 48,
  RESTORE_END: 49,
  /** One action of a restore: ino u40, parent u40, name (0 and empty when no name is concerned), kind u8: 1 create, 2 link, 3 change, 4 delete, 5 replace, 6 share. */
  RESTORE_ENTRY: 50,
  /** Content laid down for a later RESTORE_ENTRY, not visible yet: ino u40 of the source, offset u64, length u64. */
  RESTORE_CONTENT: 51,
  /** What a restore had taken away ends: count u32 of names. */
  RESTORE_REAP: 52,
  /** UTF-8 JSON: history dropped up to an LSN, segments removed or relocated. */
  SPACE: 56,
  /** UTF-8 JSON {segment}: the record's data are bytes that a segment to be removed still had in use; its rows say which. */
  RELOCATE: 57,
  /** UTF-8 JSON {path, reason, …}: content erased by order, beyond restoring. */
  PURGE: 58,
  /** System app: UTF-8 JSON of the catalogue row. */
  APP_CREATE: 64,
  APP_UPDATE: 65,
  APP_DELETE: 66,
  APP_UNDELETE: 67,
  MOUNT: 72,
  UMOUNT: 73,
  VIEW_SLOT: 74,
  BACKUP_SET: 80,
  BACKUP_CLEAR: 81,
  RETENTION_SET: 82,
  RETENTION_CLEAR: 83,
  /** System app: UTF-8 JSON {time}: how late it is, as far as the wall clock was believed. */
  RETENTION_CLOCK: 84,
  /** System app: UTF-8 JSON of the catalogue row; never the token itself, never a private key. */
  TOKEN_SET: 88,
  TOKEN_REVOKE: 89,
  TOKEN_KEYS: 90,
  NODE_SET: 92,
  NODE_REMOVE: 93,
  /** System app: UTF-8 JSON of one entry of the audit log. */
  AUDIT: 96,
} as const;

export type RecordOpName = keyof typeof RECORD_OP;
export type RecordOp = (typeof RECORD_OP)[RecordOpName];

const NAMES = new Map<number, RecordOpName>(
  (Object.keys(RECORD_OP) as RecordOpName[]).map((name) => [RECORD_OP[name], name]),
);

/** The name of an operation, for people; `OP_n` for one this version does not know. */
export function recordOpName(op: number): string {
  return NAMES.get(op) ?? `OP_${op}`;
}
