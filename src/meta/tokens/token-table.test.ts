import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type InodeId, LIVE } from "../../domain/ids.ts";
import type { FileLock, Request } from "../../domain/metadata-api.ts";
import { TOKEN_OP_NAMES, type TokenOp } from "../../domain/token.ts";
import { PAST_NEED, PLACES, TOKEN_NEEDS, type TokenFacts, type TokenRow } from "../../domain/token-needs.ts";
import { ACL_ACCESS } from "../acl.ts";
import { outcome, TokenFixture } from "./test-tokens.ts";

let fixture: TokenFixture;
let count = 0;

beforeAll(async () => {
  fixture = await TokenFixture.open();
});

afterAll(() => fixture.close());

const name = (text: string): Buffer => Buffer.from(text);

/** Something new to ask about. */
function place(): { dir: InodeId; file: InodeId; link: InodeId; at: typeof LIVE } {
  const { app, root } = fixture;
  const folder = `d${++count}`;
  const dir = app.mkdir(root, folder).ino;
  app.put(root, `${folder}/f`, "content");
  app.mkdir(root, `${folder}/sub`);
  app.run({ op: "symlink", parent: dir, name: name("link"), target: name("f") });
  app.run({
    op: "setxattr",
    ino: app.at(root, `${folder}/f`).ino,
    name: name("user.x"),
    value: name("1"),
    flags: 0,
    killSgid: false,
  });
  return { dir, file: app.at(root, `${folder}/f`).ino, link: app.at(root, `${folder}/link`).ino, at: LIVE };
}

const lock = (type: FileLock["type"]): FileLock => ({ start: 0n, end: 2n ** 63n - 1n, type, pid: 1 });
const setlk = (ino: InodeId, type: FileLock["type"]): Request => ({
  op: "setlk",
  ino,
  owner: 1n,
  flock: false,
  lock: lock(type),
  wait: false,
});

/** A request for each row of the table, which the row applies to. */
const SAMPLES: Readonly<Record<string, (at: ReturnType<typeof place>) => Request>> = {
  "lookup ": ({ dir, at }) => ({ op: "lookup", parent: dir, name: name("f"), at }),
  "getattr ": ({ file, at }) => ({ op: "getattr", ino: file, at }),
  "readdir ": ({ dir, at }) => ({ op: "readdir", ino: dir, cookie: 0n, entriesMax: 9, plus: true, at }),
  "readlink ": ({ link, at }) => ({ op: "readlink", ino: link, at }),
  "getxattr access lists, file capabilities": ({ file, at }) => ({ op: "getxattr", ino: file, name: ACL_ACCESS, at }),
  "getxattr others": ({ file, at }) => ({ op: "getxattr", ino: file, name: name("user.x"), at }),
  "listxattr ": ({ file, at }) => ({ op: "listxattr", ino: file, at }),
  "read ": ({ file, at }) => ({ op: "read", ino: file, offset: 0n, length: 9, at }),
  "map ": ({ file, at }) => ({ op: "map", ino: file, offset: 0n, length: 9, at }),
  "lseek ": ({ file, at }) => ({ op: "lseek", ino: file, offset: 0n, whence: "data", at }),
  "statfs ": () => ({ op: "statfs" }),
  "getlk ": ({ file }) => ({ op: "getlk", ino: file, owner: 1n, flock: false, lock: lock("write") }),
  "mknod ": ({ dir }) => ({ op: "mknod", parent: dir, name: name("n"), mode: 0o100644, umask: 0, rdev: 0 }),
  "create ": ({ dir }) => ({
    op: "create",
    parent: dir,
    name: name("n"),
    mode: 0o644,
    umask: 0,
    exclusive: true,
    truncate: true,
  }),
  "create the name is there, and O_TRUNC empties it": ({ dir }) => ({
    op: "create",
    parent: dir,
    name: name("f"),
    mode: 0o644,
    umask: 0,
    exclusive: false,
    truncate: true,
  }),
  "mkdir ": ({ dir }) => ({ op: "mkdir", parent: dir, name: name("n"), mode: 0o755, umask: 0 }),
  "symlink ": ({ dir }) => ({ op: "symlink", parent: dir, name: name("n"), target: name("t") }),
  "link ": ({ dir, file }) => ({ op: "link", ino: file, parent: dir, name: name("n") }),
  "tmpfile ": ({ dir }) => ({ op: "tmpfile", parent: dir, mode: 0o600, umask: 0 }),
  "unlink ": ({ dir }) => ({ op: "unlink", parent: dir, name: name("f") }),
  "rmdir ": ({ dir }) => ({ op: "rmdir", parent: dir, name: name("sub") }),
  "rename ": ({ dir }) => ({
    op: "rename",
    parent: dir,
    name: name("f"),
    newParent: dir,
    newName: name("link"),
    flags: 0,
  }),
  "write at the end of the file": ({ file }) => ({
    op: "write",
    ino: file,
    offset: 7n,
    data: name("x"),
    killPrivileges: false,
  }),
  "write elsewhere": ({ file }) => ({ op: "write", ino: file, offset: 6n, data: name("x"), killPrivileges: false }),
  "setattr size": ({ file }) => ({ op: "setattr", ino: file, set: { size: 99n, mtime: "now" } }),
  "setattr mode, owner, times to a given time": ({ file }) => ({
    op: "setattr",
    ino: file,
    set: { atime: "now", mtime: { sec: 1, nsec: 0 } },
  }),
  "setattr times to now, privileges dropped": ({ file }) => ({
    op: "setattr",
    ino: file,
    set: { atime: "now", mtime: "now", killPrivileges: true },
  }),
  "fallocate ": ({ file }) => ({ op: "fallocate", ino: file, mode: 0, offset: 0n, length: 100n }),
  "copyRange ": ({ file, dir }) => {
    fixture.app.run({ op: "link", ino: file, parent: dir, name: name("other") });
    return {
      op: "copyRange",
      source: file,
      sourceOffset: 0n,
      target: file,
      targetOffset: 50n,
      length: 3n,
      sourceAt: LIVE,
    };
  },
  "setxattr ": ({ file }) => ({
    op: "setxattr",
    ino: file,
    name: name("user.y"),
    value: name("1"),
    flags: 0,
    killSgid: false,
  }),
  "removexattr ": ({ file }) => ({ op: "removexattr", ino: file, name: name("user.x") }),
  "fsync ": ({ file }) => ({ op: "fsync", ino: file }),
  "setlk shared": ({ file }) => setlk(file, "read"),
  "setlk exclusive": ({ file }) => setlk(file, "write"),
  "setlk given back": ({ file }) => setlk(file, "unlock"),
  "forget ": ({ file }) => ({ op: "forget", ino: file, lookups: 0 }),
};

