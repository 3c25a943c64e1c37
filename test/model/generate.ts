import type { Timestamp } from "../../src/base/clock.ts";
import { S_IFBLK, S_IFCHR, S_IFIFO, S_IFREG, S_IFSOCK, SIZE_BYTES_MAX } from "../../src/domain/inode.ts";
import { RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT, WRITE_BYTES_MAX } from "../../src/domain/metadata-api.ts";
import { type AclEntry, encodeAcl } from "./model-acl.ts";
import {
  type Bytes,
  DIRECTORY_SLOTS,
  type Event,
  type Operation,
  type SetText,
  SLOTS,
  type Slot,
  SPECIAL_SLOTS,
  type Step,
} from "./operations.ts";
import type { Random } from "./random.ts";

/** Few names, so that they collide; with the awkward ones: not UTF-8, blanks, control bytes, the longest, and one too long. */
const NAMES = [
  "a",
  "b",
  "c",
  "d",
  "e",
  "f",
  "\xff\xfe",
  "\xc3\x28",
  "\xc3\xa9",
  " ",
  "-rf",
  "x\ny",
  "...",
  "x*255",
  "\x80*255",
];
const NAME_TOO_LONG = "y*256";

const XATTR_NAMES = [
  "user.a",
  "user.b",
  "user.\xff",
  `user.${"n".repeat(250)}`,
  "trusted.t",
  "security.capability",
  "security.s",
];
const PERMISSIONS = [0o644, 0o600, 0o755, 0o777, 0, 0o666, 0o4755, 0o2771, 0o6711, 0o1777];
const UMASKS = [0o022, 0o077, 0, 0o027];
const SPECIAL_TYPES = [S_IFREG, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK];

const MIB = 1024n * 1024n;
/** Around block, chunk (64 MiB) and 32-bit boundaries, far away, and near the largest offset. */
const OFFSETS = [
  0n,
  0n,
  0n,
  4096n,
  65_536n,
  64n * MIB - 3000n,
  64n * MIB,
  200n * MIB,
  4096n * MIB - 2000n,
  2n ** 40n + 7n,
];
const FAR_OFFSETS = [2n ** 53n, 2n ** 62n, SIZE_BYTES_MAX - 5000n];

const WEIGHTS = {
  create: 50,
  mkdir: 30,
  mknod: 14,
  symlink: 14,
  link: 24,
  tmpfile: 8,
  unlink: 30,
  rmdir: 16,
  rename: 60,
  write: 90,
  setattr: 60,
  fallocate: 30,
  copyRange: 30,
  setxattr: 40,
  removexattr: 12,
  forget: 24,
  fsync: 3,
  lookup: 40,
  getattr: 15,
  readlink: 4,
  getxattr: 12,
  listxattr: 6,
  read: 40,
  lseek: 20,
  resend: 12,
  settle: 4,
  reopen: 3,
} as const;

/** Steps between two comparisons of the whole tree. */
const CHECK_EVERY = 200;

/** A random sequence of `count` steps and the checks among them: the same for the same seed. */
export function generateSteps(random: Random, count: number): Step[] {
  const steps: Step[] = [];
  // Without a crash the engine knows exactly which mount holds what, and is judged more strictly.
  const weights = random.oneIn(3) ? { ...WEIGHTS, reopen: 0 } : WEIGHTS;
  while (steps.length < count) {
    const index = steps.length;
    if (random.oneIn(160)) steps.push(...burst(random));
    else steps.push(makeStep(random, makeOperation(random, weights)));
    if (Math.floor(steps.length / CHECK_EVERY) > Math.floor(index / CHECK_EVERY)) {
      for (const moment of [-1, random.u32(), random.u32()]) {
        steps.push(makeStep(random, { op: "check", moment, seed: random.u32() }));
      }
    }
  }
  return steps;
}

function makeStep(random: Random, action: Operation | Event): Step {
  const gid = random.pick([0, 1000, 77]);
  return { clock: clockStep(random), mount: random.oneIn(4) ? 1 : 0, uid: random.pick([0, 1000]), gid, do: action };
}

const SECOND = 1_000_000_000;

/** Mostly forward by less than two seconds; now and then not at all, back by up to an hour, or forward by a day. */
function clockStep(random: Random): number {
  if (random.oneIn(10)) return 0;
  if (random.oneIn(40)) return -random.below(3600) * SECOND - random.below(SECOND);
  if (random.oneIn(100)) return 86_400 * SECOND;
  return random.below(2 * SECOND);
}

/** Many small changes to one file, so that its slices are merged into checkpoints. */
function burst(random: Random): Step[] {
  const ino = fileSlot(random);
  const base = random.pick(OFFSETS);
  return Array.from({ length: 40 + random.below(60) }, () => {
    const offset = String(base + BigInt(random.below(3000)));
    if (random.oneIn(12))
      return makeStep(random, { op: "fallocate", ino, mode: 3, offset, length: String(1 + random.below(500)) });
    if (random.oneIn(40)) return makeStep(random, { op: "setattr", ino, set: { size: offset } });
    const data = { length: 1 + random.below(300), seed: random.u32() };
    return makeStep(random, { op: "write", ino, offset, data, killPrivileges: false });
  });
}

