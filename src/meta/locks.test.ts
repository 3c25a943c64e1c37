import { describe, expect, test } from "vitest";
import { Random } from "../../test/model/random.ts";
import { FsError } from "../domain/errors.ts";
import type { InodeId, MountId } from "../domain/ids.ts";
import type { FileLock } from "../domain/metadata-api.ts";
import { wouldDeadlock } from "./lock-deadlock.ts";
import { LOCK_END_MAX } from "./lock-ranges.ts";
import { decodeLock, encodeLock, type LockOwner } from "./lock-rows.ts";
import { Locks } from "./locks.ts";
import { SERVICE_CONTEXT } from "./open-app.ts";

const SEED = Number(process.env["SEED"] ?? Math.floor(Math.random() * 2 ** 32));
const INO = 5000 as InodeId;
const MOUNT = 1 as MountId;

function owner(number: number, options: { mountId?: number; flock?: boolean } = {}): LockOwner {
  return { mountId: (options.mountId ?? MOUNT) as MountId, owner: BigInt(number), flock: options.flock ?? false };
}

function lock(type: FileLock["type"], start: number, end: number): FileLock {
  return { start: BigInt(start), end: BigInt(end), type, pid: 1 };
}

/** Takes the lock if nothing is in its way; answers whether. */
function take(locks: Locks, who: LockOwner, wanted: FileLock, ino = INO): boolean {
  if (wanted.type !== "unlock" && locks.blocker(ino, who, wanted) !== undefined) return false;
  locks.apply(locks.change(ino, who, wanted));
  return true;
}

const codeOf = (act: () => unknown): string => {
  try {
    act();
  } catch (error) {
    if (error instanceof FsError) return error.code;
    throw error;
  }
  return "success";
};

/** Who holds which byte of a small file, byte by byte. */
class ByteModel {
  readonly #bytes: string[][];

  constructor(owners: number, length: number) {
    this.#bytes = Array.from({ length: owners }, () => new Array<string>(length).fill("."));
  }

  isFree(who: number, { type, start, end }: FileLock): boolean {
    const others = this.#bytes.filter((_, index) => index !== who).flatMap((bytes) => slice(bytes, start, end));
    return type === "write" ? others.every((byte) => byte === ".") : !others.includes("w");
  }

