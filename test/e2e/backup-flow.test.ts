import { readFileSync, rmSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { S3Server } from "../support/s3-server.ts";
import { lacksTools } from "../support/test-tool.ts";
import { BackedUpMachine, copyTree, differences } from "./backup-flow-machines.ts";
import { skipWithout } from "./requirements.ts";
import { shell } from "./run.ts";

const skipped = skipWithout("rsync", "tar", "setfattr", "setfacl", "fallocate");
const lacksServer = lacksTools("versitygw");

const SLOW_TEST_MS = 240_000;

/** What is done to the tree; after each, a moment is noted and a copy taken. */
const ROUNDS = [
  `mkdir -p docs/deep devices odd big dead
   seq 20000 > docs/numbers && ln docs/numbers docs/deep/same && ln docs/numbers odd/third && printf 'TOKEN=1' > docs/.env
   ln -s ../docs/numbers odd/link && ln -s /nowhere odd/dangling && mknod devices/null c 1 3 && mknod devices/disk b 7 0 && mkfifo devices/pipe
   truncate -s 24M big/sparse && printf middle | dd of=big/sparse bs=1 seek=13000000 conv=notrunc status=none && head -c 2500000 /dev/urandom > big/random
   touch "$(printf 'odd/new\\nline')" "$(printf 'odd/\\377\\376')" 'odd/ leading' odd/-dash "odd/$(printf 'x%.0s' $(seq 255))"
   setfattr -n user.colour -v blue docs/numbers && setfattr -h -n trusted.note -v here odd/link && setfattr -n user.long -v "$(seq -s, 700)" docs
   setfacl -m u:1234:rw docs/numbers && setfacl -d -m g:55:rwx docs/deep && touch docs/deep/inherits
   touch -d '1905-01-02 03:04:05.123456789' dead/old && touch -d '2399-06-07' dead/new && cp /bin/true dead/suid && chown 4000000000:77 dead/suid && chmod 4751 dead/suid
   cp -a /usr/include/linux/usb include`,
  `dd if=/dev/urandom of=big/random bs=4096 seek=50 count=20 conv=notrunc status=none && seq 9 >> docs/numbers && rm docs/.env odd/third
   mv docs/deep moved && ln moved/same odd/fourth && setfattr -x user.colour docs/numbers && setfacl -b moved && find include -name 'c*.h' -delete
   rm "$(printf 'odd/new\\nline')" && ln -sfn elsewhere odd/dangling && rm devices/null && mknod devices/null c 1 5`,
  `truncate -s 1800000 big/random && fallocate -p -o 1000000 -l 300000 big/random && printf late | dd of=big/sparse bs=1 seek=20000000 conv=notrunc status=none
   seq 50 > docs/temporary && mv docs/temporary docs/numbers && mv include docs/include && chmod -R g+w docs && rm -r dead && touch dead`,
  // As ransomware does.
  `find . -type f -size -3M -exec sh -c 'seq 99 > "$1" && mv "$1" "$1.x" 2>/dev/null || true' - {} ';' && rm -rf devices big docs/include`,
];

/** Where the service ships to: made before the first test. */
const PLACES = {
  "a directory": { isSkipped: skipped, startServer: async () => undefined },
  "a bucket": { isSkipped: skipped || lacksServer, startServer: () => S3Server.start() },
} as const;

for (const [name, { isSkipped, startServer }] of Object.entries(PLACES)) {
  describe.skipIf(isSkipped)(`a machine that is backed up to ${name} and lost`, { timeout: SLOW_TEST_MS }, () => {
    let server: S3Server | undefined;
    let machine: BackedUpMachine;
    /** Each with the copy of then; of the first two an LSN, of the third a time, of the last nothing: it is the newest. */
    const moments: { at: string | undefined; copy: string }[] = [];

    beforeAll(async () => {
      server = await startServer();
      await server?.createBucket("backup");
      const bucket = server;
      machine = await BackedUpMachine.start((folder) => placeOf(bucket, folder));
      const { service, mount } = machine;
      await service.cli("backup", "enable", "shop", "--every", "1s");
      for (const [round, commands] of ROUNDS.entries()) {
        await shell(`cd ${mount}\n${commands}`);
        const copy = path.join(service.folder, `copy-${round}`);
        const at = [`lsn:${await service.lastLsn()}`, `lsn:${await service.lastLsn()}`, new Date().toISOString()][
          round
        ];
        await copyTree(mount, copy);
        moments.push({ at, copy });
      }
      await machine.untilProtected();
      // Compares with what is there now, so it belongs before the end.
      expect((await service.cli("drill", "shop", "--key-file", machine.keyFile)).stdout).not.toBe("");
      await service.umount(mount);
      await service.killAll();
      rmSync(service.dataFolder, { recursive: true, force: true });
    }, SLOW_TEST_MS);

    afterAll(async () => {
      await machine?.service.dispose();
      await server?.stop();
    });

    for (const how of ["whole", "lazily"] as const) {
      test(`comes back ${how} on another one: every moment equals the copy taken then`, async () => {
        const other = await machine.recover(how, ...(how === "lazily" ? ["--lazy"] : []));
        try {
          await other.start();
          for (const [index, { at, copy }] of moments.entries()) {
            const mount = await other.mount("shop/files", `m${index}`, ...(at === undefined ? [] : ["--at", at]));
            expect(await differences(copy, mount)).toBe("");
          }
          const live = path.join(other.folder, "m3");
          await shell(`cd ${live} && cp -a odd again && rm -r docs && seq 3 > docs`);
          expect((await other.cli("drill", "shop", "--key-file", machine.keyFile)).stdout).not.toBe("");
        } finally {
          await other.dispose();
        }
      });
    }

    test("comes back also when the recovery is killed again and again", async () => {
      const kills: boolean[] = [];
      for (const fileCount of [1, 4, 12]) kills.push(await machine.recoverKilled("killed", fileCount));
      expect(kills).toContain(true);
      const other = await machine.recover("killed");
      try {
        await other.start();
        const [first] = moments;
        const past = await other.mount("shop/files", "past", "--at", first?.at ?? "");
        expect(await differences(first?.copy ?? "", past)).toBe("");
        const live = await other.mount("shop/files", "live");
        expect(await differences(moments.at(-1)?.copy ?? "", live)).toBe("");
      } finally {
        await other.dispose();
      }
    });

    test("is readable without a service: mounted, restored, read and searched, at any moment", async () => {
      const [first, second, third] = moments;
      if (first === undefined || second?.at === undefined || third?.at === undefined) throw new Error("no moments");
      const restored = path.join(machine.service.folder, "restored");
      await machine.elsewhere("restore", "shop/files", "--at", first.at ?? "", "--to", restored, "--yes");
      expect(await differences(first.copy, restored)).toBe("");
      await machine.mountElsewhere(third.at, async (mount) => expect(await differences(third.copy, mount)).toBe(""));
      const random = await machine.elsewhere("cat", "shop/files/docs/numbers", "--at", second.at);
      expect(random.stdout).toBe(readFileSync(path.join(second.copy, "docs/numbers"), "utf8"));
      const { stdout: deleted } = await machine.elsewhere("find", "shop", "*.env", "--deleted");
      expect(deleted).toContain("files/docs/.env");
      expect((await machine.elsewhere("cat", "shop/files/docs/.env", "--at", first.at ?? "")).stdout).toBe("TOKEN=1");
      const { stdout: versions } = await machine.elsewhere("history", "shop/files/docs/numbers.x");
      expect(versions).toMatch(/docs\/numbers\n/);
    });

    test("was backed up without damage, to the last byte", async () => {
      const [line] = (await machine.elsewhere("--json", "check", "--read-data")).stdout.trim().split("\n");
      const { app, findings, files, counts } = JSON.parse(line ?? "") as Record<string, unknown>;
      expect({ app, findings, files }).toEqual({ app: "default:shop", findings: [], files: [] });
      const { packCount, packsRead } = counts as { packCount: number; packsRead: number };
      expect(packsRead).toBe(packCount);
      expect(packCount).toBeGreaterThan(0);
    });
  });
}

/** Where a repository is made: in the bucket of a server, or below a folder. */
function placeOf(server: S3Server | undefined, folder: string): { address: string; env: Record<string, string> } {
  if (server === undefined) return { address: path.join(folder, "repository"), env: {} };
  const { accessKeyId, secretAccessKey } = server.credentials;
  const env = {
    AWS_ACCESS_KEY_ID: accessKeyId,
    AWS_SECRET_ACCESS_KEY: secretAccessKey,
    AWS_ENDPOINT_URL: server.endpoint,
  };
  return { address: "s3://backup/prefix", env };
}
