/** A Tidemark share, used the way a person would: through the CLI and its mount. */
import type { ChildProcess } from "node:child_process";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { unmount } from "./cleanup.ts";
import { hasEnded, run, startDaemon, waitForEnd, waitUntil } from "./command.ts";
import { isMounted, processTree } from "./process-info.ts";
import type { BenchTarget, OpenView, TargetCapabilities } from "./target.ts";

/** What is measured unless `--tidemark` names another build. */
const PROGRAM_DEFAULT = resolve(import.meta.dirname, "../../bin/tidemark");
/** Recovery replays at most what the applier had left; a minute is far beyond it. */
const READY_DURATION_MS_MAX = 60_000;
/** A clean stop waits for the applier and the last sync. */
const STOP_DURATION_MS_MAX = 60_000;

export class TidemarkTarget implements BenchTarget {
  readonly name: string;
  readonly description = "a Tidemark share, history on, defaults as shipped";
  readonly dir: string;
  readonly mountpoint: string;
  readonly capabilities: TargetCapabilities = { restart: true, view: true };
  readonly #home: string;
  readonly #program: string;
  readonly #nodeOptions: string | undefined;
  #server: ChildProcess | undefined;
  #shareExists = false;
  #viewCount = 0;

  /** `program` is the CLI; `home` holds data folder and mount points; `nodeOptions` go to the service's node as TIDEMARK_NODE_OPTIONS. */
  constructor(options: {
    name: string;
    home: string;
    program?: string | undefined;
    nodeOptions?: string | undefined;
  }) {
    this.name = options.name;
    this.#program = options.program ?? PROGRAM_DEFAULT;
    this.#home = options.home;
    this.#nodeOptions = options.nodeOptions;
    this.mountpoint = join(options.home, "mnt");
    this.dir = this.mountpoint;
  }

  async unavailable(): Promise<string | undefined> {
    if (!existsSync(this.#program)) return `${this.#program} does not exist`;
    if (!existsSync("/dev/fuse")) return "/dev/fuse does not exist";
    return process.getuid?.() === 0 ? undefined : "mounting needs root";
  }

  async start(): Promise<void> {
    mkdirSync(this.mountpoint, { recursive: true });
    const logFile = join(this.#home, "log");
    const env = this.#nodeOptions === undefined ? {} : { TIDEMARK_NODE_OPTIONS: this.#nodeOptions };
    const server = startDaemon(this.#program, ["serve", "--data", this.#data], { logFile, env });
    this.#server = server;
    await waitUntil(`start of ${this.name}`, READY_DURATION_MS_MAX, () => {
      if (hasEnded(server)) throw new Error(`${this.name} ended: ${readFileSync(logFile, "utf8").slice(-2000)}`);
      return this.#cli("status").then(
        () => true,
        () => false,
      );
    });
    if (!this.#shareExists) {
      await this.#cli("app", "create", "bench");
      await this.#cli("share", "create", "bench/files");
      this.#shareExists = true;
    }
    await this.#mount("bench/files", this.mountpoint);
  }

  async stop(): Promise<void> {
    const server = this.#server;
    if (server === undefined) return;
    // A bench that fails to unmount cleanly must still stop; the lazy unmount below sees to the rest.
    await this.#cli("umount", this.mountpoint).catch(() => undefined);
    await unmount(this.mountpoint);
    if (!hasEnded(server)) server.kill("SIGTERM");
    await waitForEnd(server, STOP_DURATION_MS_MAX);
    this.#server = undefined;
  }

  processIds(): number[] {
    return this.#server?.pid === undefined ? [] : processTree(this.#server.pid);
  }

  async openView(): Promise<OpenView> {
    this.#viewCount += 1;
    const snapshot = `bench-view-${this.#viewCount}`;
    const dir = join(this.#home, snapshot);
    mkdirSync(dir);
    await this.#cli("snapshot", "create", "bench", snapshot);
    await this.#mount("bench/files", dir, "--at", `snap:${snapshot}`);
    return {
      dir,
      close: async () => {
        await this.#cli("umount", dir).catch(() => undefined);
        await unmount(dir);
      },
    };
  }

  get #data(): string {
    return join(this.#home, "data");
  }

  async #mount(share: string, mountpoint: string, ...options: string[]): Promise<void> {
    await this.#cli("mount", share, mountpoint, ...options);
    if (!isMounted(mountpoint)) throw new Error(`tidemark mount succeeded, but nothing is mounted at ${mountpoint}`);
  }

  async #cli(...args: string[]): Promise<void> {
    await run(this.#program, ["--data", this.#data, ...args], { cleanup: args[0] === "umount" });
  }
}
