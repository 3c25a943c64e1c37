import type { Request } from "../../domain/metadata-api.ts";
import { RECORD_OP } from "../../domain/record-op.ts";

type Op = Request["op"];

/** As what the record of a request is known that is answered from it when it is sent again. open(O_CREAT | O_TRUNC) of a file that is there is a truncation. */
export const RECORDED_AS: { readonly [O in Op]?: readonly number[] } = {
  mknod: [RECORD_OP.MKNOD],
  create: [RECORD_OP.CREATE, RECORD_OP.SETATTR],
  mkdir: [RECORD_OP.MKDIR],
  symlink: [RECORD_OP.SYMLINK],
  link: [RECORD_OP.LINK],
  tmpfile: [RECORD_OP.TMPFILE],
  unlink: [RECORD_OP.UNLINK],
  rmdir: [RECORD_OP.RMDIR],
  rename: [RECORD_OP.RENAME],
  write: [RECORD_OP.WRITE],
  setattr: [RECORD_OP.SETATTR],
  fallocate: [RECORD_OP.FALLOCATE],
  copyRange: [RECORD_OP.COPY_RANGE],
  setxattr: [RECORD_OP.SETXATTR],
  removexattr: [RECORD_OP.REMOVEXATTR],
};

/** Requests that are answered with an inode that they made or changed. */
export const MAKES_INODES: ReadonlySet<Op> = new Set([
  "create",
  "mknod",
  "mkdir",
  "symlink",
  "link",
  "tmpfile",
  "setattr",
]);
