import { expect } from "vitest";
import type { MountId } from "../../src/domain/ids.ts";
import { B, C, D, END, Locking, WHOLE } from "./locking.ts";
import type { Behaviour } from "./metadata-share.ts";

/** Waiting for locks, and what ends them beside unlocking. */
export function lockWaitBehaviours(behaviour: Behaviour): void {
  waiting(behaviour);
  interruption(behaviour);
  deadlocks(behaviour);
  ends(behaviour);
  crashes(behaviour);
  crashesWhileWaiting(behaviour);
}

function waiting(behaviour: Behaviour): void {
  behaviour("who waits gets the lock when it is free, in the order they came", async (share) => {
    const locking = await Locking.on(share);
    await locking.write(WHOLE);
    const [second, third] = [locking.wait("write", WHOLE, B), locking.wait("write", WHOLE, C)];
    expect([await second.state(), await third.state()]).toEqual(["waiting", "waiting"]);
    await locking.unlock(WHOLE);
    expect([await second.result, await third.state()]).toEqual(["success", "waiting"]);
    await locking.unlock(WHOLE, B);
    expect(await third.result).toBe("success");
    expect(await locking.held()).toBe("w0-end");
  });

  behaviour(
    "readers that wait for a writer get their locks together; a writer waits for all of them",
    async (share) => {
      const locking = await Locking.on(share);
      const mountId = share.harness.attachMount();
      await locking.write(WHOLE);
      const readers = [B, C, { ...D, mountId }].map((who) => locking.wait("read", [0n, 9n], who));
      await locking.read(WHOLE);
      for (const reader of readers) expect(await reader.result).toBe("success");
      const writer = locking.wait("write", [9n, 9n], { owner: 5n });
      await locking.unlock(WHOLE);
      await locking.unlock([9n, 9n], B);
      await locking.unlock([5n, 20n], C);
      expect(await writer.state()).toBe("waiting");
      await locking.unlock(WHOLE, { ...D, mountId });
      expect(await writer.result).toBe("success");
    },
  );

  behaviour("only locks that are held are in the way, not requests that wait", async (share) => {
    const locking = await Locking.on(share);
    await locking.read(WHOLE);
    const writer = locking.wait("write", WHOLE, B);
    expect(await writer.state()).toBe("waiting");
    expect(await locking.read(WHOLE, C)).toBe("success");
    await locking.unlock(WHOLE);
    expect(await writer.state()).toBe("waiting");
    await locking.unlock(WHOLE, C);
    expect(await writer.result).toBe("success");
  });

  behaviour("a lock that is granted frees what it takes the place of, for who came before too", async (share) => {
    const locking = await Locking.on(share);
    await locking.write([0n, 9n]);
    await locking.write([10n, 19n], B);
    const reader = locking.wait("read", [5n, 5n], C);
    expect(await reader.state()).toBe("waiting");
    // Another thread of the first owner: what it waits for makes its write lock a read lock.
    const thread = locking.wait("read", [0n, 19n]);
    expect(await thread.state()).toBe("waiting");
    await locking.unlock(WHOLE, B);
    expect([await thread.result, await reader.result]).toEqual(["success", "success"]);
    expect(await locking.held()).toBe("r0-19");
  });

  behaviour("waiting for a lock that is free does not wait", async (share) => {
    const locking = await Locking.on(share);
    expect(await locking.wait("write", WHOLE).result).toBe("success");
    expect(await locking.wait("write", [5n, 6n]).result).toBe("success");
  });
}

function interruption(behaviour: Behaviour): void {
  behaviour("a wait that is interrupted ends with EINTR and takes nothing", async (share) => {
    const locking = await Locking.on(share);
    await locking.write(WHOLE);
    const abort = new AbortController();
    const gone = locking.wait("write", WHOLE, { ...B, signal: abort.signal });
    const other = locking.wait("write", WHOLE, C);
    expect(await gone.state()).toBe("waiting");
    abort.abort();
    expect(await gone.result).toBe("EINTR");
    await locking.unlock(WHOLE);
    expect(await other.result).toBe("success");
    const before = share.lsn;
    expect(await locking.wait("write", WHOLE, { ...B, signal: AbortSignal.abort() }).result).toBe("EINTR");
    expect(share.lsn).toBe(before);
  });

  behaviour("an interruption after the lock was had changes nothing", async (share) => {
    const locking = await Locking.on(share);
    await locking.write(WHOLE);
    const abort = new AbortController();
    const waiter = locking.wait("write", WHOLE, { ...B, signal: abort.signal });
    expect(await waiter.state()).toBe("waiting");
    await locking.unlock(WHOLE);
    expect(await waiter.result).toBe("success");
    abort.abort();
    expect(await locking.held()).toBe("w0-end");
  });
}

