/** The bench's own C pass-through FUSE (passthrough.c) over a folder of the scratch disk. */
import type { ChildProcess } from "node:child_process";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { makeSpreadDir, unmount } from "./cleanup.ts";
import { hasEnded, startDaemon, waitForEnd, waitUntil } from "./command.ts";
import { isMounted, processTree } from "./process-info.ts";
import type { BenchTarget, OpenView, TargetCapabilities } from "./target.ts";

/** Mounting takes milliseconds; ten seconds is a machine in trouble. */
const MOUNT_DURATION_MS_MAX = 10_000;

export type PassThroughMode = "default" | "tuned";

const DESCRIPTIONS: Record<PassThroughMode, string> = {
  default: "C pass-through FUSE, libfuse's defaults",
  tuned: "C pass-through FUSE, multi-threaded (clone_fd), day-long timeouts, keep-cache, no flush, no xattrs",
};

export class PassThroughTarget implements BenchTarget {
  readonly name: string;
  readonly description: string;
  readonly dir: string;
  readonly mountpoint: string;
  readonly capabilities: TargetCapabilities = { restart: true, view: false };
  readonly #home: string;
  readonly #mode: PassThroughMode;
  readonly #compile: () => Promise<string>;
  #program: string | undefined;
  #server: ChildProcess | undefined;

  /** `home` is a folder for the backing tree and the mount point; `compile` yields the program, or throws why not. */
  constructor(options: { name: string; mode: PassThroughMode; home: string; compile: () => Promise<string> }) {
    this.name = options.name;
    this.description = DESCRIPTIONS[options.mode];
    this.#home = options.home;
    this.#mode = options.mode;
    this.#compile = options.compile;
    this.mountpoint = join(options.home, "mnt");
    this.dir = this.mountpoint;
  }

  async unavailable(): Promise<string | undefined> {
    if (!existsSync("/dev/fuse")) return "/dev/fuse does not exist";
    if (process.getuid?.() !== 0) return "mounting needs root";
    try {
      this.#program = await this.#compile();
      return undefined;
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    }
  }

  async start(): Promise<void> {
    if (this.#program === undefined) throw new Error("start before unavailable()");
    const backing = join(this.#home, "backing");
    const logFile = join(this.#home, "log");
    await makeSpreadDir(backing);
    mkdirSync(this.mountpoint, { recursive: true });
    const server = startDaemon(this.#program, [backing, this.mountpoint, this.#mode], { logFile });
    this.#server = server;
    await waitUntil(`mount of ${this.name}`, MOUNT_DURATION_MS_MAX, () => {
      if (hasEnded(server)) throw new Error(`${this.name} ended: ${readFileSync(logFile, "utf8").slice(-500)}`);
      return isMounted(this.mountpoint);
    });
  }

  async stop(): Promise<void> {
    await unmount(this.mountpoint);
    if (this.#server !== undefined) await waitForEnd(this.#server, MOUNT_DURATION_MS_MAX);
    this.#server = undefined;
  }

  processIds(): number[] {
    return this.#server?.pid === undefined ? [] : processTree(this.#server.pid);
  }

  async openView(): Promise<OpenView> {
    throw new Error(`${this.name} has no views`);
  }
}
