import { existsSync, writeFileSync } from "node:fs";
import path from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { TestService } from "./fixture.ts";
import { Lockers, lockFlows, SOON } from "./lock-flows.ts";
import { skipWithout } from "./requirements.ts";
import { run } from "./run.ts";

const skipped = skipWithout("python3", "flock");

describe.skipIf(skipped)("two mounts of one share with shared locks", { timeout: 120_000 }, () => {
  let service: TestService;
  let first: string;
  let second: string;
  const lockers = new Lockers();

  beforeAll(async () => {
    service = new TestService();
    await service.start();
    await service.cli("app", "create", "shop");
    await service.cli("share", "create", "shop/files");
    first = await service.mount("shop/files", "first", "--locks", "shared");
    second = await service.mount("shop/files", "second", "--locks", "shared");
  });
  afterEach(() => lockers.end());
  afterAll(async () => service.dispose());

  lockFlows(() => ({ service, first, second, elsewhere: false, killable: () => ({ service: service.servicePid }) }));

  test("a mount that ends frees what was locked through it; taken away lazily, when the last file is closed", async () => {
    const third = await service.mount("shop/files", "third", "--locks", "shared");
    const [holder, waiter] = [lockers.on(third), lockers.on(second)];
    for (const kind of ["posix", "flock"]) {
      await holder.ask(`${kind} ex ${kind}-mounted`);
      expect(await waiter.ask(`${kind} wait-ex ${kind}-mounted`)).toBe("waits");
    }
    await service.cli("umount", "--lazy", third);
    expect(await waiter.ask("state")).toBe("waits");
    await holder.end();
    expect([await waiter.ask("result"), await waiter.ask("result")]).toEqual(["ok", "ok"]);
  });

  test("a mount that is cut off frees what was locked through it, though programs still have the files open", async () => {
    const third = await service.mount("shop/files", "cut", "--locks", "shared");
    const [holder, waiter] = [lockers.on(third), lockers.on(second)];
    for (const kind of ["posix", "flock"]) {
      await holder.ask(`${kind} ex ${kind}-cut`);
      expect(await waiter.ask(`${kind} wait-ex ${kind}-cut`)).toBe("waits");
    }
    // Busy, so it stays there; but its connection is aborted first.
    await run("umount", ["--force", third], { anyStatus: true });
    expect([await waiter.ask("result"), await waiter.ask("result")]).toEqual(["ok", "ok"]);
    expect(await holder.ask("posix ex posix-cut")).toMatch(/ENOTCONN|ECONNABORTED/);
  });

  test("closing files that nobody locked, and trying locks in vain, leaves no record; the log says nothing of locks", async () => {
    const [here, there] = [lockers.on(first), lockers.on(second)];
    await here.ask("posix ex quiet");
    const before = await service.lastLsn();
    for (let count = 0; count < 10; count++) {
      await there.ask("reopen quiet");
      expect(await there.ask("posix ex quiet")).toBe("EAGAIN");
      expect(await there.ask("flock un quiet")).toBe("ok");
      await there.ask("close quiet");
    }
    expect(await service.lastLsn()).toBe(before);
    await here.ask("close quiet");
    expect(await service.lastLsn()).toBe(before + 1);
    expect((await service.cli("log", "shop")).stdout).not.toContain("LOCK");
  });

  test("a read-only mount takes part", async () => {
    const readOnly = await service.mount("shop/files", "read-only", "--locks", "shared", "--read-only");
    const holder = lockers.on(first);
    await holder.ask("flock ex shown");
    const shown = path.join(readOnly, "shown");
    await expect.poll(() => existsSync(shown), SOON).toBe(true);
    expect((await run("flock", ["-s", "-n", shown, "true"], { anyStatus: true })).status).toBe(1);
    await holder.ask("flock sh shown");
    expect((await run("flock", ["-s", "-n", shown, "true"], { anyStatus: true })).status).toBe(0);
  });

  test("files of the past can be locked, which keeps nobody out", async () => {
    writeFileSync(path.join(first, "old"), "old");
    await service.cli("snapshot", "create", "shop", "then");
    const view = path.join(first, ".tidemark", "then", "old");
    await expect.poll(() => existsSync(view), SOON).toBe(true);
    expect((await run("flock", ["-n", view, "flock", "-n", view, "true"])).status).toBe(0);
    await expect(service.cli("mount", "shop/files", first, "--at", "snap:then", "--locks", "shared")).rejects.toThrow(
      /a view never changes/,
    );
  });

  test("the list of mounts says who keeps the locks", async () => {
    const { stdout } = await service.cli("--json", "mount");
    expect(stdout).toContain('"locks":"shared"');
    expect((await service.cli("mount")).stdout).toContain("locks=shared");
  });
});

describe.skipIf(skipped)("a service with shared locks that stops", { timeout: 120_000 }, () => {
  const lockers = new Lockers();
  afterEach(() => lockers.end());

  test("does not wait for who waits for a lock, and begins without locks", async () => {
    const service = new TestService();
    try {
      await service.start();
      await service.cli("app", "create", "shop");
      await service.cli("share", "create", "shop/files");
      const mount = await service.mount("shop/files", "mnt", "--locks", "shared", "--persist");
      const [holder, waiter] = [lockers.on(mount), lockers.on(mount)];
      await holder.ask("posix ex file");
      expect(await waiter.ask("posix wait-ex file")).toBe("waits");
      expect(await waiter.ask("state")).toBe("waits");
      await service.stop();
      expect(["ENOTCONN", "ECONNABORTED"]).toContain(await waiter.ask("result"));
      await service.start();
      expect(await lockers.on(mount).ask("posix ex file")).toBe("ok");
      await lockers.end();
    } finally {
      await service.dispose();
    }
  });
});
