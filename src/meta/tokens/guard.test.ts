import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type InodeId, LIVE, type Lsn, type MountId } from "../../domain/ids.ts";
import type { Inode } from "../../domain/inode.ts";
import type { Invalidation, Request } from "../../domain/metadata-api.ts";
import { ANONYMOUS_ID, type TokenIdentity, type TokenOp } from "../../domain/token.ts";
import { ACL_ACCESS, decodeAcl, encodeAcl } from "../acl.ts";
import type { TokenGuard } from "./guard.ts";
import { asks, outcome, TokenFixture } from "./test-tokens.ts";

let fixture: TokenFixture;

beforeEach(async () => {
  fixture = await TokenFixture.open();
  const { app, root } = fixture;
  for (const folder of ["in", "in/sub", "out"]) app.mkdir(root, folder);
  for (const file of ["in/f", "in/sub/g", "out/secret"]) app.put(root, file, "content");
});

afterEach(() => fixture.close());

const name = (text: string): Buffer => Buffer.from(text);
const inoOf = (file: string): InodeId => fixture.app.at(fixture.root, file).ino;
const rowOf = (file: string): Inode => fixture.app.at(fixture.root, file);
const ALL: readonly TokenOp[] = ["list", "read", "create", "append", "write", "delete", "setattr", "history"];

const inside = (ops: readonly TokenOp[] = ALL, identity?: TokenIdentity): Promise<TokenGuard> =>
  fixture.guard({ ops, root: inoOf("in"), ...(identity === undefined ? {} : { identity }) });

const write = (ino: InodeId, offset: bigint, text: string): Request => ({
  op: "write",
  ino,
  offset,
  data: name(text),
  killPrivileges: false,
});

describe("outside of the subtree", () => {
  test("nothing is there, whatever is asked by number", async () => {
    const guard = await inside();
    const [secret, out] = [inoOf("out/secret"), inoOf("out")];
    const guesses: Request[] = [
      { op: "getattr", ino: secret, at: LIVE },
      { op: "read", ino: secret, offset: 0n, length: 9, at: LIVE },
      { op: "read", ino: secret, offset: 0n, length: 9, at: fixture.app.app.core.lastLsn },
      write(secret, 0n, "x"),
      { op: "setattr", ino: secret, set: { mode: 0o777 } },
      { op: "lookup", parent: out, name: name("secret"), at: LIVE },
      { op: "lookup", parent: fixture.root, name: name("in"), at: LIVE },
      { op: "readdir", ino: fixture.root, cookie: 0n, entriesMax: 9, plus: true, at: LIVE },
      { op: "unlink", parent: out, name: name("secret") },
      { op: "create", parent: out, name: name("x"), mode: 0o644, umask: 0, exclusive: false, truncate: false },
      { op: "fsync", ino: secret },
      { op: "getattr", ino: secret, at: LIVE, tells: true },
    ];
    for (const request of guesses) expect([request.op, await outcome(guard, request)]).toEqual([request.op, "ESTALE"]);
    expect(await outcome(guard, { op: "getattr", ino: 123_456 as InodeId, at: LIVE })).toBe("ESTALE");
  });

  test("nothing goes there and nothing comes from there: both ends of a rename, link and copy count", async () => {
    const guard = await inside();
    const [into, out, secret] = [inoOf("in"), inoOf("out"), inoOf("out/secret")];
    const moves: Request[] = [
      { op: "rename", parent: into, name: name("f"), newParent: out, newName: name("f"), flags: 0 },
      { op: "rename", parent: out, name: name("secret"), newParent: into, newName: name("s"), flags: 0 },
      { op: "rename", parent: into, name: name("f"), newParent: out, newName: name("secret"), flags: 2 },
      { op: "link", ino: secret, parent: into, name: name("s") },
      { op: "link", ino: inoOf("in/f"), parent: out, name: name("f") },
      {
        op: "copyRange",
        source: secret,
        sourceOffset: 0n,
        target: inoOf("in/f"),
        targetOffset: 0n,
        length: 9n,
        sourceAt: LIVE,
      },
      {
        op: "copyRange",
        source: inoOf("in/f"),
        sourceOffset: 0n,
        target: secret,
        targetOffset: 0n,
        length: 9n,
        sourceAt: LIVE,
      },
    ];
    for (const request of moves) expect([request.op, await outcome(guard, request)]).toEqual([request.op, "ESTALE"]);
    expect(rowOf("out/secret").nlink).toBe(1);
  });

  test("the root of the subtree is its own parent", async () => {
    const guard = await inside();
    const root = await guard.execute({ op: "getattr", ino: inoOf("in"), at: LIVE }, asks());
    expect(root.parent).toBe(root.ino);
    const again = await guard.execute({ op: "getattr", ino: inoOf("in"), at: LIVE }, asks());
    expect(again).toBe(root);
    const changed = await guard.execute({ op: "setattr", ino: inoOf("in"), set: { mode: 0o700 } }, asks());
    expect(changed.parent).toBe(root.ino);
    expect((await guard.execute({ op: "getattr", ino: inoOf("in/sub"), at: LIVE }, asks())).parent).toBe(root.ino);
  });

  test("changes are not told of, but of what the mount was told of before", async () => {
    const guard = await inside();
    await guard.execute({ op: "lookup", parent: inoOf("in"), name: name("f"), at: LIVE }, asks());
    const heard: Invalidation[] = [];
    guard.subscribe((invalidation) => heard.push(invalidation));
    fixture.app.put(fixture.root, "out/more", "1");
    expect(heard).toEqual([]);
    fixture.app.put(fixture.root, "in/more", "1");
    expect(heard.length).toBeGreaterThan(0);
    fixture.app.rename(fixture.root, "in/f", "out/f");
    heard.length = 0;
    fixture.app.put(fixture.root, "out/f", "changed");
    expect(heard).toContainEqual(expect.objectContaining({ kind: "inode", ino: inoOf("out/f") }));
    expect(guard.concerns({ kind: "snapshot", name: name("s"), excluding: 0 })).toBe(false);
  });

  test("a moment before it was moved in is outside, one after is not", async () => {
    fixture.app.put(fixture.root, "out/h", "early");
    const before = fixture.app.app.core.lastLsn;
    fixture.app.rename(fixture.root, "out/h", "in/h");
    const after = fixture.app.app.core.lastLsn;
    const guard = await inside();
    const at = (moment: Lsn): Request => ({ op: "read", ino: inoOf("in/h"), offset: 0n, length: 9, at: moment });
    expect(await outcome(guard, at(before))).toBe("ESTALE");
    expect(await outcome(guard, at(after))).toBe("ok");
    expect(await outcome(guard, at(LIVE))).toBe("ok");
  });
});

