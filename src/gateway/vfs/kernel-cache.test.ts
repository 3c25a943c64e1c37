import { expect, test } from "vitest";
import type { Clock } from "../../base/clock.ts";
import { ManualTimers } from "../../base/timers.ts";
import { type InodeId, LIVE, type MountId } from "../../domain/ids.ts";
import type { Invalidation, MetadataApi, ReplyOf, Request, RequestContext } from "../../domain/metadata-api.ts";
import { NotificationLanes } from "../fuse/notification-lanes.ts";
import type { NotificationCounts, NotificationOrder } from "../fuse/notify-worker.ts";
import type { NotificationWriter } from "../fuse/notify-writer.ts";
import { KernelCache, LOCK_MS } from "./kernel-cache.ts";

const FD = 7;
const MOUNT = 3 as MountId;
const ROOT = 10 as InodeId;
const DIRECTORY = 11 as InodeId;
const FILE = 12 as InodeId;

/** What a message says, as text: "entry 11 name", "data 12", "attributes 12". */
function textOf(message: Uint8Array): string {
  const view = new DataView(message.buffer, message.byteOffset, message.byteLength);
  const node = Number(view.getBigUint64(16, true));
  if (view.getInt32(4, true) === 2) return `${view.getBigInt64(24, true) < 0n ? "attributes" : "data"} ${node}`;
  const name = Buffer.from(message.subarray(32, 32 + view.getUint32(24, true))).toString();
  return `${view.getUint32(28, true) === 1 ? "expire" : "entry"} ${node} ${name}`;
}

/** A lane whose kernel takes what the test lets it: everything, but what `blocks`. */
class TestWriter implements NotificationWriter {
  readonly written: string[];
  readonly #world: World;
  #waiting: { readonly order: NotificationOrder; readonly done: PromiseWithResolvers<NotificationCounts> } | undefined;

  constructor(world: World) {
    this.#world = world;
    this.written = world.written;
    world.writers.push(this);
  }

  write(order: NotificationOrder): Promise<NotificationCounts> {
    this.#waiting = { order, done: Promise.withResolvers() };
    const { promise } = this.#waiting.done;
    this.go();
    return promise;
  }

