import { renameSync } from "node:fs";
import { type AddressInfo, connect as connectTo, createServer, type Server } from "node:net";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { S3Server } from "../support/s3-server.ts";
import { lacksTools } from "../support/test-tool.ts";
import { BackedUpMachine } from "./backup-flow-machines.ts";
import { skipWithout } from "./requirements.ts";
import { shell } from "./run.ts";

const skipped = skipWithout() || lacksTools("versitygw");

const EVERY_MS = 200;
/** So long it is watched while nothing changes: many times the interval. */
const IDLE_MS = 20 * EVERY_MS;

describe.skipIf(skipped)("what the bucket is asked", { timeout: 120_000 }, () => {
  let server: S3Server;
  let wire: Wire;
  let machine: BackedUpMachine;

  beforeAll(async () => {
    server = await S3Server.start();
    await server.createBucket("backup");
    wire = await Wire.to(server.port);
    machine = await BackedUpMachine.start(() => ({ address: "s3://backup/prefix", env: environment() }));
    await machine.service.cli("backup", "enable", "shop", "--every", `${EVERY_MS}ms`);
  });

  afterAll(async () => {
    await machine?.service.dispose();
    wire?.close();
    await server?.stop();
  });

  const environment = (secret = server.credentials.secretAccessKey): Record<string, string> => ({
    AWS_ACCESS_KEY_ID: server.credentials.accessKeyId,
    AWS_SECRET_ACCESS_KEY: secret,
    AWS_ENDPOINT_URL: wire.endpoint,
  });

  test("nothing, while nothing changes, also when files are read; the next change is shipped all the same", async () => {
    await shell(`cd ${machine.mount} && cp -a /usr/include/linux/usb . && seq 1000 > file`);
    await machine.untilProtected();
    await wire.untilQuiet();
    const before = wire.sentBytes;
    await shell(`cat ${machine.mount}/file ${machine.mount}/usb/*.h | wc -c`);
    await new Promise((resolve) => setTimeout(resolve, IDLE_MS));
    expect(wire.sentBytes).toBe(before);
    expect(await machine.status()).toMatchObject({ state: "idle", lagMs: 0, unprotectedBytes: 0 });
    await shell(`echo more >> ${machine.mount}/file`);
    await machine.untilProtected();
    expect(wire.sentBytes).toBeGreaterThan(before);
  });

  test("a bucket that is gone is named, nothing is lost by it, and it goes on when it is back", async () => {
    const { folder } = server;
    await machine.service.cli("backup", "now", "shop");
    renameSync(path.join(folder, "backup"), path.join(folder, "elsewhere"));
    await shell(`echo meanwhile > ${machine.mount}/meanwhile`);
    const { status, stderr } = await machine.service.cliWith({ anyStatus: true }, "backup", "now", "shop");
    expect(stderr).toMatch(/bucket "?backup/);
    expect(status).toBe(3);
    const { state, message, unprotectedBytes } = await machine.status();
    expect({ state, message }).toEqual({ state: "failed", message: expect.stringMatching(/bucket "?backup/) });
    expect(unprotectedBytes).toBeGreaterThan(0);
    renameSync(path.join(folder, "elsewhere"), path.join(folder, "backup"));
    await machine.service.cli("backup", "now", "shop");
    expect((await machine.elsewhere("cat", "shop/files/meanwhile")).stdout).toBe("meanwhile\n");
  });

  test("says clearly that a key, a bucket or a repository is the wrong one, and shows no secret", async () => {
    const otherKey = path.join(machine.service.folder, "other.key");
    const otherRepository = path.join(machine.service.folder, "other-repository");
    await machine.service.cli("repo", "init", otherRepository, "--name", "other", "--key-file", otherKey);
    const cases = [
      {
        env: environment("not-the-secret-key-of-it"),
        status: 6,
        says: /127\.0\.0\.1.*(access|denied|credential|signature|secret)/is,
      },
      { args: ["--repo", "s3://no-such-bucket/prefix"], status: 3, says: /no-such-bucket/ },
      { args: ["--repo", "s3://backup/another"], status: 3, says: /s3:\/\/backup\/another/ },
      { args: ["--key-file", otherKey], status: 6, says: /key/ },
    ];
    const answers = await Promise.all(
      cases.map(async ({ env, args = [] }) => machine.elsewhereTry({ ...env }, ...args, "apps")),
    );
    for (const [index, { status, stderr }] of answers.entries()) {
      const { status: expected, says } = cases[index] ?? {};
      expect(stderr).toMatch(says ?? /$^/);
      expect({ status, stderr }).toEqual({ status: expected, stderr });
      expect(stderr).not.toMatch(/not-the-secret|test-secret|\n\s+at /);
    }
  });
});

/** A wire to a port of the loopback address that counts what goes over it towards the server: no request is made without a byte of it. */
class Wire {
  readonly endpoint: string;
  readonly #server: Server;
  #sentBytes = 0;

  private constructor(server: Server, upstreamPort: number) {
    this.#server = server;
    const { port } = server.address() as AddressInfo;
    this.endpoint = `http://127.0.0.1:${port}`;
    server.on("connection", (client) => {
      const upstream = connectTo(upstreamPort, "127.0.0.1");
      client.on("data", (bytes: Buffer) => {
        this.#sentBytes += bytes.length;
      });
      for (const [one, other] of [
        [client, upstream],
        [upstream, client],
      ] as const) {
        one.pipe(other);
        one.on("error", () => other.destroy());
      }
    });
  }

  static async to(upstreamPort: number): Promise<Wire> {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return new Wire(server, upstreamPort);
  }

  get sentBytes(): number {
    return this.#sentBytes;
  }

  /** What was begun before is done: nothing was sent for some intervals. */
  async untilQuiet(): Promise<void> {
    let seen = -1;
    await vi.waitFor(
      () => {
        const last = seen;
        seen = this.#sentBytes;
        expect(last).toBe(seen);
      },
      { timeout: 60_000, interval: 5 * EVERY_MS },
    );
  }

  close(): void {
    this.#server.close();
  }
}
