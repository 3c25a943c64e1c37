import { type InodeId, LIVE, type Lsn } from "./ids.ts";
import type { Request } from "./metadata-api.ts";
import { type TokenOp, WALKING_OPS } from "./token.ts";

/**
 * THE TABLE: which operations of a token each request needs. The guard decides by it, docs/tokens.md is made of it, and each row is tested both ways.
 *
 * A request is about the inodes of `PLACES`, all of which must be in the token's subtree; then every row of its operation whose `when` holds applies, and each of
 * a row's needs must be met by one of its operations. At another moment than now `PAST_NEED` comes on top.
 */
export type TokenNeed = readonly TokenOp[];

/** What a row may ask about the state; only about inodes in the subtree. */
export type TokenFacts = {
  /** The size of the file now. */
  sizeOf(ino: InodeId): bigint;
  /** Whether the directory has the name now. */
  hasName(parent: InodeId, name: Buffer): boolean;
};

type Op = Request["op"];
type RequestOf<O extends Op> = Extract<Request, { op: O }>;

export type TokenRow<O extends Op = Op> = {
  readonly op: O;
  /** Tells this row from others of the same operation, in words. Empty: all of them. */
  readonly variant: string;
  /** Each must be met. None: always allowed, while the token is valid. */
  readonly needs: readonly TokenNeed[];
  readonly when?: (request: RequestOf<O>, facts: TokenFacts) => boolean;
};

/** Looking at the past takes this on top of what the same takes now. */
export const PAST_NEED: TokenNeed = ["history"];

const WALK: TokenNeed = WALKING_OPS;
const CHANGES_CONTENT: TokenNeed = ["write", "append"];

/** Extended attributes that a kernel asks for to decide about access. */
const KERNELS_OWN = ["system.posix_acl_access", "system.posix_acl_default", "security.capability"].map((name) =>
  Buffer.from(name),
);

type Set = RequestOf<"setattr">["set"];

const isNow = (time: Set["atime"]): boolean => time === undefined || time === "now";
const setsAttributes = ({ mode, uid, gid, ctime, atime, mtime }: Set): boolean =>
  mode !== undefined || uid !== undefined || gid !== undefined || ctime !== undefined || !isNow(atime) || !isNow(mtime);

function row<O extends Op>(
  op: O,
  variant: string,
  needs: readonly TokenNeed[],
  when?: (request: RequestOf<O>, facts: TokenFacts) => boolean,
): TokenRow {
  // Rows are filed by their operation, and only asked about requests of it.
  return { op, variant, needs, ...(when === undefined ? {} : { when: when as NonNullable<TokenRow["when"]> }) };
}

