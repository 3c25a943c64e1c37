import type { MountId } from "./ids.ts";

/** Who made a change. Through a mount: what the kernel said of the calling process. Otherwise: the door it came through. */
export type Actor = {
  /** 0 when not through a mount. */
  readonly mountId: MountId;
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
  /** Free words for doors without a mount ("cli restore", "service"); empty for mounts. At most 255 bytes of UTF-8. */
  readonly label: string;
};

/** Length limit of `Actor.label` in bytes: it is stored in every record. */
export const ACTOR_LABEL_BYTES_MAX = 255;
