import { afterEach, beforeEach, expect, test } from "vitest";
import { FsError } from "../domain/errors.ts";
import type { InodeId, MountId } from "../domain/ids.ts";
import type { FileLock, RequestContext } from "../domain/metadata-api.ts";
import { RECORD_OP } from "../domain/record-op.ts";
import { plainKey, prefixEnd, TABLE } from "./keys.ts";
import { SERVICE_CONTEXT } from "./open-app.ts";
import { History } from "./reading/history.ts";
import { type TestApp, TestApps } from "./reading/test-app.ts";

const [FIRST, SECOND] = [1 as MountId, 2 as MountId];
const WHOLE = { start: 0n, end: 2n ** 63n - 1n };

let apps: TestApps;
let shop: TestApp;
let root: InodeId;
let unique = 100;

function nextUnique(): number {
  unique += 2;
  return unique;
}

beforeEach(async () => {
  apps = await TestApps.open();
  shop = await apps.app("shop");
  root = shop.share("files").root;
  attach({ resumed: false });
});

afterEach(() => apps.close());

function attach(options: { resumed: boolean }): void {
  for (const mount of [FIRST, SECOND]) shop.app.engine.attachMount(mount, options);
}

const by = (mountId: MountId, signal?: AbortSignal): RequestContext => ({
  actor: { ...SERVICE_CONTEXT.actor, mountId },
  unique: nextUnique(),
  resent: false,
  ...(signal === undefined ? {} : { signal }),
});

/** Takes a lock; a promise when it waits. */
function lock(
  ino: InodeId,
  mountId: MountId,
  how: { type?: FileLock["type"]; wait?: boolean; flock?: boolean; owner?: bigint } = {},
): undefined | Promise<undefined> {
  const { type = "write", wait = false, flock = false, owner = 7n } = how;
  return shop.app.engine.execute(
    { op: "setlk", ino, owner, flock, lock: { ...WHOLE, type, pid: 5 }, wait },
    by(mountId),
  );
}

function rows(): number {
  const gte = plainKey(TABLE.LOCK);
  return shop.app.store.range({ gte, lt: prefixEnd(gte), limit: 10_000 }).length;
}

const file = (name: string): InodeId => {
  shop.put(root, name, "content");
  return shop.at(root, name).ino;
};

/** As after kill -9, with the mounts that `attached` names. */
async function reopen(attached: readonly MountId[]): Promise<void> {
  await shop.settle();
  await shop.app.applier.close();
  shop = await apps.app("shop");
  for (const mount of attached) shop.app.engine.attachMount(mount, { resumed: true });
}

test("a mount that ends gives its locks to those who wait, and ends what it waited for itself", async () => {
  const [one, other] = [file("one"), file("other")];
  lock(one, FIRST);
  lock(one, FIRST, { flock: true });
  lock(other, SECOND);
  const waiters = [lock(one, SECOND, { wait: true }), lock(one, SECOND, { wait: true, flock: true })];
  const own = lock(other, FIRST, { wait: true, owner: 9n });
  shop.app.engine.detachMount(FIRST, SERVICE_CONTEXT);
  await Promise.all(waiters);
  await expect(own).rejects.toMatchObject({ code: "EIO" });
  expect([rows(), shop.app.core.locks.waits.count]).toEqual([3, 0]);
});

test("the locks of a mount whose lease has run out are counted and dropped; it may lock again", async () => {
  const inos = Array.from({ length: 2500 }, (_, index) => file(`f${index}`));
  for (const ino of inos) lock(ino, FIRST, { type: "read" });
  lock(inos[0] as InodeId, SECOND, { type: "read" });
  const waiter = lock(inos[0] as InodeId, SECOND, { type: "write", wait: true });
  const before = shop.app.core.lastLsn;
  expect(shop.app.engine.dropLocks(FIRST, SERVICE_CONTEXT)).toBe(2500);
  await waiter;
  // Three records drop them, a fourth is the grant.
  expect([shop.app.core.lastLsn - before, rows()]).toEqual([4, 1]);
  expect(shop.app.engine.dropLocks(FIRST, SERVICE_CONTEXT)).toBe(0);
  expect(lock(inos[1] as InodeId, FIRST)).toBe(undefined);
});

test("a mount that is away is granted nothing; when it is back it has what it waited for, in its turn", async () => {
  const [one, other] = [file("one"), file("other")];
  lock(one, FIRST);
  lock(other, FIRST);
  const waits = [
    lock(one, SECOND, { wait: true }),
    lock(one, FIRST, { wait: true, owner: 8n }),
    lock(other, SECOND, { wait: true }),
  ];
  expect(shop.app.engine.mountAway(SECOND, SERVICE_CONTEXT)).toBe(0);
  lock(one, FIRST, { type: "unlock" });
  lock(other, FIRST, { type: "unlock" });
  await waits[1];
  expect(shop.app.core.locks.waits.count).toBe(2);
  shop.app.engine.mountBack(SECOND);
  await waits[2];
  expect(shop.app.core.locks.waits.count).toBe(1);
  lock(one, FIRST, { type: "unlock", owner: 8n });
  await waits[0];
  expect(rows()).toBe(2);
  expect(shop.app.engine.mountAway(SECOND, SERVICE_CONTEXT)).toBe(2);
  shop.app.engine.detachMount(SECOND, SERVICE_CONTEXT);
  expect([rows(), shop.app.core.locks.away.size]).toEqual([0, 0]);
});

