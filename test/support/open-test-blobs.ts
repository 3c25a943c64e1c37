import { SystemClock } from "../../src/base/clock.ts";
import { silentLog } from "../../src/base/log.ts";
import { SystemTimers } from "../../src/base/timers.ts";
import type { BlobStore } from "../../src/blob/blob-store.ts";
import { type OpenBlobsOptions, openBlobs, type S3OpenOptions } from "../../src/blob/open-blobs.ts";
import type { S3Server } from "./s3-server.ts";

/** What `openBlobs` needs, from the machine, with nothing of its environment. */
export const blobDeps = {
  clock: new SystemClock(),
  timers: new SystemTimers(),
  random: Math.random,
  log: silentLog,
  environment: {},
  create: false,
} satisfies Partial<OpenBlobsOptions>;

/** A store in a bucket of a test's server, as a service would open it. */
export function openTestBlobs(
  server: S3Server,
  place: string,
  options: Partial<OpenBlobsOptions> & { readonly s3?: S3OpenOptions } = {},
): Promise<BlobStore> {
  const { endpoint, credentials, certificateAuthority: certificateAuthorities } = server;
  const s3 = { endpoint, credentials, certificateAuthorities, ...options.s3 };
  return openBlobs(`s3://${place}`, { ...blobDeps, ...options, s3 });
}
