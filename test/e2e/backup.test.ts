import { spawn } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { DeleteObjectCommand, ListObjectsV2Command } from "@aws-sdk/client-s3";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { BackupStatus } from "../../src/domain/admin-backup.ts";
import { S3Server } from "../support/s3-server.ts";
import { lacksTools } from "../support/test-tool.ts";
import { TestService } from "./fixture.ts";
import { skipWithout } from "./requirements.ts";
import { shell } from "./run.ts";

const skipped = skipWithout("rsync") || lacksTools("versitygw");
const MAIN = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));

/** An outage is noticed when the store's own tries are used up. */
const OUTAGE_MS = 60_000;

describe.skipIf(skipped)("backup to a bucket", { timeout: 240_000 }, () => {
  let s3: S3Server;
  let service: TestService;
  let mount: string;
  let keyFile: string;
  let env: Record<string, string>;

  beforeEach(async () => {
    s3 = await S3Server.start();
    await s3.createBucket("backup");
    const made = await TestService.withShare();
    ({ service, mount } = made);
    keyFile = path.join(service.folder, "main.key");
    env = {
      AWS_ACCESS_KEY_ID: s3.credentials.accessKeyId,
      AWS_SECRET_ACCESS_KEY: s3.credentials.secretAccessKey,
      AWS_ENDPOINT_URL: s3.endpoint,
      XDG_CACHE_HOME: path.join(service.folder, "cache"),
    };
    await service.cliWith({ env }, "repo", "init", "s3://backup/prefix", "--key-file", keyFile);
    await service.cli("backup", "enable", "shop", "--every", "200ms");
  });

  afterEach(async () => {
    await service.dispose();
    await s3.stop();
  });

  /** On another machine: no data folder, only the bucket, its credentials and the key file. */
  const elsewhere = (...args: readonly string[]) =>
    service.cliWith(
      { env: { ...env, TIDEMARK_REPO: "s3://backup/prefix", TIDEMARK_KEY_FILE: keyFile } },
      "--data",
      path.join(service.folder, "none"),
      "repo",
      ...args,
    );

  const status = () => service.json<BackupStatus>("backup", "status");

  test("goes on by itself after an outage, also over a kill of the service, and loses nothing", async () => {
    writeFileSync(path.join(mount, "before"), "1");
    await service.cli("backup", "now", "shop");
    await s3.kill();
    writeFileSync(path.join(mount, "meanwhile"), "2");
    await vi.waitFor(async () => expect((await status()).state).toBe("retrying"), {
      timeout: OUTAGE_MS,
      interval: 500,
    });
    expect(await status()).toMatchObject({ message: expect.stringContaining(s3.endpoint) });
    expect((await service.cliWith({ anyStatus: true }, "backup", "now", "shop")).status).toBe(4);
    process.kill(service.servicePid, "SIGKILL");
    writeFileSync(path.join(mount, "after"), "3");
    await s3.restart();
    await service.cli("backup", "now", "shop");
    expect(await status()).toMatchObject({ state: "idle", lagMs: 0, unprotectedBytes: 0 });
    expect((await elsewhere("ls", "shop/files")).stdout).toMatch(/after\n.*before\n.*meanwhile\n/);
  });

  test("of two services that ship one app the older is fenced, says so, and can't take it back with less", async () => {
    writeFileSync(path.join(mount, "file"), "1");
    await service.cli("backup", "now", "shop");
    const second = new TestService();
    try {
      await elsewhere("recover", "--into", second.dataFolder);
      await second.start();
      const copy = await second.mount("shop/files", "mnt");
      expect((await shell(`rsync -aHAXnci --delete ${mount}/ ${copy}/`)).stdout).toBe("");
      await second.cli("backup", "enable", "shop");
      writeFileSync(path.join(copy, "file"), "of the second");
      await second.cli("backup", "now", "shop");
      writeFileSync(path.join(mount, "file"), "of the first");
      expect((await service.cliWith({ anyStatus: true }, "backup", "now", "shop")).status).toBe(5);
      expect(await status()).toMatchObject({ state: "fenced" });
      const { service: told } = await service.json<{ service: { alarms: { code: string; app: string }[] } }>("status");
      expect(told.alarms.at(-1)).toMatchObject({ code: "FENCED", app: "shop" });
      expect((await service.cliWith({ anyStatus: true }, "backup", "enable", "shop")).status).toBe(5);
      expect(["failed", "fenced"]).toContain((await status()).state);
      await second.cli("backup", "now", "shop");
      expect((await elsewhere("cat", "shop/files/file")).stdout).toBe("of the second");
    } finally {
      await second.dispose();
    }
  });

  test("a share is mounted out of the repository as it was, without a service", async () => {
    writeFileSync(path.join(mount, "file"), "then");
    const then = await service.lastLsn();
    writeFileSync(path.join(mount, "file"), "now");
    await service.cli("backup", "now", "shop");
    const target = path.join(service.folder, "past");
    mkdirSync(target);
    const args = [
      "--data",
      path.join(service.folder, "none"),
      "repo",
      "mount",
      "shop/files",
      target,
      "--at",
      `lsn:${then}`,
    ];
    const where = ["--repo", "s3://backup/prefix", "--key-file", keyFile];
    const child = spawn(process.execPath, [MAIN, ...args, ...where], { env: { ...process.env, ...env } });
    const ended = new Promise<number | null>((resolve) => child.once("exit", (code) => resolve(code)));
    try {
      await new Promise<void>((resolve, reject) => {
        child.stdout.once("data", () => resolve());
        child.once("exit", (code) => reject(new Error(`it ended with ${code}`)));
      });
      // In a process of its own: this one must stay able to answer.
      expect((await shell(`cat ${target}/file; ! touch ${target}/x 2>/dev/null`)).stdout).toBe("then");
    } finally {
      child.kill("SIGINT");
    }
    expect(await ended).toBe(0);
    expect(readFileSync("/proc/self/mounts", "utf8")).not.toContain(target);
  });

  test("what somebody deletes from a bucket with locks is hidden, not lost", async () => {
    await s3.createBucket("locked", "locks");
    const url = "s3://locked/prefix";
    await service.cliWith({ env }, "repo", "init", url, "--key-file", keyFile, "--name", "locked", "--lock-days", "1");
    await service.cli("backup", "disable", "shop");
    await service.cli("backup", "enable", "shop", "--repo", "locked");
    writeFileSync(path.join(mount, "file"), "precious");
    await service.cli("backup", "now", "shop");
    await service.cli("backup", "disable", "shop");
    const backedUpMs = Date.now();
    // Versions have times of whole seconds.
    await vi.waitFor(() => expect(Date.now()).toBeGreaterThan(backedUpMs + 2000), { timeout: 5000, interval: 200 });
    const { Contents = [] } = await s3.client.send(new ListObjectsV2Command({ Bucket: "locked" }));
    for (const { Key } of Contents) await s3.client.send(new DeleteObjectCommand({ Bucket: "locked", Key }));
    const gone = { anyStatus: true, env: { ...env, TIDEMARK_REPO: url, TIDEMARK_KEY_FILE: keyFile } };
    expect((await service.cliWith(gone, "repo", "apps")).status).toBe(3);
    const then = ["--at-version", new Date(backedUpMs + 1000).toISOString()];
    expect((await service.cliWith(gone, "repo", "cat", "shop/files/file", ...then)).stdout).toBe("precious");
    const second = new TestService();
    try {
      await service.cliWith(gone, "repo", "recover", "--into", second.dataFolder, ...then);
      await second.start();
      const copy = await second.mount("shop/files", "mnt");
      expect((await shell(`rsync -aHAXnci --delete ${mount}/ ${copy}/`)).stdout).toBe("");
    } finally {
      await second.dispose();
    }
  });

  test("no key and no credential is in the log, in an answer, or in anybody's arguments", async () => {
    await service.cli("backup", "now", "shop");
    const key = readFileSync(keyFile, "utf8")
      .split("\n")
      .filter((line) => /^\d:/.test(line));
    const secrets = [s3.credentials.secretAccessKey, ...key.map((line) => line.slice(3, 22))];
    const answers = [
      await service.cli("--json", "repo", "list"),
      await service.cli("--json", "backup", "status"),
      await service.cli("--json", "status"),
      await service.cli("log", "shop", "--json"),
    ];
    const commandLines = [service.supervisorPid, service.servicePid].map((pid) =>
      readFileSync(`/proc/${pid}/cmdline`, "utf8"),
    );
    const said = [service.log, ...commandLines, ...answers.map(({ stdout, stderr }) => stdout + stderr)].join("\n");
    for (const secret of secrets) expect(said).not.toContain(secret);
    expect(secrets.every((secret) => secret.length > 15)).toBe(true);
  });
});
