import { mkdirSync, readFileSync, statSync } from "node:fs";
import path from "node:path";
import { SystemClock } from "../../src/base/clock.ts";
import { AdminClient } from "../../src/rpc/admin-client.ts";
import { ADMIN_SOCKET_NAME } from "../../src/rpc/admin-server.ts";
import { TestService } from "../e2e/fixture.ts";
import { run } from "../e2e/run.ts";
import { until } from "./until.ts";

/** What the service logs when it serves: its pid is in it. */
const SERVING = /^.*"msg":"serving".*$/gm;

const APP = { namespace: "default", name: "shop" };
const SHARE = { app: APP, share: { name: "files" } };

/** A real service whose processes are killed. It is told what to do without the CLI: starting that costs more than most of what is tested here. */
export class CrashService extends TestService {
  readonly #targets = new Set<string>();

  /** Starts it, and makes and mounts the share "shop/files". Answers the mount point. */
  async begin(): Promise<string> {
    await this.start();
    await this.#ask(async (client) => {
      await client.catalogue.createApp({ ...APP, labels: {} });
      await client.catalogue.createShare({ app: APP, name: SHARE.share.name, views: "root" });
    });
    return await this.mountShare();
  }

  /** Mounts the share at a directory of the scratch folder. */
  async mountShare(name = "mnt"): Promise<string> {
    const target = path.join(this.folder, name);
    mkdirSync(target, { recursive: true });
    this.#targets.add(target);
    const options = {
      readOnly: false,
      persist: false,
      allowSuid: false,
      allowDevices: false,
      locks: "kernel",
    } as const;
    await this.#ask((client) => client.mounts.mount({ ...SHARE, target, at: { kind: "now" }, ...options }));
    return target;
  }

  /** Process ids of the services that served so far, in order. */
  get servedPids(): number[] {
    return (this.log.match(SERVING) ?? []).map((line) => (JSON.parse(line) as { pid: number }).pid);
  }

  /** `kill -9` of the service under a living supervisor. Resolves when the next one serves; answers when it was killed, in ns of CLOCK_MONOTONIC. */
  async killService(): Promise<bigint> {
    const before = this.servedPids;
    const pid = before.at(-1) ?? 0;
    const atNs = process.hrtime.bigint();
    process.kill(pid, "SIGKILL");
    await until(() => this.servedPids.length > before.length, "the service was not started again");
    return atNs;
  }

  override async dispose(): Promise<void> {
    await this.stop();
    for (const target of this.#targets) await run("umount", ["-l", target], { anyStatus: true });
    await super.dispose();
  }

  async #ask(ask: (client: AdminClient) => Promise<unknown>): Promise<void> {
    const client = new AdminClient({
      socketPath: path.join(this.dataFolder, ADMIN_SOCKET_NAME),
      clock: new SystemClock(),
    });
    try {
      await ask(client);
    } finally {
      client.close();
    }
  }
}

/** Whether a process is there and not a zombie. */
export function isAlive(pid: number): boolean {
  try {
    return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, "latin1"));
  } catch {
    return false;
  }
}

/** Whether a mount point is there whose service is gone. */
export function isDeadMount(target: string): boolean {
  try {
    statSync(target);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ENOTCONN";
  }
}
