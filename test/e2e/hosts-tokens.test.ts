import { closeSync, mkdirSync, openSync, readdirSync, readFileSync, readSync, writeFileSync, writeSync } from "node:fs";
import path from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Host, Hosts, PORT } from "./hosts.ts";
import { skipWithout } from "./requirements.ts";
import { shell } from "./run.ts";

/** What a read, write or listing fails with; "fine" when it does not. */
function errorOf(act: () => unknown): string {
  try {
    act();
    return "fine";
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  }
}

/** Waits for what happens within seconds, by itself. */
async function eventually(condition: () => boolean): Promise<void> {
  const endMs = performance.now() + 60_000;
  while (!condition()) {
    if (performance.now() > endMs) throw new Error("waited in vain");
    await delay(50);
  }
}

describe.skipIf(skipWithout("ip", "nsenter", "setpriv"))("a node under a token", { timeout: 180_000 }, () => {
  let hosts: Hosts;
  let service: Host;
  let node: Host;
  /** The whole share, at the service. */
  let local: string;

  beforeAll(async () => {
    hosts = await Hosts.make(3);
    [service, node] = [hosts.host(0), hosts.host(1)];
    await service.serve();
    await service.cli("app", "create", "shop");
    await service.cli("share", "create", "shop/files");
    local = path.join(service.folder, "mnt");
    mkdirSync(local);
    await service.cli("mount", "shop/files", local);
    await shell(
      `cd ${local} && mkdir -p public private && echo open > public/f && echo secret > private/s && chmod 600 private/s && chmod 777 public`,
    );
    await node.join(service, "one");
    await hosts.host(2).join(service, "two");
  }, 180_000);

  afterAll(async () => {
    await service?.cli("umount", local).catch(() => {});
    await hosts?.close();
  });

  test("finds the service where its status says that it listens", async () => {
    expect((await service.cli("status")).stdout).toContain(`nodes       ${service.address}:${PORT}`);
  });

  test("has the directory of its token and nothing else", async () => {
    const token = await node.token(service, "shop/files", "list,read", "--path", "public");
    const mount = await node.mount(service, "shop/files", token);
    expect(readdirSync(mount)).toEqual(["f"]);
    expect(readFileSync(path.join(mount, "f"), "utf8")).toBe("open\n");
    expect(errorOf(() => writeFileSync(path.join(mount, "f"), "x"))).toBe("EROFS");
    writeFileSync(path.join(local, "public/g"), "more");
    expect(readFileSync(path.join(mount, "g"), "utf8")).toBe("more");
    await node.umount(mount);
  });

  test("loses everything when the token is revoked, open files included", async () => {
    const token = await node.token(service, "shop/files", "list,read,write", "--path", "public");
    const mount = await node.mount(service, "shop/files", token);
    const open = openSync(path.join(mount, "f"), "r+");
    try {
      readSync(open, Buffer.alloc(9), 0, 9, 0);
      await service.cli("token", "revoke", "--app", "shop");
      await eventually(() => errorOf(() => writeSync(open, "x", 0)) !== "fine");
      await eventually(() => errorOf(() => readSync(open, Buffer.alloc(9), 0, 9, 0)) !== "fine");
      await eventually(() => errorOf(() => readdirSync(mount)) !== "fine");
    } finally {
      closeSync(open);
    }
    expect(readFileSync(path.join(local, "public/f"), "utf8")).toMatch(/^open/);
    await node.umount(mount);
  });

  test("is one user of the share, whoever its own users are", async () => {
    const token = await node.token(service, "shop/files", "list,read,create,write", "--map-to", "61001:61002");
    const mount = await node.mount(service, "shop/files", token);
    const other = "setpriv --reuid 61005 --regid 61005 --clear-groups";
    await shell(
      `chmod 711 ${hosts.folder} ${node.folder} && ${other} sh -c 'cd ${mount}/public && echo x > n && echo y >> n && cat n'`,
    );
    expect((await shell(`stat -c %u:%g ${local}/public/n`)).stdout).toBe("61001:61002\n");
    expect(errorOf(() => readFileSync(path.join(mount, "private/s")))).toBe("EACCES");
    await node.umount(mount);
  });

  test("can't use what is bound to another one, and not find out what there is", async () => {
    const token = await node.token(service, "shop/files", "list", "--node", "two");
    await expect(node.mount(service, "shop/files", token)).rejects.toThrow(
      /for the node "two" alone, and this is the node "one"/,
    );
    const plain = await node.token(service, "shop/files", "list");
    for (const share of ["shop/absent", "absent/files"])
      await expect(node.mount(service, share, plain)).rejects.toThrow(/refused: it is for another/);
    const { stdout } = await service.cli("audit", "--refused");
    expect(stdout).toMatch(/node one.*exchange/);
  });

  /** A command on the node, about the service, with a token for these operations. */
  const ask = async (token: string, ...args: readonly string[]) => node.cliFailure(...args, ...elsewhere(token));
  const elsewhere = (token: string): string[] => ["--service", `${service.address}:${PORT}`, "--token-file", token];

  test("brings the past back, takes it away as an archive and names moments by calls, as far as its token goes", async () => {
    const restorer = await node.token(service, "shop/files", "restore,snapshot,history,export,list,read");
    expect((await ask(restorer, "snapshot", "create", "shop", "before")).status).toBe(0);
    writeFileSync(path.join(local, "public/f"), "spoiled");
    expect((await ask(restorer, "cat", "shop/files/public/f", "--at", "snap:before")).stdout).toMatch(/^open/);
    const archive = path.join(node.folder, "x.tar");
    const exported = await ask(restorer, "export", "shop/files/public", "--at", "snap:before", "--output", archive);
    expect([exported.status, (await shell(`tar -xOf ${archive} ./f`)).stdout]).toEqual([
      0,
      expect.stringMatching(/^open/),
    ]);
    const restored = await ask(restorer, "restore", "shop/files/public", "--at", "snap:before", "--yes");
    expect([restored.status, restored.stderr]).toEqual([0, ""]);
    expect(readFileSync(path.join(local, "public/f"), "utf8")).toMatch(/^open/);
    expect((await ask(restorer, "undo", "shop", "--yes")).status).toBe(0);
    expect(readFileSync(path.join(local, "public/f"), "utf8")).toBe("spoiled");
    expect((await service.cli("log", "shop", "--newest-first", "--limit", "9", "--json")).stdout).toMatch(
      /token [0-9a-f]{32}/,
    );

    const reader = await node.token(service, "shop/files", "list,read", "--path", "public");
    expect((await ask(reader, "cat", "shop/files/public/f")).stdout).toBe("spoiled");
    const hidden = await ask(reader, "cat", "shop/files/private/s");
    expect([hidden.status, hidden.stdout]).not.toContain(0);
    for (const refused of [
      ["restore", "shop/files/public", "--at", "snap:before", "--yes"],
      ["snapshot", "create", "shop", "mine"],
      ["export", "shop/files/public"],
      ["share", "create", "shop/more"],
      ["log", "shop/files"],
    ])
      expect([refused[0], (await ask(reader, ...refused)).stderr]).toEqual([
        refused[0],
        expect.stringMatching(/the token does not allow this/),
      ]);
    expect((await service.cli("audit", "--refused")).stdout).toMatch(/restores\..*it takes restore/);
  });

  test("manages its app with admin, and makes tokens that end with its own", async () => {
    const admin = await node.token(service, "shop", "admin,list,read");
    expect((await ask(admin, "share", "create", "shop/more")).status).toBe(0);
    expect((await ask(admin, "retention", "set", "shop", "--continuous", "30d", "--yes")).status).toBe(0);
    const made = await ask(admin, "token", "create", "shop/files", "--ops", "list,read", "--expires", "10m");
    expect([made.status, made.stdout]).toEqual([0, expect.stringMatching(/^ey/)]);
    const child = path.join(node.folder, "child");
    writeFileSync(child, made.stdout, { mode: 0o600 });
    expect((await ask(child, "ls", "shop/files")).stdout).toContain("public");
    const more = await ask(admin, "token", "create", "shop/files", "--ops", "write");
    expect([more.status, more.stderr]).toEqual([
      expect.any(Number),
      expect.stringMatching(/does not have write itself/),
    ]);
    expect((await ask(admin, "app", "delete", "shop")).status).not.toBe(0);
    const { stdout } = await service.cli("token", "list", "shop", "--json");
    const rows = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as { id: string; parent?: string; ops: string[] });
    const parent = rows.find(({ ops }) => ops.includes("admin"))?.id ?? "";
    expect(rows.some((row) => row.parent === parent)).toBe(true);
    await service.cli("token", "revoke", parent);
    expect((await ask(child, "ls", "shop/files")).stderr).toMatch(/revoked/);
  });

  test("goes on with a feed when the service has been away", async () => {
    const token = await node.token(service, "shop/files", "history");
    const feed = node.start("changes", "shop/files", "--follow", "--json", ...elsewhere(token));
    try {
      writeFileSync(path.join(local, "public/one"), "1");
      await eventually(() => feed.output.includes("public/one"));
      await service.killService();
      writeFileSync(path.join(local, "public/two"), "2");
      await eventually(() => feed.output.includes("public/two"));
      expect(
        feed.output.split("\n").filter((line) => line.includes('"CREATE"') && line.includes("public/one")),
      ).toHaveLength(1);
    } finally {
      await feed.stop();
    }
  });
});
