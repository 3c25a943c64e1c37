import { readFileSync, statSync } from "node:fs";
import { TestService } from "../e2e/fixture.ts";
import { until } from "./until.ts";

/** What the service logs when it serves: its pid is in it. */
const SERVING = /^.*"msg":"serving".*$/gm;

/** A real service whose processes are killed. */
export class CrashService extends TestService {
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
