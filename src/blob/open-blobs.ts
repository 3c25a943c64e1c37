import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { Timers } from "../base/timers.ts";
import { BandwidthLimitedBlobs } from "./bandwidth-limited-blobs.ts";
import { parseBlobAddress } from "./blob-address.ts";
import { BlobError } from "./blob-error.ts";
import type { BlobStore } from "./blob-store.ts";
import { type BlobCounters, CountingBlobs } from "./counting-blobs.ts";
import { DirectoryBlobs } from "./directory-blobs.ts";
import { RetryingBlobs } from "./retrying-blobs.ts";
import { type Environment, resolveIdentity } from "./s3-credentials.ts";
import {
  S3_MULTIPART_FROM_BYTES,
  S3_PART_BYTES,
  S3_TIMEOUTS,
  type S3Credentials,
  type S3Settings,
  type S3Timeouts,
} from "./s3-options.ts";

/** How to reach a bucket, where it isn't the usual way. */
export interface S3OpenOptions {
  /** `https://host[:port]` of a store that isn't Amazon's. Default: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, or the profile's. */
  readonly endpoint?: string | undefined;
  /** Default: AWS_REGION, AWS_DEFAULT_REGION, or the profile's; with an endpoint `us-east-1`. */
  readonly region?: string | undefined;
  /** Default: the environment's or the profile's. */
  readonly credentials?: S3Credentials | undefined;
  readonly profile?: string | undefined;
  /** `endpoint/bucket` instead of `bucket.endpoint`. Default: with an endpoint. */
  readonly pathStyle?: boolean | undefined;
  /** PEM of certificate authorities. */
  readonly certificateAuthorities?: string | undefined;
  readonly timeouts?: Partial<S3Timeouts> | undefined;
  readonly conditionalPuts?: "auto" | "yes" | "no" | undefined;
  readonly checksums?: boolean | undefined;
  /** Default: compliance, as the other kind protects from mistakes but not from who stole the keys. */
  readonly lockMode?: "compliance" | "governance" | undefined;
  readonly multipartFromBytes?: number | undefined;
  readonly partBytes?: number | undefined;
  /** Read the versioned bucket as it was then (milliseconds since 1970 UTC, the store's clock), behind later deletes. */
  readonly atVersionTimeMs?: number | undefined;
}

export interface OpenBlobsOptions {
  /** Make a folder that isn't there. A bucket is never made. */
  readonly create: boolean;
  /** What a relative folder is below. Without: BLOB_INVALID for one. */
  readonly baseFolder?: string | undefined;
  readonly s3?: S3OpenOptions | undefined;
  /** Variables such as AWS_ACCESS_KEY_ID and HOME; `{}` for none. */
  readonly environment: Environment;
  readonly uploadBytesPerSecond?: number | undefined;
  readonly downloadBytesPerSecond?: number | undefined;
  /** How often each call is tried. Default: 8 times, in about half a minute. */
  readonly attemptsMax?: number | undefined;
  /** Counts every attempt. */
  readonly counters?: BlobCounters | undefined;
  readonly clock: Clock;
  readonly timers: Timers;
  /** In [0, 1), for jitter. */
  readonly random: () => number;
  readonly log: Log;
}

/**
 * Opens the store at `s3://bucket/prefix`, `/a/folder` or `file:///a/folder`, with retries and limits around it. A bucket is not asked anything yet; a folder must be
 * there (or `create`). Errors: BLOB_INVALID, BLOB_BUCKET_MISSING, BLOB_DENIED.
 */
export async function openBlobs(address: string, options: OpenBlobsOptions): Promise<BlobStore> {
  const store = await openStore(address, options);
  const { counters, clock, timers, random, log, attemptsMax, uploadBytesPerSecond, downloadBytesPerSecond } = options;
  const counting = counters === undefined ? store : new CountingBlobs(store, counters);
  // Below the retries, so that what is sent again counts again.
  const limited =
    uploadBytesPerSecond === undefined && downloadBytesPerSecond === undefined
      ? counting
      : new BandwidthLimitedBlobs(counting, { clock, timers, uploadBytesPerSecond, downloadBytesPerSecond });
  return new RetryingBlobs(limited, { timers, random, log, attemptsMax });
}

async function openStore(text: string, options: OpenBlobsOptions): Promise<BlobStore> {
  const address = parseBlobAddress(text, { baseFolder: options.baseFolder });
  const { s3 = {}, timers, random, log } = options;
  if (address.kind === "directory") {
    if (s3.atVersionTimeMs !== undefined)
      throw new BlobError("BLOB_UNSUPPORTED", `${address.path} has no versions: expected a versioned bucket`);
    return DirectoryBlobs.open(address.path, { create: options.create });
  }
  const settings = await settingsOf(address, s3, options.environment);
  // Loaded only where it is needed: the SDK costs a quarter of a second, which every command would pay.
  if (s3.atVersionTimeMs === undefined) {
    const { S3Blobs } = await import("./s3-blobs.ts");
    return new S3Blobs(settings, { timers, random, log });
  }
  const { S3VersionView } = await import("./s3-version-view.ts");
  return new S3VersionView(settings, { timers, random, log }, s3.atVersionTimeMs);
}

async function settingsOf(
  address: { readonly bucket: string; readonly prefix: string },
  s3: S3OpenOptions,
  environment: Environment,
): Promise<S3Settings> {
  const identity = await resolveIdentity({ credentials: s3.credentials, profile: s3.profile, environment });
  const endpoint = checkEndpoint(s3.endpoint ?? identity.endpoint);
  const region = s3.region ?? identity.region ?? (endpoint === undefined ? undefined : "us-east-1");
  if (region === undefined || !/^[a-z0-9-]{1,64}$/.test(region))
    throw new BlobError(
      "BLOB_INVALID",
      `${region === undefined ? "S3 needs a region" : `${JSON.stringify(region)} is no region`}: expected one such as eu-central-1, as an option or in AWS_REGION`,
    );
  return {
    bucket: address.bucket,
    prefix: address.prefix,
    region,
    endpoint,
    pathStyle: s3.pathStyle ?? endpoint !== undefined,
    credentials: identity.credentials,
    certificateAuthorities: s3.certificateAuthorities,
    timeouts: { ...S3_TIMEOUTS, ...s3.timeouts },
    conditionalPuts: s3.conditionalPuts ?? "auto",
    checksums: s3.checksums ?? true,
    lockMode: s3.lockMode ?? "compliance",
    multipartFromBytes: s3.multipartFromBytes ?? S3_MULTIPART_FROM_BYTES,
    partBytes: s3.partBytes ?? S3_PART_BYTES,
  };
}

/** An endpoint without what doesn't belong there: keys in it would be in every message. */
function checkEndpoint(text: string | undefined): string | undefined {
  if (text === undefined) return undefined;
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const isHttp = url?.protocol === "https:" || url?.protocol === "http:";
  if (url === undefined || !isHttp)
    throw new BlobError("BLOB_INVALID", "The endpoint of S3 is no address: expected https://host[:port]");
  if (url.username !== "" || url.password !== "")
    throw new BlobError(
      "BLOB_INVALID",
      "The endpoint of S3 holds keys: leave them out, they have options of their own",
    );
  if (url.pathname !== "/" || url.search !== "" || url.hash !== "")
    throw new BlobError(
      "BLOB_INVALID",
      "The endpoint of S3 has a path: expected https://host[:port]; the bucket is in s3://bucket",
    );
  return url.origin;
}
