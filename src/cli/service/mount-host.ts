import type { Mounted, MountOptions } from "../../gateway/fuse/mount.ts";
import type { NotificationWriter } from "../../gateway/fuse/notify-writer.ts";

/** Who opens /dev/fuse, mounts and unmounts: a supervisor that outlives this process (`SupervisorClient`). */
export interface MountHost {
  /** Makes a mount; `key` names it to whoever keeps its descriptor. The descriptor is usable in this process. Throws as `mountFuse`. */
  mount(key: string, options: MountOptions): Promise<Mounted>;
  /** As `unmountFuse`. */
  umount(target: string, options: { readonly lazy: boolean }): Promise<void>;
  /** The mount has ended and its descriptor is no longer used: let go of all copies. */
  release(key: string, mounted: Mounted): Promise<void>;
  /** Mounts that live on from a former process, by key. */
  resumed(): ReadonlyMap<string, Mounted>;
  /** Who writes the notifications of a lane to kernels: a thread stuck there must not keep this process from dying. */
  notificationWriter(lane: number): NotificationWriter;
}
