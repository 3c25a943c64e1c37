import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { LineChild } from "./child.ts";
import { TestService } from "./fixture.ts";
import { skipWithout } from "./requirements.ts";
import { type RunResult, shell } from "./run.ts";

const skipped = skipWithout("rsync", "tar", "setfacl", "setfattr", "python3");

/** Everything that rsync can see but hard links, which it finds by numbers. Prints what differs. */
const DIFFERENCES = "rsync -aAXnci --delete";

/** Anybody: no such user is needed. */
const ALICE = 61001;

/** Time now, as a name inside `.tidemark`; what happens after the call is later. */
async function momentNow(): Promise<string> {
  const { stdout } = await shell("sleep 0.02; date -u +%Y-%m-%dT%H:%M:%S.%NZ; sleep 0.02");
  return stdout.trim();
}

/** Standard error of a script that must fail. */
async function refusal(script: string): Promise<string> {
  const result: RunResult = await shell(script, { anyStatus: true });
  expect(result.status, script).not.toBe(0);
  return result.stderr.trim().replace(/^.*: /, "");
}

describe.skipIf(skipped)("views inside of a share", { timeout: 120_000 }, () => {
  let service: TestService;
  let mount: string;
  let views: string;

  beforeAll(async () => {
    ({ service, mount } = await TestService.withShare());
    views = path.join(mount, ".tidemark");
    await shell(`
      mkdir -p ${mount}/tree/sub && cd ${mount}/tree && cp -a /usr/include/linux/can /usr/include/asm-generic . && head -c 3000000 /dev/urandom > big
      truncate -s 64M sparse && echo end >> sparse && ln big hard && ln -s big soft && mkfifo pipe && mknod null c 1 3
      setfattr -n user.a -v b big && setfacl -m u:${ALICE}:r big && setfacl -d -m g:7:rx sub && chown 5:6 can && chmod 2710 can
      touch -d '1999-01-02 03:04:05.123456789' sub && cp -a ${mount}/tree ${service.folder}/original`);
  });
  afterAll(async () => service.dispose());

  test("a snapshot and a time show exact bytes and attributes, whatever happens to the files", async () => {
    await service.cli("snapshot", "create", "shop", "before");
    const time = await momentNow();
    await shell(
      `cd ${mount} && echo changed > tree/big && rm -rf tree/can && chmod 700 tree && mv tree/sub moved && setfattr -x user.a tree/big && mkdir tree/new`,
    );
    for (const moment of ["before", time]) {
      const view = path.join(views, moment, "tree");
      expect((await shell(`${DIFFERENCES} ${service.folder}/original/ ${view}/`)).stdout, moment).toBe("");
      await shell(
        `cd ${view} && cmp big ${service.folder}/original/big && [ $(stat -c %h big) = 2 ] && [ $(stat -c %i big) = $(stat -c %i hard) ] && [ $(stat -c %b sparse) -lt 100 ]`,
      );
      await shell(`tar -C ${service.folder}/original -c . | tar -C ${view} --compare`);
    }
    expect((await shell(`${DIFFERENCES} ${service.folder}/original/ ${mount}/tree/ | wc -l`)).stdout.trim()).not.toBe(
      "0",
    );
  });

  test("numbers differ from those of live files and of other moments, and stay the same", async () => {
    await service.cli("snapshot", "create", "shop", "later");
    const numbers = [`${mount}/tree/hard`, `${views}/before/tree/hard`, `${views}/later/tree/hard`].map(
      (file) => statSync(file, { bigint: true }).ino,
    );
    expect(new Set(numbers).size).toBe(3);
    await shell("echo 2 > /proc/sys/vm/drop_caches");
    expect(statSync(`${views}/before/tree/hard`, { bigint: true }).ino).toBe(numbers[1]);
    // A walk sees neither the directory nor, inside of it, a loop.
    expect((await shell(`find ${mount} -name .tidemark`)).stdout).toBe("");
    await shell(`find ${views}/before > ${service.folder}/walk && du -s ${views}/before`);
  });

  test("listing shows snapshots as they come and go; times are there without being listed", async () => {
    expect(readdirSync(mount)).not.toContain(".tidemark");
    expect(readdirSync(views).sort()).toEqual(["before", "later"]);
    await service.cli("snapshot", "create", "shop", "third");
    expect(readdirSync(views).sort()).toEqual(["before", "later", "third"]);
    expect(readdirSync(path.join(views, "third"))).toContain("tree");
    await service.cli("snapshot", "delete", "shop", "third");
    expect(readdirSync(views).sort()).toEqual(["before", "later"]);
    expect(() => statSync(path.join(views, "third"))).toThrow("ENOENT");
    for (const name of [
      "nonsense",
      "2999-01-01T00:00:00Z",
      "1970-01-01T00:00:00Z",
      "lsn:5",
      "yesterday",
      "x".repeat(255),
    ]) {
      expect(() => statSync(path.join(views, name)), name).toThrow("ENOENT");
    }
    const live = await shell(`ls -d ${views}/$(date -u +%Y-%m-%dT%H:%M:%SZ)/tree`);
    expect(live.stdout).toContain("tree");
  });

  test("nothing can be changed there, and the name itself can't be taken, moved or removed", async () => {
    const old = `${views}/before`;
    for (const change of [
      `touch ${old}/x`,
      `echo x > ${old}/tree/big`,
      `rm ${old}/tree/big`,
      `mkdir ${old}/d`,
      `chmod 777 ${old}/tree`,
      `ln -s a ${old}/l`,
      `mv ${old}/tree/big ${old}/tree/bigger`,
      `setfattr -n user.x -v y ${old}/tree/big`,
      `truncate -s 0 ${old}/tree/big`,
      `ln ${old}/tree/big ${old}/tree/other`,
      `mkdir ${views}/x`,
      `chmod 777 ${views}`,
      `touch ${views}/x`,
      `chown 5 ${old}`,
      `setfacl -m u:5:r ${old}/tree`,
    ]) {
      expect(await refusal(change), change).toBe("Read-only file system");
    }
    expect(await refusal(`mkdir ${views}`)).toBe("File exists");
    expect(await refusal(`ln -sT x ${views}`)).toBe("File exists");
    expect(await refusal(`rmdir ${views}`)).toBe("Device or resource busy");
    for (const [call, wanted] of [
      [`os.rename("${views}", "${mount}/x")`, "EXDEV"],
      [`os.mkdir("${mount}/d"), os.rename("${mount}/d", "${views}")`, "EEXIST"],
      [`os.unlink("${views}")`, "EISDIR"],
      [`os.link("${old}/tree/big", "${mount}/x")`, "EXDEV"],
      [`os.rename("${old}/tree/big", "${mount}/x")`, "EXDEV"],
      [`os.rename("${mount}/tree/big", "${old}/x")`, "EXDEV"],
      [`os.mkfifo("${views}")`, "EEXIST"],
      [`os.open("${views}", os.O_CREAT | os.O_EXCL)`, "EEXIST"],
      [`os.open("${mount}", os.O_TMPFILE | os.O_RDWR) and os.open("${old}", os.O_TMPFILE | os.O_RDWR)`, "EROFS"],
    ]) {
      const { stdout } = await shell(`python3 -c 'import os, errno
try:
  ${call}
except OSError as error:
  print(errno.errorcode[error.errno])'`);
      expect(stdout.trim(), call).toBe(wanted);
    }
    // Below the root it is a name like any other.
    await shell(`mkdir ${mount}/tree/.tidemark && rmdir ${mount}/tree/.tidemark`);
  });

  test("a file is taken back with cp, sharing what it holds", async () => {
    await shell(
      `cp --reflink=auto -a ${views}/before/tree/big ${mount}/back && cmp ${mount}/back ${service.folder}/original/big`,
    );
    await shell(
      `cp -a ${views}/before/tree/can ${mount}/can-again && ${DIFFERENCES} ${service.folder}/original/can/ ${mount}/can-again/ | grep . && exit 1 || true`,
    );
    const { stdout } = await shell(`python3 -c 'import os
source, target = os.open("${views}/before/tree/big", os.O_RDONLY), os.open("${mount}/range", os.O_RDWR | os.O_CREAT)
print(os.copy_file_range(source, target, 2000000, 1000000, 5))'`);
    expect(stdout.trim()).toBe("2000000");
    expect(
      readFileSync(`${mount}/range`)
        .subarray(5)
        .equals(readFileSync(`${service.folder}/original/big`).subarray(1_000_000, 3_000_000)),
    ).toBe(true);
  });

  test("an open file, a working directory and a listing inside survive the death of the service", async () => {
    const script = `import os, sys
os.chdir("${views}/before/tree")
big, listing = open("big", "rb"), os.scandir("can")
first = next(listing).name
for line in sys.stdin:
  rest = sorted([first] + [entry.name for entry in listing]) if line == "list\\n" else None
  print(os.pread(big.fileno(), 4, 2500000).hex(), open("soft", "rb").read(4).hex(), os.getcwd().endswith("tree"), rest == sorted(os.listdir("can")) if rest else "", flush=True)`;
    const reader = new LineChild("python3", ["-c", script]);
    try {
      const before = await reader.ask("look");
      for (const line of ["list", "look"]) {
        process.kill(service.servicePid, "SIGKILL");
        await shell("echo 3 > /proc/sys/vm/drop_caches");
        expect(await reader.ask(line)).toBe(line === "list" ? `${before}True` : before);
      }
    } finally {
      await reader.end();
    }
  });
});

