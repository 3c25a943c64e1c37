import { spawnSync } from "node:child_process";
import fs from "node:fs";
import { createRequire } from "node:module";
import os from "node:os";
import path from "node:path";
import { until } from "./until.ts";

/** linux/fs.h and ext4: FS_IOC_SHUTDOWN. The file system stops at once, as at a power cut; the mode says whether its own journal is written first. */
const FS_IOC_SHUTDOWN = 0x8004587d;
export const SHUTDOWN_LOG_WRITTEN = 1;
export const SHUTDOWN_NOTHING_WRITTEN = 2;

/** An ext4 in a file, mounted through a loop device, whose power can be cut. */
export class LoopDisk {
  readonly #folder = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-disk-"));
  readonly mountPoint = path.join(this.#folder, "mnt");
  readonly #image = path.join(this.#folder, "disk.ext4");

  /** Throws when the machine can't do it. */
  constructor(bytes: number) {
    fs.mkdirSync(this.mountPoint);
    fs.writeFileSync(this.#image, "");
    fs.truncateSync(this.#image, bytes);
    try {
      command("mkfs.ext4", ["-q", "-F", "-m", "0", this.#image]);
      this.mount();
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  mount(): void {
    command("mount", ["-o", "loop", this.#image, this.mountPoint]);
  }

  /** From now on every call on the disk fails, and what it has not written is gone. */
  cutPower(mode: number): void {
    const koffi = createRequire(import.meta.url)("koffi");
    const ioctl = koffi.load(null).func("int ioctl(int fd, ulong request, void *argument)");
    const fd = fs.openSync(this.mountPoint, "r");
    const argument = Buffer.alloc(4);
    argument.writeUInt32LE(mode);
    const result: number = ioctl(fd, FS_IOC_SHUTDOWN, argument);
    fs.closeSync(fd);
    if (result !== 0) throw new Error("the file system can't be shut down");
  }

  /** Power is back: mounts again. Whoever used the disk must have been killed; their descriptors may take a moment to go. */
  async restore(): Promise<void> {
    await until(() => spawnSync("umount", [this.mountPoint]).status === 0, "the disk is in use");
    this.mount();
  }

  [Symbol.dispose](): void {
    if (spawnSync("mountpoint", ["-q", this.mountPoint]).status === 0) spawnSync("umount", ["-l", this.mountPoint]);
    fs.rmSync(this.#folder, { recursive: true, force: true });
  }
}

function command(program: string, args: readonly string[]): void {
  const { status, stderr, error } = spawnSync(program, args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`${program} ${args.join(" ")}: ${stderr ?? String(error)}`);
}

/** Whether loop mounts are missing here; says so. In CI it throws: there nothing is skipped. */
export function skipWithoutLoop(): boolean {
  try {
    using _disk = new LoopDisk(16 * 1024 * 1024);
    return false;
  } catch (error) {
    if (process.env["CI"] !== undefined) throw error;
    console.log(`skipped: loop mounts of ext4 can't be made: ${String(error)}`);
    return true;
  }
}
