import { rmSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { TestService } from "./fixture.ts";
import { skipWithout } from "./requirements.ts";
import { shell } from "./run.ts";

const skipped = skipWithout("setfattr", "setfacl", "rsync");

const SLOW_TEST_MS = 240_000;

/** Everything about every name of a tree that ordinary tools show, bytes included; and where the holes of the sparse files are. */
function describeTree(tree: string): Promise<string> {
  return shell(`
    cd ${tree}
    find . -printf '%P|%y|%m|%U|%G|%n|%s|%b|%T@|%C@|%i|%l\\0' | sort -z | tr '\\0\\n' '\\n '
    getfacl -nR . 2>/dev/null
    getfattr -dhR -m - . 2>/dev/null
    find . \\( -type c -o -type b \\) -printf '%P\\0' | sort -z | xargs -0r stat -c '%n %t %T'
    find . -type f -size -100M -print0 | sort -z | xargs -0r sha256sum -z | tr '\\0\\n' '\\n '
    find . -name sparse -exec dd if={} bs=1 skip=500000000000 count=4 status=none ';'
  `).then(({ stdout }) => stdout);
}

/** What the tree is at first, and what is done to it between two moments. */
const ROUNDS = [
  `echo one > a && ln a b && ln -s a c && mkfifo pipe && mknod null c 1 3 && mknod disk b 7 0
   truncate -s 1T sparse && echo end | dd of=sparse bs=1 seek=500000000000 conv=notrunc status=none
   setfattr -n user.colour -v blue a && setfattr -h -n trusted.note -v t c && setfacl -m u:1234:rw a && mkdir d && setfacl -d -m g:55:rwx d && touch d/inherits
   touch "$(printf 'new\\nline')" "$(printf '\\xff\\xfe')" ' leading' "$(printf 'x%.0s' $(seq 255))"
   touch -d '1905-01-02 03:04:05.123456789' old && touch -d '2500-06-07' new && chown 4000000000:77 a && chmod 4751 a
   mkdir include && cp -a /usr/include/linux/usb /usr/include/linux/dvb /usr/include/linux/v*.h include/ && head -c 3000000 /dev/urandom > random && chmod 0 random`,
  `echo two >> a && rm 'new' && mv d e && ln a e/third && setfattr -x user.colour a && setfattr -n user.size -v "$(seq -s, 300)" e
   dd if=/dev/urandom of=random bs=4096 seek=100 count=20 conv=notrunc status=none && truncate -s 2500000 random
   find include -name 'v*.h' -delete && mv include/usb elsewhere && fallocate -p -o 1000000 -l 500000 random`,
  `rm -rf include b && mkdir -p e/deep/deeper && mv elsewhere e/deep/deeper/ && cp --reflink=auto random copy && chown -R 5:6 e
   echo three | dd of=sparse bs=1 seek=500000000000 conv=notrunc status=none && rm "$(printf '\\xff\\xfe')" && ln -sfn nowhere c`,
];

describe.skipIf(skipped)("recovery onto an empty machine", { timeout: SLOW_TEST_MS }, () => {
  let service: TestService;
  let repository: string;
  let keyFile: string;
  const moments: number[] = [];
  const trees: string[] = [];

  beforeAll(async () => {
    const made = await TestService.withShare();
    service = made.service;
    repository = path.join(service.folder, "repository");
    keyFile = path.join(service.folder, "key");
    await service.cli("repo", "--key-file", keyFile, "init", repository);
    await service.cli("backup", "enable", "shop");
    for (const [round, commands] of ROUNDS.entries()) {
      await shell(`cd ${made.mount}\n${commands}`);
      moments.push(await service.lastLsn());
      const view = await service.mount("shop/files", `then-${round}`, "--at", `lsn:${moments[round]}`);
      trees.push(await describeTree(view));
      await service.umount(view);
      if (round < 2) await service.cli("backup", "now", "shop");
    }
    await shell(`cd ${made.mount} && date > a && rm -f random`);
    trees.push(await describeTree(made.mount));
    await service.cli("snapshot", "create", "shop", "end");
    await service.cli("backup", "now", "shop");
    await service.umount(made.mount);
    await service.killAll();
    // The machine is gone.
    rmSync(service.dataFolder, { recursive: true, force: true });
  }, SLOW_TEST_MS);
  afterAll(async () => service.dispose());

  async function recovered(name: string, ...args: readonly string[]): Promise<TestService> {
    const dataFolder = path.join(service.folder, name);
    await service.cli("repo", "--repo", repository, "--key-file", keyFile, "recover", "--into", dataFolder, ...args);
    return new TestService({ dataFolder });
  }

  for (const how of ["eager", "lazy"] as const) {
    test(`everything is as it was, now and at three past moments (${how})`, async () => {
      const other = await recovered(how, ...(how === "lazy" ? ["--lazy"] : []));
      try {
        await other.start();
        expect((await other.cli("snapshot", "list", "shop")).stdout).toContain("end");
        expect((await other.cli("status")).stdout).toContain("shop: recovered");
        for (const [round, moment] of moments.entries()) {
          const view = await other.mount("shop/files", `view-${round}`, "--at", `lsn:${moment}`);
          expect(await describeTree(view)).toBe(trees[round]);
          await other.umount(view);
        }
        const mount = await other.mount("shop/files", "live");
        expect(await describeTree(mount)).toBe(trees[3]);
        await shell(`cd ${mount} && echo more >> a && mkdir again && cp -a e again/`);
        await shell(`rsync -aHAXnci --delete --no-specials ${mount}/e/ ${mount}/again/e/ | (! grep .)`);
      } finally {
        await other.dispose();
      }
    });
  }

  test("a recovered app is backed up again into the same repository, and comes back a second time", async () => {
    const second = await recovered("second");
    let tree = "";
    try {
      await second.start();
      await second.cli("backup", "enable", "shop");
      const mount = await second.mount("shop/files", "live");
      await shell(`cd ${mount} && echo second life > life && rm -rf e`);
      tree = await describeTree(mount);
      await second.cli("backup", "now", "shop");
      await second.umount(mount);
    } finally {
      await second.dispose();
    }
    const third = await recovered("third");
    try {
      await third.start();
      const mount = await third.mount("shop/files", "live");
      expect(await describeTree(mount)).toBe(tree);
      const view = await third.mount("shop/files", "view", "--at", `lsn:${moments[0]}`);
      expect(await describeTree(view)).toBe(trees[0]);
    } finally {
      await third.dispose();
    }
  });
});
