import { assert } from "../../base/assert.ts";
import { NAME_BYTES_MAX } from "../../domain/ids.ts";
import { align8, Wire } from "./wire.ts";

/** Messages that a server sends without being asked: out header with `unique` 0 and the code in `error` (enum fuse_notify_code). */
const NOTIFY = { INVAL_INODE: 2, INVAL_ENTRY: 3, DELETE: 6, RESEND: 7 } as const;

const OUT_HEADER_BYTES = 16;
/** FUSE_EXPIRE_ONLY (7.38): the entry is looked up again at its next use instead of being dropped. */
const EXPIRE_ONLY = 1;

/** What the kernel shall forget. `fd` is the connection. */
export type Notification =
  /** Attributes, with `data` also the cached pages from `offset` (`length` 0n: to the end). */
  | {
      readonly kind: "inode";
      readonly fd: number;
      readonly slot: number;
      readonly ino: number;
      readonly data: { readonly offset: bigint; readonly length: bigint } | undefined;
    }
  /** A name in a directory, also one that is remembered as absent; and the directory's attributes. */
  | {
      readonly kind: "entry";
      readonly fd: number;
      readonly slot: number;
      readonly parentIno: number;
      readonly name: Uint8Array;
      /** Keep the entry, but ask again before using it (needs HAS_EXPIRE_ONLY): does not disturb mounts below it. */
      readonly expireOnly: boolean;
    }
  /** A name that was removed by another path: like "entry", and watchers (inotify) hear of it. */
  | {
      readonly kind: "delete";
      readonly fd: number;
      readonly slot: number;
      readonly parentIno: number;
      readonly childIno: number;
      readonly name: Uint8Array;
    };

/** The bytes to write to the device for `notification`. */
export function encodeNotification(notification: Notification): Buffer {
  switch (notification.kind) {
    case "inode": {
      const wire = message(NOTIFY.INVAL_INODE, 24);
      wire.setNode(OUT_HEADER_BYTES, notification.slot, notification.ino);
      wire.setU64(OUT_HEADER_BYTES + 8, notification.data?.offset ?? -1n);
      wire.setU64(OUT_HEADER_BYTES + 16, notification.data?.length ?? 0n);
      return wire.bytes;
    }
    case "entry": {
      const wire = message(NOTIFY.INVAL_ENTRY, 16 + notification.name.length + 1);
      wire.setNode(OUT_HEADER_BYTES, notification.slot, notification.parentIno);
      wire.setU32(OUT_HEADER_BYTES + 8, notification.name.length);
      wire.setU32(OUT_HEADER_BYTES + 12, notification.expireOnly ? EXPIRE_ONLY : 0);
      return named(wire, OUT_HEADER_BYTES + 16, notification.name);
    }
    case "delete": {
      const wire = message(NOTIFY.DELETE, 24 + notification.name.length + 1);
      wire.setNode(OUT_HEADER_BYTES, notification.slot, notification.parentIno);
      wire.setNode(OUT_HEADER_BYTES + 8, notification.slot, notification.childIno);
      wire.setU32(OUT_HEADER_BYTES + 16, notification.name.length);
      return named(wire, OUT_HEADER_BYTES + 24, notification.name);
    }
  }
}

/** FUSE_NOTIFY_RESEND (7.40): deliver again what was read and not answered. */
export function encodeResend(): Buffer {
  return message(NOTIFY.RESEND, 0).bytes;
}

/** A zeroed message of `bodyBytes`. The memory is rounded up; its length field is exact. */
function message(code: number, bodyBytes: number): Wire {
  const wire = new Wire(align8(OUT_HEADER_BYTES + bodyBytes));
  wire.setU32(0, OUT_HEADER_BYTES + bodyBytes);
  wire.setU32(4, code);
  return wire;
}

/** Appends a name and its NUL, and cuts the message to its length. */
function named(wire: Wire, at: number, name: Uint8Array): Buffer {
  assert(name.length >= 1 && name.length <= NAME_BYTES_MAX, "name of a notification");
  wire.bytes.set(name, at);
  return wire.bytes.subarray(0, at + name.length + 1);
}
