import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Random } from "../../../test/model/random.ts";
import { type InodeId, LIVE, type Lsn, type MountId } from "../../domain/ids.ts";
import { isDirectory } from "../../domain/inode.ts";
import { RENAME_EXCHANGE, type ReplyMap } from "../../domain/metadata-api.ts";
import { SERVICE_CONTEXT } from "../open-app.ts";
import { executeAll, restoresOf } from "../restore/test-restore.ts";
import { TokenGuard } from "./guard.ts";
import { Subtree } from "./subtree.ts";
import { asks, MOUNT, outcome, TokenFixture } from "./test-tokens.ts";

let fixture: TokenFixture;

beforeEach(async () => {
  fixture = await TokenFixture.open();
});

afterEach(() => fixture.close());

const name = (text: string): Buffer => Buffer.from(text);

/** What can be reached by names from `from`, as a person would: from the top down. */
function reachable(from: InodeId, at: Lsn): Set<InodeId> {
  const { engine } = fixture.app.app;
  const seen = new Set<InodeId>([from]);
  const waiting = [from];
  for (let ino = waiting.pop(); ino !== undefined; ino = waiting.pop()) {
    const request = { op: "readdir", ino, cookie: 0n, entriesMax: 10_000, plus: false, at } as const;
    const { entries } = engine.execute(request, SERVICE_CONTEXT) as ReplyMap["readdir"];
    for (const entry of entries) {
      seen.add(entry.ino);
      if (entry.type === 4) waiting.push(entry.ino);
    }
  }
  return seen;
}

describe("a subtree", () => {
  test("has what is below it, whatever the names, and nothing beside", () => {
    const { app, root } = fixture;
    app.mkdir(root, "a");
    app.mkdir(root, "ab");
    app.put(root, "a/f", "1");
    app.put(root, "ab/f", "2");
    const tree = new Subtree(app.app.core, { root: app.at(root, "a").ino, mount: MOUNT });
    expect(tree.has(app.at(root, "a/f").ino, LIVE)).toBe(true);
    expect(tree.has(app.at(root, "ab/f").ino, LIVE)).toBe(false);
    expect(tree.has(app.at(root, "ab").ino, LIVE)).toBe(false);
    expect(tree.has(root, LIVE)).toBe(false);
    expect(tree.has(999_999 as InodeId, LIVE)).toBe(false);
    tree.close();
  });

  test("has a file of many names if one of them is inside", () => {
    const { app, root } = fixture;
    for (const folder of ["in", "out"]) app.mkdir(root, folder);
    app.put(root, "out/f", "1");
    const { ino } = app.at(root, "out/f");
    const tree = new Subtree(app.app.core, { root: app.at(root, "in").ino, mount: MOUNT });
    for (let index = 0; index < 300; index++) app.link(root, "out/f", `out/f${index}`);
    expect(tree.has(ino, LIVE)).toBe(false);
    app.link(root, "out/f", "in/g");
    expect(tree.has(ino, LIVE)).toBe(true);
    app.unlink(root, "in/g");
    expect(tree.has(ino, LIVE)).toBe(false);
  });

  test("loses what is moved out, also far below a directory that is moved, and has what is moved in", () => {
    const { app, root } = fixture;
    for (const folder of ["in", "out", "in/d", "in/d/e"]) app.mkdir(root, folder);
    app.put(root, "in/d/e/f", "1");
    const file = app.at(root, "in/d/e/f").ino;
    const tree = new Subtree(app.app.core, { root: app.at(root, "in").ino, mount: MOUNT });
    expect(tree.has(file, LIVE)).toBe(true);
    const before = app.app.core.lastLsn;
    app.rename(root, "in/d", "out/d");
    expect(tree.has(file, LIVE)).toBe(false);
    expect(tree.has(file, before)).toBe(true);
    app.rename(root, "out/d/e", "in/e");
    expect(tree.has(file, LIVE)).toBe(true);
  });

  test("is known once for all sessions that have it, as long as one of them has", () => {
    const { app, root } = fixture;
    for (const folder of ["in", "out"]) app.mkdir(root, folder);
    app.put(root, "in/f", "1");
    const { ino } = app.at(root, "in/f");
    const options = { root: app.at(root, "in").ino, mount: MOUNT };
    const [first, second] = [new Subtree(app.app.core, options), new Subtree(app.app.core, options)];
    expect(first.has(ino, LIVE)).toBe(true);
    first.close();
    first.close();
    app.rename(root, "in/f", "out/f");
    expect(second.has(ino, LIVE)).toBe(false);
    second.close();
    expect(app.app.core.placeListeners.size).toBe(0);
    app.rename(root, "out/f", "in/f");
    const third = new Subtree(app.app.core, options);
    expect(third.has(ino, LIVE)).toBe(true);
    third.close();
  });

  test("stays the directory that it is when that is moved", () => {
    const { app, root } = fixture;
    for (const folder of ["in", "out"]) app.mkdir(root, folder);
    app.put(root, "in/f", "1");
    const tree = new Subtree(app.app.core, { root: app.at(root, "in").ino, mount: MOUNT });
    app.rename(root, "in", "out/elsewhere");
    app.mkdir(root, "in");
    app.put(root, "in/f", "2");
    expect(tree.has(app.at(root, "out/elsewhere/f").ino, LIVE)).toBe(true);
    expect(tree.has(app.at(root, "in/f").ino, LIVE)).toBe(false);
  });
});