export const TOKEN_NEEDS: readonly TokenRow[] = [
  row("lookup", "", [WALK]),
  row("getattr", "", [WALK]),
  row("readdir", "", [["list"]]),
  row("readlink", "", [WALK]),
  row("getxattr", "access lists, file capabilities", [WALK], ({ name }) => KERNELS_OWN.some((own) => own.equals(name))),
  row("getxattr", "others", [["read"]], ({ name }) => !KERNELS_OWN.some((own) => own.equals(name))),
  row("listxattr", "", [["list", "read"]]),
  row("read", "", [["read"]]),
  row("map", "", [["read"]]),
  row("lseek", "", [["read"]]),
  row("statfs", "", []),
  row("getlk", "", [["read", "write", "append"]]),
  row("mknod", "", [["create"]]),
  row("create", "", [["create"]]),
  row(
    "create",
    "the name is there, and O_TRUNC empties it",
    [["write"]],
    ({ parent, name, truncate, exclusive }, facts) => truncate && !exclusive && facts.hasName(parent, name),
  ),
  row("mkdir", "", [["create"]]),
  row("symlink", "", [["create"]]),
  row("link", "", [["create"]]),
  row("tmpfile", "", [["create"]]),
  row("unlink", "", [["delete"]]),
  row("rmdir", "", [["delete"]]),
  row("rename", "", [["delete"], ["create"]]),
  row("write", "at the end of the file", [CHANGES_CONTENT], (request, facts) => isAppend(request, facts)),
  row("write", "elsewhere", [["write"]], (request, facts) => !isAppend(request, facts)),
  row("setattr", "size", [["write"]], ({ set }) => set.size !== undefined),
  row("setattr", "mode, owner, times to a given time", [["setattr"]], ({ set }) => setsAttributes(set)),
  row(
    "setattr",
    "times to now, privileges dropped",
    [["setattr", ...CHANGES_CONTENT]],
    ({ set }) => set.size === undefined && !setsAttributes(set),
  ),
  row("fallocate", "", [["write"]]),
  row("copyRange", "", [["read"], ["write"]]),
  row("setxattr", "", [["setattr"]]),
  row("removexattr", "", [["setattr"]]),
  row("fsync", "", []),
  row("setlk", "shared", [["read", "write", "append"]], ({ lock }) => lock.type === "read"),
  row("setlk", "exclusive", [CHANGES_CONTENT], ({ lock }) => lock.type === "write"),
  row("setlk", "given back", [], ({ lock }) => lock.type === "unlock"),
  row("forget", "", []),
];

/** Whether what is there stays as it is. Behind the end by more than nothing is not at the end: the guard sends it as an append, and that must not move it. */
export function isAppend(request: RequestOf<"write">, facts: TokenFacts): boolean {
  return request.append === true || request.offset === facts.sizeOf(request.ino);
}

/** An inode that a request is about, and the field that says at which moment; without one it is now. */
export type TokenPlace = { readonly field: string; readonly at?: "at" | "sourceAt" };

/** Which inodes a request is about. Victims of an unlink or rename are names in a directory that is. FORGET is about nothing: a kernel may always forget. */
export const PLACES: { readonly [O in Op]: readonly TokenPlace[] } = {
  lookup: [{ field: "parent", at: "at" }],
  getattr: [{ field: "ino", at: "at" }],
  readdir: [{ field: "ino", at: "at" }],
  readlink: [{ field: "ino", at: "at" }],
  getxattr: [{ field: "ino", at: "at" }],
  listxattr: [{ field: "ino", at: "at" }],
  read: [{ field: "ino", at: "at" }],
  map: [{ field: "ino", at: "at" }],
  lseek: [{ field: "ino", at: "at" }],
  statfs: [],
  getlk: [{ field: "ino" }],
  mknod: [{ field: "parent" }],
  create: [{ field: "parent" }],
  mkdir: [{ field: "parent" }],
  symlink: [{ field: "parent" }],
  link: [{ field: "ino" }, { field: "parent" }],
  tmpfile: [{ field: "parent" }],
  unlink: [{ field: "parent" }],
  rmdir: [{ field: "parent" }],
  rename: [{ field: "parent" }, { field: "newParent" }],
  write: [{ field: "ino" }],
  setattr: [{ field: "ino" }],
  fallocate: [{ field: "ino" }],
  copyRange: [{ field: "source", at: "sourceAt" }, { field: "target" }],
  setxattr: [{ field: "ino" }],
  removexattr: [{ field: "ino" }],
  fsync: [{ field: "ino" }],
  setlk: [{ field: "ino" }],
  forget: [],
};

/** The moment that a request reads at. */
export function momentOf(request: Request): Lsn {
  if ("at" in request) return request.at;
  return request.op === "copyRange" ? request.sourceAt : LIVE;
}

/** Whether one of `ops` meets the need. */
export function isMet(need: TokenNeed, ops: ReadonlySet<TokenOp>): boolean {
  return need.some((op) => ops.has(op));
}

/** "read or write, and list" */
export function needWords(needs: readonly TokenNeed[]): string {
  return needs.map((need) => need.join(" or ")).join(", and ");
}
