import { mkdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { TestService } from "./fixture.ts";
import { skipWithout } from "./requirements.ts";
import { type RunResult, shell } from "./run.ts";

const skipped = skipWithout("tar", "rsync", "setfattr", "getfattr", "setfacl", "getfacl", "cmp");

const MAIN = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));

/** Everything rsync can see: bytes, modes, owners, times, links, devices, ACLs, xattrs. Prints what differs. */
const DIFFERENCES = "rsync -aHAXnci --delete --exclude=/.tidemark";

/** GNU tar with everything it can keep. */
const TAR = "tar --xattrs --xattrs-include='*' --acls --numeric-owner";

const SLOW_TEST_MS = 120_000;

/** Makes every kind of file in the working directory. */
const MAKE_TREE = `
  echo one > a && ln a b && ln -s a c && mkfifo pipe && mknod null c 1 3 && mknod disk b 7 0 && mknod big b 259 300000 && ln null nool
  truncate -s 300M sparse && echo end | dd of=sparse bs=1 seek=200000000 conv=notrunc status=none
  truncate -s 10M hole && head -c 100000 /dev/urandom > tail && truncate -s 200000 tail && seq 100000 > dense
  setfattr -n user.colour -v blue a && setfattr -n user.bytes -v 0x00ff0a3d00 a && setfattr -n 'user.we=ir%d' -v x a
  setfattr -n trusted.t -v 1 a && setfacl -m u:1234:rw,g:4000000000:r a && mkdir d && setfacl -d -m g:55:rwx d && touch d/inherits
  touch "$(printf 'new\\nline')" "$(printf '\\xff\\xfe')" ' leading' "$(printf 'x%.0s' $(seq 255))" && echo raw > "$(printf 'd/\\xfe')"
  ln "$(printf 'd/\\xfe')" "$(printf 'raw-\\xfd')" && truncate -s 1M "$(printf 'hole-\\xfc')"
  touch -d '1985-01-02 03:04:05.123456789' old && touch -d '2100-06-07 01:02:03.000000001' new
  chown 4000000000:3000000000 a && chmod 4751 a && touch none && chmod 0 none && chmod 1777 d && chown 2097152:262144 dense
  mkdir -p deep/$(printf 'y%.0s' $(seq 200))/$(printf 'z%.0s' $(seq 200)) && ln d/inherits deep/hard
  ln -s $(printf 't%.0s' $(seq 3000)) deep/link && touch -h -d '2001-02-03 04:05:06.7' deep/link && chown -h 5:6 c
  touch -d '2002-02-02 02:02:02.2' deep d`;