function deadlocks(behaviour: Behaviour): void {
  behaviour("a wait that would close a circle is EDEADLK, across files and mounts", async (share) => {
    const [one, other] = [await Locking.on(share, "one"), await Locking.on(share, "other")];
    const there = { owner: 1n, mountId: share.harness.attachMount() };
    await one.write(WHOLE);
    await other.write(WHOLE, there);
    const waiter = other.wait("write", WHOLE);
    expect(await waiter.state()).toBe("waiting");
    expect(await one.wait("write", WHOLE, there).result).toBe("EDEADLK");
    expect(await one.write(WHOLE, there)).toBe("EAGAIN");
    await other.unlock(WHOLE, there);
    expect(await waiter.result).toBe("success");
  });

  behaviour("a circle of four is found, and one that is not closed is not", async (share) => {
    const locking = await Locking.on(share);
    const owners = [{ owner: 1n }, B, C, D];
    for (const [at, who] of owners.entries()) await locking.write([BigInt(at), BigInt(at)], who);
    const waits = [0, 1, 2].map((at) => locking.wait("write", [BigInt(at + 1), BigInt(at + 1)], owners[at] ?? {}));
    for (const wait of waits) expect(await wait.state()).toBe("waiting");
    expect(await locking.wait("write", [0n, 0n], D).result).toBe("EDEADLK");
    await locking.unlock(WHOLE, D);
    expect(await waits[2]?.result).toBe("success");
    await locking.unlock(WHOLE, C);
    expect(await waits[1]?.result).toBe("success");
  });

  behaviour("two readers that both wait to write would wait for each other: the second is refused", async (share) => {
    const locking = await Locking.on(share);
    await locking.read(WHOLE);
    await locking.read(WHOLE, B);
    const first = locking.wait("write", WHOLE);
    expect(await first.state()).toBe("waiting");
    expect(await locking.wait("write", WHOLE, B).result).toBe("EDEADLK");
    expect(await locking.held()).toBe("r0-end");
    await locking.unlock(WHOLE, B);
    expect(await first.result).toBe("success");
  });
}

function ends(behaviour: Behaviour): void {
  behaviour(
    "an unlinked file is locked as long as it is there; then it is ESTALE, for who waits too",
    async (share) => {
      const locking = await Locking.on(share);
      await share.unlink("file");
      expect(await locking.write(WHOLE)).toBe("success");
      const waiter = locking.wait("write", WHOLE, B);
      expect(await waiter.state()).toBe("waiting");
      await share.forget(locking.ino);
      expect(await waiter.result).toBe("ESTALE");
      expect(await locking.write(WHOLE)).toBe("ESTALE");
      expect(
        await share.refusal({
          op: "getlk",
          ino: locking.ino,
          owner: 1n,
          flock: false,
          lock: { start: 0n, end: END, type: "read", pid: 1 },
        }),
      ).toBe("ESTALE");
      await share.reopen();
      expect(await locking.write(WHOLE)).toBe("ESTALE");
    },
  );
}

function crashes(behaviour: Behaviour): void {
  behaviour("locks are held over a crash, with the rows applied or not", async (share) => {
    const locking = await Locking.on(share);
    const mountId: MountId = share.harness.attachMount();
    await locking.write([0n, 99n]);
    await locking.unlock([10n, 19n]);
    await locking.read([50n, 59n]);
    await locking.read(WHOLE, { mountId, owner: 2n ** 64n - 1n, flock: true });
    const check = async (): Promise<void> => {
      expect(await locking.held()).toBe("w0-9 w20-49 r50-59 w60-99");
      expect(await locking.held(true)).toBe("r0-end");
      expect(await locking.write([0n, 0n], B)).toBe("EAGAIN");
    };
    await check();
    await share.reopen();
    await check();
    await share.settle();
    await share.reopen();
    await check();
    expect(await locking.unlock(WHOLE)).toBe("success");
    expect(await locking.unlock(WHOLE, { mountId, owner: 2n ** 64n - 1n, flock: true })).toBe("success");
    await share.reopen();
    expect([await locking.held(), await locking.held(true)]).toEqual(["", ""]);
  });

  behaviour("a lock that was had before a crash is had again when it is asked for again", async (share) => {
    const locking = await Locking.on(share);
    const { unique } = share.context();
    expect(await locking.wait("write", WHOLE, { unique }).result).toBe("success");
    await share.reopen();
    const before = share.lsn;
    expect(await locking.wait("write", WHOLE, { unique, resent: true }).result).toBe("success");
    expect(await locking.wait("write", WHOLE).result).toBe("success");
    expect(share.lsn).toBe(before);
    expect(await locking.write(WHOLE, B)).toBe("EAGAIN");
  });
}

function crashesWhileWaiting(behaviour: Behaviour): void {
  behaviour("who waited when it crashed asks again, waits on, and gets it", async (share) => {
    const locking = await Locking.on(share);
    await locking.write(WHOLE);
    const { unique } = share.context();
    expect(await locking.wait("write", WHOLE, { ...B, unique }).state()).toBe("waiting");
    await share.reopen();
    const waiter = locking.wait("write", WHOLE, { ...B, unique, resent: true });
    expect(await waiter.state()).toBe("waiting");
    await locking.unlock(WHOLE);
    expect(await waiter.result).toBe("success");
    await share.reopen();
    expect(await locking.wait("write", WHOLE, { ...B, unique, resent: true }).result).toBe("success");
    expect(await locking.write(WHOLE, C)).toBe("EAGAIN");
  });

  behaviour("who waits to convert a flock lock is not granted by asking again", async (share) => {
    const locking = await Locking.on(share);
    const flock = true;
    await locking.read(WHOLE, { flock });
    await locking.read(WHOLE, { ...B, flock });
    const { unique } = share.context();
    expect(await locking.wait("write", WHOLE, { flock, unique }).state()).toBe("waiting");
    await share.reopen();
    const waiter = locking.wait("write", WHOLE, { flock, unique, resent: true });
    expect(await waiter.state()).toBe("waiting");
    await locking.unlock(WHOLE, { ...B, flock });
    expect(await waiter.result).toBe("success");
  });
}
