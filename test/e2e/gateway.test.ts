import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { LineChild } from "./child.ts";
import { GatewayFixture, kill } from "./gateway-fixture.ts";
import { skipWithout } from "./requirements.ts";
import { run, shell } from "./run.ts";

const skipped = skipWithout("python3", "setfacl", "getfacl");
const POSIX = fileURLToPath(new URL("./posix/", import.meta.url));

/** What happens a moment after the call that causes it, on a loaded machine some moments. */
const SOON = { timeout: 30_000, interval: 100 };

/** Looks at a file, with a signal that is not for now. */
const WAITER = "import os, signal, sys; signal.signal(signal.SIGUSR1, lambda *_: None); os.stat(sys.argv[1])";

type CheckResult = { readonly name: string; readonly failed?: string; readonly skipped?: string };

describe.skipIf(skipped)("a share whose service is elsewhere", { timeout: 600_000 }, () => {
  let fixture: GatewayFixture;
  let token: string;
  let holder: LineChild | undefined;

  beforeAll(async () => {
    fixture = await GatewayFixture.open();
    token = await fixture.token();
  });
  afterEach(async () => {
    await holder?.end();
    holder = undefined;
  });
  afterAll(async () => fixture.dispose());

  test.each(["names", "renames", "attributes", "data", "mappings", "extended", "kernel"])(
    "POSIX through the kernel and the session: %s",
    async (name) => {
      const mount = await fixture.mount("posix", token);
      const { stdout } = await run("python3", [path.join(POSIX, `${name}.py`), mount], {
        env: { PYTHONDONTWRITEBYTECODE: "1" },
      });
      const results = stdout
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line) as CheckResult);
      expect(results.filter(({ failed, skipped: why }) => failed !== undefined || why !== "")).toEqual([]);
      expect(results.length).toBeGreaterThanOrEqual(5);
      expect(await fixture.logOf(mount)).not.toContain("by a defect");
      await fixture.cli("umount", mount);
    },
  );

  test("is mounted in the background, listed without a service on this machine, and ended by umount with all that belongs to it", async () => {
    const mount = await fixture.mount("listed", token, "--soft", "45s", "--cache-bytes", "64m");
    const { supervisor, child } = fixture.pidsOf(mount);
    const [listed] = await fixture.listed();
    expect(listed).toMatchObject({
      share: "shop/files",
      target: mount,
      service: fixture.address,
      state: "connected",
      patience: { softMs: 45_000 },
      cache: { bytesMax: 64 * 1024 * 1024 },
    });
    expect(readFileSync("/proc/mounts", "utf8")).toContain(
      `tidemark://${fixture.address}/shop/files ${mount} fuse.tidemark rw`,
    );
    const again = await fixture.cliFailure(
      "mount",
      "--service",
      fixture.address,
      "--token-file",
      token,
      "shop/files",
      mount,
    );
    expect([again.status, again.stderr]).toEqual([5, expect.stringContaining("is a mount of shop/files already")]);
    // At the service it is a mount of a session.
    expect((await fixture.service.cli("mount")).stdout).toContain(mount);
    await fixture.cli("umount", mount);
    expect(await fixture.listed()).toEqual([]);
    for (const pid of [supervisor, child]) await expect.poll(() => existsSync(`/proc/${pid}`), SOON).toBe(false);
    expect((await fixture.service.cli("mount")).stdout).not.toContain(mount);
    const kept = ["mounts", "cache"].flatMap((name) => readdirSync(path.join(fixture.nodeFolder, "node", name)));
    expect(kept.filter((name) => !name.endsWith(".log"))).toEqual([]);
  });

  test("umount(8) ends it too", async () => {
    const mount = await fixture.mount("by-hand", token);
    const { supervisor, child } = fixture.pidsOf(mount);
    await run("umount", [mount]);
    for (const pid of [supervisor, child]) await expect.poll(() => existsSync(`/proc/${pid}`), SOON).toBe(false);
    expect(await fixture.listed()).toEqual([]);
  });

  test("nobody finds the token: not among arguments, in environments, in state files or logs", async () => {
    const mount = await fixture.mount("secret", token);
    const text = readFileSync(token, "latin1").trim();
    const { supervisor, child } = fixture.pidsOf(mount);
    const places = [supervisor, child].flatMap((pid) => [`/proc/${pid}/cmdline`, `/proc/${pid}/environ`]);
    const folder = path.join(fixture.nodeFolder, "node/mounts");
    for (const name of readdirSync(folder)) {
      const file = path.join(folder, name);
      if (!statSync(file).isFile()) continue;
      places.push(file);
      expect(statSync(file).mode & 0o777).toBe(0o600);
    }
    for (const place of places) expect(readFileSync(place, "latin1")).not.toContain(text.slice(0, 40));
    expect(statSync(folder).mode & 0o777).toBe(0o700);
    await fixture.cli("umount", mount);
  });

  test("what cannot be mounted is said, and nothing is left", async () => {
    const target = path.join(fixture.service.folder, "refused");
    mkdirSync(target);
    const attempt = async (...args: string[]): Promise<[number | null, string]> => {
      const { status, stderr } = await fixture.cliFailure("mount", "--service", fixture.address, ...args);
      return [status, stderr];
    };
    expect(await attempt("--token-file", `${token}.none`, "shop/files", target)).toEqual([
      3,
      expect.stringContaining("there is no file"),
    ]);
    expect(await attempt("--token-file", token, "shop/none", target)).toEqual([6, expect.stringContaining("token")]);
    expect(await attempt("--token-file", token, "shop/files", path.join(target, "none"))).toEqual([
      3,
      expect.stringContaining("create the directory"),
    ]);
    expect(await attempt("shop/files", target)).toEqual([2, expect.stringContaining("--token-file")]);
    const forged = path.join(fixture.service.folder, "forged");
    writeFileSync(forged, readFileSync(token, "utf8").replace(/.{8}\s*$/, "AAAAAAAA\n"), { mode: 0o600 });
    expect(await attempt("--token-file", forged, "shop/files", target)).toEqual([6, expect.stringMatching(/token/)]);
    const away = await fixture.cliFailure(
      "mount",
      "--service",
      "10.0.0.1:1",
      "--token-file",
      token,
      "shop/files",
      target,
    );
    expect([away.status, away.stderr]).toEqual([5, expect.stringContaining("node join")]);
    expect(await fixture.listed()).toEqual([]);
  });

  test("kill -9 of the gateway, of the service and of both: what programs hold stays as it was", async () => {
    const mount = await fixture.mount("held", token);
    const directory = path.join(mount, "held");
    mkdirSync(directory);
    holder = new LineChild("python3", [path.join(POSIX, "holder.py"), directory]);
    expect(await holder.ask("prepare")).toBe("ok");
    const rounds: readonly (() => void)[] = [
      () => kill(fixture.pidsOf(mount).child),
      () => kill(fixture.service.servicePid),
      () => {
        kill(fixture.pidsOf(mount).child);
        kill(fixture.service.servicePid);
      },
      () => {
        kill(fixture.service.servicePid);
        kill(fixture.pidsOf(mount).child);
      },
    ];
    for (const [index, round] of rounds.entries()) {
      round();
      expect(await holder.ask("verify"), `after kill ${index + 1}: ${await fixture.logOf(mount)}`).toBe("ok");
    }
    expect(await holder.ask("finish")).toBe("ok");
    expect(readdirSync(directory).sort()).toEqual(["a", "kept", "locked", "many", "mapped", "replaced"]);
    await holder.end();
    await fixture.cli("umount", mount);
  });

  test("under load nothing that was acknowledged is lost, done twice or refused, whoever is killed", async () => {
    const mount = await fixture.mount("load", token);
    const ledger = new LineChild("python3", [path.join(POSIX, "ledger.py"), path.join(mount, "loaded")]);
    holder = ledger;
    expect(await ledger.ask("start 4")).toBe("ok");
    for (let round = 0; round < 6; round++) {
      expect([round, await ledger.ask("progress"), await fixture.logOf(mount)]).toEqual([
        round,
        "ok",
        expect.anything(),
      ]);
      if (round % 3 !== 1) kill(fixture.pidsOf(mount).child);
      if (round % 3 !== 0) kill(fixture.service.servicePid);
    }
    expect(await ledger.ask("progress")).toBe("ok");
    expect(await ledger.ask("stop"), await fixture.logOf(mount)).toBe("ok");
    await fixture.cli("umount", mount);
    const fresh = await fixture.mount("load", token);
    expect(await ledger.ask(`verify ${path.join(fresh, "loaded")}`)).toBe("ok");
    await fixture.cli("umount", fresh);
  });

  test("a mount whose processes were all killed is shown as down, and mounted again over what they left", async () => {
    const mount = await fixture.mount("dead", token);
    writeFileSync(path.join(mount, "before"), "x");
    const { supervisor, child } = fixture.pidsOf(mount);
    for (const pid of [supervisor, child]) kill(pid);
    await expect.poll(() => fixture.stateOf(mount), SOON).toBe("down");
    expect(() => readdirSync(mount)).toThrow(/ENOTCONN/);
    await fixture.mount("dead", token);
    expect(readFileSync(path.join(mount, "before"), "utf8")).toBe("x");
    await fixture.cli("umount", mount);
    expect(readdirSync(mount)).toEqual([]);
  });

  test("the supervisor's death is survived", async () => {
    const mount = await fixture.mount("orphaned", token);
    kill(fixture.pidsOf(mount).supervisor);
    writeFileSync(path.join(mount, "orphaned"), "still there");
    expect(readFileSync(path.join(mount, "orphaned"), "utf8")).toBe("still there");
    expect(await fixture.stateOf(mount)).toBe("connected");
    const { child } = fixture.pidsOf(mount);
    await fixture.cli("umount", mount);
    await expect.poll(() => existsSync(`/proc/${child}`), SOON).toBe(false);
  });

  test("an expired token stops the mount, and a new one in its place lets it go on", async () => {
    const short = await fixture.token("short", "--expires", "8s");
    const mount = await fixture.mount("renewed", short);
    const file = path.join(mount, "renewed");
    writeFileSync(file, "x");
    await expect.poll(() => fixture.stateOf(mount), SOON).toBe("refused");
    expect(() => writeFileSync(file, "y")).toThrow(/EACCES/);
    await fixture.token("short");
    await expect.poll(() => fixture.stateOf(mount), SOON).toBe("connected");
    writeFileSync(file, "z");
    expect(readFileSync(file, "utf8")).toBe("z");
    await fixture.cli("umount", mount);
  });

  test("a token that is replaced in time: nobody notices", async () => {
    const short = await fixture.token("timely-token", "--expires", "12s");
    const mount = await fixture.mount("timely", short);
    const ledger = new LineChild("python3", [path.join(POSIX, "ledger.py"), path.join(mount, "in-time")]);
    holder = ledger;
    expect(await ledger.ask("start 2")).toBe("ok");
    await fixture.token("timely-token");
    const untilMs = performance.now() + 15_000;
    while (performance.now() < untilMs) expect(await ledger.ask("progress")).toBe("ok");
    expect(await ledger.ask("stop")).toBe("ok");
    await fixture.cli("umount", mount);
  });

  test("a soft mount fails with EIO when the service is away for long; a hard one waits, and can be killed", async () => {
    const soft = await fixture.mount("soft", token, "--soft", "2s");
    const hard = await fixture.mount("hard", token);
    writeFileSync(path.join(hard, "there"), "x");
    await fixture.service.stop();
    try {
      await expect.poll(() => fixture.stateOf(hard), SOON).toBe("reconnecting");
      expect((await shell(`cat ${soft}/there`, { anyStatus: true })).stderr).toContain("Input/output error");
      // Killed, it must not hang; any other signal is for later.
      const waiting = await shell(
        `python3 -c "${WAITER}" ${hard}/absent & sleep 0.5; kill -USR1 $!; sleep 0.5; kill -0 $!; kill -9 $!; wait $! || echo gone $?`,
      );
      expect(waiting.stdout.trim()).toMatch(/^gone (137|138)$/);
    } finally {
      await fixture.service.start();
    }
    expect(readFileSync(path.join(hard, "there"), "utf8")).toBe("x");
    await expect.poll(() => fixture.stateOf(soft), SOON).toBe("connected");
    for (const mount of [soft, hard]) await fixture.cli("umount", mount);
  });

  test("umount works while the service is away", async () => {
    const mount = await fixture.mount("away", token);
    const { child } = fixture.pidsOf(mount);
    await fixture.service.stop();
    try {
      await fixture.cli("umount", mount);
      await expect.poll(() => existsSync(`/proc/${child}`), SOON).toBe(false);
    } finally {
      await fixture.service.start();
    }
  });

  test("a view of a moment, and the past inside of the share", async () => {
    const live = await fixture.mount("live", token);
    writeFileSync(path.join(live, "file"), "old");
    await fixture.service.cli("snapshot", "create", "shop", "before");
    writeFileSync(path.join(live, "file"), "new");
    const view = await fixture.mount("view", token, "--at", "before");
    expect(readFileSync(path.join(view, "file"), "utf8")).toBe("old");
    expect(() => writeFileSync(path.join(view, "file"), "x")).toThrow(/EROFS/);
    expect(readFileSync(path.join(live, ".tidemark/before/file"), "utf8")).toBe("old");
    expect(readdirSync(path.join(live, ".tidemark"))).toContain("before");
    kill(fixture.pidsOf(live).child);
    kill(fixture.pidsOf(view).child);
    expect(readFileSync(path.join(live, ".tidemark/before/file"), "utf8")).toBe("old");
    expect(readFileSync(path.join(view, "file"), "utf8")).toBe("old");
    for (const mount of [live, view]) await fixture.cli("umount", mount);
  });

  test("what was read is kept on this machine: read again with a cold kernel, hardly anything comes over the session", async () => {
    const mount = await fixture.mount("cached", token);
    const bytes = 32 * 1024 * 1024;
    await shell(
      `head -c ${bytes} /dev/urandom > ${mount}/large; sync ${mount}/large; sha256sum ${mount}/large > ${fixture.service.folder}/sum`,
    );
    const cold = async (): Promise<void> => {
      await shell(`echo 3 > /proc/sys/vm/drop_caches; sha256sum -c ${fixture.service.folder}/sum`);
    };
    const cache = async () => (await fixture.listed()).find(({ target }) => target === mount)?.cache;
    await cold();
    // What was read is checked and written a moment later.
    await expect.poll(async () => (await cache())?.bytes, SOON).toBeGreaterThan(0.95 * bytes);
    kill(fixture.pidsOf(mount).child);
    // What was on its way to the disk when the process died comes once more.
    await cold();
    const before = await cache();
    expect(before?.hitBytes).toBeGreaterThan(0.2 * bytes);
    await cold();
    const after = await cache();
    // The kernel need not have dropped all: what it asked for is what counts.
    const hits = (after?.hitBytes ?? 0) - (before?.hitBytes ?? 0);
    const misses = (after?.missBytes ?? bytes) - (before?.missBytes ?? 0);
    expect(hits).toBeGreaterThan(0.2 * bytes);
    expect(misses).toBeLessThan(0.1 * hits);
    // Damage is noticed, and costs another fetch.
    const folder = path.join(fixture.nodeFolder, "node/cache");
    const [own = ""] = readdirSync(folder).filter((name) => name.startsWith("cached-"));
    const volume = path.join(folder, own, readdirSync(path.join(folder, own)).sort()[0] ?? "");
    await shell(`printf damage | dd of=${volume} bs=1 seek=500000 conv=notrunc status=none`);
    await cold();
    expect(await fixture.logOf(mount)).toContain("are not what was written there");
    await fixture.cli("umount", mount);
    rmSync(path.join(fixture.service.folder, "sum"));
  });
});
