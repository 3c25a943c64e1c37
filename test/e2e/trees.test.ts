import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { TestService } from "./fixture.ts";
import { skipWithout } from "./requirements.ts";
import { shell } from "./run.ts";

const skipped = skipWithout("rsync", "tar", "setfattr", "setfacl", "git");

/** Everything rsync can see: bytes, modes, owners, times, links, devices, ACLs, xattrs. Prints what differs. */
const DIFFERENCES = "rsync -aHAXnci --delete --no-specials";

/** Tens of thousands of files, on a loaded machine. */
const SLOW_TEST_MS = 240_000;

describe.skipIf(skipped)("real trees", { timeout: SLOW_TEST_MS }, () => {
  let service: TestService;
  let mount: string;

  beforeAll(async () => {
    ({ service, mount } = await TestService.withShare());
  });
  afterAll(async () => service.dispose());

  test("a tree copied with cp -a equals the original now, and in a view after it was changed", async () => {
    await shell(`cp -a /usr/include ${mount}/include`);
    expect((await shell(`${DIFFERENCES} /usr/include/ ${mount}/include/`)).stdout).toBe("");
    const at = await service.lastLsn();
    await shell(
      `cd ${mount}/include && find . -name 'x*.h' -delete && find . -name 's*.h' | xargs -I{} sh -c 'echo changed >> {}' && chmod -R g+w . && mv linux elsewhere`,
    );
    const view = await service.mount("shop/files", "past", "--at", `lsn:${at}`);
    expect((await shell(`${DIFFERENCES} /usr/include/ ${view}/include/`)).stdout).toBe("");
    expect((await shell(`${DIFFERENCES} /usr/include/ ${mount}/include/ | wc -l`)).stdout.trim()).not.toBe("0");
    await service.umount(view);
  });

  test("a tree unpacked with tar passes tar --compare, now and in a view", async () => {
    await shell(
      `tar -C /usr/share -cf ${service.folder}/doc.tar --numeric-owner perl5 bash-completion 2>/dev/null || true`,
    );
    await shell(`mkdir ${mount}/share && tar -C ${mount}/share -xpf ${service.folder}/doc.tar --numeric-owner`);
    await shell(`tar -C ${mount}/share --compare --numeric-owner -f ${service.folder}/doc.tar`);
    const at = await service.lastLsn();
    await shell(`rm -rf ${mount}/share`);
    const view = await service.mount("shop/files", "past-tar", "--at", `lsn:${at}`);
    await shell(`tar -C ${view}/share --compare --numeric-owner -f ${service.folder}/doc.tar`);
    await service.umount(view);
  });

  test("links, sparse files, devices, ACLs, xattrs and odd names are the same through a view", async () => {
    await shell(`
      mkdir ${mount}/odd && cd ${mount}/odd
      echo one > a && ln a b && ln -s a c && mkfifo pipe && mknod null c 1 3 && mknod disk b 7 0
      truncate -s 1T sparse && echo end | dd of=sparse bs=1 seek=500000000000 conv=notrunc status=none
      setfattr -n user.colour -v blue a && setfacl -m u:1234:rw a && mkdir d && setfacl -d -m g:55:rwx d && touch d/inherits
      touch "$(printf 'new\\nline')" "$(printf '\\xff\\xfe')" ' leading' "$(printf 'x%.0s' $(seq 255))"
      touch -d '1905-01-02 03:04:05.123456789' old && touch -d '2500-06-07' new && chown 4000000000:77 a && chmod 4751 a`);
    const before = (
      await shell(
        `cd ${mount}/odd && find . -printf '%P|%y|%m|%U|%G|%n|%s|%T@|%l\\n' | sort && getfacl -nR . 2>/dev/null && getfattr -dR -m - . && stat -c '%n %t %T' null disk && md5sum a b`,
      )
    ).stdout;
    const at = await service.lastLsn();
    await shell(`rm -rf ${mount}/odd`);
    const view = await service.mount("shop/files", "past-odd", "--at", `lsn:${at}`);
    const then = (
      await shell(
        `cd ${view}/odd && find . -printf '%P|%y|%m|%U|%G|%n|%s|%T@|%l\\n' | sort && getfacl -nR . 2>/dev/null && getfattr -dR -m - . && stat -c '%n %t %T' null disk && md5sum a b`,
      )
    ).stdout;
    expect(then).toBe(before);
    expect(before).toContain("sparse|f|644|0|0|1|1099511627776");
    expect((await shell(`cd ${view}/odd && dd if=sparse bs=1 skip=500000000000 count=3 status=none`)).stdout).toBe(
      "end",
    );
    await service.umount(view);
  });

  test("git clones, commits, collects and checks on the mount", async () => {
    await shell(`
      git init -q ${service.folder}/origin && cd ${service.folder}/origin && git config user.email a@b && git config user.name n
      for i in $(seq 400); do mkdir -p d$((i % 20)) && seq $i > d$((i % 20))/f$i; done && git add -A && git commit -qm first
      for i in $(seq 20); do echo $i >> d1/f1 && git commit -qam change$i; done`);
    await shell(`
      git clone -q ${service.folder}/origin ${mount}/clone && cd ${mount}/clone && git config user.email a@b && git config user.name n
      git fsck --strict && seq 1000 > d2/f2 && git commit -qam mine && git gc -q --aggressive && git fsck --strict && git status --porcelain`);
    expect((await shell(`git -C ${mount}/clone log --oneline | wc -l`)).stdout.trim()).toBe("22");
  });
});
