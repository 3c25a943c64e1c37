import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { ERRNO, FsError } from "../../src/domain/errors.ts";
import { LIVE, type Lsn } from "../../src/domain/ids.ts";
import { S_IFREG } from "../../src/domain/inode.ts";
import type { MetadataApi } from "../../src/domain/metadata-api.ts";
import { VIEWS_SLOT } from "../../src/gateway/vfs/context.ts";
import type { Harness } from "../model/harness.ts";
import { ManualClock } from "../model/manual-clock.ts";
import { openEngine } from "../model/open-engine.ts";
import { type Answer, LaterApi, nodeOf, VfsDriver } from "./vfs-driver.ts";

/** The operations of a mount over an engine that answers at once, and over one that never does: the kernel must not see a difference. */

const ROOT = { ino: 1 };
const name = (text: string) => ({ name: Buffer.from(text) });
const LIST = { sizeBytes: 4096, handle: 0, flags: 0 };
const WHENS = ["at once", "later"] as const;

let harnesses: Harness[] = [];

async function harness(): Promise<Harness> {
  if (openEngine === undefined) throw new Error("no engine");
  const made = await openEngine({ clock: new ManualClock() });
  harnesses.push(made);
  return made;
}

async function driver(when: (typeof WHENS)[number], options: Partial<ConstructorParameters<typeof VfsDriver>[0]> = {}) {
  const inner = await harness();
  const api: MetadataApi = when === "later" ? new LaterApi(inner.api) : inner.api;
  const slots = {
    slotOf: (lsn: Lsn) => (when === "later" ? Promise.resolve(lsn as number) : (lsn as number)),
    lsnOf: (slot: number) => slot as Lsn,
  };
  return { inner, vfs: new VfsDriver({ api, root: inner.root, slots, ...options }) };
}

beforeEach(() => {
  harnesses = [];
});
afterEach(async () => {
  for (const each of harnesses) await each.close();
});

