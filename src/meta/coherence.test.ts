import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { ManualClock } from "../../test/model/manual-clock.ts";
import { silentLog } from "../base/log.ts";
import { FsError } from "../domain/errors.ts";
import { type AppId, type InodeId, LIVE, type MountId, type ShareId } from "../domain/ids.ts";
import type { Inode } from "../domain/inode.ts";
import type { Invalidation, MetadataApi, ReplyOf, Request, RequestContext } from "../domain/metadata-api.ts";
import type { CacheHolder } from "../domain/session-api.ts";
import { MemoryKv } from "../kv/memory-kv.ts";
import { Coherence, type CoherentEngine } from "./coherence.ts";
import { OpenApp, SERVICE_CONTEXT } from "./open-app.ts";
import { createShare } from "./shares.ts";

const [FIRST, SECOND, THIRD] = [1 as MountId, 2 as MountId, 3 as MountId];

/** A cache that is told, and acknowledges when the test says so. */
class TestCache implements CacheHolder {
  readonly told: string[] = [];
  #pending: (() => void)[] = [];
  /** Whether it acknowledges at once. */
  quick = true;

  tell(news: Invalidation): void | Promise<void> {
    if (news.kind === "inode")
      this.told.push(`${news.listing === true ? "listing" : news.data ? "data" : "attributes"} ${news.ino}`);
    else this.told.push(`${news.kind} ${news.name.toString()}`);
    if (this.quick) return;
    return new Promise((resolve) => this.#pending.push(resolve));
  }

  acknowledge(): void {
    for (const resolve of this.#pending.splice(0)) resolve();
  }

  /** What it was told since it was asked last, the same only once. */
  news(): string[] {
    return [...new Set(this.told.splice(0))];
  }
}

let folder: string;
let app: OpenApp;
let root: InodeId;
let coherent: Coherence;
let clock: ManualClock;
const detach = new Map<MountId, () => void>();

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "tidemark-coherence-"));
  clock = new ManualClock();
  app = await OpenApp.open({
    appId: "1".repeat(32) as AppId,
    slot: 1,
    folder,
    kv: new MemoryKv(),
    clock,
    log: silentLog,
    diskSpace: () => ({ totalBytes: 0n, freeBytes: 0n }),
  });
  root = createShare(app.core, { id: "2".repeat(32) as ShareId, name: "files", views: "root" }, SERVICE_CONTEXT).root;
  coherent = app.coherent;
});

afterEach(async () => {
  await app.close();
  await rm(folder, { recursive: true });
});

function attach(mount: MountId): TestCache {
  const cache = new TestCache();
  app.engine.attachMount(mount, { resumed: false });
  detach.set(mount, coherent.attach(mount, cache, { root }));
  return cache;
}

let unique = 0;
function by(mountId: MountId, more: Partial<RequestContext> = {}): RequestContext {
  return { actor: { mountId, uid: 0, gid: 0, pid: 1, label: "" }, unique: ++unique, resent: false, ...more };
}

/** The answer of a request that is answered in the same turn. */
function now<R extends Request>(request: R, context: RequestContext): ReplyOf<R> {
  const reply = coherent.execute(request, context);
  if (reply instanceof Promise) throw new Error(`${request.op} is answered later`);
  return reply;
}

function create(name: string): Request & { op: "create" } {
  const shape = { mode: 0o644, umask: 0, exclusive: true, truncate: false };
  return { op: "create", parent: root, name: Buffer.from(name), ...shape };
}

const unlink = (name: string) => ({ op: "unlink", parent: root, name: Buffer.from(name) }) as const;
const lookup = (name: string) => ({ op: "lookup", parent: root, name: Buffer.from(name), at: LIVE }) as const;
const chmod = (ino: InodeId, mode: number) => ({ op: "setattr", ino, set: { mode } }) as const;
const getattr = (ino: InodeId) => ({ op: "getattr", ino, at: LIVE }) as const;
const write = (ino: InodeId) =>
  ({ op: "write", ino, offset: 0n, data: Buffer.from("new"), killPrivileges: false }) as const;

function pass(ms: number): void {
  clock.step(ms * 1e6);
}

/** Whether a promise is resolved by now. */
async function isDone(promise: unknown): Promise<boolean> {
  let done = false;
  void Promise.resolve(promise).then(() => {
    done = true;
  });
  await new Promise((resolve) => setImmediate(resolve));
  return done;
}

test("a mount alone is answered in the same turn, however long its own cache would take", () => {
  const cache = attach(FIRST);
  cache.quick = false;
  const file = now(create("file"), by(FIRST));
  now(chmod(file.ino, 0o600), by(FIRST));
  now(unlink("file"), by(FIRST));
  expect(cache.told).toEqual([]);
});

