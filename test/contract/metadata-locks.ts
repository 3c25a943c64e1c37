import { expect } from "vitest";
import { B, C, END, Locking, WHOLE } from "./locking.ts";
import type { Behaviour } from "./metadata-share.ts";

/** Locks that are kept by whoever keeps the files, across mounts: fcntl(2) and flock(2). */
export function lockBehaviours(behaviour: Behaviour): void {
  exclusion(behaviour);
  ranges(behaviour);
  flocks(behaviour);
  conversion(behaviour);
  traces(behaviour);
}

function exclusion(behaviour: Behaviour): void {
  behaviour("a write lock keeps other owners out of its range, a read lock other writers", async (share) => {
    const locking = await Locking.on(share);
    expect(await locking.write([10n, 19n])).toBe("success");
    expect(await locking.read([0n, 9n], B)).toBe("success");
    expect(await locking.read([0n, 10n], B)).toBe("EAGAIN");
    expect(await locking.write([19n, 19n], B)).toBe("EAGAIN");
    expect(await locking.read([5n, 6n], C)).toBe("success");
    expect(await locking.write([5n, 6n], C)).toBe("EAGAIN");
    expect(await locking.write([20n, END], C)).toBe("success");
    expect(await locking.held()).toBe("r0-9 w10-19 w20-end");
  });

  behaviour("the same owner number on another mount is another owner", async (share) => {
    const locking = await Locking.on(share);
    const mountId = share.harness.attachMount();
    expect(await locking.write(WHOLE)).toBe("success");
    expect(await locking.write(WHOLE, { mountId })).toBe("EAGAIN");
    expect(await locking.unlock(WHOLE, { mountId })).toBe("success");
    expect(await locking.held()).toBe("w0-end");
    expect(await locking.unlock(WHOLE)).toBe("success");
    expect(await locking.write(WHOLE, { mountId })).toBe("success");
  });

  behaviour("getlk answers the lock in the way with its process, and nothing for its own", async (share) => {
    const locking = await Locking.on(share);
    await locking.read([3n, 7n]);
    const probe = (owner: bigint, type: "read" | "write") =>
      share.do({
        op: "getlk",
        ino: locking.ino,
        owner,
        flock: false,
        lock: { start: 5n, end: 100n, type, pid: 9 },
      });
    expect(await probe(2n, "write")).toEqual({ start: 3n, end: 7n, type: "read", pid: 100 });
    expect(await probe(2n, "read")).toBe(undefined);
    expect(await probe(1n, "write")).toBe(undefined);
  });

  behaviour("locks of different files have nothing to do with each other", async (share) => {
    const [one, other] = [await Locking.on(share, "one"), await Locking.on(share, "other")];
    await one.write(WHOLE);
    expect([await other.write(WHOLE, B), await other.held()]).toEqual(["success", "w0-end"]);
  });

  behaviour("owners have 64 bits; a range that can't be is EINVAL", async (share) => {
    const locking = await Locking.on(share);
    expect(await locking.write([0n, 0n], { owner: 2n ** 64n - 1n })).toBe("success");
    expect(await locking.write([0n, 0n], { owner: 2n ** 63n })).toBe("EAGAIN");
    for (const range of [
      [-1n, 5n],
      [5n, 4n],
      [0n, END + 1n],
    ] as const)
      expect(await locking.write(range)).toBe("EINVAL");
  });
}

function ranges(behaviour: Behaviour): void {
  behaviour("a lock is split by unlocking its middle, and is one again when that is locked", async (share) => {
    const locking = await Locking.on(share);
    await locking.write([0n, 99n]);
    await locking.unlock([40n, 59n]);
    expect(await locking.held()).toBe("w0-39 w60-99");
    expect(await locking.write([40n, 59n], B)).toBe("success");
    expect(await locking.unlock([40n, 59n], B)).toBe("success");
    await locking.write([40n, 59n]);
    expect(await locking.held()).toBe("w0-99");
    await locking.unlock([0n, 9n]);
    await locking.unlock([90n, END]);
    expect(await locking.held()).toBe("w10-89");
  });

  behaviour("a part is made a read lock, and all of it a write lock again", async (share) => {
    const locking = await Locking.on(share);
    await locking.write([0n, 99n]);
    expect(await locking.read([20n, 29n])).toBe("success");
    expect(await locking.held()).toBe("w0-19 r20-29 w30-99");
    expect(await locking.read([20n, 29n], B)).toBe("success");
    expect(await locking.write([0n, 99n])).toBe("EAGAIN");
    expect(await locking.held()).toBe("w0-19 r20-29 w30-99");
    await locking.unlock([20n, 29n], B);
    expect(await locking.write([0n, 99n])).toBe("success");
    expect(await locking.held()).toBe("w0-99");
  });

  behaviour("a lock over several takes their place; neighbours of another type stay apart", async (share) => {
    const locking = await Locking.on(share);
    await locking.read([10n, 19n]);
    await locking.read([30n, 39n]);
    await locking.write([0n, 9n]);
    await locking.write([15n, 34n]);
    expect(await locking.held()).toBe("w0-9 r10-14 w15-34 r35-39");
    await locking.read([0n, END]);
    expect(await locking.held()).toBe("r0-end");
  });
}

