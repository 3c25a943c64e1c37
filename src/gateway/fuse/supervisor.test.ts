import { spawn } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { SystemClock } from "../../base/clock.ts";
import { memoryLog } from "../../base/log.ts";
import { ManualTimers } from "../../base/timers.ts";
import { fuseDeviceIo } from "./device.ts";
import { mountAt, readMountTable } from "./mount-table.ts";
import { Supervisor } from "./supervisor.ts";
import { skipMountTests } from "./testing/privileges.ts";
import { SupervisedToy } from "./testing/supervised-toy.ts";

/** Creates, writes, renames, reads back and removes; ends with a status other than 0 at the first error. `count` of them stay. */
const LOAD = `
set -e
cd "$0"
i=0
while [ $i -lt "$1" ]; do
  echo "content of $i" > new-$i
  mv new-$i file-$i
  read text < file-$i
  [ "$text" = "content of $i" ]
  mkdir dir-$i
  echo more >> file-$i
  rmdir dir-$i
  i=$((i + 1))
done
`;

/** Starting a service takes a fraction of a second, on a busy machine more; a test starts up to six. */
const TEST_TIMEOUT_MS = 60_000;

const KILLS = 5;
const FILES_BETWEEN_KILLS = 20;
/** Far more files than are made between the kills. */
const FILES = 4000;

test("a clean end counts as one although the kernel's report of it comes after the supervisor saw that the child is dead", async () => {
  const timers = new ManualTimers();
  const log = memoryLog();
  const supervisor = new Supervisor({
    command: process.execPath,
    args: ["-e", "process.on('message', ({ type }) => type === 'stop' && process.exit(0))"],
    io: fuseDeviceIo(),
    clock: new SystemClock(),
    timers,
    log,
  });
  const ended = supervisor.run();
  while (supervisor.childPid === undefined) await new Promise((next) => setImmediate(next));
  supervisor.stop();
  // While this loop waits nothing is reaped here.
  while (!/\) Z /.test(fs.readFileSync(`/proc/${supervisor.childPid}/stat`, "latin1")));
  timers.advance(10_000);
  expect(supervisor.childPid).toBeUndefined();
  expect(await ended).toBe(0);
  expect(log.at("error")).toEqual([]);
});

