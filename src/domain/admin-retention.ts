import type { Timestamp } from "../base/clock.ts";
import type { CallOptions, Pages } from "./admin-call.ts";
import type { AppId, Lsn } from "./ids.ts";
import type { RetentionPolicy } from "./retention.ts";
import type { AppRef } from "./share-path.ts";

/** How long an app's past is kept in the data folder, and how far back it reaches now. */
export type RetentionStatus = {
  readonly app: { readonly id: AppId; readonly namespace: string; readonly name: string };
  /** Absent: everything is kept, as long as the bound of the disk lets it. */
  readonly policy?: RetentionPolicy;
  /** The oldest moment from which on every one can be read; 0: the beginning. */
  readonly floor: Lsn;
  readonly floorTime?: Timestamp;
  /** Moments kept below it because of a policy. */
  readonly momentCount: number;
};

/** What a policy would do to an app. */
export type RetentionForecast = {
  readonly app: { readonly id: AppId; readonly namespace: string; readonly name: string };
  readonly policy: RetentionPolicy;
  readonly before: { readonly floor: Lsn; readonly floorTime?: Timestamp };
  readonly after: { readonly floor: Lsn; readonly floorTime?: Timestamp };
  /** Moments that are kept now and would go. */
  readonly removedCount: number;
  readonly momentCount: number;
  /** Moments below the floor there would be, newest first: the newest of them. */
  readonly moments: readonly { readonly turn: Timestamp; readonly lsn: Lsn }[];
};

/** Moments that a forecast names. */
export const FORECAST_MOMENTS_MAX = 1000;

/** How long the past is kept. */
export interface RetentionApi {
  /** Gives an app a policy, durable before it answers, and begins to apply it. INVALID_ARGUMENT for a policy that makes no sense. */
  setRetention(request: { app: AppRef; policy: RetentionPolicy }, options?: CallOptions): Promise<RetentionStatus>;
  /** Everything is kept from now on; what is gone is gone. */
  clearRetention(request: { app: AppRef }, options?: CallOptions): Promise<RetentionStatus>;
  /** What a policy, or the app's own, would do now. FAILED_PRECONDITION without either. */
  planRetention(request: { app: AppRef; policy?: RetentionPolicy }, options?: CallOptions): Promise<RetentionForecast>;
  /** By namespace and name; only one app, if asked for. */
  listRetention(request: { app?: AppRef }, options?: CallOptions): Pages<RetentionStatus>;
}
