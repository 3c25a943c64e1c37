import { closeSync, openSync, readdirSync, readFileSync, writeFileSync, writeSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { mountAt, readMountTable } from "../../src/gateway/fuse/mount-table.ts";
import { skipWithout } from "../e2e/requirements.ts";
import { run } from "../e2e/run.ts";
import { CrashService, isAlive, isDeadMount } from "./crash-service.ts";
import { until } from "./until.ts";

const skipped = skipWithout();

type StatusJson = {
  readonly service: {
    readonly pid: number;
    readonly supervisor: { readonly state: string; readonly restartCount: number };
  };
};

describe.skipIf(skipped)("kill -9 of the supervisor", { timeout: 120_000 }, () => {
  let service: CrashService;
  let mount: string;

  beforeEach(async () => {
    service = new CrashService();
    mount = await service.begin();
  });
  afterEach(async () => {
    const { dataFolder } = service;
    await service.dispose();
    for (const pid of service.servedPids) if (isAlive(pid) && serves(pid, dataFolder)) process.kill(pid, "SIGKILL");
  });

  /** Kills the supervisor alone. Answers the service's pid. */
  const loseSupervisor = async (): Promise<number> => {
    const pid = service.servedPids.at(-1) ?? 0;
    const supervisor = service.supervisorPid;
    process.kill(supervisor, "SIGKILL");
    await until(
      () => !isAlive(supervisor) && service.log.includes("the supervisor is gone"),
      "the supervisor did not end",
    );
    return pid;
  };

  test("leaves the service serving and says so; a clean stop then unmounts, and the next start has everything", async () => {
    const fd = openSync(`${mount}/open`, "w");
    const pid = await loseSupervisor();
    writeSync(fd, "written after");
    closeSync(fd);
    writeFileSync(`${mount}/new`, "made after");
    const status = await service.json<StatusJson>("status");
    expect(status.service.pid).toBe(pid);
    expect(status.service.supervisor.state).toBe("lost");
    expect((await service.cli("status")).stdout).toContain("lost");
    // It still mounts and unmounts by itself.
    const second = await service.mountShare("second");
    expect(readFileSync(`${second}/new`, "utf8")).toBe("made after");
    await service.umount(second);

    process.kill(pid, "SIGTERM");
    await until(() => !isAlive(pid), "the service did not stop");
    expect(mountAt(readMountTable(), mount)).toBeUndefined();
    await service.start();
    await service.mountShare();
    expect(readFileSync(`${mount}/open`, "utf8")).toBe("written after");
    expect(readFileSync(`${mount}/new`, "utf8")).toBe("made after");
    expect((await service.json<StatusJson>("status")).service.supervisor.state).toBe("running");
  });

  test("and then of the service leaves dead mount points, which the next start recovers", async () => {
    writeFileSync(`${mount}/kept`, "kept");
    const pid = await loseSupervisor();
    process.kill(pid, "SIGKILL");
    await until(() => isDeadMount(mount), "the mount did not die");
    await service.start();
    expect(mountAt(readMountTable(), mount)).toBeUndefined();
    expect(readdirSync(mount)).toEqual([]);
    await service.mountShare();
    expect(readFileSync(`${mount}/kept`, "utf8")).toBe("kept");
  });

  test("and of the service at once: the next start unmounts what is dead and brings persistent mounts back with their data", async () => {
    const persistent = await service.mount("shop/files", "persistent", "--persist");
    const view = await service.mount("shop/files", "view", "--at", "lsn:1", "--persist");
    const content = "x".repeat(300_000);
    writeFileSync(`${persistent}/kept`, content);
    const open = openSync(`${persistent}/unlinked`, "w");
    await run("rm", [`${persistent}/unlinked`]);
    writeSync(open, "an orphan");
    await service.killAll();
    await until(() => isDeadMount(mount) && isDeadMount(persistent) && isDeadMount(view), "the mounts did not die");
    expect(() => writeSync(open, "x")).toThrow(/ENOTCONN|ECONNABORTED/);

    await service.start();
    expect(mountAt(readMountTable(), mount)).toBeUndefined();
    expect(readdirSync(mount)).toEqual([]);
    expect(readFileSync(`${persistent}/kept`, "utf8")).toBe(content);
    expect(readdirSync(persistent)).toEqual(["kept"]);
    expect(readdirSync(view)).toEqual([]);
    expect(() => writeFileSync(`${view}/x`, "")).toThrow(/EROFS/);
    // Nobody holds the unlinked file any more: it ended.
    expect((await service.json<{ apps: { inodeCount: number }[] }>("status")).apps[0]?.inodeCount).toBe(2);
    closeSync(open);
  });

  test("a service that was killed is counted as a restart", async () => {
    await service.killService();
    await service.killService();
    expect((await service.json<StatusJson>("status")).service.supervisor.restartCount).toBe(2);
  });
});

/** Whether the process serves this test's folder: process ids are used again. */
function serves(pid: number, dataFolder: string): boolean {
  return readFileSync(`/proc/${pid}/environ`, "latin1").includes(dataFolder);
}
