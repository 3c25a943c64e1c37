import { existsSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { LineChild } from "./child.ts";
import { TestService } from "./fixture.ts";
import { skipWithout } from "./requirements.ts";
import { run, shell } from "./run.ts";

const skipped = skipWithout("python3", "flock");
const LOCKER = fileURLToPath(new URL("./posix/locker.py", import.meta.url));

/** What happens a moment after the call that causes it, on a loaded machine some moments. */
const SOON = { timeout: 20_000, interval: 20 };

describe.skipIf(skipped)("two mounts of one share with shared locks", { timeout: 120_000 }, () => {
  let service: TestService;
  let first: string;
  let second: string;
  const lockers: LineChild[] = [];

  beforeAll(async () => {
    service = new TestService();
    await service.start();
    await service.cli("app", "create", "shop");
    await service.cli("share", "create", "shop/files");
    first = await service.mount("shop/files", "first", "--locks", "shared");
    second = await service.mount("shop/files", "second", "--locks", "shared");
  });
  afterEach(async () => {
    for (const locker of lockers.splice(0)) await locker.end();
  });
  afterAll(async () => service.dispose());

  const locker = (mount: string): LineChild => {
    const child = new LineChild("python3", [LOCKER, mount]);
    lockers.push(child);
    return child;
  };
  const pair = (): [LineChild, LineChild] => [locker(first), locker(second)];
  /** A fresh service process serves: a request that needs it was answered. */
  const killService = async (): Promise<void> => {
    const killed = service.servicePid;
    process.kill(killed, "SIGKILL");
    await expect.poll(() => [0, killed].includes(service.servicePid), SOON).toBe(false);
    await shell(`stat -f ${first} > /dev/null`);
  };

  test("a lock on one keeps others out on both: POSIX by ranges, flock whole, each kind by itself", async () => {
    const [here, there] = pair();
    const other = locker(first);
    expect(await here.ask("posix ex ranges 0 10")).toBe("ok");
    for (const child of [there, other]) {
      expect(await child.ask("posix sh ranges 9 1")).toBe("EAGAIN");
      expect(await child.ask("posix sh ranges 10 5")).toBe("ok");
    }
    expect(await here.ask("posix ex ranges 12 1")).toBe("EAGAIN");
    expect(await here.ask("flock ex ranges")).toBe("ok");
    for (const child of [there, other]) expect(await child.ask("flock sh ranges")).toBe("EAGAIN");
    expect(await here.ask("posix un ranges 0 5")).toBe("ok");
    expect(await there.ask("posix ex ranges 0 5")).toBe("ok");
    expect(await there.ask("posix ex ranges 4 2")).toBe("EAGAIN");
  });

  test("F_GETLK answers range and process of the holder on the other mount", async () => {
    const [here, there] = pair();
    expect(await there.ask("get seen 0 0")).toBe("free");
    await here.ask("posix ex seen 100 50");
    expect(await there.ask("get seen 0 0")).toBe(`ex 100 50 ${await here.ask("pid")}`);
    expect(await there.ask("get seen 0 100")).toBe("free");
    expect(await here.ask("get seen 0 0")).toBe("free");
  });

  test("flock(1) keeps commands on both mounts from running together, and gives up after -w", async () => {
    const counter = (mount: string): string => path.join(mount, "counter");
    writeFileSync(path.join(service.folder, "count"), "0");
    const count = path.join(service.folder, "count");
    const script = `for n in $(seq 25); do flock $0 sh -c 'n=$(cat ${count}); echo $((n + 1)) > ${count}'; done`;
    await Promise.all([first, second, first, second].map((mount) => run("sh", ["-c", script, counter(mount)])));
    expect(readFileSync(count, "utf8").trim()).toBe("100");
    const holder = locker(first);
    await holder.ask("flock ex counter");
    expect((await run("flock", ["-n", counter(second), "true"], { anyStatus: true })).status).toBe(1);
    expect((await run("flock", ["-w", "0.2", counter(second), "true"], { anyStatus: true })).status).toBe(1);
    expect((await run("flock", ["-s", "-n", counter(second), "true"], { anyStatus: true })).status).toBe(1);
  });

  test.each([
    ["unlocks", "posix", async (holder: LineChild) => holder.ask("posix un handed 0 0")],
    ["closes the file", "posix", async (holder: LineChild) => holder.ask("close handed")],
    ["closes another descriptor of it", "posix", async (holder: LineChild) => holder.ask("reopen handed")],
    ["is killed", "posix", async (holder: LineChild) => holder.end()],
    ["unlocks", "flock", async (holder: LineChild) => holder.ask("flock un handed")],
    ["closes the file", "flock", async (holder: LineChild) => holder.ask("close handed")],
    ["is killed", "flock", async (holder: LineChild) => holder.end()],
    ["closes the file", "ofd", async (holder: LineChild) => holder.ask("close handed")],
    ["is killed", "ofd", async (holder: LineChild) => holder.end()],
  ] as const)("who waits gets the lock when its holder %s (%s)", async (_what, kind, letGo) => {
    const [holder, waiter] = pair();
    expect(await holder.ask(`${kind} ex handed`)).toBe("ok");
    expect(await waiter.ask(`${kind} wait-ex handed`)).toBe("waits");
    expect(await locker(second).ask(`${kind} sh handed`)).toBe("EAGAIN");
    expect(await waiter.ask("state")).toBe("waits");
    await letGo(holder);
    expect(await waiter.ask("result")).toBe("ok");
    expect(await locker(first).ask(`${kind} sh handed`)).toBe("EAGAIN");
  });

  test("a flock lock lasts as long as a child has the file open, a POSIX lock ends with the process that took it", async () => {
    const [holder, waiter] = pair();
    await holder.ask("flock ex inherited");
    await holder.ask("posix ex inherited");
    await holder.ask("fork inherited");
    await holder.ask("close inherited");
    expect(await waiter.ask("posix wait-ex inherited")).toBe("waits");
    expect(await waiter.ask("result")).toBe("ok");
    expect(await waiter.ask("flock ex inherited")).toBe("EAGAIN");
    expect(await waiter.ask("flock wait-ex inherited")).toBe("waits");
    await holder.ask("end");
    expect(await waiter.ask("result")).toBe("ok");
  });

  test("a circle of waits over both mounts is EDEADLK for who would close it", async () => {
    const [here, there] = pair();
    expect([await here.ask("posix ex one"), await there.ask("posix ex other")]).toEqual(["ok", "ok"]);
    expect([await here.ask("posix wait-ex other"), await there.ask("posix wait-ex one")]).toEqual(["waits", "waits"]);
    // Whoever asked last is refused.
    const states = async (): Promise<string> => [await here.ask("state"), await there.ask("state")].sort().join();
    await expect.poll(states, SOON).toBe("done,waits");
    const [refused, other, held] = (await here.ask("state")) === "done" ? [here, there, "one"] : [there, here, "other"];
    expect(await refused.ask("result")).toBe("EDEADLK");
    await refused.ask(`posix un ${held}`);
    expect(await other.ask("result")).toBe("ok");
  });

  test("who is killed while it waits is gone at once and gets nothing", async () => {
    const [holder, waiter] = pair();
    await holder.ask("posix ex abandoned");
    expect(await waiter.ask("posix wait-ex abandoned")).toBe("waits");
    expect(await waiter.ask("state")).toBe("waits");
    await waiter.end();
    await holder.ask("posix un abandoned");
    expect(await locker(second).ask("posix ex abandoned")).toBe("ok");
  });

  test("locks are held, and waited for, while the service is killed again and again", async () => {
    const [holder, waiter] = pair();
    for (const kind of ["posix", "flock"]) expect(await holder.ask(`${kind} ex ${kind}-kept`)).toBe("ok");
    for (const kind of ["posix", "flock"]) expect(await waiter.ask(`${kind} wait-ex ${kind}-kept`)).toBe("waits");
    for (let kill = 0; kill < 3; kill++) {
      await killService();
      for (const kind of ["posix", "flock"]) expect(await locker(second).ask(`${kind} ex ${kind}-kept`)).toBe("EAGAIN");
      expect(await waiter.ask("state")).toBe("waits");
      // Asked for again by its holder, a lock is had.
      for (const kind of ["posix", "flock"]) expect(await holder.ask(`${kind} ex ${kind}-kept`)).toBe("ok");
    }
    await holder.ask("close posix-kept");
    await holder.ask("close flock-kept");
    expect([await waiter.ask("result"), await waiter.ask("result")]).toEqual(["ok", "ok"]);
    expect(service.log).not.toContain("by a defect");
  });

  test("who is killed while it waits is gone though the service died in between", async () => {
    const [holder, waiter] = pair();
    await holder.ask("flock ex late");
    expect(await waiter.ask("flock wait-ex late")).toBe("waits");
    await killService();
    await waiter.end();
    await holder.ask("flock un late");
    expect(await locker(second).ask("flock ex late")).toBe("ok");
  });

  test("a mount that ends frees what was locked through it; taken away lazily, when the last file is closed", async () => {
    const third = await service.mount("shop/files", "third", "--locks", "shared");
    const [holder, waiter] = [locker(third), locker(second)];
    for (const kind of ["posix", "flock"]) {
      await holder.ask(`${kind} ex ${kind}-mounted`);
      expect(await waiter.ask(`${kind} wait-ex ${kind}-mounted`)).toBe("waits");
    }
    await service.cli("umount", "--lazy", third);
    expect(await waiter.ask("state")).toBe("waits");
    await holder.end();
    expect([await waiter.ask("result"), await waiter.ask("result")]).toEqual(["ok", "ok"]);
  });

  test("a mount that is cut off frees what was locked through it, though programs still have the files open", async () => {
    const third = await service.mount("shop/files", "cut", "--locks", "shared");
    const [holder, waiter] = [locker(third), locker(second)];
    for (const kind of ["posix", "flock"]) {
      await holder.ask(`${kind} ex ${kind}-cut`);
      expect(await waiter.ask(`${kind} wait-ex ${kind}-cut`)).toBe("waits");
    }
    // Busy, so it stays there; but its connection is aborted first.
    await run("umount", ["--force", third], { anyStatus: true });
    expect([await waiter.ask("result"), await waiter.ask("result")]).toEqual(["ok", "ok"]);
    expect(await holder.ask("posix ex posix-cut")).toMatch(/ENOTCONN|ECONNABORTED/);
  });

  test("closing files that nobody locked, and trying locks in vain, leaves no record; the log says nothing of locks", async () => {
    const [here, there] = pair();
    await here.ask("posix ex quiet");
    const before = await service.lastLsn();
    for (let count = 0; count < 10; count++) {
      await there.ask("reopen quiet");
      expect(await there.ask("posix ex quiet")).toBe("EAGAIN");
      expect(await there.ask("flock un quiet")).toBe("ok");
      await there.ask("close quiet");
    }
    expect(await service.lastLsn()).toBe(before);
    await here.ask("close quiet");
    expect(await service.lastLsn()).toBe(before + 1);
    expect((await service.cli("log", "shop")).stdout).not.toContain("LOCK");
  });

  test("a SQLite database that programs on both mounts change loses nothing, though the service is killed meanwhile", async () => {
    const script = `import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
db.execute("create table if not exists counter (k integer primary key, n integer)")
db.execute("insert or ignore into counter values (1, 0)")
for _ in range(60):
    db.execute("begin immediate")
    (n,) = db.execute("select n from counter").fetchone()
    db.execute("update counter set n = ?", (n + 1,))
    db.execute("commit")`;
    const databases = [first, second].map((mount) => path.join(mount, "database"));
    let over = false;
    const writers = Promise.all([...databases, ...databases].map((file) => run("python3", ["-c", script, file])));
    const kills = (async () => {
      for (let kill = 0; kill < 3 && !over; kill++) {
        await shell("sleep 0.5");
        await killService();
      }
    })();
    await writers;
    over = true;
    await kills;
    const check = `import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
print(db.execute("select n from counter").fetchone()[0], db.execute("pragma integrity_check").fetchone()[0])`;
    for (const file of databases) expect((await run("python3", ["-c", check, file])).stdout.trim()).toBe("240 ok");
  });

  test("files of the past can be locked, which keeps nobody out", async () => {
    writeFileSync(path.join(first, "old"), "old");
    await service.cli("snapshot", "create", "shop", "then");
    const view = path.join(first, ".tidemark", "then", "old");
    await expect.poll(() => existsSync(view), SOON).toBe(true);
    expect((await run("flock", ["-n", view, "flock", "-n", view, "true"])).status).toBe(0);
    await expect(service.cli("mount", "shop/files", first, "--at", "snap:then", "--locks", "shared")).rejects.toThrow(
      /a view never changes/,
    );
  });

  test("the list of mounts says who keeps the locks", async () => {
    const { stdout } = await service.cli("--json", "mount");
    expect(stdout).toContain('"locks":"shared"');
    expect((await service.cli("mount")).stdout).toContain("locks=shared");
  });
});

describe.skipIf(skipped)("a service with shared locks that stops", { timeout: 120_000 }, () => {
  test("does not wait for who waits for a lock, and begins without locks", async () => {
    const service = new TestService();
    try {
      await service.start();
      await service.cli("app", "create", "shop");
      await service.cli("share", "create", "shop/files");
      const mount = await service.mount("shop/files", "mnt", "--locks", "shared", "--persist");
      const [holder, waiter] = [new LineChild("python3", [LOCKER, mount]), new LineChild("python3", [LOCKER, mount])];
      await holder.ask("posix ex file");
      expect(await waiter.ask("posix wait-ex file")).toBe("waits");
      expect(await waiter.ask("state")).toBe("waits");
      await service.stop();
      expect(["ENOTCONN", "ECONNABORTED"]).toContain(await waiter.ask("result"));
      await service.start();
      const next = new LineChild("python3", [LOCKER, mount]);
      expect(await next.ask("posix ex file")).toBe("ok");
      for (const child of [holder, waiter, next]) await child.end();
    } finally {
      await service.dispose();
    }
  });
});
