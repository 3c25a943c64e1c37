import type { Log } from "../base/log.ts";
import type { Timers } from "../base/timers.ts";

/** What signs requests. Never logged, never part of a message. */
export interface S3Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string | undefined;
}

/** How long the parts of a request may take, in milliseconds. */
export interface S3Timeouts {
  /** To connect, TLS included. */
  readonly connectMs: number;
  /** Without a byte in either direction: what finds a connection whose other end is gone. */
  readonly idleMs: number;
  /** For a whole call, besides the time for its bytes at `S3_BYTES_PER_SECOND_MIN`. */
  readonly callMs: number;
}

/** Where a bucket is and how to talk to it. All decisions are made: see `open-blobs.ts` for what they are made of. */
export interface S3Settings {
  readonly bucket: string;
  /** Without slashes at its ends; "" for none. */
  readonly prefix: string;
  readonly region: string;
  /** `https://host[:port]` of a store that isn't Amazon's. */
  readonly endpoint: string | undefined;
  /** `endpoint/bucket/key` instead of `bucket.endpoint/key`: what most stores but Amazon's want. */
  readonly pathStyle: boolean;
  readonly credentials: S3Credentials;
  /** PEM of certificate authorities to trust instead of the usual ones. */
  readonly certificateAuthorities: string | undefined;
  readonly timeouts: S3Timeouts;
  /**
   * Whether the store refuses a put with `If-None-Match: *` of a name that is there. `auto`: it is asked, by the first small put of each opening, and until it has proved it, names are
   * looked for before they are put. `no`: always look first. `yes`: it is known to.
   */
  readonly conditionalPuts: "auto" | "yes" | "no";
  /** CRC-32 with each upload; `no` for old stores that refuse the header. The signature covers the body in any case. */
  readonly checksums: boolean;
  /** Governance locks can be lifted by who holds a right of its own; compliance locks by nobody, not even the bucket's owner. */
  readonly lockMode: "compliance" | "governance";
  /** Bodies of more bytes than this go up in parts. */
  readonly multipartFromBytes: number;
  readonly partBytes: number;
}

/** What a store of S3 needs of its surroundings. */
export interface S3Deps {
  readonly timers: Timers;
  /** In [0, 1), for jitter. */
  readonly random: () => number;
  readonly log: Log;
}

/** Slower than this a call is given up: 4 parts at a time over a line of 1 Mbit/s still pass. */
export const S3_BYTES_PER_SECOND_MIN = 24 * 1024;

export const S3_TIMEOUTS: S3Timeouts = {
  connectMs: 10_000,
  // S3 completes a large upload within a minute, with nothing to hear meanwhile.
  idleMs: 60_000,
  callMs: 120_000,
};

/** Packs of tens of MiB go up as one request: fewer round trips and no upload to abort. A lost one is at most this. */
export const S3_MULTIPART_FROM_BYTES = 48 * 1024 * 1024;

/** At most 64 parts of BLOB_BYTES_MAX (S3 takes 10,000, of at least 5 MiB). */
export const S3_PART_BYTES = 16 * 1024 * 1024;
