import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { LineChild } from "./child.ts";
import { TestService } from "./fixture.ts";
import { skipWithout } from "./requirements.ts";
import { shell } from "./run.ts";

const skipped = skipWithout("python3", "setpriv");

type Token = { readonly token: string; readonly id: string };

let service: TestService;
/** The whole share, without a token. */
let mount: string;

/** Makes a token, in a file; answers its name and the token's id. */
async function token(
  name: string,
  share: string,
  ...options: readonly string[]
): Promise<{ file: string; id: string }> {
  const { token: text, id } = await service.json<Token>("token", "create", share, ...options);
  const file = path.join(service.folder, name);
  writeFileSync(file, `${text}\n`, { mode: 0o600 });
  return { file, id };
}

/** What a shell says to a script that must fail. */
async function refusal(script: string): Promise<string> {
  const { status, stderr } = await shell(script, { anyStatus: true });
  expect(status, script).not.toBe(0);
  return stderr.trim().replace(/^.*: /s, "");
}

/** Waits for what happens within seconds, by itself. */
async function eventually(condition: () => Promise<boolean>): Promise<void> {
  const endMs = performance.now() + 30_000;
  while (!(await condition())) {
    if (performance.now() > endMs) throw new Error("waited in vain");
    await delay(20);
  }
}