/** A bit of everything, by one user after the other. */
async function story(vfs: VfsDriver, inner: Harness): Promise<{ readonly what: string; readonly answer: Answer }[]> {
  const told: { what: string; answer: Answer }[] = [];
  const ask = async (what: string, ...request: Parameters<VfsDriver["ask"]>): Promise<Answer> => {
    const answer = await vfs.ask(...request);
    told.push({ what, answer });
    return answer;
  };
  await ask("absent", "lookup", ROOT, name("a"));
  const made = await ask("create", "create", ROOT, { ...name("a"), flags: 0o100, mode: S_IFREG | 0o644, umask: 0 });
  const file = nodeOf(made.body);
  await ask("present", "lookup", ROOT, name("a"));
  await ask("exclusive", "create", ROOT, { ...name("a"), flags: 0o300, mode: S_IFREG | 0o644, umask: 0 });
  const directory = nodeOf((await ask("mkdir", "mkdir", ROOT, { ...name("d"), mode: 0o755, umask: 0 })).body);
  await ask("write", "write", file, {
    offset: 0n,
    data: Buffer.from("hello"),
    flags: 0,
    killPrivileges: false,
    fromPageCache: false,
  });
  await ask("append", "write", file, {
    offset: 2n,
    data: Buffer.from(" world"),
    flags: 0o2000,
    killPrivileges: false,
    fromPageCache: false,
  });
  await ask("read", "read", file, { offset: 0n, size: 100 });
  await ask("getattr", "getattr", file);
  await ask("statx", "statx", file);
  await ask("dot", "lookup", directory, name("."));
  await ask("dots", "lookup", directory, name(".."));
  for (const operation of ["readdir", "readdirplus"] as const) {
    for (const cookie of [0n, 1n, 2n]) await ask(`${operation} ${cookie}`, operation, ROOT, { ...LIST, cookie });
    await ask(`${operation} short`, operation, ROOT, { ...LIST, sizeBytes: 100, cookie: 0n });
    await ask(`${operation} of a file`, operation, file, { ...LIST, cookie: 0n });
  }
  await ask("no xattr", "getxattr", file, { ...name("user.x"), sizeBytes: 100 });
  await ask("setxattr", "setxattr", file, { ...name("user.x"), value: Buffer.from("v"), flags: 0, killSgid: false });
  await ask("xattr", "getxattr", file, { ...name("user.x"), sizeBytes: 100 });
  await ask("xattr too long", "getxattr", file, { ...name("user.x"), sizeBytes: 0 });
  await ask("listxattr", "listxattr", file, { sizeBytes: 100 });
  await ask("remove an ACL that is not there", "removexattr", file, name("system.posix_acl_access"));
  await ask("remove an xattr that is not there", "removexattr", file, name("user.y"));
  await ask("link", "link", directory, { sourceSlot: 0, sourceIno: file.ino, ...name("hard") });
  await ask("symlink", "symlink", ROOT, { ...name("s"), target: Buffer.from("a") });
  await ask("rename", "rename", ROOT, {
    ...name("a"),
    newSlot: 0,
    newParentIno: directory.ino,
    newName: Buffer.from("b"),
    flags: 0,
  });
  await ask("rmdir of a full one", "rmdir", ROOT, name("d"));
  await ask("unlink", "unlink", directory, name("b"));
  await ask("lseek", "lseek", file, { offset: 0n, whence: 4, handle: 0 });
  await ask("setattr", "setattr", file, { mode: 0o600, killPrivileges: false });
  await ask("statfs", "statfs", ROOT);
  await ask("fsync", "fsync", file, { dataOnly: false });
  await ask("tmpfile", "tmpfile", ROOT, { mode: S_IFREG | 0o600, umask: 0 });
  await ask("views", "lookup", ROOT, name(".tidemark"));
  await ask("list views", "readdir", { ino: 1, slot: VIEWS_SLOT }, { ...LIST, cookie: 0n });
  await ask("attributes of views", "getattr", { ino: 1, slot: VIEWS_SLOT });
  await ask("a view", "lookup", { ino: 1, slot: VIEWS_SLOT }, name("snap"));
  await ask("no view", "lookup", { ino: 1, slot: VIEWS_SLOT }, name("none"));
  await ask("a view before the share", "lookup", { ino: 1, slot: VIEWS_SLOT }, name("early"));
  const slot = inner.lastLsn();
  await ask("list the past", "readdirplus", { ino: 1, slot }, { ...LIST, cookie: 0n });
  await ask("absent in the past", "lookup", { ino: 1, slot }, name("later"));
  for (const uid of [0, 7]) {
    await ask(`open in the past by ${uid}`, "open", { ino: file.ino, slot, uid }, { flags: 0 });
    await ask(`look into the past by ${uid}`, "lookup", { ino: directory.ino, slot, uid }, name("hard"));
    await ask(
      `xattr of the past by ${uid}`,
      "getxattr",
      { ino: file.ino, slot, uid },
      { ...name("user.x"), sizeBytes: 100 },
    );
    await ask(`list the past by ${uid}`, "opendir", { ino: directory.ino, slot, uid }, { flags: 0 });
  }
  return told;
}

/** Of a share whose users may look at the past. */
function views(inner: { readonly current?: Harness }, when: (typeof WHENS)[number]) {
  const found = (text: string): Lsn | undefined =>
    text === "snap" ? inner.current?.lastLsn() : text === "early" ? (1 as Lsn) : undefined;
  return {
    views: () => "users" as const,
    asksOpens: true,
    moments: {
      find: (text: string) => (when === "later" ? Promise.resolve(found(text)) : found(text)),
      snapshotNames: () => (when === "later" ? Promise.resolve(["snap", "other"]) : ["snap", "other"]),
    },
  };
}

