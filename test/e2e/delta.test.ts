import { mkdirSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { TestService } from "./fixture.ts";
import { skipWithout } from "./requirements.ts";
import { shell } from "./run.ts";

const skipped = skipWithout("rsync", "restic", "setfacl", "setfattr", "python3");

/** The lists are bytes of any kind: they go from program to program. */
const CLI = `${process.execPath} ${fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url))}`;

/** As README has it. */
const RSYNC = "rsync -aHAXS --numeric-ids --ignore-times --from0 --files-from=- --delete-missing-args --force";

/** Everything that rsync can see. Prints what differs. */
const DIFFERENCES = "rsync -aHAXnci --numeric-ids --delete";

/** What a share goes through between one backup and the next. */
const ROUNDS: readonly string[] = [
  // Bytes: in place, grown, cut, punched, with the size and time of before, and nothing at all.
  `echo changed >> tree/can/raw.h && truncate -s 100 tree/can/bcm.h && truncate -s 5000000 tree/big
   printf x | dd of=tree/big bs=1 seek=1234567 conv=notrunc status=none && fallocate -p -o 1048576 -l 1048576 tree/big
   cp -a tree/can/gw.h ref && printf Z | dd of=tree/can/gw.h bs=1 seek=10 conv=notrunc status=none && touch -r ref tree/can/gw.h && rm ref
   touch tree/can/error.h`,
  // Names: renamed, renamed over, unlinked and made again, linked, unlinked of several.
  `mv tree/can/error.h tree/can/errors.h && echo new > tree/.x && mv tree/.x tree/can/raw.h && rm tree/can/bcm.h && echo again > tree/can/bcm.h
   ln tree/big tree/can/big3 && rm tree/hard && printf 'a\\nb' > "$(printf 'tree/new\\nline')" && printf l > "$(printf 'tree/\\377\\376')"`,
  // Directories: renamed with all that is in them, emptied, new, swapped.
  `mv tree/can moved && mkdir tree/can && cp -a /usr/include/asm-generic/types.h tree/can/ && rm -r tree/sub && mkdir -p deep/er/still && touch deep/er/still/file
   mkdir a b && touch a/1 b/2 && mv a c && mv b a && mv c b && ln moved/gw.h deep/er/link`,
  // Something else of the same name, attributes, nodes, links.
  `rm -r deep/er && echo file > deep/er && rm moved/raw.h && mkdir moved/raw.h && touch moved/raw.h/in && rm -r a && ln -s b a && rm tree/soft && mkfifo tree/soft
   chmod 2751 moved && chown 5:6 moved/gw.h && setfattr -n user.a -v other tree/big && setfattr -x user.b tree/big && setfacl -m u:61002:rw tree/big && setfacl -d -m g:7:rx moved
   mknod tree/null c 1 3 && touch -d '1999-01-02 03:04:05.123456789' moved && chmod 700 .`,
  // Everything goes, something comes.
  `rm -rf tree moved && mkdir tree && cp -a /usr/include/asm-generic tree/ && mv deep/er tree/ && rmdir deep`,
];

describe.skipIf(skipped)("backups of a share driven by its delta", { timeout: 180_000 }, () => {
  let service: TestService;
  let mount: string;
  let copy: string;
  let restored: string;
  let env: Record<string, string>;

  beforeAll(async () => {
    ({ service, mount } = await TestService.withShare());
    copy = path.join(service.folder, "copy");
    restored = path.join(service.folder, "restored");
    mkdirSync(copy);
    env = {
      RESTIC_REPOSITORY: path.join(service.folder, "restic"),
      RESTIC_PASSWORD: "x",
      RESTIC_CACHE_DIR: path.join(service.folder, "cache"),
    };
    await shell(`
      mkdir -p ${mount}/tree/sub && cd ${mount}/tree && cp -a /usr/include/linux/can . && head -c 3000000 /dev/urandom > big && ln big hard && ln -s big soft && touch sub/x
      truncate -s 64M sparse && echo end >> sparse && setfattr -n user.a -v b big && setfattr -n user.b -v c big && setfacl -m u:61001:r big && setfacl -d -m g:7:rx sub`);
  });
  afterAll(async () => service.dispose());

  async function view(lsn: number): Promise<string> {
    return service.mount("shop/files", `at-${lsn}`, "--at", `lsn:${lsn}`);
  }

  test("rsync and restic bring copies up to date from nothing but the lists of what changed", async () => {
    let from = await service.lastLsn();
    const first = await view(from);
    await shell(
      `rsync -aHAXS --numeric-ids ${first}/ ${copy}/ && restic -q init && cd ${first} && restic -q backup . && restic -q restore latest --target ${restored}`,
      {
        env,
      },
    );
    await service.umount(first);
    for (const round of ROUNDS) {
      await shell(`cd ${mount} && ${round}`);
      const to = await service.lastLsn();
      const later = await view(to);
      expect((await shell(`${DIFFERENCES} ${later}/ ${copy}/ | wc -l`)).stdout.trim(), round).not.toBe("0");
      const cli = `${CLI} --data ${service.dataFolder} delta shop/files --from lsn:${from} --to lsn:${to}`;
      await shell(`${cli} --files-from0 2>/dev/null | ${RSYNC} ${later}/ ${copy}/`);
      expect((await shell(`${DIFFERENCES} ${later}/ ${copy}/`)).stdout, round).toBe("");
      await shell(
        `cd ${later} && ${cli} --paths --trees -0 2>/dev/null > ${service.folder}/paths && restic -q backup --files-from-raw - < ${service.folder}/paths
         cd ${restored} && ${cli} --deleted -0 2>/dev/null | cat - ${service.folder}/paths | xargs -0 rm -rf && restic -q restore latest --target .`,
        { env },
      );
      // restic has no attributes of the root, and of a directory only with something that is below.
      const { stdout } = await shell(
        `${DIFFERENCES} --omit-dir-times ${later}/ ${restored}/ | grep -v ' \\./$' || true`,
      );
      expect(stdout, round).toBe("");
      await service.umount(later);
      from = to;
    }
  });
});