describe.skipIf(skipped)("a local mount under a token", { timeout: 120_000 }, () => {
  beforeEach(async () => {
    ({ service, mount } = await TestService.withShare());
    await shell(
      `cd ${mount} && mkdir -p public/sub private && echo open > public/f && echo secret > private/s && chmod 777 public && ln private/s public/linked`,
    );
  });
  afterEach(async () => service.dispose());

  test("shows the directory of the token and nothing else, and lets nothing be done that it does not allow", async () => {
    const { file } = await token("t", "shop/files", "--ops", "list,read", "--path", "/public");
    const under = await service.mount("shop/files", "under", "--token-file", file);
    expect((await shell(`ls -A ${under}`)).stdout.split("\n").sort()).toEqual(["", "f", "linked", "sub"]);
    expect((await shell(`cat ${under}/f ${under}/linked`)).stdout).toBe("open\nsecret\n");
    expect((await shell(`stat -c %i ${under}/..`)).stdout).toBe((await shell(`stat -c %i ${service.folder}`)).stdout);
    expect(await refusal(`echo x > ${under}/new`)).toMatch(/Read-only/);
    expect(await refusal(`ls ${under}/.tidemark`)).toMatch(/No such file/);
    await shell(`cd ${mount} && mv public elsewhere && echo more > elsewhere/g`);
    expect((await shell(`cat ${under}/g`)).stdout).toBe("more\n");
  });

  test("changes what it may, and nothing else, with the token's id in the journal", async () => {
    const { file, id } = await token("t", "shop/files", "--ops", "list,read,create,append", "--path", "/public");
    const under = await service.mount("shop/files", "under", "--token-file", file);
    await shell(`cd ${under} && echo one > log && echo two >> log && mkdir d && ln -s log link && touch log`);
    expect((await shell(`cat ${mount}/public/log`)).stdout).toBe("one\ntwo\n");
    for (const script of [
      "rm log",
      "mv log log2",
      "chmod 600 log",
      "truncate -s 0 log",
      ": > log",
      "rmdir d",
      "touch -d 2000-01-01 log",
      "printf x | dd of=log conv=notrunc status=none",
    ])
      expect(await refusal(`cd ${under} && ${script}`), script).toMatch(/Permission denied/);
    expect((await shell(`cat ${mount}/public/log`)).stdout).toBe("one\ntwo\n");
    const log = (await service.cli("--json", "log", "shop/files/public/log")).stdout;
    expect(log).toContain(`token ${id}`);
    const audit = (await service.cli("--json", "audit", "--refused", "--since", "1h")).stdout;
    for (const what of ["unlink", "rename", "setattr", "rmdir", "write"]) expect(audit).toContain(`"what":"${what}"`);
  });

  test("ends when its token is revoked: for open files, for what is cached, and for what is mapped", async () => {
    const { file, id } = await token("t", "shop/files", "--ops", "list,read,write", "--path", "/public");
    const under = await service.mount("shop/files", "under", "--token-file", file);
    const reader = new LineChild("python3", [
      "-c",
      `
import sys, os, mmap
f = open(${JSON.stringify(`${under}/f`)}, "r+b", buffering=0)
m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)
def attempt(act):
    try: return act()
    except OSError as error: return os.strerror(error.errno)
for line in sys.stdin:
    kind = line.strip()
    if kind == "read": print(attempt(lambda: os.pread(f.fileno(), 9, 0)), flush=True)
    if kind == "write": print(attempt(lambda: os.pwrite(f.fileno(), b"x", 0)), flush=True)
    if kind == "map": print(m[:4], flush=True)
`,
    ]);
    try {
      expect(await reader.ask("read")).toBe("b'open\\n'");
      expect(await reader.ask("map")).toBe("b'open'");
      await service.cli("token", "revoke", id.slice(0, 8));
      expect(await reader.ask("write")).toBe("Permission denied");
      await eventually(async () => (await reader.ask("read")) === "Permission denied");
      // A page that is mapped can only be taken away: who looks gets SIGBUS.
      await eventually(async () => (await reader.ask("map")) === "the program ended");
    } finally {
      await reader.end();
    }
    expect(await refusal(`ls ${under}`)).toMatch(/Permission denied/);
    expect((await service.cli("mount")).stdout).toMatch(/its token is good no more: it was revoked/);
    expect((await shell(`cat ${mount}/public/f`)).stdout).toBe("open\n");
  });

  test("ends when its token expires, by itself", async () => {
    const { file } = await token("t", "shop/files", "--ops", "list,read", "--expires", "3s");
    const under = await service.mount("shop/files", "under", "--token-file", file);
    await shell(`cat ${under}/public/f`);
    await eventually(async () => (await shell(`cat ${under}/public/f`, { anyStatus: true })).status !== 0);
    expect(await refusal(`cat ${under}/public/f`)).toMatch(/Permission denied/);
  });

  test("goes on under its token after the service was killed, and is refused if that was revoked meanwhile", async () => {
    const { file, id } = await token("t", "shop/files", "--ops", "list,read,create,write", "--path", "/public");
    const under = await service.mount("shop/files", "under", "--token-file", file);
    await shell(`echo before > ${under}/n`);
    process.kill(service.servicePid, "SIGKILL");
    await shell(`echo after >> ${under}/n && cat ${under}/n`);
    expect(await refusal(`rm ${under}/n`)).toMatch(/Permission denied/);
    await service.cli("token", "revoke", id);
    process.kill(service.servicePid, "SIGKILL");
    await eventually(async () => (await shell(`cat ${under}/n`, { anyStatus: true })).status !== 0);
    expect(await refusal(`echo x > ${under}/m`)).toMatch(/Permission denied/);
    expect((await shell(`cat ${mount}/public/n`)).stdout).toBe("before\nafter\n");
  });

  test("keeps what was deleted while it was open, and loses what was moved out before that", async () => {
    const { file } = await token("t", "shop/files", "--ops", "list,read", "--path", "/public");
    const under = await service.mount("shop/files", "under", "--token-file", file);
    const { stdout } = await shell(`
      exec 7< ${under}/f 8< ${under}/linked
      rm ${mount}/public/f; mv ${mount}/public/linked ${mount}/private/moved; rm ${mount}/private/moved ${mount}/private/s
      cat <&7
      echo 3 > /proc/sys/vm/drop_caches
      cat <&8 2>&1 || true`);
    expect(stdout).toMatch(/^open\n.*(Stale file handle|No such file)/s);
  });

  test("shows the past with history, of the whole share only", async () => {
    await service.cli("snapshot", "create", "shop", "then");
    await shell(`echo changed > ${mount}/public/f`);
    const whole = await token("whole", "shop/files", "--ops", "list,read,history");
    const part = await token("part", "shop/files", "--ops", "list,read,history", "--path", "public");
    const live = await token("live", "shop/files", "--ops", "list,read");
    const under = await service.mount("shop/files", "whole-mount", "--token-file", whole.file);
    expect((await shell(`cat ${under}/.tidemark/then/public/f`)).stdout).toBe("open\n");
    const view = await service.mount("shop/files", "view", "--at", "then", "--token-file", part.file);
    expect((await shell(`cat ${view}/f`)).stdout).toBe("open\n");
    await expect(service.mount("shop/files", "no-view", "--at", "then", "--token-file", live.file)).rejects.toThrow(
      /does not allow history/,
    );
    const plain = await service.mount("shop/files", "plain", "--token-file", live.file);
    expect(await refusal(`ls ${plain}/.tidemark`)).toMatch(/No such file/);
  });

  test("acts as the user of the token, whoever root is there", async () => {
    const { file } = await token(
      "t",
      "shop/files",
      "--ops",
      "list,read,create,write,delete,setattr",
      "--map-to",
      "61001:61002",
    );
    const under = await service.mount("shop/files", "under", "--token-file", file);
    await shell(`echo x > ${under}/public/n`);
    expect((await shell(`stat -c %u:%g ${mount}/public/n`)).stdout).toBe("61001:61002\n");
    await shell(`chmod 600 ${mount}/private/s`);
    expect(await refusal(`cat ${under}/private/s`)).toMatch(/Permission denied/);
    expect(await refusal(`echo x > ${under}/private/n`)).toMatch(/Permission denied/);
    // Whoever else: the kernel there knows nothing of who that is here.
    const other = "setpriv --reuid 61005 --regid 61005 --clear-groups";
    await shell(
      `chmod 711 ${service.folder} && chmod 600 ${mount}/public/n && ${other} sh -c 'cd ${under}/public && cat n && echo y >> n && chmod 640 n && mkdir d && echo z > d/f && rm d/f && rmdir d'`,
    );
    expect((await shell(`cat ${mount}/public/n; stat -c %u:%g:%a ${mount}/public/n`)).stdout).toBe(
      "x\ny\n61001:61002:640\n",
    );
    expect(await refusal(`${other} cat ${under}/private/s`)).toMatch(/Permission denied/);
    expect(await refusal(`${other} chmod 777 ${under}/private/s`)).toMatch(/Operation not permitted/);
    expect(await refusal(`${other} rm ${under}/private/s`)).toMatch(/Permission denied/);
  });

  test("is refused with a token for something else, of somebody else, or none", async () => {
    await service.cli("app", "create", "other");
    await service.cli("share", "create", "other/files");
    const { file } = await token("t", "shop/files", "--ops", "list");
    const node = await token("node", "shop/files", "--ops", "list", "--node", "n1");
    await expect(service.mount("other/files", "m1", "--token-file", file)).rejects.toThrow(
      /refused: it is for another app/,
    );
    await expect(service.mount("shop/files", "m2", "--token-file", node.file)).rejects.toThrow(
      /for the node "n1" alone/,
    );
    writeFileSync(path.join(service.folder, "garbage"), "garbage");
    await expect(
      service.mount("shop/files", "m3", "--token-file", path.join(service.folder, "garbage")),
    ).rejects.toThrow(/is no token/);
    const audit = (await service.cli("audit", "--refused")).stdout;
    expect(audit).toMatch(/exchange.*another app/);
    expect(audit + service.log).not.toContain(readFileSync(file, "utf8").split(".")[1]);
  });
});