test("a change is answered when every other cache that was told of it has acknowledged", async () => {
  const [first, second, third] = [attach(FIRST), attach(SECOND), attach(THIRD)];
  const file = now(create("file"), by(FIRST));
  for (const mount of [SECOND, THIRD]) now(lookup("file"), by(mount));
  for (const cache of [first, second, third]) {
    cache.news();
    cache.quick = false;
  }
  const answer = coherent.execute(chmod(file.ino, 0o600), by(FIRST));
  expect(await isDone(answer)).toBe(false);
  expect([first.news(), second.news(), third.news()]).toEqual([
    [],
    [`attributes ${file.ino}`],
    [`attributes ${file.ino}`],
  ]);
  second.acknowledge();
  expect(await isDone(answer)).toBe(false);
  third.acknowledge();
  expect(await answer).toMatchObject({ ino: file.ino });
});

test("what a cache does not hold it is not told, and nobody waits for it", () => {
  attach(FIRST);
  const second = attach(SECOND);
  pass(1e6);
  // Of the root it may hold what it learned before account was kept: it is told once.
  now(create("first"), by(FIRST));
  expect(second.news()).toEqual([`listing ${root}`]);
  second.quick = false;
  const file = now(create("file"), by(FIRST));
  now(chmod(file.ino, 0o600), by(FIRST));
  now(write(file.ino), by(FIRST));
  now(unlink("file"), by(FIRST));
  expect(second.news()).toEqual([]);
});

test("news of the same is told once, until the cache has asked for it again", () => {
  attach(FIRST);
  const second = attach(SECOND);
  const file = now(create("file"), by(FIRST));
  now(lookup("file"), by(SECOND));
  second.news();
  now(chmod(file.ino, 0o600), by(FIRST));
  now(chmod(file.ino, 0o601), by(FIRST));
  expect(second.told).toEqual([`attributes ${file.ino}`]);
  now(getattr(file.ino), by(SECOND));
  now(chmod(file.ino, 0o602), by(FIRST));
  expect(second.told).toEqual([`attributes ${file.ino}`, `attributes ${file.ino}`]);
});

test("a later change waits for news of the same that is not acknowledged yet", async () => {
  attach(FIRST);
  const second = attach(SECOND);
  const file = now(create("file"), by(FIRST));
  now(lookup("file"), by(SECOND));
  second.news();
  second.quick = false;
  const earlier = coherent.execute(chmod(file.ino, 0o600), by(FIRST));
  const later = coherent.execute(chmod(file.ino, 0o601), by(FIRST));
  expect(second.news()).toEqual([`attributes ${file.ino}`]);
  expect([await isDone(earlier), await isDone(later)]).toEqual([false, false]);
  second.acknowledge();
  await Promise.all([earlier, later]);
});

test("a name is told to caches that know what it stood for, or that there was none", () => {
  attach(FIRST);
  const second = attach(SECOND);
  // What it may have found absent before it was kept account of is forgotten after a while.
  pass(1e6);
  now(create("seen"), by(FIRST));
  now(create("unseen"), by(FIRST));
  now(lookup("seen"), by(SECOND));
  expect(() => now(lookup("absent"), by(SECOND))).toThrow(/ENOENT/);
  second.news();
  now(unlink("unseen"), by(FIRST));
  now(create("new"), by(FIRST));
  expect(second.news().filter((news) => news.startsWith("entry"))).toEqual([]);
  now(create("absent"), by(FIRST));
  now(unlink("seen"), by(FIRST));
  expect(second.news().filter((news) => news.startsWith("entry"))).toEqual(["entry absent", "entry seen"]);
});

test("a name that was found absent long ago is not remembered anywhere", () => {
  attach(FIRST);
  const second = attach(SECOND);
  pass(1e6);
  expect(() => now(lookup("absent"), by(SECOND))).toThrow(/ENOENT/);
  pass(60_000);
  second.news();
  now(create("absent"), by(FIRST));
  expect(second.news().filter((news) => news.startsWith("entry"))).toEqual([]);
});

test("what was told before there were two caches is in doubt: it is told", () => {
  const first = attach(FIRST);
  const file = now(create("file"), by(FIRST));
  expect(() => now(lookup("absent"), by(FIRST))).toThrow(/ENOENT/);
  attach(SECOND);
  now(chmod(file.ino, 0o600), by(SECOND));
  now(create("absent"), by(SECOND));
  expect(first.news()).toEqual(expect.arrayContaining([`attributes ${file.ino}`, "entry absent"]));
});

test("a listing is told of when a name in it changes that the cache does not know", () => {
  attach(FIRST);
  const second = attach(SECOND);
  pass(1e6);
  now({ op: "readdir", ino: root, cookie: 0n, entriesMax: 10, plus: false, at: LIVE }, by(SECOND));
  now(create("new"), by(FIRST));
  expect(second.news()).toEqual([`listing ${root}`]);
});