function flocks(behaviour: Behaviour): void {
  const flock = true;

  behaviour("flock locks are of the whole file, and are shared or exclusive", async (share) => {
    const locking = await Locking.on(share);
    expect(await locking.read([5n, 6n], { flock })).toBe("success");
    expect(await locking.held(true)).toBe("r0-end");
    expect(await locking.read(WHOLE, { ...B, flock })).toBe("success");
    expect(await locking.write(WHOLE, { ...C, flock })).toBe("EAGAIN");
    expect(await locking.unlock([0n, 0n], { flock })).toBe("success");
    expect(await locking.unlock(WHOLE, { ...B, flock })).toBe("success");
    expect(await locking.write(WHOLE, { ...C, flock })).toBe("success");
  });

  behaviour("flock and POSIX locks don't see each other, even of the same number", async (share) => {
    const locking = await Locking.on(share);
    expect(await locking.write(WHOLE)).toBe("success");
    expect(await locking.write(WHOLE, { ...B, flock })).toBe("success");
    expect(await locking.unlock(WHOLE, { flock })).toBe("success");
    expect([await locking.held(), await locking.held(true)]).toEqual(["w0-end", "w0-end"]);
  });
}

function conversion(behaviour: Behaviour): void {
  const flock = true;

  behaviour("a shared flock lock is made exclusive and back when nobody else has one", async (share) => {
    const locking = await Locking.on(share);
    await locking.read(WHOLE, { flock });
    expect(await locking.write(WHOLE, { flock })).toBe("success");
    expect(await locking.held(true)).toBe("w0-end");
    expect(await locking.read(WHOLE, { flock })).toBe("success");
    expect(await locking.read(WHOLE, { ...B, flock })).toBe("success");
  });

  behaviour("a flock conversion that can't be had loses the lock, as flock(2) warns", async (share) => {
    const locking = await Locking.on(share);
    await locking.read(WHOLE, { flock });
    await locking.read(WHOLE, { ...B, flock });
    expect(await locking.write(WHOLE, { flock })).toBe("EAGAIN");
    expect(await locking.write(WHOLE, { ...B, flock })).toBe("success");
  });

  behaviour("two that wait to convert don't wait for each other for ever", async (share) => {
    const locking = await Locking.on(share);
    await locking.read(WHOLE, { flock });
    await locking.read(WHOLE, { ...B, flock });
    const first = locking.wait("write", WHOLE, { flock });
    expect(await first.state()).toBe("waiting");
    expect(await locking.wait("write", WHOLE, { ...B, flock }).result).toBe("success");
    expect(await first.state()).toBe("waiting");
    await locking.unlock(WHOLE, { ...B, flock });
    expect(await first.result).toBe("success");
  });
}

function traces(behaviour: Behaviour): void {
  behaviour("a change of locks is one record; what changes nothing is none", async (share) => {
    const locking = await Locking.on(share);
    const records = async (act: () => Promise<unknown>): Promise<number> => {
      const before = share.lsn;
      await act();
      return share.lsn - before;
    };
    expect(await records(() => locking.unlock(WHOLE))).toBe(0);
    expect(await records(() => locking.write([0n, 9n]))).toBe(1);
    expect(await records(() => locking.write([2n, 5n]))).toBe(0);
    expect(await records(() => locking.write([2n, 5n], B))).toBe(0);
    expect(await records(() => locking.read([2n, 5n]))).toBe(1);
    expect(await records(() => locking.unlock([20n, END]))).toBe(0);
    expect(await records(() => locking.unlock(WHOLE))).toBe(1);
    expect(await records(() => locking.unlock(WHOLE, { flock: true }))).toBe(0);
  });

  behaviour("locking changes nothing of the file and tells other caches nothing", async (share) => {
    const locking = await Locking.on(share);
    const before = await share.stat(locking.ino);
    const told: unknown[] = [];
    const stop = share.harness.api.subscribe((event) => told.push(event));
    await locking.write(WHOLE);
    await locking.unlock(WHOLE);
    stop();
    expect([await share.stat(locking.ino), told]).toEqual([before, []]);
  });
}