test("after a restart only mounts that go on have locks", async () => {
  const [one, other] = [file("one"), file("other")];
  lock(one, FIRST);
  lock(other, SECOND);
  await reopen([SECOND]);
  shop.app.engine.reapAbandoned(SERVICE_CONTEXT);
  expect(rows()).toBe(1);
  expect(lock(one, SECOND)).toBe(undefined);
  expect(lock(other, SECOND)).toBe(undefined);
  const third = 3 as MountId;
  shop.app.engine.attachMount(third, { resumed: false });
  expect(() => lock(other, third)).toThrow(FsError);
});

test("an inode that ends takes its locks along, its rows too", async () => {
  const ino = file("one");
  lock(ino, FIRST);
  lock(ino, FIRST, { flock: true });
  const waiter = lock(ino, SECOND, { wait: true });
  expect(rows()).toBe(2);
  shop.unlink(root, "one");
  expect(rows()).toBe(2);
  shop.run({ op: "forget", ino });
  await expect(waiter).rejects.toMatchObject({ code: "ESTALE" });
  expect([rows(), shop.app.core.locks.count]).toEqual([0, 0]);
  await reopen([FIRST, SECOND]);
  expect([rows(), shop.app.core.locks.count]).toEqual([0, 0]);
});

test("who waits when the service stops is told so", async () => {
  const ino = file("one");
  lock(ino, FIRST);
  const waiter = lock(ino, SECOND, { wait: true });
  const closed = shop.app.close();
  await expect(waiter).rejects.toMatchObject({ code: "EIO", message: "the service is stopping" });
  await closed;
  shop = await apps.app("shop");
  expect(shop.app.core.locks.count).toBe(1);
});

test("a wait whose record can't be made fails, and the next in the line gets the lock", async () => {
  const ino = file("one");
  lock(ino, FIRST);
  const [second, third] = [lock(ino, SECOND, { wait: true }), lock(ino, SECOND, { wait: true, owner: 8n })];
  const { journal } = shop.app;
  const append = journal.append.bind(journal);
  let appends = 0;
  journal.append = (draft, options) => {
    // The unlock is the first record; the second is the grant.
    if (++appends === 2) throw FsError.of("ENOSPC");
    return append(draft, options);
  };
  lock(ino, FIRST, { type: "unlock" });
  await expect(second).rejects.toMatchObject({ code: "ENOSPC" });
  await third;
  expect([
    rows(),
    shop.app.core.locks.holder(ino, { mountId: SECOND, owner: 8n, flock: false })?.ranges.length,
  ]).toEqual([1, 1]);
});

test("a lock that can't be recorded is not taken; a mount's locks go though that can't be recorded", async () => {
  const ino = file("one");
  const { journal } = shop.app;
  const append = journal.append.bind(journal);
  journal.append = () => {
    throw FsError.of("EIO");
  };
  expect(() => lock(ino, FIRST)).toThrow("EIO");
  expect(shop.app.core.locks.count).toBe(0);
  journal.append = append;
  lock(ino, FIRST);
  journal.append = () => {
    throw FsError.of("ENOSPC");
  };
  shop.app.engine.detachMount(FIRST, SERVICE_CONTEXT);
  // Nor can what others want to be granted: the old row must go first.
  expect(() => lock(ino, SECOND)).toThrow("ENOSPC");
  expect([rows(), shop.app.core.locks.count]).toEqual([1, 0]);
  journal.append = append;
  expect(lock(ino, SECOND)).toBe(undefined);
  expect([rows(), shop.app.core.locks.count, shop.app.core.locks.dropped]).toEqual([1, 1, []]);
  await reopen([SECOND]);
  shop.app.engine.reapAbandoned(SERVICE_CONTEXT);
  expect(shop.app.core.locks.count).toBe(1);
});

test("the process of a holder is told on its own machine only", () => {
  const ino = file("one");
  const there = 3 as MountId;
  shop.app.engine.attachMount(there, { resumed: false, elsewhere: true });
  const pidSeenBy = (mountId: MountId, owner: bigint): number | undefined => {
    const asked = { op: "getlk", ino, owner, flock: false, lock: { ...WHOLE, type: "write", pid: 1 } } as const;
    return (shop.app.engine.execute(asked, by(mountId)) as FileLock | undefined)?.pid;
  };
  lock(ino, FIRST);
  expect([pidSeenBy(FIRST, 8n), pidSeenBy(SECOND, 8n), pidSeenBy(there, 8n)]).toEqual([5, 5, 0]);
  lock(ino, FIRST, { type: "unlock" });
  lock(ino, there);
  expect([pidSeenBy(FIRST, 8n), pidSeenBy(there, 8n)]).toEqual([0, 5]);
});

test("locks leave no trace in the log, and rows of no past", async () => {
  const ino = file("one");
  const before = shop.app.core.lastLsn;
  lock(ino, FIRST);
  lock(ino, FIRST, { type: "unlock" });
  shop.app.engine.detachMount(FIRST, SERVICE_CONTEXT);
  expect(shop.app.core.lastLsn).toBe(before + 2);
  for await (const { op, rows: changed } of shop.app.core.records(
    (before + 1) as typeof before,
    shop.app.core.lastLsn,
  )) {
    expect(op).toBe(RECORD_OP.LOCK);
    const tables = changed.map(({ key }) => key[0]).filter((table) => table !== TABLE.TIME);
    expect(tables).toEqual([TABLE.LOCK]);
  }
  const shown: string[] = [];
  const request = { path: shop.path(""), order: "oldest-first", follow: false } as const;
  for await (const page of new History(apps.parts).log(request)) shown.push(...page.map(({ op }) => op));
  expect(shown.length).toBeGreaterThan(0);
  expect(shown).not.toContain("LOCK");
});