const directorySlot = (random: Random): Slot =>
  random.below(random.oneIn(30) ? SLOTS : random.oneIn(3) ? 1 : DIRECTORY_SLOTS);
const fileSlot = (random: Random): Slot =>
  DIRECTORY_SLOTS + random.below(random.oneIn(2) ? 4 : SPECIAL_SLOTS - DIRECTORY_SLOTS);
const specialSlot = (random: Random): Slot => SPECIAL_SLOTS + random.below(SLOTS - SPECIAL_SLOTS);
const anySlot = (random: Random): Slot => random.pick([directorySlot, fileSlot, fileSlot, specialSlot])(random);
const newDirectorySlot = (random: Random): Slot => 1 + random.below(DIRECTORY_SLOTS - 1);

const name = (random: Random): string =>
  random.oneIn(150) ? NAME_TOO_LONG : random.pick(random.oneIn(3) ? NAMES : NAMES.slice(0, 4));

const place = (random: Random): { dir: Slot; name: string } => ({ dir: directorySlot(random), name: name(random) });

/** Now, mostly. */
const moment = (random: Random): number => (random.oneIn(3) ? random.u32() : -1);

function offsetOf(random: Random): bigint {
  const base = random.pick(random.oneIn(12) ? FAR_OFFSETS : OFFSETS);
  const offset = base + BigInt(random.below(random.oneIn(3) ? 6000 : 600));
  return offset > SIZE_BYTES_MAX ? SIZE_BYTES_MAX : offset;
}

function makeOperation(random: Random, weights: Readonly<Record<keyof typeof WEIGHTS, number>>): Operation | Event {
  const op = random.weighted(weights);
  switch (op) {
    case "settle":
    case "reopen":
      return { op };
    case "resend":
      return { op, back: random.below(8) };
    case "fsync":
    case "forget":
      return { op, ino: anySlot(random) };
    case "lookup":
    case "getattr":
    case "readlink":
    case "getxattr":
    case "listxattr":
    case "read":
    case "lseek":
      return makeRead(random, op);
    case "write":
    case "fallocate":
    case "copyRange":
      return makeDataChange(random, op);
    case "setattr":
      return { op, ino: anySlot(random), set: makeSet(random) };
    case "setxattr":
      return makeSetXattr(random);
    case "removexattr":
      return { op, ino: anySlot(random), name: xattrName(random) };
    default:
      return makeNaming(random, op);
  }
}

function makeRead(
  random: Random,
  op: "lookup" | "getattr" | "readlink" | "getxattr" | "listxattr" | "read" | "lseek",
): Operation {
  const at = { moment: moment(random) };
  switch (op) {
    case "lookup":
      return { op, ...place(random), into: 1 + random.below(SLOTS - 1), ...at };
    case "getxattr":
      return { op, ino: anySlot(random), name: xattrName(random), ...at };
    case "read": {
      const length = random.oneIn(20) ? WRITE_BYTES_MAX : random.below(9000);
      return { op, ino: fileSlot(random), offset: String(offsetOf(random)), length, ...at };
    }
    case "lseek": {
      const whence = random.pick(["data", "hole"] as const);
      return { op, ino: fileSlot(random), offset: String(offsetOf(random)), whence, ...at };
    }
    default:
      return { op, ino: anySlot(random), ...at };
  }
}

function makeDataChange(random: Random, op: "write" | "fallocate" | "copyRange"): Operation {
  const offset = String(offsetOf(random));
  if (op === "write") {
    const data = { length: writeLength(random), seed: random.u32() };
    const append = random.oneIn(6) ? { append: true } : {};
    return { op, ino: fileSlot(random), offset, data, killPrivileges: random.oneIn(4), ...append };
  }
  const length = String(random.oneIn(8) ? offsetOf(random) : BigInt(random.below(6000)));
  if (op === "copyRange") {
    const sides = { source: fileSlot(random), target: fileSlot(random) };
    return {
      op,
      ...sides,
      sourceOffset: String(offsetOf(random)),
      targetOffset: offset,
      length,
      moment: moment(random),
    };
  }
  // 0, KEEP_SIZE, PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE with and without KEEP_SIZE, and three that are refused.
  const mode = random.pick([0, 1, 3, 3, 3, 0x10, 0x11, 0x02, 0x08, 0x40]);
  return { op, ino: fileSlot(random), mode, offset, length };
}

function writeLength(random: Random): number {
  if (random.oneIn(30)) return 0;
  if (random.oneIn(60)) return 60_000 + random.below(140_000);
  return 1 + random.below(random.oneIn(3) ? 6000 : 400);
}

type NamingOp = "create" | "mkdir" | "mknod" | "symlink" | "link" | "tmpfile" | "unlink" | "rmdir" | "rename";

