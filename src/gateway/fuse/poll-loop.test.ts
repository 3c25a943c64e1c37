import { spawn } from "node:child_process";
import { closeSync, mkdtempSync, rmdirSync } from "node:fs";
import { mkdir, open, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { SystemClock } from "../../base/clock.ts";
import type { ConnectionProblem, FuseConnection } from "./connection.ts";
import type { WriteRequest } from "./file-codec.ts";
import { type Mounted, mountFuse, unmountFuse } from "./mount.ts";
import { Notifier } from "./notify.ts";
import type { FuseOperations } from "./operations.ts";
import { FuseLoop } from "./poll-loop.ts";
import type { Reply } from "./reply.ts";
import { skipMountTests } from "./testing/privileges.ts";
import { ToyOperations } from "./testing/toy-operations.ts";

const clock = new SystemClock();

/** Each takes a second at most; the machine may be busy. */
const TEST_TIMEOUT_MS = 60_000;

/** The loop in this very process: the mount may be used with asynchronous calls only. */
describe.skipIf(skipMountTests())("the loop", { timeout: TEST_TIMEOUT_MS }, () => {
  let target: string;
  let mounted: Mounted;
  let loop = new FuseLoop({ clock });
  const toy = () => new ToyOperations({ clock, validSec: 3600 });
  let connection: FuseConnection;
  let ended: Promise<void>;
  const problems: ConnectionProblem[] = [];

  async function serve(operations: FuseOperations): Promise<void> {
    const options = { target, source: "loop", readOnly: false, suid: false, dev: false, locks: "kernel" } as const;
    mounted = await mountFuse(options, { io: loop.io, nonBlocking: loop.nonBlocking });
    const end = Promise.withResolvers<void>();
    ended = end.promise;
    const { fd, negotiated } = mounted;
    connection = loop.add({
      fd,
      negotiated,
      operations,
      onEnd: end.resolve,
      onProblem: (problem) => problems.push(problem),
    });
  }

  beforeEach(() => {
    target = mkdtempSync(join(tmpdir(), "tidemark-loop-"));
    problems.length = 0;
  });

  afterEach(async () => {
    await unmountFuse(mounted.target, { lazy: true });
    await ended;
    closeSync(mounted.fd);
    rmdirSync(target);
    expect(problems).toEqual([]);
  });

  test("serves the process's own thread pool while timers and I/O go on", async () => {
    await serve(toy());
    let ticks = 0;
    const timer = setInterval(() => ticks++, 5);
    for (let index = 0; index < 300; index++) await writeFile(join(target, `f${index}`), "x");
    clearInterval(timer);
    expect((await readdir(target)).length).toBe(300);
    expect(ticks).toBeGreaterThan(0);
    expect(connection.requestCounts[16]).toBe(300);
  });

  test("timers fire while a process keeps the loop busy", async () => {
    await serve(toy());
    const busy = spawn("sh", ["-c", `while :; do : > ${target}/busy; done`], { stdio: "ignore" });
    let fired = 0;
    await new Promise<void>((done) => {
      const timer = setInterval(() => {
        if (++fired === 20) {
          clearInterval(timer);
          done();
        }
      }, 2);
    });
    expect(connection.requestCounts[14] ?? 0).toBeGreaterThan(20);
    const gone = new Promise((done) => busy.once("exit", done));
    busy.kill("SIGKILL");
    await gone;
  });

  test("a request that waits does not keep others from being answered", async () => {
    const gate = Promise.withResolvers<void>();
    class Waiting extends ToyOperations {
      override async write(request: WriteRequest, reply: Reply): Promise<void> {
        if (request.data.toString() !== "wait") return super.write(request, reply);
        await gate.promise;
        expect(request.data.toString()).toBe("wait");
        super.write(request, reply);
      }
    }
    await serve(new Waiting({ clock, validSec: 3600 }));
    const waiting = writeFile(join(target, "waits"), "wait");
    for (let index = 0; index < 50; index++) await writeFile(join(target, `f${index}`), `data of ${index}`);
    expect(await readFile(join(target, "f49"), "utf8")).toBe("data of 49");
    expect(connection.pendingCount).toBe(1);
    gate.resolve();
    await waiting;
    expect(await readFile(join(target, "waits"), "utf8")).toBe("wait");
  });

  test("more large writes may wait than there is memory to read into", async () => {
    const gate = Promise.withResolvers<void>();
    let waiting = 0;
    class Slow extends ToyOperations {
      override async write(request: WriteRequest, reply: Reply): Promise<void> {
        waiting++;
        await gate.promise;
        super.write(request, reply);
      }
    }
    await serve(new Slow({ clock, validSec: 3600 }));
    // dd processes, since the thread pool has four threads only.
    const writers = Array.from({ length: 70 }, (_, index) =>
      spawn("dd", ["if=/dev/zero", `of=${target}/w${index}`, "bs=1M", "count=1"], { stdio: "ignore" }),
    );
    const exits = writers.map((writer) => new Promise<number | null>((done) => writer.once("exit", done)));
    while (waiting < 64) await new Promise((done) => setImmediate(done));
    gate.resolve();
    expect(await Promise.all(exits)).toEqual(writers.map(() => 0));
    expect((await stat(join(target, "w69"))).size).toBe(1024 * 1024);
  });

  test("a killed caller interrupts its request", async () => {
    const interrupted = Promise.withResolvers<void>();
    const reading = Promise.withResolvers<void>();
    class Stuck extends ToyOperations {
      override read: ToyOperations["read"] = async (_request, reply) => {
        reading.resolve();
        await new Promise((done) => reply.signal.addEventListener("abort", done));
        interrupted.resolve();
        reply.error(4);
      };
    }
    await serve(new Stuck({ clock, validSec: 3600 }));
    await writeFile(join(target, "stuck"), "x");
    const cat = spawn("cat", [join(target, "stuck")], { stdio: "ignore" });
    await reading.promise;
    cat.kill("SIGKILL");
    await interrupted.promise;
    await connection.drained();
  });

  test("connections come and go while others are served", async () => {
    await serve(toy());
    const second = mkdtempSync(join(tmpdir(), "tidemark-loop-"));
    const options = {
      target: second,
      source: "second",
      readOnly: true,
      suid: false,
      dev: false,
      locks: "kernel",
    } as const;
    const other = await mountFuse(options, { io: loop.io, nonBlocking: loop.nonBlocking });
    const end = Promise.withResolvers<void>();
    loop.add({ fd: other.fd, negotiated: other.negotiated, operations: toy(), onEnd: end.resolve });
    await Promise.all([mkdir(join(target, "d")), stat(second)]);
    await expect(mkdir(join(second, "d"))).rejects.toThrow(/EROFS/);
    await unmountFuse(other.target, { lazy: false });
    await end.promise;
    closeSync(other.fd);
    rmdirSync(second);
    expect((await stat(join(target, "d"))).isDirectory()).toBe(true);
  });

  test("where koffi cannot load, requests are read in the thread pool", async () => {
    const usual = loop;
    loop = new FuseLoop({ clock, ffi: "none" });
    await serve(toy());
    loop = usual;
    // By another process: this one's thread pool reads the requests, so its own calls could starve it.
    const script = `set -e; cd ${target}; head -c 2500000 /dev/zero | tr '\\0' x > file; cmp file file; for i in 1 2 3 4 5; do mkdir d$i & done; wait; ls`;
    const shell = spawn("sh", ["-c", script], { stdio: ["ignore", "pipe", "inherit"] });
    const output: string[] = [];
    shell.stdout.setEncoding("utf8").on("data", (text: string) => output.push(text));
    expect(await new Promise((done) => shell.once("close", done))).toBe(0);
    expect(output.join("")).toBe("d1\nd2\nd3\nd4\nd5\nfile\n");
  });

  describe("notifications", () => {
    let notifier: Notifier;
    let operations: ToyOperations;
    beforeEach(async () => {
      notifier = new Notifier();
      operations = toy();
      await serve(operations);
    });
    afterEach(async () => {
      await notifier.abandon(mounted.fd);
      await notifier.close();
    });
    const at = { unique: 0, resent: false, time: { sec: 1, nsec: 0 } };

    test("an entry changed behind the kernel's back is seen after its invalidation", async () => {
      await writeFile(join(target, "old"), "x");
      await expect(stat(join(target, "new"))).rejects.toThrow(/ENOENT/);
      operations.tree.execute({ op: "rename", parent: 1, name: "old", newParent: 1, newName: "new", flags: 0 }, at);
      await expect(stat(join(target, "new"))).rejects.toThrow(/ENOENT/);
      for (const name of ["old", "new"]) {
        notifier.notify({
          kind: "entry",
          fd: mounted.fd,
          slot: 0,
          parentIno: 1,
          name: Buffer.from(name),
          expireOnly: name === "old",
        });
      }
      await notifier.settled(mounted.fd);
      expect((await stat(join(target, "new"))).size).toBe(1);
      await expect(stat(join(target, "old"))).rejects.toThrow(/ENOENT/);
      expect(notifier.counts).toMatchObject({ written: 2, refused: 0 });
    });

    test("cached pages and attributes are dropped on demand, and only then", async () => {
      const path = join(target, "file");
      await writeFile(path, "before");
      const file = await open(path);
      const { ino } = await file.stat();
      expect((await readFile(path)).toString()).toBe("before");
      operations.tree.execute({ op: "write", ino, offset: 0, data: "after " }, at);
      expect((await readFile(path)).toString()).toBe("before");
      notifier.notify({ kind: "inode", fd: mounted.fd, slot: 0, ino, data: { offset: 0n, length: 0n } });
      await notifier.settled(mounted.fd);
      expect((await readFile(path)).toString()).toBe("after ");
      await file.close();
    });

    test("a storm of them against creates and renames in the same directory ends, and nothing is lost", async () => {
      const script = `cd ${target}; i=0; while [ $i -lt 400 ]; do : > a$i; mv a$i b$i; i=$((i+1)); done`;
      const busy = spawn("sh", ["-c", script], { stdio: "inherit" });
      let running = true;
      const gone = new Promise<number | null>((done) => busy.once("exit", done)).finally(() => {
        running = false;
      });
      for (let round = 0; running; round++) {
        const name = Buffer.from(`${round % 2 === 0 ? "a" : "b"}${round % 400}`);
        notifier.notify({ kind: "entry", fd: mounted.fd, slot: 0, parentIno: 1, name, expireOnly: false });
        notifier.notify({
          kind: "inode",
          fd: mounted.fd,
          slot: 0,
          ino: 2 + (round % 400),
          data: { offset: 0n, length: 0n },
        });
        if (round % 50 === 0) await notifier.settled(mounted.fd);
      }
      expect(await gone).toBe(0);
      await notifier.settled(mounted.fd);
      expect((await readdir(target)).length).toBe(400);
    });
  });
});