describe("an engine that answers later", () => {
  test("gives the kernel the same answers as one that answers at once", async () => {
    const stories = [];
    for (const when of WHENS) {
      const late: { current?: Harness } = {};
      const { inner, vfs } = await driver(when, views(late, when));
      late.current = inner;
      stories.push(await story(vfs, inner));
    }
    const [once = [], later = []] = stories;
    expect(later.map(({ what, answer }) => [what, answer.errno, answer.body.toString("hex")])).toEqual(
      once.map(({ what, answer }) => [what, answer.errno, answer.body.toString("hex")]),
    );
    expect(once.filter(({ answer }) => !answer.inTurn).map(({ what }) => what)).toEqual(["fsync"]);
    expect(later.filter(({ answer }) => answer.errno === ERRNO.EIO).map(({ what }) => what)).toEqual([]);
    // Both kinds of outcome were there.
    expect(once.filter(({ answer }) => answer.errno !== 0).length).toBeGreaterThan(8);
    expect(once.find(({ what }) => what === "open in the past by 7")?.answer.errno).toBe(ERRNO.EACCES);
  });

  test("appends go to the end of the file, wherever the kernel takes that to be", async () => {
    for (const when of WHENS) {
      const { inner, vfs } = await driver(when);
      const told: unknown[] = [];
      inner.api.subscribe((invalidation) => told.push(invalidation));
      const made = await vfs.ask("create", ROOT, { ...name("log"), flags: 0o100, mode: S_IFREG | 0o644, umask: 0 });
      const file = nodeOf(made.body);
      const write = { data: Buffer.from("line\n"), flags: 0o2001, killPrivileges: false, fromPageCache: false };
      for (const offset of [0n, 0n, 900n]) expect((await vfs.ask("write", file, { ...write, offset })).errno).toBe(0);
      expect((await vfs.ask("read", file, { offset: 0n, size: 100 })).body.toString()).toBe("line\nline\nline\n");
      const own = told
        .filter((each) => (each as { kind: string; excluding: number }).kind === "inode")
        .map((each) => (each as { excluding: number }).excluding);
      // Its own kernel is told when the place was another than it thought.
      expect(own.slice(-3)).toEqual([1, 0, 0]);
    }
  });
});

describe("a lease", () => {
  const inner = (): MetadataApi => harnesses[0]?.api as MetadataApi;

  test("bounds how long an answer is kept, from when it was asked for", async () => {
    const opened = await harness();
    let nowMs = 1000;
    const clock = { now: () => ({ sec: 0, nsec: 0 }), monotonicMs: () => nowMs };
    const slow: MetadataApi = {
      execute: (request, context) => {
        nowMs += 750;
        return inner().execute(request, context);
      },
      subscribe: () => () => {},
      close: async () => {},
    };
    const vfs = new VfsDriver({ api: slow, root: opened.root, lease: { durationMs: () => 5000, clock } });
    const seconds = (body: Buffer, at: number, nsecAt: number): number =>
      Number(body.readBigUInt64LE(at)) + body.readUInt32LE(nsecAt) / 1e9;
    const made = await vfs.ask("mkdir", ROOT, { ...name("d"), mode: 0o755, umask: 0 });
    expect([seconds(made.body, 16, 32), seconds(made.body, 24, 36)]).toEqual([4.25, 4.25]);
    const attributes = await vfs.ask("getattr", ROOT);
    expect(seconds(attributes.body, 0, 8)).toBe(4.25);
    const absent = await vfs.ask("lookup", ROOT, name("none"));
    expect(seconds(absent.body, 16, 32)).toBeLessThanOrEqual(1);
    const past = await vfs.ask("getattr", { ino: 1, slot: opened.lastLsn() });
    expect(seconds(past.body, 0, 8)).toBe(4.25);
  });

  test("that has run out on the way leaves an answer that is used once", async () => {
    const opened = await harness();
    let calls = 0;
    const clock = { now: () => ({ sec: 0, nsec: 0 }), monotonicMs: () => ++calls * 9000 };
    const vfs = new VfsDriver({ api: opened.api, root: opened.root, lease: { durationMs: () => 5000, clock } });
    const { errno, body } = await vfs.ask("getattr", ROOT);
    expect([errno, body.readBigUInt64LE(0), body.readUInt32LE(8)]).toEqual([0, 0n, 0]);
  });
});

test("a refusal that comes later is the refusal, and nothing else is taken for one", async () => {
  const opened = await harness();
  const failing = (code: "ENOENT" | "EACCES" | "ENODATA"): VfsDriver =>
    new VfsDriver({
      api: {
        execute: () => Promise.reject(FsError.of(code)) as never,
        subscribe: () => () => {},
        close: async () => {},
      },
      root: opened.root,
      at: LIVE,
    });
  expect((await failing("ENOENT").ask("lookup", ROOT, name("a"))).errno).toBe(0);
  expect((await failing("EACCES").ask("lookup", ROOT, name("a"))).errno).toBe(ERRNO.EACCES);
  expect((await failing("ENODATA").ask("removexattr", ROOT, name("system.posix_acl_default"))).errno).toBe(0);
  expect((await failing("ENODATA").ask("removexattr", ROOT, name("user.a"))).errno).toBe(ERRNO.ENODATA);
  expect((await failing("EACCES").ask("readdir", ROOT, { ...LIST, cookie: 0n })).errno).toBe(ERRNO.EACCES);
});