describe("a file without a name", () => {
  test("stays reachable when its last name was inside and the mount held it", async () => {
    const { app, root } = fixture;
    app.mkdir(root, "in");
    app.put(root, "in/held", "1");
    app.put(root, "in/other", "1");
    const guard = await fixture.guard({ ops: ["list", "read"], root: app.at(root, "in").ino });
    const [held, other] = [app.at(root, "in/held").ino, app.at(root, "in/other").ino];
    await guard.execute({ op: "lookup", parent: app.at(root, "in").ino, name: name("held"), at: LIVE }, asks());
    app.unlink(root, "in/held");
    app.unlink(root, "in/other");
    expect(await outcome(guard, { op: "read", ino: held, offset: 0n, length: 1, at: LIVE })).toBe("ok");
    expect(await outcome(guard, { op: "read", ino: other, offset: 0n, length: 1, at: LIVE })).toBe("ESTALE");
  });

  test("is out of reach when it was moved out before, though it was open", async () => {
    const { app, root } = fixture;
    for (const folder of ["in", "out"]) app.mkdir(root, folder);
    app.put(root, "in/f", "1");
    const { ino } = app.at(root, "in/f");
    const guard = await fixture.guard({ ops: ["list", "read"], root: app.at(root, "in").ino });
    await guard.execute({ op: "lookup", parent: app.at(root, "in").ino, name: name("f"), at: LIVE }, asks());
    app.rename(root, "in/f", "out/f");
    app.unlink(root, "out/f");
    expect(app.app.core.inode(ino).nlink).toBe(0);
    expect(await outcome(guard, { op: "read", ino, offset: 0n, length: 1, at: LIVE })).toBe("ESTALE");
  });

  test("stays reachable for the same session after a break, when its history is gone by then", async () => {
    const { app, root } = fixture;
    app.mkdir(root, "in");
    app.put(root, "in/f", "1");
    const { ino } = app.at(root, "in/f");
    const wanted = { ops: ["list", "read"], root: app.at(root, "in").ino } as const;
    const guard = await fixture.guard(wanted);
    await guard.execute({ op: "lookup", parent: guard.grant.root, name: name("f"), at: LIVE }, asks());
    app.unlink(root, "in/f");
    app.put(root, "more", "1");
    const { core, engine } = app.app;
    core.moments.raise(core.lastLsn);
    const parts = { api: engine, core, mount: MOUNT, audit: fixture.audit, from: "a test" };
    const grant = await fixture.tokens.exchange(await fixture.token(wanted), fixture.exchange);
    const again = new TokenGuard({ ...parts, grant, before: guard });
    expect(await outcome(again, { op: "getattr", ino, at: LIVE })).toBe("ok");
    // What can't be decided is refused.
    expect(await outcome(new TokenGuard({ ...parts, grant }), { op: "getattr", ino, at: LIVE })).toBe("ESTALE");
  });

  test("that a restore took away stays reachable for who had it open, while the restore runs and after", async () => {
    const { app, root } = fixture;
    for (const folder of ["in", "out"]) app.mkdir(root, folder);
    const before = app.app.core.lastLsn;
    for (const folder of ["in/d", "in/d/e", "out/d"]) app.mkdir(root, folder);
    const names = ["in/f", "in/d", "in/d/e", "in/d/e/g", "out/d", "out/d/h"];
    for (const file of names.filter((each) => /[fgh]$/.test(each))) app.put(root, file, "1");
    const files = names.map((file) => app.at(root, file).ino);
    const guard = await fixture.guard({ ops: ["list", "read"], root: app.at(root, "in").ino });
    for (const file of names) {
      const [, directory = "", last = ""] = /^(.*)\/([^/]*)$/.exec(file) ?? [];
      const lookup = { op: "lookup", parent: app.at(root, directory).ino, name: name(last), at: LIVE } as const;
      app.app.engine.execute(lookup, asks());
    }
    const restores = restoresOf(fixture.apps);
    const task = {
      kind: "restore",
      source: app.path("files"),
      at: { kind: "lsn", lsn: before },
      mode: "mirror",
    } as const;
    const seen = new Set<string>();
    const look = async (): Promise<void> => {
      for (const ino of files)
        seen.add(`${files.indexOf(ino)} ${await outcome(guard, { op: "getattr", ino, at: LIVE })}`);
    };
    const stop = app.app.core.onCommit(() => queueMicrotask(() => void look()));
    await executeAll(restores, task);
    stop();
    await look();
    expect([...seen].sort()).toEqual(["0 ok", "1 ok", "2 ok", "3 ok", "4 ESTALE", "5 ESTALE"]);
    await restores.close();
  });

  test("that never had one is its maker's alone, also after a restart of the session", async () => {
    const { app, root } = fixture;
    app.mkdir(root, "in");
    const wanted = { ops: ["create", "write", "read"], root: app.at(root, "in").ino } as const;
    const guard = await fixture.guard(wanted);
    const made = await guard.execute({ op: "tmpfile", parent: guard.grant.root, mode: 0o600, umask: 0 }, asks());
    const read = { op: "getattr", ino: made.ino, at: LIVE } as const;
    expect(await outcome(guard, read)).toBe("ok");
    await guard.close();
    const again = await fixture.guard(wanted);
    expect(await outcome(again, read)).toBe("ok");
    app.app.engine.attachMount(8 as MountId, { resumed: false });
    const stranger = await fixture.guard({ ...wanted, mount: 8 as MountId });
    expect(await outcome(stranger, read, asks(0, 0, 8 as MountId))).toBe("ESTALE");
  });

  test("that gets a name again, is moved out and loses that one, is out of reach", async () => {
    const { app, root } = fixture;
    for (const folder of ["in", "out"]) app.mkdir(root, folder);
    const guard = await fixture.guard({ ops: ["create", "read"], root: app.at(root, "in").ino });
    const { ino } = await guard.execute({ op: "tmpfile", parent: guard.grant.root, mode: 0o600, umask: 0 }, asks());
    app.run({ op: "link", ino, parent: app.at(root, "out").ino, name: name("f") });
    expect(await outcome(guard, { op: "getattr", ino, at: LIVE })).toBe("ESTALE");
    app.unlink(root, "out/f");
    expect(await outcome(guard, { op: "getattr", ino, at: LIVE })).toBe("ESTALE");
  });
});

