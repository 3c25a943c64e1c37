import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { TestService } from "./fixture.ts";
import { skipWithout } from "./requirements.ts";
import { type RunResult, shell } from "./run.ts";

const skipped = skipWithout("setfacl", "setfattr", "setpriv");

const ALICE = 61001;
const BOB = 61002;

/** Runs a script as another user, with groups of his. Answers its standard error, empty when it succeeded. */
async function as(uid: number, script: string, groups = ""): Promise<string> {
  const who = `setpriv --reuid ${uid} --regid ${uid} ${groups === "" ? "--clear-groups" : `--groups ${groups}`}`;
  const result = await shell(`${who} bash -c '${script}'`, { anyStatus: true });
  return result.status === 0 ? "" : result.stderr.trim().replace(/^.*: /, "");
}

/** Standard error of a script that must fail. */
async function refusal(script: string): Promise<string> {
  const result: RunResult = await shell(script, { anyStatus: true });
  expect(result.status, script).not.toBe(0);
  return result.stderr.trim().replace(/^.*: /, "");
}

describe.skipIf(skipped)("who may look at the past", { timeout: 120_000 }, () => {
  let service: TestService;

  beforeAll(async () => {
    ({ service } = await TestService.withShare());
    await shell(`chmod 755 ${service.folder}`);
  });
  afterAll(async () => service.dispose());

  /** A share with files of Alice's and a snapshot "old", in which they are as they were before today. */
  async function share(name: string, option: string): Promise<{ mount: string; old: string }> {
    await service.cli("share", "create", `shop/${name}`, "--views", option);
    const mount = await service.mount(`shop/${name}`, name);
    await shell(`cd ${mount} && chmod 755 . && mkdir open closed gone && for f in open/f open/now-closed closed/f gone/f open/gone open/acl open/group; do echo secret > $f; done
      setfattr -n user.x -v y open/now-closed && chown -R ${ALICE}:${ALICE} . && chmod -R a+rX .`);
    await service.cli("snapshot", "create", "shop", `old-${name}`);
    await shell(
      `cd ${mount} && chmod 600 open/now-closed && chmod 700 closed && rm -rf gone open/gone && chmod 600 open/acl && setfacl -m u:${BOB}:r open/acl && chgrp 4711 open/group && chmod 640 open/group`,
    );
    return { mount, old: `${mount}/.tidemark/old-${name}` };
  }

  test("with views = users: who may read a file today and could then; deleted files only their owner and root", async () => {
    const { old } = await share("users", "users");
    // Root first, so that everything is cached.
    await shell(`cat ${old}/open/* ${old}/closed/f ${old}/gone/f && ls -R ${old}`);
    expect(await as(BOB, `cat ${old}/open/f && ls ${old}/open && ls ${old}`)).toBe("");
    for (const look of [
      "cat OLD/open/now-closed",
      "ls OLD/closed",
      "cat OLD/closed/f",
      "stat OLD/closed/f",
      "ls OLD/gone",
      "cat OLD/gone/f",
      "cat OLD/open/gone",
      "cat OLD/open/group",
      "getfattr -n user.x OLD/open/now-closed",
    ]) {
      expect(await as(BOB, look.replaceAll("OLD", old)), look).toBe("Permission denied");
    }
    expect(await as(BOB, `cat ${old}/open/acl`)).toBe("");
    expect(await as(BOB, `cat ${old}/open/group`, "4711,4712")).toBe("");
    expect(
      await as(ALICE, `cat ${old}/open/now-closed ${old}/closed/f ${old}/gone/f ${old}/open/gone && ls ${old}/gone`),
    ).toBe("");
    expect(await as(ALICE, `echo x > ${old}/open/f`)).toBe("Read-only file system");
    await shell(`cat ${old}/gone/f ${old}/closed/f && cmp <(echo secret) ${old}/open/now-closed`);
  });

  test("the option can be taken back at any time", async () => {
    const { mount, old } = await share("taken", "users");
    expect(await as(BOB, `cat ${old}/open/f`)).toBe("");
    await service.cli("share", "set", "shop/taken", "--views", "root");
    await expect.poll(() => as(BOB, `cat ${old}/open/f`), { timeout: 20_000 }).toBe("Permission denied");
    await shell(`cat ${old}/open/f`);
    await service.cli("share", "set", "shop/taken", "--views", "off");
    await expect
      .poll(() => refusal(`cat ${old}/open/f`), { timeout: 20_000 })
      .toMatch(/Permission denied|No such file/);
    await expect
      .poll(() => shell(`mkdir ${mount}/.tidemark`, { anyStatus: true }).then(({ status }) => status), {
        timeout: 20_000,
      })
      .toBe(0);
  });

  test("with views = root only root gets in, and with views = off nobody", async () => {
    const { old, mount } = await share("root", "root");
    await shell(`cat ${old}/open/f`);
    for (const uid of [ALICE, BOB]) expect(await as(uid, `cat ${old}/open/f`)).toBe("Permission denied");
    expect(await as(BOB, `ls ${mount}/.tidemark`)).toBe("Permission denied");
    // The kernel of this mount does not ask for opens, so users stay out until it is mounted anew.
    await service.cli("share", "set", "shop/root", "--views", "users");
    await service.umount(mount);
    await service.mount("shop/root", "root");
    expect(await as(BOB, `cat ${old}/open/f`)).toBe("");
    const off = await share("off", "off");
    expect(await refusal(`ls ${off.mount}/.tidemark`)).toBe("No such file or directory");
    await shell(`mkdir ${off.mount}/.tidemark && rmdir ${off.mount}/.tidemark`);
  });
});