describe.skipIf(skipped)("export and import", { timeout: SLOW_TEST_MS }, () => {
  let service: TestService;
  let mount: string;
  let tidemark: string;
  let shareCount = 0;

  beforeAll(async () => {
    ({ service, mount } = await TestService.withShare());
    tidemark = `${process.execPath} ${MAIN} --data ${service.dataFolder}`;
    await shell(`mkdir ${mount}/tree && cd ${mount}/tree && ${MAKE_TREE}`);
  }, SLOW_TEST_MS);
  afterAll(async () => service.dispose());

  /** An empty share that is not mounted. */
  async function newShare(): Promise<string> {
    shareCount += 1;
    await service.cli("share", "create", `shop/share${shareCount}`);
    return `shop/share${shareCount}`;
  }

  function scratch(name: string): string {
    const folder = `${service.folder}/${name}`;
    mkdirSync(folder);
    return folder;
  }

  /** What tools see of a tree, besides what rsync compares: allocated blocks are left to the caller. */
  async function seen(folder: string): Promise<string> {
    const { stdout } = await shell(
      `cd ${folder} && find . ! -path './.tidemark*' \\( -type d -printf '%P|%y|%m|%U|%G|%n||%T@|\\n' -o -printf '%P|%y|%m|%U|%G|%n|%s|%T@|%l\\n' \\) | LC_ALL=C sort && getfacl -nR . 2>/dev/null | grep -v '^# file' | LC_ALL=C sort && (getfattr -hdR -m - -e hex . || true) | grep = | LC_ALL=C sort && stat -c '%n %t %T' null disk big`,
    );
    return stdout;
  }

  async function expectEqual(left: string, right: string): Promise<void> {
    expect((await shell(`${DIFFERENCES} ${left}/ ${right}/`)).stdout).toBe("");
    expect(await seen(left)).toBe(await seen(right));
  }

  test("GNU tar unpacks an export to the same tree: every attribute, holes as holes", async () => {
    const out = scratch("out");
    await shell(`${tidemark} export shop/files/tree > ${service.folder}/tree.tar`);
    await shell(`${TAR} -C ${out} -xpf ${service.folder}/tree.tar`);
    await expectEqual(`${mount}/tree`, out);
    expect((await shell(`${TAR} -C ${mount}/tree --compare -f ${service.folder}/tree.tar`)).stdout).toBe("");
    const kib = (await shell(`du -k ${out}/sparse ${out}/hole ${out}/tail | cut -f1`)).stdout
      .trim()
      .split("\n")
      .map(Number);
    expect(kib[0]).toBeLessThan(64);
    expect(kib[1]).toBeLessThan(64);
    expect(kib[2]).toBeLessThan(160);
  });

  test("an export of a past moment is the same, byte for byte, after changes and after a restart of the service", async () => {
    const folder = service.folder;
    const at = `lsn:${await service.lastLsn()}`;
    await shell(`${tidemark} export shop/files --at ${at} > ${folder}/then.tar`);
    await shell(
      `cd ${mount}/tree && rm -rf deep && echo changed >> dense && chmod 600 a && setfattr -x user.colour a && mv d moved && ln old older`,
    );
    await service.cli("export", "shop/files", "--at", at, "--output", `${folder}/after.tar`);
    await shell(`cmp ${folder}/then.tar ${folder}/after.tar`);
    await service.umount(mount);
    await service.stop();
    await service.start();
    await service.cli("export", "shop/files", "--at", at, "--output", `${folder}/after.tar`, "--force");
    await shell(`cmp ${folder}/then.tar ${folder}/after.tar && ! ls ${folder}/*.partial`);
    const view = await service.mount("shop/files", "past", "--at", at);
    const out = scratch("out-then");
    await shell(`${TAR} -C ${out} -xpf ${folder}/then.tar`);
    await expectEqual(`${view}/tree`, `${out}/tree`);
    await service.umount(view);
    await service.mount("shop/files", "mnt");
  });

  test.each([
    ["pax", "--format=pax --sparse"],
    ["pax, sparse 0.1", "--format=pax --sparse --sparse-version=0.1"],
    ["pax, sparse 0.0", "--format=pax --sparse --sparse-version=0.0"],
  ])("what GNU tar packed (%s) is imported as it was, into a share that is not mounted", async (_, options) => {
    const source = scratch(`source-${shareCount}`);
    // GNU tar packs a further name of a device as another device.
    await shell(`cd ${source} && ${MAKE_TREE} && rm nool && touch -d '2003-03-03 03:03:03.3' .`);
    const share = await newShare();
    await shell(`${TAR} ${options} -C ${source} -cf - . | ${tidemark} import ${share}`);
    expect((await service.cli("mount")).stdout).not.toContain("tidemark-import");
    const there = await service.mount(share, `imported-${shareCount}`);
    await expectEqual(source, there);
    const blocks = (folder: string) => shell(`cd ${folder} && stat -c '%n %b' sparse hole tail dense`);
    const [ours, theirs] = await Promise.all([blocks(there), blocks(source)]);
    expect(blockSum(ours)).toBeLessThanOrEqual(blockSum(theirs));
    await service.umount(there);
  });

  test("GNU tar's own format, and ustar, are imported", async () => {
    const source = scratch("source-gnu");
    await shell(`cd ${source} && mkdir -p d/$(printf 'y%.0s' $(seq 70)) && echo x > d/$(printf 'y%.0s' $(seq 70))/f && ln d/y*/f hard && ln -s $(printf 't%.0s' $(seq 90)) l
      truncate -s 5M s && for i in $(seq 0 60); do echo $i | dd of=s bs=1 seek=$((i * 65536)) conv=notrunc status=none; done && chown 2097152:5 s && find . -exec touch -h -d '2004-04-04 04:04:04' {} +`);
    for (const options of ["--format=gnu --sparse", "--format=oldgnu --sparse"]) {
      const share = await newShare();
      await shell(`tar --numeric-owner ${options} -C ${source} -cf - . | ${tidemark} import ${share}`);
      const there = await service.mount(share, `imported-${shareCount}`);
      expect((await shell(`${DIFFERENCES} ${source}/ ${there}/`)).stdout).toBe("");
      await service.umount(there);
    }
    const share = await newShare();
    await shell(
      `chown 1:1 ${source}/s && tar --numeric-owner --format=ustar -C ${source} -cf - . | ${tidemark} import ${share}`,
    );
    const there = await service.mount(share, `imported-${shareCount}`);
    expect(
      (await shell(`touch -h -d '2004-04-04 04:04:04' ${source}/s && ${DIFFERENCES} ${source}/ ${there}/`)).stdout,
    ).toBe("");
    await service.umount(there);
  });

  test("an export goes through a pipe into a directory of a mounted share, and the history takes it back", async () => {
    const share = await newShare();
    const there = await service.mount(share, `mounted-${shareCount}`);
    await shell(`mkdir ${there}/into`);
    const { stdout } = await shell(`${tidemark} export shop/files/tree | ${tidemark} import ${share}/into/new`);
    await expectEqual(`${mount}/tree`, `${there}/into/new`);
    const back = /tidemark (restore .*)$/m.exec(stdout)?.[1] ?? "";
    expect(back).toMatch(new RegExp(`^restore ${share}/into --at lsn:\\d+$`));
    await service.cli(...back.split(" "), "--yes");
    expect((await shell(`ls ${there}/into`)).stdout).toBe("");
    await service.umount(there);
  });

  test("an export from a repository alone is the same, byte for byte", async () => {
    const { folder } = service;
    const env = { TIDEMARK_PASSPHRASE: "a passphrase of the test" };
    await service.cliWith({ env }, "repo", "init", `${folder}/repository`);
    await service.cli("backup", "enable", "shop", "--repo", "main", "--every", "1s");
    await service.cli("backup", "now", "shop");
    const at = `lsn:${await service.lastLsn()}`;
    await shell(`echo later > ${mount}/later`);
    await service.cli("export", "shop/files", "--at", at, "--output", `${folder}/live.tar`);
    const where = ["--repo", `${folder}/repository`, "--at", at, "--output", `${folder}/stored.tar`];
    await service.cliWith({ env }, "repo", "export", "shop/files", ...where);
    await shell(`cmp ${folder}/live.tar ${folder}/stored.tar`);
  });

  test("a single file is a member of its name", async () => {
    const { stdout } = await shell(`${tidemark} export shop/files/tree/old | tar -tvf -`);
    expect(stdout).toMatch(/^-rw-r--r-- .* 1985-01-02 .* old\n$/);
  });

  test("a socket is named, and the rest is exported", async () => {
    await shell(
      `cd ${mount} && mkdir sockets && ${process.execPath} -e 'require("net").createServer().listen("s", () => process.kill(process.pid, "SIGKILL"))' || true`,
    );
    await shell(`cd ${mount} && mv s sockets/ && touch sockets/f`);
    const result = await shell(`${tidemark} export shop/files/sockets --output ${service.folder}/sockets.tar`, {
      anyStatus: true,
    });
    expect(result.status).toBe(10);
    expect(result.stderr).toContain("s: a socket");
    expect((await shell(`tar -tf ${service.folder}/sockets.tar`)).stdout).toBe("./\n./f\n");
  });

  describe("an import", () => {
    const importing = (share: string, script: string): Promise<RunResult> =>
      shell(`set +o pipefail; ${script} | ${tidemark} import ${share}`, { anyStatus: true });

    test("into what is not empty is refused, and with --force replaces what has the same names", async () => {
      const share = await newShare();
      const source = scratch(`names-${shareCount}`);
      await shell(`cd ${source} && echo new > a && mkdir d && echo new > d/b`);
      const there = await service.mount(share, `force-${shareCount}`);
      await shell(`cd ${there} && echo old > a && echo kept > c && ln -s c d`);
      const refused = await importing(share, `tar -C ${source} -cf - .`);
      expect(refused.status).toBe(5);
      expect(refused.stderr).toContain("--force");
      await shell(`tar -C ${source} -cf ${source}.tar .`);
      const done = await service.json<object>("import", share, "--force", "--input", `${source}.tar`);
      expect(done).toMatchObject({ event: "done", target: share, files: 2, directories: 2, shortfallCount: 0 });
      expect((await shell(`cd ${there} && cat a d/b c`)).stdout).toBe("new\nnew\nkept\n");
      await service.umount(there);
    });

    test("that would lead out is refused, naming the member, and leaves no mount behind", async () => {
      const outside = scratch("outside");
      const source = scratch("hostile");
      await shell(
        `cd ${source} && ln -s ${outside} way && tar -cf ../hostile.tar way && rm way && mkdir way && echo bad > way/file && tar -rf ../hostile.tar way/file`,
      );
      const archives = [
        [`cat ${service.folder}/hostile.tar`, '"way" is a symbolic link'],
        [`tar -C / -Pcf - /etc/hostname`, '"/etc/hostname" is absolute'],
        [`tar -C ${source}/way -Pcf - ../way/file`, 'leads out with ".."'],
      ] as const;
      for (const [script, message] of archives) {
        const { status, stderr } = await importing(await newShare(), script);
        expect(status).toBe(2);
        expect(stderr).toContain(message);
      }
      expect((await shell(`ls ${outside}; ls -d /tmp/tidemark-import-* 2>/dev/null || true`)).stdout).toBe("");
    });

    test("of a cut, a damaged or a compressed archive says so, and how to go on", async () => {
      const source = scratch("whole");
      await shell(`cd ${source} && seq 1000000 > big && tar -cf ../whole.tar big`);
      const cut = await importing(await newShare(), `head -c 1000000 ${service.folder}/whole.tar`);
      expect(cut.status).toBe(7);
      expect(cut.stderr).toMatch(/cut off inside of "big"/);
      const zipped = await importing(await newShare(), `gzip -c ${service.folder}/whole.tar`);
      expect(zipped.status).toBe(6);
      expect(zipped.stderr).toContain("gzip -dc");
      const nothing = await importing(await newShare(), "true");
      expect(nothing.stderr).toContain("nothing to read");
      const text = await importing(await newShare(), "seq 1000");
      expect(text.stderr).toContain("checksum");
    });
  });
});

function blockSum({ stdout }: RunResult): number {
  return stdout
    .trim()
    .split("\n")
    .reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
}
