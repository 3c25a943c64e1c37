import path from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { BackupStatus } from "../../src/domain/admin-backup.ts";
import { S3Server } from "../support/s3-server.ts";
import { lacksTools } from "../support/test-tool.ts";
import { type Toxic, ToxicProxy } from "../support/toxic-proxy.ts";
import { BackedUpMachine, differences } from "./backup-flow-machines.ts";
import { skipWithout } from "./requirements.ts";
import { run, shell } from "./run.ts";

const skipped = skipWithout("rsync", "tar") || lacksTools("versitygw", "toxiproxy");

/** An outage is told when the store's own tries are used up: half a minute. */
const OUTAGE_NOTICED_MS_MAX = 120_000;

describe.skipIf(skipped)("backup over a bad network", { timeout: 300_000 }, () => {
  let server: S3Server;
  let proxy: ToxicProxy;
  let machine: BackedUpMachine;

  beforeEach(async () => {
    server = await S3Server.start();
    proxy = await ToxicProxy.start(server.port);
    await server.createBucket("backup");
    const { accessKeyId, secretAccessKey } = server.credentials;
    const env = {
      AWS_ACCESS_KEY_ID: accessKeyId,
      AWS_SECRET_ACCESS_KEY: secretAccessKey,
      AWS_ENDPOINT_URL: proxy.endpoint,
    };
    machine = await BackedUpMachine.start(() => ({ address: "s3://backup/prefix", env }), ["--log-level", "debug"]);
    await machine.service.cli("backup", "enable", "shop", "--every", "200ms");
  });

  afterEach(async () => {
    await machine?.service.dispose();
    await proxy?.stop();
    await server?.stop();
  });

  /** What is in the repository is whole, and equals what is in the share. */
  async function expectAllProtected(): Promise<void> {
    await machine.untilProtected();
    const { stdout } = await machine.elsewhere("--json", "check", "--read-data");
    expect(JSON.parse(stdout)).toMatchObject({ findings: [], files: [] });
    const restored = path.join(machine.service.folder, "restored");
    await machine.elsewhere("restore", "shop/files", "--to", restored, "--yes");
    expect(await differences(machine.mount, restored)).toBe("");
  }

  test("that is slow and breaks connections amid uploads: everything becomes protected, and is whole", async () => {
    await slow();
    await shell(`cd ${machine.mount} && cp -a /usr/include/linux/usb . && head -c 2000000 /dev/urandom > first`);
    await machine.untilProtected();
    // Either ends an upload of this size before its end: by a reset after a time, by an end after so many bytes.
    const faults: Toxic[] = [
      { type: "reset_peer", attributes: { timeout: 300 } },
      { type: "limit_data", attributes: { bytes: 400_000 } },
    ];
    for (const fault of faults) {
      const before = repeatedPuts();
      await proxy.add(fault, { stream: "upstream" });
      await shell(
        `cd ${machine.mount} && head -c 1500000 /dev/urandom > ${fault.type} && mv usb usb-${fault.type} && ln -s . usb`,
      );
      await vi.waitFor(() => expect(repeatedPuts()).toBeGreaterThanOrEqual(before + 2), { timeout: 60_000 });
      await proxy.heal();
      await slow();
      await shell(`rm ${machine.mount}/usb && mv ${machine.mount}/usb-${fault.type} ${machine.mount}/usb`);
      await machine.untilProtected();
    }
    await proxy.heal();
    await expectAllProtected();
  });

  test("that is cut off while applications write and the service is killed: they never notice, and it catches up", async () => {
    await proxy.add({ type: "bandwidth", attributes: { rate: 3_000 } }, { stream: "upstream" });
    await shell(`head -c 2000000 /dev/urandom > ${machine.mount}/before`);
    await machine.untilProtected();
    const stop = path.join(machine.service.folder, "stop");
    // Any failure of any call ends it with another status than 0.
    const load = shell(`
      cd ${machine.mount}; i=0
      while [ ! -e ${stop} ]; do
        i=$((i + 1)); head -c 150000 /dev/urandom > new; mv new file$((i % 20)); echo $i >> log; sync log; [ "$(tail -n 1 log)" = $i ]; sleep 0.1
      done
      echo $i`);
    // Whoever awaits it is told; until then it is nobody's failure.
    load.catch(() => {});
    // Amid uploads.
    await killServiceAmid(() => uploadsGoOn(server, 1));
    await proxy.cut();
    await killServiceAmid(() => logGrows(1));
    const early = await machine.status();
    expect(early.lagMs).toBeGreaterThan(0);
    await killServiceAmid(() => logGrows(3));
    const late = await untilRetrying();
    expect(late.lagMs).toBeGreaterThan(early.lagMs);
    expect(late.unprotectedBytes).toBeGreaterThan(early.unprotectedBytes);
    expect(late.message).toContain(proxy.endpoint);
    await proxy.heal();
    // Of the backlog.
    await killServiceAmid(() => uploadsGoOn(server, 2));
    await shell(`touch ${stop}`);
    const count = Number((await load).stdout);
    expect(count).toBeGreaterThan(10);
    expect((await shell(`wc -l < ${machine.mount}/log`)).stdout.trim()).toBe(String(count));
    await expectAllProtected();
    expect(await machine.status()).toMatchObject({ state: "idle", lagMs: 0, unprotectedBytes: 0 });
  });

  async function slow(): Promise<void> {
    await proxy.add({ type: "latency", attributes: { latency: 100, jitter: 20 } });
    await proxy.add({ type: "bandwidth", attributes: { rate: 2_000 } }, { stream: "upstream" });
  }

  /** How often an upload failed and was to be tried again. */
  function repeatedPuts(): number {
    return machine.service.log.split("\n").filter((line) => /"doing":"put .*will be repeated/.test(line)).length;
  }

  async function untilRetrying(): Promise<BackupStatus> {
    return vi.waitFor(
      async () => {
        const status = await machine.status();
        expect(status.state).toBe("retrying");
        return status;
      },
      { timeout: OUTAGE_NOTICED_MS_MAX, interval: 500 },
    );
  }

  /** Kills the service, not its supervisor, once something has happened. */
  async function killServiceAmid(happened: () => Promise<unknown>): Promise<void> {
    await happened();
    process.kill(machine.service.servicePid, "SIGKILL");
  }

  /** So many more objects are in the bucket than now. */
  async function uploadsGoOn(of: S3Server, more: number): Promise<void> {
    const count = async () => Number((await shell(`find ${of.folder}/backup -type f | wc -l`)).stdout);
    const before = await count();
    await vi.waitFor(async () => expect(await count()).toBeGreaterThanOrEqual(before + more), {
      timeout: 60_000,
      interval: 50,
    });
  }

  async function logGrows(by: number): Promise<void> {
    const count = async () => Number((await run("bash", ["-c", `wc -l < ${machine.mount}/log`])).stdout);
    const before = await count();
    await vi.waitFor(async () => expect(await count()).toBeGreaterThanOrEqual(before + by), {
      timeout: 60_000,
      interval: 50,
    });
  }
});