test("an inode that another mount changed while the answer waited is answered as it is then", async () => {
  attach(FIRST);
  const second = attach(SECOND);
  const file = now(create("file"), by(FIRST));
  now(lookup("file"), by(SECOND));
  second.quick = false;
  const answer = coherent.execute(chmod(file.ino, 0o600), by(FIRST));
  now(chmod(file.ino, 0o640), by(SECOND));
  second.acknowledge();
  expect(((await answer) as Inode).mode & 0o777).toBe(0o640);
});

test("who waits for a cache that is gone waits no longer", async () => {
  attach(FIRST);
  const second = attach(SECOND);
  const file = now(create("file"), by(FIRST));
  now(lookup("file"), by(SECOND));
  second.quick = false;
  const answer = coherent.execute(chmod(file.ino, 0o600), by(FIRST));
  expect(await isDone(answer)).toBe(false);
  detach.get(SECOND)?.();
  await answer;
  second.news();
  now(chmod(file.ino, 0o601), by(FIRST));
  expect(second.told).toEqual([]);
});

test("a holder that fails keeps nobody waiting", async () => {
  attach(FIRST);
  const failing: CacheHolder = { tell: () => Promise.reject(new Error("a broken promise")) };
  app.engine.attachMount(SECOND, { resumed: false });
  coherent.attach(SECOND, failing, { root });
  const file = now(create("file"), by(SECOND));
  await coherent.execute(chmod(file.ino, 0o600), by(FIRST));
});

test("refusals pass, and changes of the service wait for nobody", () => {
  const [first, second] = [attach(FIRST), attach(SECOND)];
  const file = now(create("file"), by(FIRST));
  first.quick = second.quick = false;
  expect(() => now(create("file"), by(SECOND))).toThrow(FsError);
  now(chmod(file.ino, 0o600), SERVICE_CONTEXT);
  expect(first.news()).toContain(`attributes ${file.ino}`);
});

test("a mount without a cache waits for those that have one", async () => {
  const first = attach(FIRST);
  const file = now(create("file"), by(FIRST));
  first.quick = false;
  const answer = coherent.execute(chmod(file.ino, 0o600), by(THIRD));
  expect(await isDone(answer)).toBe(false);
  first.acknowledge();
  await answer;
});

test("what a former process may not have answered is answered when all have heard of it", async () => {
  attach(FIRST);
  const heard = Promise.withResolvers<void>();
  const context = by(FIRST);
  const file = now(create("file"), context);
  coherent.recovering(heard.promise);
  const again = coherent.execute(create("file"), { ...context, resent: true });
  expect(await isDone(again)).toBe(false);
  now(lookup("file"), by(FIRST));
  heard.resolve();
  expect(await again).toMatchObject({ ino: file.ino });
  now(chmod(file.ino, 0o600), by(FIRST, { resent: true }));
});

/** An engine whose answers come when the test says so. */
function later(core: OpenApp["core"], inner: MetadataApi): { engine: CoherentEngine; run: () => void } {
  const held: (() => void)[] = [];
  const engine: CoherentEngine = {
    core,
    execute: (request, context) =>
      new Promise((resolve, reject) => {
        held.push(() => {
          try {
            resolve(inner.execute(request, context));
          } catch (error) {
            reject(error);
          }
        });
      }),
    subscribe: (listener) => inner.subscribe(listener),
    close: () => inner.close(),
  };
  const run = (): void => {
    for (const one of held.splice(0)) one();
  };
  return { engine, run };
}

test("a change that the engine made later waits at its end for what was told meanwhile", async () => {
  const { engine, run } = later(app.core, app.engine);
  coherent = new Coherence(engine);
  const [, second] = [attach(FIRST), attach(SECOND)];
  const created = coherent.execute(create("file"), by(FIRST));
  run();
  const { ino } = (await created) as Inode;
  const found = coherent.execute(lookup("file"), by(SECOND));
  run();
  await found;
  second.quick = false;
  const answer = coherent.execute(chmod(ino, 0o600), by(FIRST));
  run();
  expect(await isDone(answer)).toBe(false);
  second.acknowledge();
  await answer;
});

test("content that was changed while it was being read is read again", async () => {
  const { ino } = now(create("file"), by(FIRST));
  const { engine, run } = later(app.core, app.engine);
  coherent = new Coherence(engine);
  attach(FIRST);
  attach(SECOND);
  const reading = coherent.execute({ op: "read", ino, offset: 0n, length: 10, at: LIVE }, by(SECOND));
  app.engine.execute(write(ino), by(FIRST));
  run();
  await isDone(reading);
  run();
  expect(Buffer.concat(await reading).toString()).toBe("new");
});
