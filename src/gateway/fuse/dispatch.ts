import { decodeGetattr, decodeSetattr, decodeStatx } from "./attribute-codec.ts";
import { decodeReaddir } from "./directory-codec.ts";
import * as file from "./file-codec.ts";
import type { RequestFrame } from "./frame.ts";
import { decodeLock } from "./lock-codec.ts";
import { decodeIoctl, decodePlain, decodePoll } from "./misc-codec.ts";
import * as namespace from "./namespace-codec.ts";
import { OPCODE } from "./opcodes.ts";
import type { FuseOperations, Operation } from "./operations.ts";
import type { Reply } from "./reply.ts";
import { decodeGetxattr, decodeListxattr, decodeSetxattr } from "./xattr-codec.ts";

/** Decodes a request and hands it to the operation. */
export type Dispatch = (frame: RequestFrame, reply: Reply) => void | Promise<void>;

/** What decoding depends on besides the bytes. */
export type DecodeOptions = { readonly setxattrExtended: boolean };

/** One entry for each opcode that is an operation: fixed body, whether its request holds views of the read buffer, and how it is called. */
export type Route = { readonly bodyBytes: number; readonly borrows: boolean; readonly dispatch: Dispatch };

/** Routes indexed by opcode, for the operations that `operations` has. The others are absent: ENOSYS. */
export function buildRoutes(operations: FuseOperations, options: DecodeOptions): readonly (Route | undefined)[] {
  const routes: (Route | undefined)[] = new Array(OPCODE.COPY_FILE_RANGE_64 + 1).fill(undefined);
  const route = <Request>(
    opcode: number,
    operation: Operation<Request> | undefined,
    shape: { bodyBytes: number; borrows: boolean; decode: (frame: RequestFrame) => Request },
  ): void => {
    if (operation === undefined) return;
    const { decode } = shape;
    const bound = operation.bind(operations);
    routes[opcode] = {
      bodyBytes: shape.bodyBytes,
      borrows: shape.borrows,
      dispatch: (frame, reply) => bound(decode(frame), reply),
    };
  };
  const named = (bodyBytes: number) => ({ bodyBytes, borrows: true });
  const numbers = (bodyBytes: number) => ({ bodyBytes, borrows: false });

  route(OPCODE.LOOKUP, operations.lookup, { ...named(1), decode: namespace.decodeLookup });
  route(OPCODE.MKNOD, operations.mknod, { ...named(17), decode: namespace.decodeMknod });
  route(OPCODE.MKDIR, operations.mkdir, { ...named(9), decode: namespace.decodeMkdir });
  route(OPCODE.SYMLINK, operations.symlink, { ...named(2), decode: namespace.decodeSymlink });
  route(OPCODE.LINK, operations.link, { ...named(9), decode: namespace.decodeLink });
  route(OPCODE.UNLINK, operations.unlink, { ...named(1), decode: namespace.decodeLookup });
  route(OPCODE.RMDIR, operations.rmdir, { ...named(1), decode: namespace.decodeLookup });
  route(OPCODE.RENAME, operations.rename, { ...named(10), decode: namespace.decodeRename });
  route(OPCODE.RENAME2, operations.rename, { ...named(18), decode: namespace.decodeRename2 });
  route(OPCODE.CREATE, operations.create, { ...named(17), decode: namespace.decodeCreate });
  route(OPCODE.TMPFILE, operations.tmpfile, { ...named(17), decode: namespace.decodeCreate });
  route(OPCODE.READLINK, operations.readlink, { ...numbers(0), decode: decodePlain });

  route(OPCODE.GETATTR, operations.getattr, { ...numbers(16), decode: decodeGetattr });
  route(OPCODE.SETATTR, operations.setattr, { ...numbers(88), decode: decodeSetattr });
  route(OPCODE.STATX, operations.statx, { ...numbers(24), decode: decodeStatx });
  route(OPCODE.STATFS, operations.statfs, { ...numbers(0), decode: decodePlain });

  route(OPCODE.OPEN, operations.open, { ...numbers(8), decode: file.decodeOpen });
  route(OPCODE.READ, operations.read, { ...numbers(40), decode: file.decodeRead });
  route(OPCODE.WRITE, operations.write, { ...named(40), decode: file.decodeWrite });
  route(OPCODE.FLUSH, operations.flush, { ...numbers(24), decode: file.decodeFlush });
  route(OPCODE.RELEASE, operations.release, { ...numbers(24), decode: file.decodeRelease });
  route(OPCODE.FSYNC, operations.fsync, { ...numbers(16), decode: file.decodeFsync });
  route(OPCODE.FALLOCATE, operations.fallocate, { ...numbers(32), decode: file.decodeFallocate });
  route(OPCODE.LSEEK, operations.lseek, { ...numbers(24), decode: file.decodeLseek });
  route(OPCODE.COPY_FILE_RANGE, operations.copyFileRange, { ...numbers(56), decode: file.decodeCopyFileRange });
  route(OPCODE.COPY_FILE_RANGE_64, operations.copyFileRange, { ...numbers(56), decode: file.decodeCopyFileRange });
  route(OPCODE.IOCTL, operations.ioctl, { ...named(32), decode: decodeIoctl });
  route(OPCODE.POLL, operations.poll, { ...numbers(24), decode: decodePoll });

  route(OPCODE.OPENDIR, operations.opendir, { ...numbers(8), decode: file.decodeOpen });
  route(OPCODE.READDIR, operations.readdir, { ...numbers(40), decode: decodeReaddir });
  route(OPCODE.READDIRPLUS, operations.readdirplus, { ...numbers(40), decode: decodeReaddir });
  route(OPCODE.RELEASEDIR, operations.releasedir, { ...numbers(24), decode: file.decodeRelease });
  route(OPCODE.FSYNCDIR, operations.fsyncdir, { ...numbers(16), decode: file.decodeFsync });

  route(OPCODE.GETXATTR, operations.getxattr, { ...named(9), decode: decodeGetxattr });
  route(OPCODE.LISTXATTR, operations.listxattr, { ...numbers(8), decode: decodeListxattr });
  route(OPCODE.SETXATTR, operations.setxattr, {
    ...named(9),
    decode: (frame) => decodeSetxattr(frame, options.setxattrExtended),
  });
  route(OPCODE.REMOVEXATTR, operations.removexattr, { ...named(1), decode: namespace.decodeLookup });

  route(OPCODE.GETLK, operations.getlk, { ...numbers(48), decode: decodeLock });
  route(OPCODE.SETLK, operations.setlk, { ...numbers(48), decode: decodeLock });
  route(OPCODE.SETLKW, operations.setlkw, { ...numbers(48), decode: decodeLock });
  return routes;
}
