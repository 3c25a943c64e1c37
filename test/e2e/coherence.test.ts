import {
  closeSync,
  existsSync,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { LineChild } from "./child.ts";
import { TestService } from "./fixture.ts";
import { skipWithout } from "./requirements.ts";
import { run, shell } from "./run.ts";

const skipped = skipWithout("python3", "setfattr", "setfacl");
const STORM = fileURLToPath(new URL("./posix/storm.py", import.meta.url));

/** A change is with the other kernels in a moment; on a loaded machine that may take some. Never is the failure meant here. */
const SOON = { timeout: 20_000, interval: 20 };

/** Everything of a tree that stat and read can see, by name. */
async function tree(directory: string): Promise<string> {
  const { stdout } = await shell(
    `cd ${directory} && find . -printf '%p|%y|%i|%m|%n|%s|%T@|%C@|%l\\n' | sort && find . -type f | sort | xargs -r md5sum`,
  );
  return stdout;
}

describe.skipIf(skipped)("two mounts of one share", { timeout: 120_000 }, () => {
  let service: TestService;
  let first: string;
  let second: string;

  beforeAll(async () => {
    ({ service, mount: first } = await TestService.withShare());
    second = await service.mount("shop/files", "second");
  });
  afterAll(async () => service.dispose());

  /** The same path on both. */
  const both = (name: string): readonly [string, string] => [path.join(first, name), path.join(second, name)];

  test("names that come, go and move on one are seen on the other, absent ones too", async () => {
    const [a, b] = both("names");
    mkdirSync(a);
    expect(readdirSync(b)).toEqual([]);
    expect(existsSync(`${b}/new`)).toBe(false);
    writeFileSync(`${a}/new`, "1");
    expect(existsSync(`${b}/new`)).toBe(true);
    expect(readdirSync(b)).toEqual(["new"]);
    renameSync(`${b}/new`, `${b}/moved`);
    expect([existsSync(`${a}/new`), existsSync(`${a}/moved`)]).toEqual([false, true]);
    mkdirSync(`${a}/dir`);
    expect(existsSync(`${b}/dir`)).toBe(true);
    renameSync(`${a}/moved`, `${a}/dir/deep`);
    expect(readdirSync(`${b}/dir`)).toEqual(["deep"]);
    rmSync(`${b}/dir`, { recursive: true });
    expect(readdirSync(a)).toEqual([]);
    // The listing and the name are told of one after the other.
    expect(existsSync(`${a}/dir`)).toBe(false);
  });

  test("a listing that is kept without looking at the directory again is forgotten", async () => {
    const [a, b] = both("kept");
    mkdirSync(a);
    const lister = new LineChild("python3", [
      "-c",
      `import ctypes, os, sys
libc, names, buffer = ctypes.CDLL(None), os.open("${b}", os.O_RDONLY), ctypes.create_string_buffer(65536)
for line in sys.stdin:
  os.lseek(names, 0, os.SEEK_SET)
  size = libc.syscall(217, names, buffer, 65536)
  print(sum(buffer.raw[:size].count(name) for name in (b"one", b"two")), flush=True)`,
    ]);
    try {
      for (const wanted of ["0", "0"]) expect(await lister.ask("list")).toBe(wanted);
      writeFileSync(`${a}/one`, "");
      expect(await lister.ask("list")).toBe("1");
      writeFileSync(`${a}/two`, "");
      expect(await lister.ask("list")).toBe("2");
    } finally {
      await lister.end();
    }
  });

  test("attributes, xattrs and access lists follow", async () => {
    const [a, b] = both("attributes");
    writeFileSync(a, "content");
    const seen = async (): Promise<string> =>
      (
        await shell(
          `stat -c '%a %u %h %s %Y' ${b}; getfattr -d --absolute-names ${b} | tail -n +2; getfacl -cp ${b} | grep user:1234 || true`,
        )
      ).stdout.trim();
    expect(await seen()).toMatch(/^644 0 1 7 /);
    await shell(
      `chmod 4750 ${a} && ln ${a} ${a}.link && touch -d @1000 ${a} && setfattr -n user.x -v y ${a} && setfacl -m u:1234:r ${a}`,
    );
    expect(await seen()).toBe('4750 0 2 7 1000\nuser.x="y"\n\nuser:1234:r--');
    await shell(`chown 77 ${a} && setfattr -x user.x ${a} && setfacl -b ${a} && rm ${a}.link`);
    expect(await seen()).toBe("750 77 1 7 1000");
  });

  test("content follows into open files, mappings and files without a name", async () => {
    const [a, b] = both("content");
    writeFileSync(a, "x".repeat(10_000));
    const mapper = new LineChild("python3", [
      "-c",
      `import mmap, os, sys
view = mmap.mmap(os.open("${b}", os.O_RDONLY), 10000, prot=mmap.PROT_READ)
for line in sys.stdin: print(view[:4].decode(), view[9000:9004].decode(), flush=True)`,
    ]);
    const opened = openSync(b, "r");
    const read = (): string => {
      const buffer = Buffer.alloc(20_000);
      return buffer.toString("latin1", 0, readSync(opened, buffer, 0, buffer.length, 0));
    };
    try {
      expect(await mapper.ask("look")).toBe("xxxx xxxx");
      expect(read()).toBe("x".repeat(10_000));
      const writer = openSync(a, "r+");
      writeSync(writer, "new!", 9000);
      writeSync(writer, "four", 0);
      expect(await mapper.ask("look")).toBe("four new!");
      expect(read().slice(8998, 9006)).toBe("xxnew!xx");
      truncateSync(a, 5);
      expect(read()).toBe("fourx");
      truncateSync(a, 10_000);
      expect(read()).toBe(`fourx${"\0".repeat(9995)}`);
      rmSync(a);
      expect(existsSync(b)).toBe(false);
      writeSync(writer, "last", 0);
      expect([read().slice(0, 5), fstatSync(opened).nlink]).toEqual(["lastx", 0]);
      closeSync(writer);
      expect(read().length).toBe(10_000);
    } finally {
      closeSync(opened);
      await mapper.end();
    }
  });

  // A write over the boundary of a page may reach the file system as two: so what is promised is every byte, not that lines of two mounts stay whole.
  test("programs that append on both lose nothing", async () => {
    const [a, b] = both("log");
    writeFileSync(a, "");
    const script = `import os, sys
log = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
for number in range(400): os.write(log, sys.argv[2].encode() * (1 + number % 100))`;
    const letters = ["a", "b", "c", "d"];
    await Promise.all([a, b, a, b].map((file, at) => run("python3", ["-c", script, file, letters[at] ?? ""])));
    for (const file of [a, b]) {
      expect(readFileSync(file, "latin1").length).toBe(4 * 20_200);
      const text = readFileSync(file, "latin1");
      expect(letters.map((letter) => text.split(letter).length - 1)).toEqual([20_200, 20_200, 20_200, 20_200]);
    }
  });

  test("a storm of changes in one directory of both ends, with both and a fresh mount equal, though the service dies in it", async () => {
    const [a, b] = both("storm");
    mkdirSync(a);
    const seed = Number(process.env["SEED"] ?? Math.floor(Math.random() * 1e9));
    console.log(`SEED=${seed}`);
    // A deadlock would be ended by this: the storm itself takes a few seconds.
    const storms = [a, b, a, b].map((directory, index) =>
      run("python3", [STORM, directory, String(seed + index), "1500", `w${index}`], { timeoutMs: 90_000 }),
    );
    const kills = (async () => {
      for (let kill = 0; kill < 3; kill++) {
        await shell("sleep 0.7");
        process.kill(service.servicePid, "SIGKILL");
        await shell(`ls ${first} > /dev/null`);
      }
    })();
    await Promise.all([...storms, kills]);
    const fresh = await service.mount("shop/files", "fresh");
    const truth = await tree(`${fresh}/storm`);
    await expect.poll(() => tree(a), SOON).toBe(truth);
    await expect.poll(() => tree(b), SOON).toBe(truth);
    const log = readFileSync(`${fresh}/storm/log`, "latin1").trim().split("\n");
    expect(new Set(log).size).toBe(log.length);
    for (const writer of ["w0", "w1", "w2", "w3"])
      expect(log.filter((line) => line.startsWith(writer))).toHaveLength(150);
    await service.umount(fresh);
    expect(service.log).not.toContain("by a defect");
  });

  test("news that was waiting when the service died is told by its successor", async () => {
    const [a, b] = both("news");
    mkdirSync(a);
    const names = Array.from({ length: 600 }, (_, index) => `n${index}`);
    for (const name of names) expect(existsSync(`${b}/${name}`)).toBe(false);
    writeFileSync(`${a}/content`, "old");
    await expect.poll(() => existsSync(`${b}/content`) && readFileSync(`${b}/content`, "utf8"), SOON).toBe("old");
    mkdirSync(`${a}/work`);
    const worker = new LineChild("python3", [
      "-c",
      `import os, sys\nos.chdir("${b}/work")\nfor line in sys.stdin: print(os.getcwd(), flush=True)`,
    ]);
    expect(await worker.ask("where")).toBe(`${b}/work`);
    // The supervisor writes the news: while it is stopped, what exceeds one order waits in the service.
    process.kill(service.supervisorPid, "SIGSTOP");
    for (const name of names) writeFileSync(`${a}/${name}`, "");
    writeFileSync(`${a}/content`, "new");
    const { servicePid } = service;
    process.kill(servicePid, "SIGKILL");
    await expect.poll(() => readFileSync(`/proc/${servicePid}/stat`, "latin1").split(") ")[1]?.[0], SOON).toBe("Z");
    process.kill(service.supervisorPid, "SIGCONT");
    await expect.poll(() => names.filter((name) => !existsSync(`${b}/${name}`)), SOON).toEqual([]);
    await expect.poll(() => readFileSync(`${b}/content`, "utf8"), SOON).toBe("new");
    expect(await worker.ask("where")).toBe(`${b}/work`);
    await worker.end();
  });

  test("what a restore changes is seen on both when the command has ended", async () => {
    const [a, b] = both("restored");
    mkdirSync(`${a}/sub`, { recursive: true });
    writeFileSync(`${a}/file`, "old ".repeat(5000));
    writeFileSync(`${a}/sub/gone`, "gone");
    const at = await service.lastLsn();
    rmSync(`${a}/sub/gone`);
    writeFileSync(`${a}/file`, "new");
    writeFileSync(`${a}/later`, "later");
    const opened = openSync(`${b}/file`, "r");
    for (const mount of [a, b]) {
      expect(readFileSync(`${mount}/file`, "utf8")).toBe("new");
      expect(readdirSync(`${mount}/sub`)).toEqual([]);
      expect(existsSync(`${mount}/sub/gone`)).toBe(false);
      expect(statSync(`${mount}/later`).size).toBe(5);
    }
    await service.cli("restore", "shop/files/restored", "--at", `lsn:${at}`, "--yes");
    for (const mount of [a, b]) {
      expect(readFileSync(`${mount}/file`, "utf8")).toBe("old ".repeat(5000));
      expect(readFileSync(`${mount}/sub/gone`, "utf8")).toBe("gone");
      expect([existsSync(`${mount}/later`), readdirSync(mount).sort()]).toEqual([false, ["file", "sub"]]);
    }
    expect(readSync(opened, Buffer.alloc(30_000), 0, 30_000, 0)).toBe(20_000);
    closeSync(opened);
  });

  test("an appending program whose file a restore made shorter goes on at its new end", async () => {
    const [a] = both("appended");
    const log = openSync(a, "a");
    writeSync(log, "kept\n");
    const at = await service.lastLsn();
    writeSync(log, "lost\n".repeat(1000));
    await service.cli("restore", "shop/files/appended", "--at", `lsn:${at}`, "--yes");
    writeSync(log, "after\n");
    writeSync(log, "wards\n");
    closeSync(log);
    expect(readFileSync(a, "latin1")).toBe("kept\nafter\nwards\n");
  });
});