describe.skipIf(skipped)("the command line", { timeout: 120_000 }, () => {
  beforeEach(async () => {
    ({ service, mount } = await TestService.withShare());
    mkdirSync(path.join(mount, "public"));
  });
  afterEach(async () => service.dispose());

  test("prints the token alone on standard output, and says when others can read the file", async () => {
    const main = path.resolve(import.meta.dirname, "../../src/cli/main.ts");
    const file = path.join(service.folder, "t");
    const create = `${process.execPath} ${main} --data ${service.dataFolder} token create shop/files --ops read,history --path /public --expires 1h > ${file}`;
    expect((await shell(`umask 022; ${create}`)).stderr).toMatch(
      /Token [0-9a-f]{8} for shop\/files\/public: read, history; until/,
    );
    expect((await shell(`umask 022; ${create}`)).stderr).toMatch(/others on this machine can read the file/);
    expect(readFileSync(file, "utf8")).toMatch(/^[\w-]+\.[\w-]+\.[\w-]+\n$/);
    const inspected = await service.cli("token", "inspect", file);
    expect(inspected.stdout).toMatch(/Allows: read, history/);
    expect(inspected.stderr).toMatch(/others on this machine can read the token/);
    chmodSync(file, 0o600);
    expect((await service.cli("token", "inspect", file)).stderr).toBe("");
    expect((await service.cliWith({ input: readFileSync(file, "utf8") }, "token", "inspect", "-")).stdout).toMatch(
      /State: valid/,
    );
  });

  test("lists, inspects, revokes and rotates; what is good no more is told by the exit code", async () => {
    const first = await token("a", "shop/files", "--ops", "read,list");
    const second = await token("b", "shop/files", "--ops", "read,list");
    const listed = (await service.cli("token", "list", "shop")).stdout;
    for (const { id } of [first, second]) expect(listed).toContain(id);
    expect((await service.cli("token", "revoke", first.id.slice(0, 8))).stdout).toBe("Revoked 1 token.\n");
    const inspected = await service.cliWith({ anyStatus: true }, "token", "inspect", first.file);
    expect([inspected.status, inspected.stdout]).toEqual([6, expect.stringMatching(/State: revoked/)]);
    expect((await service.cli("token", "list")).stdout).not.toContain(first.id);
    expect((await service.cli("token", "list", "--all")).stdout).toContain(first.id);
    expect((await service.cli("token", "rotate-keys")).stdout).toBe("A new key signs from now on.\n");
    expect((await service.cli("token", "inspect", second.file)).status).toBe(0);
    expect((await service.cli("token", "rotate-keys", "--revoke-old")).stdout).toMatch(/: revoked 1 token/);
    expect((await service.cliWith({ anyStatus: true }, "token", "inspect", second.file)).stderr).toMatch(
      /key that signed it was revoked/,
    );
    const audit = (await service.cli("audit", "--since", "1h", "--app", "shop")).stdout;
    for (const what of ["catalogue.createApp", "tokens.createToken"]) expect(audit).toContain(what);
    expect((await service.cli("audit")).stdout).toContain("tokens.rotateTokenKeys");
  });

  test.each([
    [["--ops", "read,fly"], /--ops "fly": expected some of list,read/],
    [["--ops", "read", "--expires", "2y"], /--expires "2y"/],
    [["--ops", "read", "--expires", "400d"], /--expires "400d"/],
    [["--ops", "read", "--path", "nowhere"], /nothing at "shop\/files\/nowhere"/],
    [["--ops", "read", "--map-to", "1:2", "--root-squash"], /exclude each other/],
    [["--ops", "read", "--map-to", "a:b"], /expected two numbers/],
    [["--ops", "read", "--bind-cert", "/nowhere"], /can't be read/],
    [[], /--ops/],
  ])("refuses %j", async (options, expected) => {
    const { status, stderr, stdout } = await service.cliWith(
      { anyStatus: true },
      "token",
      "create",
      "shop/files",
      ...options,
    );
    expect([status === 0, stdout]).toEqual([false, ""]);
    expect(stderr).toMatch(expected);
  });
});
