/** Targets without a server of ours: a folder of the scratch disk, or any directory that is mounted already. */
import { existsSync, statfsSync } from "node:fs";
import { makeSpreadDir } from "./cleanup.ts";
import type { BenchTarget, OpenView, TargetCapabilities } from "./target.ts";

/** statfs(2) magic numbers of what a scratch folder may lie on. */
const FILE_SYSTEM_NAMES = new Map([
  [0xef53, "ext4"],
  [0x58465342, "xfs"],
  [0x9123683e, "btrfs"],
  [0x01021994, "tmpfs"],
  [0x794c7630, "overlay"],
  [0x65735546, "fuse"],
]);

/** The kernel's name for the file system that holds `path`. */
export function fileSystemName(path: string): string {
  const magic = statfsSync(path).type;
  return FILE_SYSTEM_NAMES.get(magic) ?? `0x${magic.toString(16)}`;
}

/** A directory measured as it is. Starting and stopping do nothing, so cold rows are kernel-cold only. */
export class PlainTarget implements BenchTarget {
  readonly name: string;
  readonly description: string;
  readonly dir: string;
  readonly mountpoint: string | undefined;
  readonly capabilities: TargetCapabilities = { restart: false, view: false };

  constructor(options: { name: string; dir: string; mountpoint?: string }) {
    this.name = options.name;
    this.dir = options.dir;
    this.mountpoint = options.mountpoint;
    this.description =
      options.mountpoint === undefined
        ? `a directory on ${fileSystemName(parentOf(options.dir))}`
        : `${options.mountpoint}, mounted by somebody else: never restarted, so cold means kernel-cold`;
  }

  async unavailable(): Promise<string | undefined> {
    const parent = parentOf(this.dir);
    return existsSync(parent) ? undefined : `${parent} does not exist`;
  }

  async start(): Promise<void> {
    await makeSpreadDir(this.dir);
  }

  async stop(): Promise<void> {}

  processIds(): number[] {
    return [];
  }

  async openView(): Promise<OpenView> {
    throw new Error(`${this.name} has no views`);
  }
}

function parentOf(path: string): string {
  return path.slice(0, path.lastIndexOf("/")) || "/";
}