describe("a guard", () => {
  test("refuses everything once it is closed: nobody would tell it of a revocation any more", async () => {
    const guard = await inside();
    await guard.close();
    await guard.close();
    expect(await outcome(guard, { op: "getattr", ino: inoOf("in"), at: LIVE })).toBe("EACCES");
  });

  test("takes requests of its own mount only", async () => {
    const guard = await inside();
    const getattr = { op: "getattr", ino: inoOf("in"), at: LIVE } as const;
    expect(await outcome(guard, getattr, asks(0, 0, 9 as MountId))).toBe("EACCES");
  });

  test("puts the token's id into the records of changes", async () => {
    const guard = await inside();
    await guard.execute({ op: "mkdir", parent: inoOf("in"), name: name("d"), mode: 0o755, umask: 0 }, asks(5, 6));
    await fixture.app.settle();
    const { core } = fixture.app.app;
    const records = [];
    for await (const record of core.records(core.lastLsn, core.lastLsn)) records.push(record);
    expect(records[0]?.actor).toMatchObject({ uid: 5, gid: 6, label: `token ${guard.grant.id}` });
  });

  test("lets append-only tokens add, and turns what they add into appends, so that nobody's bytes are overwritten", async () => {
    const guard = await inside(["append"]);
    const file = inoOf("in/f");
    expect(await outcome(guard, write(file, 7n, " more"))).toBe("ok");
    expect(await outcome(guard, write(file, 6n, "x"))).toBe("EACCES");
    // Behind the end: it would leave a hole that somebody else's append then fills.
    expect(await outcome(guard, write(file, 99n, "x"))).toBe("EACCES");
    const seen: Request[] = [];
    const api = { execute: (request: Request) => seen.push(request), subscribe: () => () => {}, close: async () => {} };
    const { TokenGuard } = await import("./guard.ts");
    const { core } = fixture.app.app;
    const parts = { core, grant: guard.grant, mount: 7 as MountId, audit: fixture.audit, from: "a test" };
    const spied = new TokenGuard({ ...parts, api: api as never });
    spied.execute(write(file, 12n, "x"), asks());
    expect(seen).toMatchObject([{ op: "write", append: true }]);
  });

  test("answers what is sent again as it was answered, though it would not be allowed now, and does nothing", async () => {
    const guard = await inside(["create", "append"]);
    const file = inoOf("in/f");
    const again = (unique: number) => ({ ...asks(), unique, resent: true });
    const add = write(file, 7n, " more");
    expect(await outcome(guard, add, { ...asks(), unique: 2 })).toBe("ok");
    expect(await outcome(guard, add, again(2))).toBe("ok");
    expect(rowOf("in/f").size).toBe(12n);
    const make = {
      op: "create",
      parent: inoOf("in"),
      name: name("n"),
      mode: 0o644,
      umask: 0,
      exclusive: false,
      truncate: true,
    } as const;
    expect(await outcome(guard, make, { ...asks(), unique: 4 })).toBe("ok");
    expect(await outcome(guard, make, again(4))).toBe("ok");
    // It opens no door: what is not done already is looked at as ever, and what is done once more stays as it was.
    expect(await outcome(guard, write(file, 0n, "x"), again(6))).toBe("EACCES");
    expect(await outcome(guard, { op: "read", ino: file, offset: 0n, length: 9, at: LIVE }, again(2))).toBe("EACCES");
    expect(await outcome(guard, { op: "unlink", parent: inoOf("in"), name: name("f") }, again(2))).toBe("EACCES");
    expect(await outcome(guard, { op: "setattr", ino: file, set: { size: 0n } }, again(2))).toBe("EACCES");
    expect(await outcome(guard, write(file, 0n, "overwritten"), again(2))).toBe("ok");
    // The number of something else: its answer is not for this one.
    expect(await outcome(guard, add, again(4))).toBe("EACCES");
    expect(await outcome(guard, make, again(2))).toBe("EACCES");
    const { app, root } = fixture;
    const [bytes] = (await app.app.engine.execute(
      { op: "read", ino: app.at(root, "in/f").ino, offset: 0n, length: 99, at: LIVE },
      asks(),
    )) as Buffer[];
    expect(bytes?.toString()).toMatch(/^content/);
  });

  test("does not hand out what it made once and what was moved out since, when that is asked for again", async () => {
    const guard = await inside();
    const make = {
      op: "create",
      parent: inoOf("in"),
      name: name("n"),
      mode: 0o644,
      umask: 0,
      exclusive: true,
      truncate: false,
    } as const;
    const { ino } = await guard.execute(make, { ...asks(), unique: 2 });
    fixture.app.rename(fixture.root, "in/n", "out/n");
    expect(await outcome(guard, make, { ...asks(), unique: 2, resent: true })).toBe("ESTALE");
    expect(await outcome(guard, { op: "read", ino, offset: 0n, length: 9, at: LIVE })).toBe("ESTALE");
    fixture.app.rename(fixture.root, "out/n", "in/n");
    expect(await outcome(guard, make, { ...asks(), unique: 2, resent: true })).toBe("ok");
  });

  test("writes what it refuses into the audit log, what is tried again and again only now and then", async () => {
    const guard = await inside(["list"]);
    for (let tries = 0; tries < 500; tries++) {
      await outcome(guard, { op: "read", ino: inoOf("in/f"), offset: 0n, length: 1, at: LIVE });
      fixture.apps.clock.step(100_000_000);
      fixture.timers.advance(100);
    }
    fixture.timers.advance(4_000_000);
    const entries = (await fixture.audited()).filter(({ what }) => what === "read");
    expect(entries.length).toBeLessThan(10);
    expect(entries.reduce((sum, { count }) => sum + count, 0)).toBe(500);
    expect(entries[0]).toMatchObject({
      who: `token ${guard.grant.id} at a test`,
      on: `ino ${inoOf("in/f")} (in/f)`,
      why: "it takes read",
      count: 1,
    });
  });

  test("notes guesses at what is outside, not at what never was", async () => {
    const guard = await inside();
    await outcome(guard, { op: "getattr", ino: 123_456 as InodeId, at: LIVE });
    await outcome(guard, { op: "getattr", ino: inoOf("out"), at: LIVE });
    const refused = (await fixture.audited()).filter(({ kind }) => kind === "refused");
    expect(refused).toMatchObject([
      { what: "getattr", on: `ino ${inoOf("out")} (out)`, why: "outside of the directory of the token" },
    ]);
  });
});

