/**
 * Counts the requests the kernel sends to a FUSE mount, with the kernel's own trace point fuse:fuse_request_send. FORGET
 * is not seen: it has no trace point.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Cleanups, unmount } from "./cleanup.ts";
import { run } from "./command.ts";
import { mounts } from "./process-info.ts";

/** 64 MiB a CPU holds about a million requests; the longest row, `npm ci`, sends some hundred thousand. */
const BUFFER_KIB = 65_536;
const EVENT = "events/fuse/fuse_request_send";

export class RequestTrace {
  readonly #instance: string;

  private constructor(instance: string) {
    this.#instance = instance;
  }

  /** Needs root and a kernel with tracing; throws otherwise. tracefs is mounted in `scratch` unless it is there. */
  static async open(scratch: string, cleanups: Cleanups): Promise<RequestTrace> {
    const mounted = mounts().find((mount) => mount.type === "tracefs");
    const root = mounted?.mountpoint ?? join(scratch, "tracing");
    if (mounted === undefined) {
      mkdirSync(root);
      cleanups.add("tracefs", () => unmount(root));
      await run("mount", ["-t", "tracefs", "tracefs", root]);
    }
    if (!existsSync(join(root, EVENT))) throw new Error(`this kernel has no trace point ${EVENT}`);
    const instance = join(root, "instances", `tidemark-bench-${process.pid}`);
    mkdirSync(instance);
    cleanups.add("trace buffer", async () => rmdirSync(instance));
    writeFileSync(join(instance, "buffer_size_kb"), String(BUFFER_KIB));
    return new RequestTrace(instance);
  }

  start(): void {
    writeFileSync(join(this.#instance, "trace"), "");
    writeFileSync(join(this.#instance, EVENT, "enable"), "1");
  }

  /** Requests to the mount since start, by opcode. Throws when the buffer was too small to hold them all. */
  stop(mountpoint: string): Record<string, number> {
    writeFileSync(join(this.#instance, EVENT, "enable"), "0");
    for (const cpu of readdirSync(join(this.#instance, "per_cpu"))) {
      const stats = readFileSync(join(this.#instance, "per_cpu", cpu, "stats"), "latin1");
      if (!/^overrun: 0$/m.test(stats)) throw new Error("the trace buffer was too small");
    }
    const device = mounts()
      .findLast((mount) => mount.mountpoint === mountpoint)
      ?.device.split(":")[1];
    return countRequests(readFileSync(join(this.#instance, "trace"), "latin1"), Number(device));
  }
}

/** Counts the lines of a trace that belong to the connection, by the opcode's name without "FUSE_". */
export function countRequests(trace: string, connection: number): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const [, of, opcode] of trace.matchAll(/fuse_request_send: connection (\d+) .*\((?:FUSE_)?(\w*)\)/g)) {
    if (Number(of) !== connection || opcode === undefined) continue;
    counts[opcode] = (counts[opcode] ?? 0) + 1;
  }
  return counts;
}
