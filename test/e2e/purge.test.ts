import { readdirSync, readFileSync, statSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { pruneApp } from "../../src/backup/prune.ts";
import { present } from "../../src/base/assert.ts";
import { SystemClock } from "../../src/base/clock.ts";
import { silentLog } from "../../src/base/log.ts";
import { SystemTimers } from "../../src/base/timers.ts";
import { DirectoryBlobs } from "../../src/blob/directory-blobs.ts";
import type { AppRepository } from "../../src/repository/app-repository.ts";
import { packIdOfName } from "../../src/repository/chunk-place.ts";
import { parseKeyFile } from "../../src/repository/key-file.ts";
import { checkPack } from "../../src/repository/pack-codec.ts";
import { chunksOf } from "../../src/repository/pack-directory.ts";
import { PackReader } from "../../src/repository/pack-reader.ts";
import { Repository } from "../../src/repository/repository.ts";
import { TestService } from "./fixture.ts";
import { skipWithout } from "./requirements.ts";
import { run, shell } from "./run.ts";

const skipped = skipWithout();

const MARKER = "order-4711-secret";
const SLOW_TEST_MS = 180_000;

/** When an order is cut short, after the CLI was started. */
const KILL_AFTER_MS = [400, 600, 800, 1200];

/** Files below `folder` that have the marker in them. */
function marked(folder: string): string[] {
  const found: string[] = [];
  for (const name of readdirSync(folder, { recursive: true, encoding: "utf8" })) {
    const file = path.join(folder, name);
    if (statSync(file).isFile() && readFileSync(file).includes(MARKER)) found.push(name);
  }
  return found;
}

describe.skipIf(skipped)("tidemark purge", { timeout: SLOW_TEST_MS }, () => {
  let service: TestService;
  let mount: string;
  let repository: string;
  let keyFile: string;
  let before: number;

  beforeAll(async () => {
    ({ service, mount } = await TestService.withShare());
    repository = path.join(service.folder, "repository");
    keyFile = path.join(service.folder, "key");
    await service.cli("repo", "--key-file", keyFile, "init", repository);
    await service.cli("backup", "enable", "shop");
    await shell(
      `cd ${mount} && mkdir d && (yes ${MARKER} || true) | head -c 300000 > d/secret.txt && (yes harmless || true) | head -c 200000 > d/other.txt`,
    );
    before = await service.lastLsn();
    await service.cli("snapshot", "create", "shop", "then");
    await shell(`cd ${mount} && (yes ${MARKER}-two || true) | head -c 5000 > d/new && mv d/new d/secret.txt`);
    await service.cli("backup", "now", "shop");
  }, SLOW_TEST_MS);

  afterAll(async () => service.dispose());

  const tryCli = (...args: readonly string[]) => service.cliWith({ anyStatus: true }, ...args);

  /** On a machine that has nothing but the repository and its key. */
  const elsewhere = (...args: readonly string[]) =>
    tryCli("repo", "--repo", repository, "--key-file", keyFile, ...args);

  test("needs to be told that all history is meant, why, and what becomes of a file that is there", async () => {
    expect((await tryCli("purge", "shop/files/d/secret.txt", "--reason", "x")).stderr).toContain("--all-history");
    expect((await tryCli("purge", "shop/files/d/secret.txt", "--all-history")).stderr).toContain("--reason");
    const live = await tryCli("purge", "shop/files/d/secret.txt", "--all-history", "--reason", "x", "--yes");
    expect(live.status).not.toBe(0);
    expect(live.stderr).toContain("--live-too");
    expect(
      (await tryCli("purge", "shop/files/d/secret.txt", "--all-history", "--reason", "x", "--names")).stderr,
    ).toContain("names");
  });

  test("shows a plan, and changes nothing with --dry-run", async () => {
    const plan = await service.json<{ fileCount: number; snapshots: string[]; repository: { name: string } }>(
      "purge",
      "shop/files/d/secret.txt",
      "--all-history",
      "--dry-run",
    );
    expect(plan).toMatchObject({ fileCount: 2, snapshots: ["then"], repository: { name: "main", hasIt: true } });
    expect(marked(service.dataFolder).length).toBeGreaterThan(0);
  });

  test("erases at every moment: in the mount, in views with pages in the kernel's cache, in the data folder", async () => {
    const view = await service.mount("shop/files", "view", "--at", `lsn:${before}`);
    const inside = path.join(mount, ".tidemark", "then", "d", "secret.txt");
    // So that the kernel has the pages of all of them.
    await shell(`cat ${view}/d/secret.txt ${inside} ${mount}/d/secret.txt > /dev/null`);
    const done = await service.cli(
      "purge",
      "shop/files/d/secret.txt",
      "--all-history",
      "--reason",
      "order 4711",
      "--live-too",
      "--yes",
    );
    expect(done.stdout).toContain("Erased");
    for (const file of [`${view}/d/secret.txt`, inside]) {
      const read = await run("cat", [file], { anyStatus: true });
      expect(read.status).not.toBe(0);
      expect(read.stderr).toContain("Input/output error");
      expect(read.stdout).not.toContain(MARKER);
    }
    expect((await run("cat", [`${mount}/d/secret.txt`], { anyStatus: true })).stderr).toContain("No such file");
    expect((await shell(`head -c 8 ${view}/d/other.txt; head -c 8 ${mount}/d/other.txt`)).stdout).toBe(
      "harmlessharmless",
    );
    expect(marked(service.dataFolder)).toEqual([]);
    await service.umount(view);
  });

  test("says so wherever it is asked for", async () => {
    const cat = await tryCli("cat", "shop/files/d/secret.txt", "--at", "then");
    expect(cat.status).not.toBe(0);
    expect(cat.stderr).toContain("erased by order");
    const log = await service.cli("log", "shop");
    expect(log.stdout).toContain("PURGE");
    expect(log.stdout).toContain("order 4711");
    const target = path.join(service.folder, "out");
    const restored = await tryCli("restore", "shop/files/d", "--at", "then", "--to", target, "--yes");
    expect(restored.stderr + restored.stdout).toContain("erased by order");
    expect(readFileSync(path.join(target, "other.txt"), "utf8")).toContain("harmless");
    const exported = await run(
      "sh",
      [
        "-c",
        `${process.execPath} ${path.resolve("src/cli/main.ts")} --data ${service.dataFolder} export shop/files --at then > /dev/null`,
      ],
      { anyStatus: true },
    );
    expect(exported.stderr).toContain("erased by order");
  });

  test("survives a crash of everything, and the rows of the journal", async () => {
    await service.killAll();
    await service.start();
    const cat = await tryCli("cat", "shop/files/d/secret.txt", "--at", "then");
    expect(cat.stderr).toContain("erased by order");
    expect(marked(service.dataFolder)).toEqual([]);
  });

  test("the repository refuses the bytes from the next backup on, checks well, and recovers without them", async () => {
    await service.cli("backup", "now", "shop");
    const cat = await elsewhere("cat", "shop/files/d/secret.txt", "--at", "then");
    expect(cat.status).not.toBe(0);
    expect(cat.stderr).toContain("erased by order");
    expect((await elsewhere("cat", "shop/files/d/other.txt", "--at", "then")).stdout).toContain("harmless");
    expect((await elsewhere("check", "--read-data")).status).toBe(0);
    const plan = await elsewhere("prune", "--dry-run");
    expect(plan.stdout).toContain("erased by order");
    const dataFolder = path.join(service.folder, "recovered");
    expect((await elsewhere("recover", "--into", dataFolder)).status).toBe(0);
    expect(marked(dataFolder)).toEqual([]);
    const other = new TestService({ dataFolder });
    try {
      await other.start();
      expect((await other.cli("cat", "shop/files/d/other.txt", "--at", "then")).stdout).toContain("harmless");
      const erased = await other.cliWith({ anyStatus: true }, "cat", "shop/files/d/secret.txt", "--at", "then");
      expect(erased.stderr).toContain("erased by order");
    } finally {
      await other.dispose();
    }
  });

  test("pruning takes the bytes out of the repository, and what is left checks well", async () => {
    const store = await DirectoryBlobs.open(repository, { create: false });
    const secret = { kind: "key-file", key: parseKeyFile(readFileSync(keyFile, "utf8")) } as const;
    const opened = await Repository.open({ store, secret });
    const [entry] = await opened.apps();
    const app = await opened.openApp(present(entry, "an app").appId);
    expect(await markedChunks(app)).toBeGreaterThan(0);
    const common = { app, dryRun: false, clock: new SystemClock(), timers: new SystemTimers(), log: silentLog };
    // As if the grace were over between the two.
    await pruneApp({ ...common, scratchFolder: path.join(service.folder, "scratch1"), graceMs: 86_400_000 });
    expect((await elsewhere("prune", "--dry-run")).stdout).toContain("erased by order");
    await pruneApp({ ...common, scratchFolder: path.join(service.folder, "scratch2"), graceMs: 0 });
    expect(await markedChunks(app)).toBe(0);
    expect((await elsewhere("check", "--read-data")).status).toBe(0);
    expect((await elsewhere("cat", "shop/files/d/other.txt", "--at", "then")).stdout).toContain("harmless");
    expect((await elsewhere("cat", "shop/files/d/secret.txt", "--at", "then")).stderr).toContain("erased by order");
    // The service goes on shipping into it.
    await shell(`echo more > ${await service.mount("shop/files", "again")}/more`);
    await service.cli("backup", "now", "shop");
    expect((await elsewhere("cat", "shop/files/more")).stdout).toBe("more\n");
  });
});

describe.skipIf(skipped)("tidemark purge, killed", { timeout: SLOW_TEST_MS }, () => {
  test("at any moment: nothing has happened, or it is carried through at the next start", async () => {
    const { service, mount } = await TestService.withShare();
    try {
      for (const [round, delayMs] of KILL_AFTER_MS.entries()) {
        await shell(
          `cd ${mount} && mkdir -p s && for i in $(seq 60); do (yes ${MARKER}-${round}-$i || true) | head -c 200000 > s/f$i; done && rm -r s`,
        );
        const orders = await ordersOf(service);
        const purging = service.cliWith(
          { anyStatus: true },
          ...["purge", "shop/files/s", "--all-history", "--reason", `round ${round}`, "--yes"],
        );
        // From before it begins to after it has ended, on most machines.
        await new Promise((resolve) => setTimeout(resolve, delayMs));
        process.kill(service.servicePid, "SIGKILL");
        const { stdout } = await purging;
        const isWritten = (await ordersOf(service)) > orders;
        console.log(
          `killed after ${delayMs} ms: ${isWritten ? "written" : "not written"}, ${stdout.trim().slice(0, 10)}`,
        );
        if (stdout.includes("Erased")) expect(isWritten).toBe(true);
        if (isWritten) await vi.waitFor(() => expect(marked(service.dataFolder)).toEqual([]), { timeout: 30_000 });
        else expect(marked(service.dataFolder).length).toBeGreaterThan(0);
        await service.cli("purge", "shop/files/s", "--all-history", "--reason", "again", "--yes");
        expect(marked(service.dataFolder)).toEqual([]);
        expect((await run("ls", [mount])).status).toBe(0);
      }
      await service.killAll();
      await service.start();
      expect((await service.cli("status")).stdout).not.toContain("damaged");
    } finally {
      await service.dispose();
    }
  });
});

/** Chunks of an app's packs, decrypted, that have the marker in them. */
async function markedChunks(app: AppRepository): Promise<number> {
  const reader = new PackReader({ store: app.store, keys: app.keys });
  let count = 0;
  for await (const page of app.store.list(`${app.prefix}packs/`)) {
    for (const { name } of page) {
      const pack = packIdOfName(name);
      if (pack === undefined) continue;
      for (const { place } of chunksOf(checkPack(app.keys, pack, await app.store.get(name)).directory))
        if ((await reader.read(place)).includes(MARKER)) count += 1;
    }
  }
  return count;
}

/** How many orders the log has. */
async function ordersOf(service: TestService): Promise<number> {
  const { stdout } = await service.cli("--json", "log", "shop");
  return stdout.split('"op":"PURGE"').length - 1;
}