describe.skipIf(skipped)("a view mounted on its own", { timeout: 120_000 }, () => {
  let service: TestService;
  let mount: string;

  beforeAll(async () => {
    ({ service, mount } = await TestService.withShare());
  });
  afterAll(async () => service.dispose());

  test("has the original inode numbers, passes tar --compare, is read-only and has no views of its own", async () => {
    await shell(
      `cp -a /usr/include/asm-generic ${mount}/tree && cd ${mount}/tree && ln types.h hard && mkdir -m 1777 sticky && chown 3:4 sticky`,
    );
    const at = await service.lastLsn();
    await shell(
      `tar -C ${mount} -cf ${service.folder}/tree.tar tree && cd ${mount} && find tree | sort | xargs stat -c '%n %i %f %u %g %h %s %.Y %.Z' > ${service.folder}/then`,
    );
    await shell(`rm -rf ${mount}/tree && echo new > ${mount}/new`);
    const view = await service.mount("shop/files", "past", "--at", `lsn:${at}`);
    await shell(`tar -C ${view} --compare -f ${service.folder}/tree.tar`);
    await shell(
      `cd ${view} && find tree | sort | xargs stat -c '%n %i %f %u %g %h %s %.Y %.Z' | diff ${service.folder}/then -`,
    );
    expect(readdirSync(view)).toEqual(["tree"]);
    for (const change of [
      `touch ${view}/x`,
      `rm ${view}/tree/types.h`,
      `chmod 700 ${view}/tree`,
      `mkdir ${view}/.tidemark`,
    ]) {
      expect(await refusal(change), change).toBe("Read-only file system");
    }
    expect(await refusal(`ls ${view}/.tidemark`)).toBe("No such file or directory");
    process.kill(service.servicePid, "SIGKILL");
    await shell(`echo 3 > /proc/sys/vm/drop_caches; tar -C ${view} --compare -f ${service.folder}/tree.tar`);
    await service.umount(view);
  });

  test("several moments are mounted at once beside the live share", async () => {
    const moments: number[] = [];
    for (const round of [1, 2, 3]) {
      mkdirSync(`${mount}/d${round}`);
      writeFileSync(`${mount}/file`, `round ${round}`);
      moments.push(await service.lastLsn());
    }
    const mounted = await Promise.all(
      moments.map((lsn, index) => service.mount("shop/files", `m${index}`, "--at", `lsn:${lsn}`)),
    );
    writeFileSync(`${mount}/file`, "now");
    expect(mounted.map((view) => readFileSync(`${view}/file`, "utf8"))).toEqual(["round 1", "round 2", "round 3"]);
    expect(mounted.map((view) => readdirSync(view).filter((name) => name.startsWith("d")).length)).toEqual([1, 2, 3]);
    await Promise.all(mounted.map((view) => service.umount(view)));
  });
});
