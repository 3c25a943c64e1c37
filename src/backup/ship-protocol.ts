import type { LogFields, LogLevel } from "../base/log.ts";
import type { S3OpenOptions } from "../blob/open-blobs.ts";
import type { Environment } from "../blob/s3-credentials.ts";
import type { AppId } from "../domain/ids.ts";
import type { AppKeyMaterial } from "../repository/app-keys.ts";
import type { AppDescription } from "../repository/seal-head.ts";
import type { RepairReport, RepairRequest } from "./repair/repair-report.ts";
import type { SealShipped, ShipStarted, ShipTarget } from "./ship-backend.ts";
import type { ShipErrorCode } from "./ship-error.ts";
import type { SealLimits } from "./ship-seal.ts";

/** Where a repository is, as plain data: what `openBlobs` takes. */
export type StoreSpec = {
  readonly address: string;
  readonly s3?: S3OpenOptions;
  readonly environment: Environment;
  readonly uploadBytesPerSecond?: number;
  readonly downloadBytesPerSecond?: number;
};

/** One app and the repository that it is shipped into, as plain data. */
export type ShipSpec = {
  readonly appId: AppId;
  /** The app's number in the service's KV. */
  readonly slot: number;
  /** Of its journal. */
  readonly folder: string;
  readonly store: StoreSpec;
  readonly keys: AppKeyMaterial;
  readonly lockDays: number | undefined;
  readonly writer: { readonly host: string; readonly service: string };
  /** For tests. */
  readonly limits?: SealLimits;
};

/** What the loop asks of the worker. `ship` numbers the backend. */
export type ShipRequest =
  | { readonly kind: "open"; readonly id: number; readonly ship: number; readonly spec: ShipSpec }
  | { readonly kind: "start"; readonly id: number; readonly ship: number; readonly target: ShipTarget }
  | { readonly kind: "ship"; readonly id: number; readonly ship: number; readonly target: ShipTarget }
  | {
      readonly kind: "checkpoint";
      readonly id: number;
      readonly ship: number;
      readonly force: boolean;
      readonly app: AppDescription;
    }
  | {
      readonly kind: "repair";
      readonly id: number;
      readonly ship: number;
      readonly request: RepairRequest & { readonly app: AppDescription };
    }
  | { readonly kind: "abort"; readonly id: number; readonly ship: number }
  | { readonly kind: "close"; readonly id: number; readonly ship: number };

export type ShipAnswer = ShipStarted | RepairReport | boolean | null;

/** What the worker says. `shipped` comes before the answer to its request. */
export type ShipReply =
  | { readonly kind: "done"; readonly id: number; readonly answer: ShipAnswer }
  | { readonly kind: "shipped"; readonly id: number; readonly shipped: SealShipped }
  | {
      readonly kind: "failed";
      readonly id: number;
      readonly code: ShipErrorCode;
      readonly message: string;
      readonly causeCode: string | undefined;
    }
  | { readonly kind: "log"; readonly level: LogLevel; readonly message: string; readonly fields: LogFields };