  take(who: number, { type, start, end }: FileLock): void {
    for (let at = Number(start); at <= Number(end); at++)
      (this.#bytes[who] as string[])[at] = type === "unlock" ? "." : type === "read" ? "r" : "w";
  }

  text(who: number): string {
    return (this.#bytes[who] as string[]).join("");
  }
}

function slice(bytes: readonly string[], start: bigint, end: bigint): string[] {
  return bytes.slice(Number(start), Number(end) + 1);
}

/** What an owner holds, byte by byte; asserts that ranges are in order, apart, and as few as possible (L2). */
function textOf(locks: Locks, who: LockOwner, length: number): string {
  const bytes = new Array<string>(length).fill(".");
  const ranges = locks.holder(INO, who)?.ranges ?? [];
  ranges.forEach((range, index) => {
    expect(range.start).toBeLessThanOrEqual(range.end);
    const before = ranges[index - 1];
    if (before !== undefined) expect(range.start).toBeGreaterThan(before.end);
    if (before?.type === range.type) expect(range.start).toBeGreaterThan(before.end + 1n);
    bytes.fill(range.type === "read" ? "r" : "w", Number(range.start), Number(range.end) + 1);
  });
  return bytes.join("");
}

describe("the table of locks", () => {
  test("keeps what a map of every byte keeps, and rows that say the same", () => {
    console.log(`SEED=${SEED}`);
    const random = new Random(SEED);
    const [length, owners] = [24, [owner(1), owner(2), owner(1, { mountId: 2 })]];
    const model = new ByteModel(owners.length, length);
    const locks = new Locks();
    const rows = new Map<string, Buffer>();
    for (let step = 0; step < 8000; step++) {
      const who = random.below(owners.length);
      const start = random.below(length);
      const end = start + random.below(Math.min(length - start, 10));
      const wanted = lock(random.pick(["read", "write", "unlock"]), start, end);
      const by = owners[who] as LockOwner;
      const free = wanted.type === "unlock" || model.isFree(who, wanted);
      expect(wanted.type === "unlock" || locks.blocker(INO, by, wanted) === undefined, `step ${step}`).toBe(free);
      if (!free) continue;
      const before = locks.holder(INO, by);
      const change = locks.change(INO, by, wanted);
      const same = model.text(who);
      model.take(who, wanted);
      expect(change.rows.length === 0, `step ${step}`).toBe(model.text(who) === same);
      locks.apply(change);
      if (change.rows.length === 0) expect(locks.holder(INO, by)?.ranges ?? []).toEqual(before?.ranges ?? []);
      for (const { key, value } of change.rows) {
        if (value === null) expect(rows.delete(key.toString("hex"))).toBe(true);
        else rows.set(key.toString("hex"), value);
      }
      for (const [index, each] of owners.entries())
        expect(textOf(locks, each, length), `step ${step}`).toBe(model.text(index));
      const kept = [...rows].map(([key, value]) => decodeLock(Buffer.from(key, "hex"), value));
      const held = owners.flatMap((each) =>
        (locks.holder(INO, each)?.ranges ?? []).map((range) => ({ ino: INO, owner: each, range })),
      );
      expect(kept.length).toBe(held.length);
      expect(locks.count).toBe(held.length);
      for (const row of held) expect(kept).toContainEqual(row);
      expect(new Set(locks.keysOf(INO).map((key) => key.toString("hex")))).toEqual(new Set(rows.keys()));
    }
  });

  test("a lock to the end has no neighbour behind it", () => {
    const locks = new Locks();
    take(locks, owner(1), { start: 10n, end: LOCK_END_MAX, type: "write", pid: 1 });
    take(locks, owner(1), lock("write", 0, 9));
    expect(locks.holder(INO, owner(1))?.ranges).toEqual([{ start: 0n, end: LOCK_END_MAX, type: "write", pid: 1 }]);
    take(locks, owner(1), { start: LOCK_END_MAX, end: LOCK_END_MAX, type: "unlock", pid: 1 });
    expect(locks.holder(INO, owner(1))?.ranges[0]?.end).toBe(LOCK_END_MAX - 1n);
  });

  test("a file takes 8,192 locks and no more, by locking or by splitting; giving one back makes room", () => {
    const locks = new Locks();
    for (let index = 0; index < 8191; index++) take(locks, owner(1), lock("read", index * 2, index * 2));
    take(locks, owner(2), lock("read", 100_000, 100_002));
    expect(locks.count).toBe(8192);
    expect(codeOf(() => take(locks, owner(3), lock("read", 0, 0)))).toBe("ENOLCK");
    expect(codeOf(() => take(locks, owner(2), lock("unlock", 100_001, 100_001)))).toBe("ENOLCK");
    expect(codeOf(() => take(locks, owner(2), lock("read", 100_003, 100_003)))).toBe("success");
    expect(codeOf(() => take(locks, owner(3), lock("read", 0, 0), (INO + 1) as InodeId))).toBe("success");
    take(locks, owner(1), lock("unlock", 0, 0));
    expect(codeOf(() => take(locks, owner(3), lock("read", 0, 0)))).toBe("success");
  });

  test("an app takes 65,536 locks and no more", () => {
    const locks = new Locks();
    for (let index = 0; index < 65_536; index++)
      locks.apply(locks.change((INO + (index % 100)) as InodeId, owner(index), lock("read", 0, 0)));
    expect(codeOf(() => take(locks, owner(1), lock("read", 0, 0), (INO + 500) as InodeId))).toBe("ENOLCK");
    locks.inodeGone(INO);
    expect(locks.count).toBe(65_536 - 656);
    expect(codeOf(() => take(locks, owner(1), lock("read", 0, 0), (INO + 500) as InodeId))).toBe("success");
  });

  test("dropping a mount's locks names their rows and leaves the others'", () => {
    const locks = new Locks();
    take(locks, owner(1), lock("read", 0, 5));
    take(locks, owner(1, { mountId: 2 }), lock("read", 0, 5));
    take(locks, owner(1, { mountId: 2 }), lock("read", 9, 9), (INO + 1) as InodeId);
    take(locks, owner(1, { mountId: 2, flock: true }), lock("read", 0, 5));
    const { inos, count } = locks.drop((mountId) => mountId === 2);
    expect([inos, count, locks.count]).toEqual([[INO, INO + 1], 3, 1]);
    const rows = locks.dropped.map((key) => decodeLock(key, encodeLock({ start: 0n, end: 0n, type: "read", pid: 0 })));
    expect(rows.map(({ ino, owner: { mountId, flock } }) => `${ino} ${mountId} ${flock}`).sort()).toEqual([
      `${INO} 2 false`,
      `${INO} 2 true`,
      `${INO + 1} 2 false`,
    ]);
    expect(locks.drop((mountId) => mountId === 2).count).toBe(0);
  });
});

describe("circles of waits", () => {
  /** `who` waits for what holds `at`. */
  const wait = (locks: Locks, who: LockOwner, at: number): void => {
    locks.waits.add({ ino: INO, owner: who, lock: lock("write", at, at), context: SERVICE_CONTEXT }).catch(() => {});
  };

  test("one of as many members as are looked at is found, a longer one is waited for", () => {
    for (const [members, found] of [
      [256, true],
      [400, false],
    ] as const) {
      const locks = new Locks();
      for (let index = 0; index < members; index++) take(locks, owner(index), lock("write", index, index));
      for (let index = 0; index + 1 < members; index++) wait(locks, owner(index), index + 1);
      expect(wouldDeadlock(locks, INO, owner(members - 1), lock("write", 0, 0))).toBe(found);
    }
  });

  test("many who wait for each other's locks without a circle are told apart from one", () => {
    const locks = new Locks();
    for (let index = 0; index < 20; index++) take(locks, owner(index), lock("write", index, index));
    for (let index = 0; index < 19; index++)
      for (let other = index + 1; other < 20; other++) if (other % 3 !== 0) wait(locks, owner(index), other);
    expect(wouldDeadlock(locks, INO, owner(100), lock("write", 0, 19))).toBe(false);
    expect(wouldDeadlock(locks, INO, owner(19), lock("write", 0, 0))).toBe(true);
  });
});

test("16,384 requests wait and no more; one that ends makes room", async () => {
  const locks = new Locks();
  const abort = new AbortController();
  const add = (number: number, signal?: AbortSignal): Promise<undefined> =>
    locks.waits.add({
      ino: INO,
      owner: owner(number),
      lock: lock("write", 0, 0),
      context: signal === undefined ? SERVICE_CONTEXT : { ...SERVICE_CONTEXT, signal },
    });
  const first = add(0, abort.signal);
  const rest = Array.from({ length: 16_383 }, (_, index) => add(index + 1));
  expect(codeOf(() => add(99_999))).toBe("ENOLCK");
  abort.abort();
  await expect(first).rejects.toMatchObject({ code: "EINTR" });
  rest.push(add(99_999));
  locks.waits.failAll(FsError.of("EIO"));
  expect((await Promise.allSettled(rest)).filter(({ status }) => status === "rejected")).toHaveLength(16_384);
  expect([locks.waits.count, locks.waits.of(INO), [...locks.waits.ofOwner(owner(1))]]).toEqual([0, [], []]);
});