function makeNaming(random: Random, op: NamingOp): Operation {
  const made = { mode: random.pick(PERMISSIONS), umask: random.pick(UMASKS), into: fileSlot(random) };
  switch (op) {
    case "create": {
      const how = { exclusive: random.oneIn(3), truncate: random.oneIn(3) };
      return { op, ...place(random), ...made, mode: S_IFREG | made.mode, ...how };
    }
    case "mkdir":
      return { op, ...place(random), ...made, mode: made.mode & 0o1777, into: newDirectorySlot(random) };
    case "mknod": {
      const type = random.pick(SPECIAL_TYPES);
      // The kernel sends a device number for device nodes only.
      const rdev = type === S_IFCHR || type === S_IFBLK ? random.u32() : 0;
      return {
        op,
        ...place(random),
        ...made,
        mode: type | made.mode,
        rdev,
        into: type === S_IFREG ? made.into : specialSlot(random),
      };
    }
    case "symlink": {
      const length = random.oneIn(30) ? 4095 : 1 + random.below(40);
      const target = Buffer.alloc(length, random.pick(["t", "../", "\xff", "é"]), "latin1");
      return { op, ...place(random), target: { hex: target.toString("hex") }, into: specialSlot(random) };
    }
    case "link":
      return { op, ino: random.oneIn(4) ? anySlot(random) : fileSlot(random), ...place(random) };
    case "tmpfile":
      return { op, dir: directorySlot(random), ...made, mode: S_IFREG | made.mode };
    case "rename": {
      const flags = random.pick([
        0,
        0,
        0,
        RENAME_NOREPLACE,
        RENAME_EXCHANGE,
        RENAME_WHITEOUT,
        RENAME_WHITEOUT | RENAME_NOREPLACE,
      ]);
      return { op, ...place(random), newDir: directorySlot(random), newName: name(random), flags };
    }
    default:
      return { op, ...place(random) };
  }
}

/** Any time a 64-bit second can say, the odd ones included: before 1970, after 2038, after 2106. */
function timestamp(random: Random): Timestamp {
  return {
    sec: random.pick([-1, 0, -(2 ** 33), 2 ** 31, 2 ** 32 + 1, 2 ** 37, 1_600_000_000]),
    nsec: random.below(SECOND),
  };
}

function makeSet(random: Random): SetText {
  const time = (): Timestamp | "now" => (random.oneIn(2) ? "now" : timestamp(random));
  switch (random.below(7)) {
    case 0:
      return { mode: random.pick(PERMISSIONS) };
    case 1:
      return {
        uid: random.below(3000),
        ...(random.oneIn(2) ? { gid: random.below(3000) } : {}),
        killPrivileges: random.oneIn(2),
      };
    case 2:
      return { gid: random.pick([0xfffffffe, 77, 0]) };
    case 3:
      return { size: String(random.oneIn(3) ? 0n : offsetOf(random)), killPrivileges: random.oneIn(3) };
    case 4:
      return { atime: time(), mtime: time() };
    case 5:
      return random.oneIn(2) ? { atime: time() } : { mtime: time() };
    default:
      return random.oneIn(3)
        ? { killPrivileges: true }
        : { mode: random.pick(PERMISSIONS), mtime: time(), ctime: timestamp(random) };
  }
}

function xattrName(random: Random): string {
  if (random.oneIn(4)) return random.pick(["system.posix_acl_access", "system.posix_acl_default"]);
  return random.oneIn(25) ? "bogus.name" : random.pick(XATTR_NAMES);
}

function makeSetXattr(random: Random): Operation {
  const acl = random.oneIn(2);
  const directory = acl && random.oneIn(2);
  const ino = directory ? directorySlot(random) : anySlot(random);
  if (acl) {
    const which = random.pick(["system.posix_acl_access", "system.posix_acl_default"]);
    return { op: "setxattr", ino, name: which, value: aclBytes(random), flags: 0, killSgid: random.oneIn(6) };
  }
  const length = random.oneIn(30) ? 65_536 : random.below(random.oneIn(4) ? 3000 : 4);
  const value = { length, seed: random.below(3) };
  return { op: "setxattr", ino, name: xattrName(random), value, flags: random.pick([0, 0, 1, 2]), killSgid: false };
}

/** A correct ACL, minimal or extended; sometimes an empty one or nonsense. */
function aclBytes(random: Random): Bytes {
  if (random.oneIn(12)) return { hex: "02000000" };
  if (random.oneIn(12)) return { length: 4 + random.below(40), seed: random.u32() };
  const entry = (tag: number, id = 0xffffffff): AclEntry => ({ tag, permissions: random.below(8), id });
  const users = random.oneIn(2) ? [entry(0x02, 1000), entry(0x02, 2000)] : [];
  const groups = random.oneIn(3) ? [entry(0x08, 77)] : [];
  const mask = users.length + groups.length > 0 || random.oneIn(4) ? [entry(0x10)] : [];
  return { hex: encodeAcl([entry(0x01), ...users, entry(0x04), ...groups, ...mask, entry(0x20)]).toString("hex") };
}
