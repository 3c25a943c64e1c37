import { closeSync } from "node:fs";
import type { FuseDeviceIo } from "../../gateway/fuse/device.ts";
import { type Mounted, type MountOptions, mountFuse, unmountFuse } from "../../gateway/fuse/mount.ts";

/** Who opens /dev/fuse, mounts and unmounts: this process, or a supervisor that outlives it. */
export interface MountHost {
  /** Makes a mount; `key` names it to whoever keeps its descriptor. The descriptor is usable in this process. Throws as `mountFuse`. */
  mount(key: string, options: MountOptions): Promise<Mounted>;
  /** As `unmountFuse`. */
  umount(target: string, options: { readonly lazy: boolean }): Promise<void>;
  /** The mount has ended and its descriptor is no longer used: let go of all copies. */
  release(key: string, mounted: Mounted): Promise<void>;
  /** Mounts that live on from a former process, by key. */
  resumed(): ReadonlyMap<string, Mounted>;
}

/** Mounts made by this process: they end with it. */
export class LocalMountHost implements MountHost {
  readonly #device: { io: FuseDeviceIo; nonBlocking: boolean };

  constructor(device: { io: FuseDeviceIo; nonBlocking: boolean }) {
    this.#device = device;
  }

  mount(_key: string, options: MountOptions): Promise<Mounted> {
    return mountFuse(options, this.#device);
  }

  umount(target: string, options: { readonly lazy: boolean }): Promise<void> {
    return unmountFuse(target, options);
  }

  async release(_key: string, mounted: Mounted): Promise<void> {
    closeSync(mounted.fd);
  }

  resumed(): ReadonlyMap<string, Mounted> {
    return new Map();
  }
}
