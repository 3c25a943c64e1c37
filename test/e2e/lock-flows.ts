import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, expect, test } from "vitest";
import { LineChild } from "./child.ts";
import type { TestService } from "./fixture.ts";
import { run, shell } from "./run.ts";

const LOCKER = fileURLToPath(new URL("./posix/locker.py", import.meta.url));

/** What happens a moment after the call that causes it, on a loaded machine some moments. */
export const SOON = { timeout: 20_000, interval: 20 };

/** Two mounts of one share with shared locks. */
export type LockMounts = {
  readonly service: TestService;
  /** A mount on the service's machine. */
  readonly first: string;
  /** Another one, here or elsewhere. */
  readonly second: string;
  /** The second is on another machine, as far as the service knows. */
  readonly elsewhere: boolean;
  /** Processes without which the second mount is not served, by what they are called; each can be killed and comes again. */
  readonly killable: () => Readonly<Record<string, number>>;
};

/** Programs that take locks, ended after each test. */
export class Lockers {
  readonly #children: LineChild[] = [];

  on(mount: string): LineChild {
    const child = new LineChild("python3", [LOCKER, mount]);
    this.#children.push(child);
    return child;
  }

  async end(): Promise<void> {
    for (const child of this.#children.splice(0)) await child.end();
  }
}

/** Registers what holds of any two mounts with shared locks. `mounts` is called in tests only. */
export function lockFlows(mounts: () => LockMounts): void {
  const lockers = new Lockers();
  const pair = (): [LineChild, LineChild] => [lockers.on(mounts().first), lockers.on(mounts().second)];
  /** Kills a process and waits for its successor to answer. */
  const kill = async (name: string): Promise<void> => {
    const before = mounts().killable()[name] ?? 0;
    process.kill(before, "SIGKILL");
    await expect.poll(() => [0, before].includes(mounts().killable()[name] ?? 0), SOON).toBe(false);
    for (const mount of [mounts().first, mounts().second]) await shell(`stat -f ${mount} > /dev/null`);
  };

  afterEach(() => lockers.end());

  test("a lock on one keeps others out on both: POSIX by ranges, flock whole, each kind by itself", async () => {
    const [here, there] = pair();
    const other = lockers.on(mounts().first);
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
    const pid = mounts().elsewhere ? "0" : await here.ask("pid");
    expect(await there.ask("get seen 0 0")).toBe(`ex 100 50 ${pid}`);
    expect(await there.ask("get seen 0 100")).toBe("free");
    expect(await here.ask("get seen 0 0")).toBe("free");
  });

  test("flock(1) keeps commands on both mounts from running together, and gives up after -w", async () => {
    const { service, first, second } = mounts();
    const counter = (mount: string): string => path.join(mount, "counter");
    writeFileSync(path.join(service.folder, "count"), "0");
    const count = path.join(service.folder, "count");
    const script = `for n in $(seq 25); do flock $0 sh -c 'n=$(cat ${count}); echo $((n + 1)) > ${count}'; done`;
    await Promise.all([first, second, first, second].map((mount) => run("sh", ["-c", script, counter(mount)])));
    expect(readFileSync(count, "utf8").trim()).toBe("100");
    const holder = lockers.on(mounts().first);
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
    expect(await lockers.on(mounts().second).ask(`${kind} sh handed`)).toBe("EAGAIN");
    expect(await waiter.ask("state")).toBe("waits");
    await letGo(holder);
    expect(await waiter.ask("result")).toBe("ok");
    expect(await lockers.on(mounts().first).ask(`${kind} sh handed`)).toBe("EAGAIN");
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
    expect(await lockers.on(mounts().second).ask("posix ex abandoned")).toBe("ok");
  });

  test("locks are held, and waited for, while who serves them is killed again and again", async () => {
    const [holder, waiter] = pair();
    for (const kind of ["posix", "flock"]) expect(await holder.ask(`${kind} ex ${kind}-kept`)).toBe("ok");
    for (const kind of ["posix", "flock"]) expect(await waiter.ask(`${kind} wait-ex ${kind}-kept`)).toBe("waits");
    const killed = Object.keys(mounts().killable());
    for (const name of [...killed, ...killed, ...killed]) {
      await kill(name);
      for (const kind of ["posix", "flock"])
        expect(await lockers.on(mounts().second).ask(`${kind} ex ${kind}-kept`)).toBe("EAGAIN");
      expect(await waiter.ask("state")).toBe("waits");
      // Asked for again by its holder, a lock is had.
      for (const kind of ["posix", "flock"]) expect(await holder.ask(`${kind} ex ${kind}-kept`)).toBe("ok");
    }
    await holder.ask("close posix-kept");
    await holder.ask("close flock-kept");
    expect([await waiter.ask("result"), await waiter.ask("result")]).toEqual(["ok", "ok"]);
    expect(mounts().service.log).not.toContain("by a defect");
  });

  test("who is killed while it waits is gone though who serves it died in between", async () => {
    const [holder, waiter] = pair();
    await holder.ask("flock ex late");
    expect(await waiter.ask("flock wait-ex late")).toBe("waits");
    for (const name of Object.keys(mounts().killable())) await kill(name);
    await waiter.end();
    await holder.ask("flock un late");
    expect(await lockers.on(mounts().second).ask("flock ex late")).toBe("ok");
  });

  test("a SQLite database that programs on both mounts change loses nothing, though who serves it is killed meanwhile", async () => {
    const script = `import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
db.execute("create table if not exists counter (k integer primary key, n integer)")
db.execute("insert or ignore into counter values (1, 0)")
for _ in range(60):
    db.execute("begin immediate")
    (n,) = db.execute("select n from counter").fetchone()
    db.execute("update counter set n = ?", (n + 1,))
    db.execute("commit")`;
    const { first, second } = mounts();
    const databases = [first, second].map((mount) => path.join(mount, "database"));
    let over = false;
    const writers = Promise.all([...databases, ...databases].map((file) => run("python3", ["-c", script, file])));
    const kills = (async () => {
      const killed = Object.keys(mounts().killable());
      for (const name of [...killed, ...killed, ...killed]) {
        await shell("sleep 0.5");
        if (!over) await kill(name);
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
}