describe("users", () => {
  const create = (file: string, mode = 0o644): Request => ({
    op: "create",
    parent: inoOf("in"),
    name: name(file),
    mode,
    umask: 0,
    exclusive: true,
    truncate: false,
  });
  const read = (file: string): Request => ({ op: "read", ino: inoOf(file), offset: 0n, length: 9, at: LIVE });

  test("are who the node says they are, root included, unless the token says otherwise", async () => {
    const guard = await inside();
    expect(await guard.execute(create("n") as Extract<Request, { op: "create" }>, asks(5, 6))).toMatchObject({
      uid: 5,
      gid: 6,
    });
    fixture.app.setattr(fixture.root, "in/f", { mode: 0 });
    expect(await outcome(guard, read("in/f"), asks(5, 6))).toBe("ok");
  });

  test("are all one, who may what that one may, whoever the node says they are", async () => {
    const guard = await inside(ALL, { kind: "all", uid: 1000, gid: 1000 });
    expect(await outcome(guard, create("n"))).toBe("EACCES");
    fixture.app.setattr(fixture.root, "in", { mode: 0o777 });
    expect(await guard.execute(create("n", 0o6755) as Extract<Request, { op: "create" }>, asks())).toMatchObject({
      uid: 1000,
      gid: 1000,
      mode: 0o104755,
    });
    fixture.app.setattr(fixture.root, "in/f", { mode: 0o640 });
    expect(await outcome(guard, read("in/f"))).toBe("EACCES");
    expect(await outcome(guard, write(inoOf("in/f"), 0n, "x"))).toBe("EACCES");
    expect(await outcome(guard, { op: "setattr", ino: inoOf("in/f"), set: { mode: 0o777 } })).toBe("EPERM");
    expect(await outcome(guard, { op: "setattr", ino: inoOf("in/n"), set: { uid: 0 } })).toBe("EPERM");
    expect(await outcome(guard, { op: "setattr", ino: inoOf("in/n"), set: { mode: 0o600 } })).toBe("ok");
    const device: Request = { op: "mknod", parent: inoOf("in"), name: name("dev"), mode: 0o060600, umask: 0, rdev: 1 };
    expect(await outcome(guard, device)).toBe("EPERM");
  });

  test("lose set-user-id bits when they write what is another's, though the node says nothing of it", async () => {
    fixture.app.setattr(fixture.root, "in/f", { mode: 0o4777 });
    const guard = await inside(ALL, { kind: "all", uid: 1000, gid: 1000 });
    expect(await outcome(guard, write(inoOf("in/f"), 0n, "x"))).toBe("ok");
    expect(rowOf("in/f").mode & 0o7777).toBe(0o777);
  });

  test("that are root become nobody when root is squashed, others stay who they are", async () => {
    const guard = await inside(ALL, { kind: "claimed", squashRoot: true });
    fixture.app.setattr(fixture.root, "in", { mode: 0o777 });
    const made = async (uid: number, file: string) =>
      guard.execute(create(file) as Extract<Request, { op: "create" }>, asks(uid, uid));
    expect(await made(0, "a")).toMatchObject({ uid: ANONYMOUS_ID, gid: ANONYMOUS_ID });
    expect(await made(7, "b")).toMatchObject({ uid: 7, gid: 7 });
    fixture.app.setattr(fixture.root, "in/f", { mode: 0o600 });
    expect(await outcome(guard, read("in/f"), asks(0, 0))).toBe("EACCES");
    expect(await outcome(guard, read("in/b"), asks(7, 7))).toBe("ok");
  });

  test("in a list are those, both ways, also in access lists; all others are nobody", async () => {
    const guard = await inside(ALL, {
      kind: "list",
      uids: [{ there: 100, here: 1000 }],
      gids: [{ there: 101, here: 1001 }],
    });
    fixture.app.setattr(fixture.root, "in", { mode: 0o777 });
    const made = await guard.execute(create("n") as Extract<Request, { op: "create" }>, asks(100, 101));
    expect(made).toMatchObject({ uid: 100, gid: 101 });
    expect(rowOf("in/n")).toMatchObject({ uid: 1000, gid: 1001 });
    expect(await guard.execute({ op: "getattr", ino: inoOf("in/f"), at: LIVE }, asks(100, 101))).toMatchObject({
      uid: ANONYMOUS_ID,
    });
    const listed = await guard.execute(
      { op: "readdir", ino: inoOf("in"), cookie: 0n, entriesMax: 99, plus: true, at: LIVE },
      asks(100, 101),
    );
    expect(listed.entries.find((entry) => entry.name.equals(name("n")))?.inode).toMatchObject({ uid: 100, gid: 101 });
    const acl = encodeAcl([
      { tag: 1, permissions: 6, id: 0xffff_ffff },
      { tag: 2, permissions: 4, id: 100 },
      { tag: 4, permissions: 4, id: 0xffff_ffff },
      { tag: 16, permissions: 4, id: 0xffff_ffff },
      { tag: 32, permissions: 0, id: 0xffff_ffff },
    ]);
    const set = {
      op: "setxattr",
      ino: inoOf("in/n"),
      name: ACL_ACCESS,
      value: acl,
      flags: 0,
      killSgid: false,
    } as const;
    expect(await outcome(guard, set, asks(100, 101))).toBe("ok");
    const { core } = fixture.app.app;
    const here = core.xattr(core.inode(inoOf("in/n")), ACL_ACCESS);
    expect(here === undefined ? [] : decodeAcl(here)[1]).toMatchObject({ id: 1000 });
    const get = { op: "getxattr", ino: inoOf("in/n"), name: ACL_ACCESS, at: LIVE } as const;
    expect(await guard.execute(get, asks(100, 101))).toEqual(acl);
    expect(await outcome(guard, { op: "setattr", ino: inoOf("in/n"), set: { uid: 55 } }, asks(100, 101))).toBe(
      "EINVAL",
    );
    expect((await outcome(guard, create("m"), asks(55, 55))) === "ok" && rowOf("in/m").uid).toBe(ANONYMOUS_ID);
  });

  test("see the past only of what they may see today, and what is gone only if it was theirs", async () => {
    const { app, root } = fixture;
    app.setattr(root, "in/f", { uid: 1000, mode: 0o600 });
    app.setattr(root, "in/sub/g", { mode: 0o644 });
    const then = app.app.core.lastLsn;
    const [mine, theirs] = [inoOf("in/f"), inoOf("in/sub/g")];
    const guard = await inside(ALL, { kind: "all", uid: 1000, gid: 1000 });
    const past = (ino: InodeId): Request => ({ op: "read", ino, offset: 0n, length: 9, at: then });
    expect([await outcome(guard, past(mine)), await outcome(guard, past(theirs))]).toEqual(["ok", "ok"]);
    app.setattr(root, "in/sub/g", { mode: 0o600 });
    expect(await outcome(guard, past(theirs))).toBe("EACCES");
    app.setattr(root, "in/sub/g", { mode: 0o644 });
    app.unlink(root, "in/f");
    app.unlink(root, "in/sub/g");
    expect([await outcome(guard, past(mine)), await outcome(guard, past(theirs))]).toEqual(["ok", "EACCES"]);
  });

  test("keep to restricted deletion", async () => {
    const { app, root } = fixture;
    app.setattr(root, "in", { mode: 0o1777 });
    const guard = await inside(ALL, { kind: "all", uid: 1000, gid: 1000 });
    const into = inoOf("in");
    expect(await outcome(guard, { op: "unlink", parent: into, name: name("f") })).toBe("EPERM");
    const rename = {
      op: "rename",
      parent: into,
      name: name("f"),
      newParent: into,
      newName: name("h"),
      flags: 0,
    } as const;
    expect(await outcome(guard, rename)).toBe("EPERM");
    app.setattr(root, "in/f", { uid: 1000 });
    expect(await outcome(guard, rename)).toBe("ok");
  });
});
