import type { ErrorCode } from "../../domain/errors.ts";
import type { NegotiatedInit } from "./init.ts";
import type { MountOptions } from "./mount.ts";
import type { NotificationCounts } from "./notify-worker.ts";

/**
 * What a supervisor and its child say to each other over Node's IPC channel, as JSON. Both are of one version: the supervisor starts the child
 * from the same files; an upgrade starts a new supervisor.
 */

/** Descriptors of the child: the table of requests in flight, then the mounts in the order of `state`. 3 is the channel. */
export const IN_FLIGHT_FD = 4;
export const MOUNTS_FD_FIRST = 5;

/** A mount as the supervisor keeps it; `fd` is in the process that gets the message, or (in an answer to "mount") in the supervisor. */
export type KeptMount = {
  readonly key: string;
  readonly fd: number;
  readonly target: string;
  readonly negotiated: NegotiatedInit;
  readonly deviceMinor: number;
  /** Requests not to be tried again. */
  readonly poisoned: readonly number[];
};

export type FromSupervisor =
  /** The first message: what is mounted already, and how many services ran before. */
  | {
      readonly type: "state";
      readonly pid: number;
      readonly mounts: readonly KeptMount[];
      readonly restartCount: number;
    }
  | {
      readonly type: "answer";
      readonly request: number;
      readonly mount?: KeptMount;
      readonly counts?: NotificationCounts;
    }
  | { readonly type: "failed"; readonly request: number; readonly code: ErrorCode; readonly message: string }
  /** Finish, unmount, end with status 0. */
  | { readonly type: "stop" };

/** Carried out one after the other. */
export type MountCommand =
  | { readonly type: "mount"; readonly key: string; readonly options: MountOptions; readonly nonBlocking: boolean }
  | { readonly type: "unmount"; readonly target: string; readonly lazy: boolean }
  /** Close the supervisor's copy of the descriptor and forget the mount. */
  | { readonly type: "release"; readonly key: string };

/** Lanes of notifications, each a thread of the supervisor's (about 5 MB) once it is used: by a share with several mounts. Enough for 16 of those before some share lanes. */
export const LANES_MAX = 33;

/**
 * Writes these messages (base64) to the mounts' descriptors. Waits for locks of the kernel, so it runs beside the other commands, and beside those of other lanes, 0 to LANES_MAX - 1. One at a time in
 * each lane.
 */
export type NotifyCommand = {
  readonly type: "notify";
  readonly lane: number;
  readonly order: readonly { readonly key: string; readonly message: string }[];
};

export type FromChild =
  | { readonly type: "command"; readonly request: number; readonly command: MountCommand | NotifyCommand }
  /** The child serves: from now on its death is repaired. Before, it is a failure to start. */
  | { readonly type: "serving" }
  /** The child ends on purpose: it is not started again. */
  | { readonly type: "stopping" };