describe.skipIf(skipMountTests())("a supervised mount", { timeout: TEST_TIMEOUT_MS }, () => {
  let toy: SupervisedToy;
  const mountFolder = (folder: string): string => {
    fs.mkdirSync(join(folder, "mnt"));
    return join(folder, "mnt");
  };
  const started = async (...options: string[]): Promise<SupervisedToy> => {
    toy = new SupervisedToy(mountFolder, ...options);
    await toy.until(() => toy.childPids.length > 0);
    return toy;
  };
  const exit = (child: ReturnType<typeof spawn>) =>
    new Promise<number | null>((done) => child.once("exit", (status) => done(status)));
  afterEach(async () => {
    await toy.cleanUp();
  });

  test("kill -9 of the service under load is not noticed, and nothing runs twice", async () => {
    await started();
    const load = spawn("sh", ["-c", LOAD, toy.target, String(FILES)], { stdio: ["ignore", "inherit", "inherit"] });
    let running = true;
    const done = exit(load).finally(() => {
      running = false;
    });
    const files = (): string[] => fs.readdirSync(toy.target).filter((name) => name.startsWith("file-"));
    let filesSoFar = files();
    for (let kill = 0; kill < KILLS; kill++) {
      await toy.killChild();
      const { length } = filesSoFar;
      while (running && filesSoFar.length < length + FILES_BETWEEN_KILLS) {
        await new Promise((next) => setImmediate(next));
        filesSoFar = files();
      }
    }
    expect(running).toBe(true);
    load.kill("SIGTERM");
    await done;
    // Every change is one line of the log: a number twice would be a mutation that ran twice.
    const lines = fs.readFileSync(join(toy.folder, "log"), "utf8").trim().split("\n");
    const numbers = lines.map((line) => (JSON.parse(line) as { unique: number }).unique);
    expect(new Set(numbers).size).toBe(numbers.length);
    // The newest one may have been under way. Names are listed in the order of letters.
    const newest = Math.max(...filesSoFar.map((name) => Number(name.slice(5))));
    for (const name of filesSoFar.filter((each) => each !== `file-${newest}`)) {
      expect(fs.readFileSync(join(toy.target, name), "utf8")).toBe(`content of ${name.slice(5)}\nmore\n`);
    }
  });

  test("open files, working directories, locks and waiting lockers outlive the service", async () => {
    await started();
    const path = join(toy.target, "kept");
    fs.writeFileSync(path, "before ");
    const fd = fs.openSync(path, "a+");
    const holder = spawn(
      "flock",
      [path, "sh", "-c", `cd ${toy.target}; echo locked; read line; echo released > here`],
      {
        stdio: ["pipe", "pipe", "inherit"],
      },
    );
    await new Promise((ready) => holder.stdout.once("data", ready));
    const waiter = spawn("flock", [path, "true"], { stdio: "ignore" });
    await toy.killChild();
    await toy.killChild();
    expect(waiter.exitCode).toBeNull();
    fs.writeSync(fd, "after");
    expect(fs.readFileSync(path, "utf8")).toBe("before after");
    fs.closeSync(fd);
    const waited = exit(waiter);
    holder.stdin.end("\n");
    expect(await waited).toBe(0);
    expect(fs.readFileSync(join(toy.target, "here"), "utf8")).toBe("released\n");
  });

  test("a request that kills the service three times is answered EIO, and the mount goes on", async () => {
    await started();
    fs.writeFileSync(join(toy.target, "file"), "x");
    expect(() => fs.statSync(join(toy.target, "deadly"))).toThrow(/EIO/);
    await toy.until(() => toy.childPids.length === 4);
    expect(fs.readFileSync(join(toy.target, "file"), "utf8")).toBe("x");
    await toy.until(() => toy.lines.some((line) => line.startsWith("error problem")));
    expect(toy.lines.filter((line) => line.startsWith("alarm"))).toHaveLength(1);
  });

  test("kill -9 of the supervisor leaves the service serving; the service then unmounts itself", async () => {
    await started();
    toy.supervisor.kill("SIGKILL");
    expect(await toy.ended).toBe("SIGKILL");
    await toy.until(() => toy.lines.some((line) => line.includes("the supervisor is gone")));
    fs.writeFileSync(join(toy.target, "file"), "still here");
    expect(fs.readFileSync(join(toy.target, "file"), "utf8")).toBe("still here");
    process.kill(toy.childPids[0] ?? 0, "SIGTERM");
    await toy.until(() => toy.lines.some((line) => line.includes("stopped")));
    expect(mountAt(readMountTable(), toy.target)).toBeUndefined();
  });

  test("a clean stop unmounts and ends with status 0, also when files are open", async () => {
    await started();
    const fd = fs.openSync(join(toy.target, "open"), "w");
    toy.supervisor.kill("SIGTERM");
    expect(await toy.ended).toBe(0);
    expect(mountAt(readMountTable(), toy.target)).toBeUndefined();
    expect(() => fs.writeSync(fd, "x")).toThrow(/ENOTCONN|ECONNABORTED|EIO/);
    expect(() => fs.closeSync(fd)).toThrow(/ENOTCONN|ECONNABORTED|EIO/);
  });

  test("a second signal ends a service that does not stop", async () => {
    await started("--deaf");
    toy.supervisor.kill("SIGTERM");
    await toy.until(() => toy.lines.some((line) => line.includes("deaf")));
    toy.supervisor.kill("SIGTERM");
    expect(await toy.ended).toBe(1);
    expect(mountAt(readMountTable(), toy.target)).toBeUndefined();
  });

  /** Whether a thread of the process sits in the kernel and cannot be killed. */
  const waitsInKernel = (pid: number): boolean =>
    fs
      .readdirSync(`/proc/${pid}/task`)
      .some((task) => fs.readFileSync(`/proc/${pid}/task/${task}/stat`, "latin1").includes(") D "));

  test("a service killed while a notification waits for its answer is replaced, and leaves nothing behind", async () => {
    await started();
    const making = spawn("mkdir", [join(toy.target, "stuck")], { stdio: "inherit" });
    await toy.until(() => toy.lines.some((line) => line.includes("stuck")));
    while (!waitsInKernel(toy.supervisor.pid ?? 0)) await new Promise((next) => setImmediate(next));
    expect(waitsInKernel(toy.childPids[0] ?? 0)).toBe(false);
    await toy.killChild();
    expect(await exit(making)).toBe(0);
    expect(fs.statSync(join(toy.target, "stuck")).isDirectory()).toBe(true);
  });

  test("a killed service that cannot be reaped, since a thread waits for its own answer, is replaced all the same", async () => {
    await started("--own-thread");
    const making = spawn("mkdir", [join(toy.target, "stuck")], { stdio: "inherit" });
    await toy.until(() => toy.lines.some((line) => line.includes("stuck")));
    while (!waitsInKernel(toy.childPids[0] ?? 0)) await new Promise((next) => setImmediate(next));
    await toy.killChild();
    expect(await exit(making)).toBe(0);
    expect(fs.statSync(join(toy.target, "stuck")).isDirectory()).toBe(true);
  });

  test("stopping the service itself stops the supervisor too", async () => {
    await started();
    process.kill(toy.childPids[0] ?? 0, "SIGTERM");
    expect(await toy.ended).toBe(0);
    expect(mountAt(readMountTable(), toy.target)).toBeUndefined();
  });

  test("a mount point left dead by a crash of everything works again after a start", async () => {
    const crashed = await started();
    fs.writeFileSync(join(toy.target, "file"), "old");
    crashed.supervisor.kill("SIGKILL");
    await crashed.ended;
    process.kill(crashed.childPids[0] ?? 0, "SIGKILL");
    const dead = (): boolean => {
      try {
        fs.statSync(crashed.target);
        return false;
      } catch {
        return true;
      }
    };
    while (!dead()) await new Promise((next) => setImmediate(next));
    toy = new SupervisedToy(() => crashed.target);
    await toy.until(() => toy.childPids.length > 0);
    expect(fs.readdirSync(crashed.target)).toEqual([]);
    expect(toy.lines.some((line) => line.includes("left dead"))).toBe(true);
    await toy.cleanUp();
    toy = crashed;
  });

  test("a service that cannot start ends the supervisor with its status, at once", async () => {
    toy = new SupervisedToy(mountFolder, "--fail");
    expect(await toy.ended).toBe(3);
  });

  test("on a kernel that cannot send again, the mount is made anew", async () => {
    await started("--without=HAS_RESEND");
    fs.writeFileSync(join(toy.target, "file"), "x");
    const fd = fs.openSync(join(toy.target, "file"), "r");
    await toy.killChild();
    expect(fs.readFileSync(join(toy.target, "file"), "utf8")).toBe("x");
    expect(() => fs.readSync(fd, Buffer.alloc(1), 0, 1, 4096)).toThrow(/ENOTCONN|EIO|ECONNABORTED/);
    fs.closeSync(fd);
  });
});