const rowName = (row: TokenRow): string => `${row.op} ${row.variant}`;
const sampleOf = (row: TokenRow): Request => {
  const sample = SAMPLES[rowName(row)];
  if (sample === undefined) throw new Error(`no sample for ${rowName(row)}`);
  return sample(place());
};

const facts: TokenFacts = {
  sizeOf: (ino) => fixture.app.app.core.inode(ino).size,
  hasName: (parent, wanted) => fixture.app.app.core.dentry(parent, wanted) !== undefined,
};

/** All that the request needs, by all rows that apply to it. */
function needsOf(request: Request): (readonly TokenOp[])[] {
  return TOKEN_NEEDS.filter((row) => row.op === request.op && (row.when?.(request as never, facts) ?? true)).flatMap(
    (row) => row.needs,
  );
}

/** One operation of each need, in all ways to choose. */
function choices(needs: readonly (readonly TokenOp[])[]): TokenOp[][] {
  return needs.reduce<TokenOp[][]>((sets, need) => sets.flatMap((set) => need.map((op) => [...set, op])), [[]]);
}

async function outcomeWith(ops: readonly TokenOp[], request: Request): Promise<string> {
  const guard = await fixture.guard({ ops });
  try {
    return await outcome(guard, request);
  } finally {
    await guard.close();
  }
}

/** Not refused: that a file has no access list, or that its places are not settled yet (map), is another matter. */
const CARRIED_OUT = ["ok", "ENODATA", "EAGAIN"];

test("every request of the API is in the table, and nothing else", () => {
  expect([...new Set(TOKEN_NEEDS.map(({ op }) => op))].sort()).toEqual(Object.keys(PLACES).sort());
  expect(TOKEN_NEEDS.map(rowName).sort()).toEqual(Object.keys(SAMPLES).sort());
});

describe.each(TOKEN_NEEDS.map((row) => ({ row, title: rowName(row).trim() })))("$title", ({ row }) => {
  test("applies to its sample", () => {
    expect(row.when?.(sampleOf(row) as never, facts) ?? true).toBe(true);
  });

  test("is carried out with exactly what the table says", async () => {
    for (const ops of choices(needsOf(sampleOf(row)))) {
      // A token has at least one operation: for what needs none, any will do.
      const held: readonly TokenOp[] = ops.length === 0 ? ["snapshot"] : ops;
      expect([held, await outcomeWith(held, sampleOf(row))]).toEqual([
        held,
        expect.stringMatching(CARRIED_OUT.join("|")),
      ]);
    }
  });

  test("is refused without any one of it, whatever else is allowed", async () => {
    for (const need of needsOf(sampleOf(row))) {
      const others = TOKEN_OP_NAMES.filter((op) => !need.includes(op));
      expect([need, await outcomeWith(others, sampleOf(row))]).toEqual([need, "EACCES"]);
    }
  });

  test("takes history as well when it is about the past", async () => {
    const request = sampleOf(row);
    const field = PLACES[row.op].find(({ at }) => at !== undefined)?.at;
    if (field === undefined) return expect(PLACES[row.op].every(({ at }) => at === undefined)).toBe(true);
    const past = { ...request, [field]: fixture.app.app.core.lastLsn } as Request;
    for (const ops of choices(needsOf(request))) {
      expect(await outcomeWith(ops, past)).toBe("EACCES");
      expect(CARRIED_OUT).toContain(await outcomeWith([...ops, ...PAST_NEED], past));
    }
  });
});