const OTHER = 9 as MountId;

/** Operations of one random run. */
const STEPS = 400;

test("what is inside is what names lead to, now and at every moment, whatever is linked, moved and removed", async () => {
  const seed = Number(process.env["SEED"] ?? Math.floor(Math.random() * 2 ** 31));
  const random = new Random(seed);
  const { app, root } = fixture;
  const { core, engine } = app.app;
  for (const folder of ["in", "out"]) app.mkdir(root, folder);
  const inside = app.at(root, "in").ino;
  engine.attachMount(OTHER, { resumed: false });
  const tree = new Subtree(core, { root: inside, mount: MOUNT });
  const all = new Set<InodeId>([root, inside, app.at(root, "out").ino]);
  const orphans = new Map<InodeId, boolean>();
  const moments: { at: Lsn; truth: Set<InodeId> }[] = [];
  const entries = () =>
    [...reachable(root, LIVE)]
      .filter((ino) => isDirectory(core.inode(ino).mode))
      .flatMap((parent) => {
        const request = { op: "readdir", ino: parent, cookie: 0n, entriesMax: 10_000, plus: false, at: LIVE } as const;
        const reply = engine.execute(request, SERVICE_CONTEXT) as ReplyMap["readdir"];
        return reply.entries.map((entry) => ({ parent, ...entry })).filter(({ ino }) => ino !== inside);
      });
  const directories = (): InodeId[] => [...reachable(root, LIVE)].filter((ino) => isDirectory(core.inode(ino).mode));
  for (let step = 0; step < STEPS; step++) {
    const before = reachable(inside, LIVE);
    const parent = random.pick(directories());
    const named = entries();
    const entry = named.length === 0 ? undefined : random.pick(named);
    const fresh = name(`n${step}`);
    const kind = random.below(7);
    if (random.below(2) === 0 && entry !== undefined) {
      // The kernel of this mount, or of another one, is told of it.
      engine.execute(
        { op: "lookup", parent: entry.parent, name: entry.name, at: LIVE },
        asks(0, 0, random.pick([MOUNT, OTHER])),
      );
    }
    try {
      if (kind === 0) app.run({ op: "mkdir", parent, name: fresh, mode: 0o755, umask: 0 });
      else if (kind === 1) app.run({ op: "mknod", parent, name: fresh, mode: 0o100644, umask: 0, rdev: 0 });
      else if (entry === undefined) continue;
      else if (kind === 2 && entry.type !== 4) app.run({ op: "link", ino: entry.ino, parent, name: fresh });
      else if (kind === 3)
        app.run({ op: entry.type === 4 ? "rmdir" : "unlink", parent: entry.parent, name: entry.name });
      else if (kind === 4)
        app.run({ op: "rename", parent: entry.parent, name: entry.name, newParent: parent, newName: fresh, flags: 0 });
      else {
        const other = random.pick(named);
        const flags = kind === 5 ? RENAME_EXCHANGE : 0;
        app.run({
          op: "rename",
          parent: entry.parent,
          name: entry.name,
          newParent: other.parent,
          newName: other.name,
          flags,
        });
      }
    } catch (error) {
      // Not empty, a cycle, a directory over a file: as in life.
      expect(["ENOTEMPTY", "EINVAL", "EISDIR", "ENOTDIR"]).toContain((error as { code: string }).code);
      continue;
    }
    for (const ino of reachable(root, LIVE)) all.add(ino);
    const now = reachable(inside, LIVE);
    for (const ino of all) {
      const row = core.findInodeNow(ino);
      if (row?.nlink === 0 && !orphans.has(ino)) orphans.set(ino, before.has(ino) && core.holders.isHeldBy(MOUNT, ino));
      const expected = now.has(ino) || (row?.nlink === 0 && orphans.get(ino) === true);
      if (tree.has(ino, LIVE) !== expected)
        throw new Error(`SEED=${seed} step ${step}: inode ${ino} should be ${expected ? "in" : "out"}side`);
    }
    if (step % 20 === 0) moments.push({ at: core.lastLsn, truth: now });
  }
  for (const { at, truth } of moments)
    for (const ino of all)
      if (tree.has(ino, at) !== truth.has(ino)) throw new Error(`SEED=${seed} at ${at}: inode ${ino}`);
});