  /** Writes what waits, unless the kernel's lock for it is held. */
  go(): void {
    const { order, done } = this.#waiting ?? {};
    if (order === undefined || done === undefined) return;
    const texts = order.map(({ message }) => textOf(message));
    if (texts.some((text) => this.#world.blocks(text))) return;
    this.#waiting = undefined;
    this.written.push(...texts);
    done.resolve({ written: order.length, unknown: 0, refused: 0 });
  }

  async close(): Promise<void> {}
}

type World = { blocks: (text: string) => boolean; readonly written: string[]; readonly writers: TestWriter[] };

/** An API whose answers come when the test says so; those of reading at once. */
class TestApi implements MetadataApi {
  readonly pending: (() => void)[] = [];

  execute<R extends Request>(request: R, _context: RequestContext): ReplyOf<R> | Promise<ReplyOf<R>> {
    if (request.op === "getattr") return { ino: request.ino } as ReplyOf<R>;
    return new Promise((resolve) => this.pending.push(() => resolve(undefined as ReplyOf<R>)));
  }

  subscribe(): () => void {
    return () => {};
  }

  async close(): Promise<void> {}
}

function open() {
  const world: World = { blocks: () => false, written: [], writers: [] };
  const timers = new ManualTimers();
  let nowMs = 0;
  const clock: Clock = { now: () => ({ sec: 0, nsec: 0 }), monotonicMs: () => nowMs };
  const lanes = new NotificationLanes(() => new TestWriter(world));
  const cache = new KernelCache({ fd: FD, mountId: MOUNT, root: ROOT, lanes, clock, timers });
  const api = new TestApi();
  const pass = async (ms: number): Promise<void> => {
    nowMs += ms;
    timers.advance(ms);
    await settle();
  };
  /** The kernel's locks are given back. */
  const unblock = async (): Promise<void> => {
    world.blocks = () => false;
    for (const writer of world.writers) writer.go();
    await settle();
  };
  return { world, cache, guarded: cache.guard(api), api, timers, pass, unblock };
}

function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

async function isDone(promise: unknown): Promise<boolean> {
  let done = false;
  void Promise.resolve(promise).then(() => {
    done = true;
  });
  await settle();
  return done;
}

const context: RequestContext = {
  actor: { mountId: MOUNT, uid: 0, gid: 0, pid: 0, label: "" },
  unique: 1,
  resent: false,
};
const entry = (name: string): Invalidation => ({
  kind: "entry",
  parent: DIRECTORY,
  name: Buffer.from(name),
  excluding: 0,
});
const data: Invalidation = { kind: "inode", ino: FILE, data: true, excluding: 0 };
const unlink = { op: "unlink", parent: DIRECTORY, name: Buffer.from("own") } as const;
const write = { op: "write", ino: FILE, offset: 0n, data: Buffer.from("x"), killPrivileges: false } as const;
const getattr = { op: "getattr", ino: DIRECTORY, at: LIVE } as const;

test("news is acknowledged when the kernel has it: attributes, pages, names and the listing they are in", async () => {
  const { world, cache } = open();
  await cache.tell({ kind: "inode", ino: FILE, data: false, excluding: 0 });
  await cache.tell(data);
  await cache.tell(entry("name"));
  await cache.tell({ kind: "inode", ino: ROOT, data: true, listing: true, excluding: 0 });
  await cache.tell({ kind: "inode", ino: FILE, data: true, excluding: MOUNT });
  expect(world.written.sort()).toEqual(["attributes 12", "data 1", "data 11", "data 12", "entry 11 name"]);
});

test("while nobody of this mount holds the lock that it takes, a name is waited for, for a bounded time", async () => {
  const { world, cache, pass, unblock } = open();
  world.blocks = (text) => text.startsWith("entry");
  const told = cache.tell(entry("name"));
  await pass(LOCK_MS / 2);
  expect(await isDone(told)).toBe(false);
  await pass(LOCK_MS * 5);
  expect(await isDone(told)).toBe(true);
  // The lane is known to be stuck: the next need not find out.
  expect(await isDone(cache.tell(entry("other")))).toBe(true);
  await unblock();
  expect(world.written).toEqual(expect.arrayContaining(["entry 11 name", "entry 11 other", "attributes 11"]));
  expect(await isDone(cache.tell(entry("third")))).toBe(true);
});

test("a name whose directory this mount is changing is acknowledged at once; who walks there waits until it is gone", async () => {
  const { world, cache, guarded, pass, unblock } = open();
  world.blocks = (text) => text.startsWith("entry");
  void guarded.execute(unlink, context);
  expect(await isDone(cache.tell(entry("name")))).toBe(true);
  // Whoever has the attributes already has to ask for them again.
  expect(world.written).toContain("attributes 11");
  expect(cache.mayKeepAttributes(DIRECTORY)).toBe(false);
  const walk = guarded.execute(getattr, context);
  await pass(1000);
  expect(await isDone(walk)).toBe(false);
  expect(guarded.execute({ ...getattr, ino: ROOT }, context)).toMatchObject({ ino: ROOT });
  await unblock();
  expect(await walk).toMatchObject({ ino: DIRECTORY });
  expect(cache.mayKeepAttributes(DIRECTORY)).toBe(true);
});

test("a change of this mount that comes while a name is waited for ends that wait", async () => {
  const { world, cache, guarded } = open();
  world.blocks = (text) => text.startsWith("entry");
  const told = cache.tell(entry("name"));
  expect(await isDone(told)).toBe(false);
  void guarded.execute(unlink, context);
  expect(await isDone(told)).toBe(true);
});

test("whoever may hold the lock himself gets the attributes soon, though the name is still there", async () => {
  const { world, cache, guarded, api, pass } = open();
  world.blocks = (text) => text.startsWith("entry");
  void guarded.execute(unlink, context);
  await cache.tell(entry("name"));
  for (const answer of api.pending.splice(0)) answer();
  await settle();
  const mayHoldIt = guarded.execute(getattr, context);
  expect(await isDone(mayHoldIt)).toBe(false);
  await pass(100);
  expect(await isDone(mayHoldIt)).toBe(true);
  // And the kernel may not keep them: the next asks again.
  expect(cache.mayKeepAttributes(DIRECTORY)).toBe(false);
});

test("pages of a file that this mount is writing are not waited for much longer than a write takes, its attributes go at once", async () => {
  const { world, cache, guarded, pass, unblock } = open();
  world.blocks = (text) => text === "data 12";
  void guarded.execute(write, context);
  const told = cache.tell(data);
  expect(await isDone(told)).toBe(false);
  await pass(10);
  expect(await isDone(told)).toBe(true);
  expect(world.written).toEqual(["attributes 12"]);
  await unblock();
  expect(world.written).toContain("data 12");
});

test("in a directory that several mounts change the kernel keeps no names, and then none has to be dropped", async () => {
  const { world, cache, guarded, api } = open();
  expect(cache.mayKeepNames(DIRECTORY, Buffer.from("kept"))).toBe(true);
  await cache.tell(entry("kept"));
  void guarded.execute(unlink, context);
  for (const answer of api.pending.splice(0)) answer();
  expect(cache.mayKeepNames(ROOT, Buffer.from("kept"))).toBe(true);
  expect(cache.mayKeepNames(DIRECTORY, Buffer.from("asked"))).toBe(false);
  world.written.splice(0);
  await cache.tell(entry("asked"));
  expect(world.written).toEqual(["data 11"]);
  // Not looked up since: the kernel may still have it from before.
  await cache.tell(entry("early"));
  expect(world.written).toContain("entry 11 early");
  world.written.splice(0);
  await cache.tell(entry("early"));
  expect(world.written).toEqual(["data 11"]);
});

test("doubtful news makes the kernel ask again for names, drops nothing that may be right, and waits for nothing", async () => {
  const { world, cache } = open();
  cache.tellDoubtful(entry("name"));
  cache.tellDoubtful(data);
  cache.tellDoubtful({ kind: "snapshot", name: Buffer.from("snap"), excluding: 0 });
  await cache.settled();
  expect(world.written).toEqual(expect.arrayContaining(["expire 11 name", "data 11", "data 12"]));
});

test("a mount that is gone keeps nobody waiting", async () => {
  const { world, cache } = open();
  world.blocks = (text) => text.startsWith("entry 11 first");
  const first = cache.tell(entry("first"));
  const second = cache.tell(entry("second"));
  void cache.abandon();
  expect(await isDone(second)).toBe(true);
  world.blocks = () => false;
  for (const writer of world.writers) writer.go();
  await first;
});
