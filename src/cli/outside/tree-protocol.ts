import type { Shortfall } from "./shortfalls.ts";

/** Given to the thread when it starts. */
export type TreeWorkerData = {
  readonly target: Uint8Array;
  readonly replace: boolean;
  readonly user: { readonly uid: number; readonly gid: number };
};

/** What the thread is told, in order. */
export type TreeRequest =
  /** Write the items in the first `used` bytes of `memory`. It is answered, and the memory is the sender's again. */
  | { readonly kind: "items"; readonly memory: SharedArrayBuffer; readonly used: number }
  /** All items came; answered. */
  | { readonly kind: "finish" }
  /** No more will come; answered. */
  | { readonly kind: "abandon" };

/** What was made. */
export type TreeCounts = {
  readonly files: number;
  readonly directories: number;
  readonly others: number;
  readonly links: number;
};

export type TreeReply =
  | { readonly kind: "written"; readonly memory: SharedArrayBuffer; readonly contentBytes: bigint }
  | {
      readonly kind: "ended";
      readonly contentBytes: bigint;
      readonly fileCounts: TreeCounts;
      readonly shortfallCount: number;
      readonly shortfalls: readonly Shortfall[];
    };
