import type { AppId, Lsn } from "../domain/ids.ts";
import type { Counters } from "./counters.ts";

/** What the loop asks of the apply worker, and what that answers. One request of an app at a time. */
export type ApplyRequest =
  | {
      readonly kind: "apply";
      readonly id: number;
      readonly appId: AppId;
      readonly slot: number;
      readonly folder: string;
      readonly from: Lsn;
      readonly to: Lsn;
      readonly counters: Counters;
    }
  | { readonly kind: "forget"; readonly id: number; readonly appId: AppId }
  /** Makes what was applied survive power loss. */
  | { readonly kind: "sync"; readonly id: number };

export type ApplyReply =
  | { readonly id: number; readonly lsn: Lsn; readonly counters: Counters }
  /** `code`: of a KvError. */
  | { readonly id: number; readonly error: string; readonly code?: string };
