import { HeadBucketCommand, ListObjectsV2Command, S3Client } from "@aws-sdk/client-s3";
import { abortedError } from "./blob-checks.ts";
import { BlobError, isBlobError } from "./blob-error.ts";
import type { BlobCallOptions } from "./blob-store.ts";
import { regionOf, type S3Context, s3Error } from "./s3-errors.ts";
import { S3_BYTES_PER_SECOND_MIN, type S3Deps, type S3Settings } from "./s3-options.ts";

/** Connections at a time: some packs going up in parts, and reads beside them. */
const CONNECTIONS_MAX = 32;

/** What a call is about. */
export type S3Call = BlobCallOptions & {
  /** Completes "Could not …". */
  readonly doing: string;
  readonly name?: string;
  /** Bytes that go up or come down: the call may take longer for them. */
  readonly bytes?: number;
};

/**
 * A connection to a bucket: the SDK's client without its retries, each call with a bound on its time and an error of the port.
 * One call is one request (or one and its body); `RetryingBlobs` repeats.
 */
export class S3Connection {
  readonly settings: S3Settings;
  /** `s3://bucket/prefix at https://host`. */
  readonly description: string;
  readonly #client: S3Client;
  readonly #deps: S3Deps;
  readonly #closing = new AbortController();
  #bucketSeen = false;

  constructor(settings: S3Settings, deps: S3Deps) {
    this.settings = settings;
    this.#deps = deps;
    const place = settings.prefix === "" ? settings.bucket : `${settings.bucket}/${settings.prefix}`;
    this.description = `s3://${place}${settings.endpoint === undefined ? "" : ` at ${settings.endpoint}`}`;
    this.#client = makeClient(settings);
  }

  get closed(): boolean {
    return this.#closing.signal.aborted;
  }

  /**
   * Runs `work`, one request and the reading of its answer, within its time. `work` hands `signal` to the SDK. When this ends, `work` may still be ending,
   * but nobody waits for it: a promise that never settles in a half-open connection holds up nothing.
   */
  async call<T>(call: S3Call, work: (client: S3Client, signal: AbortSignal) => Promise<T>): Promise<T> {
    // Requests may be refused for the clock; the SDK learns the store's from that answer (systemClockOffset), so the second one passes.
    for (let isRepeated = false; ; isRepeated = true) {
      try {
        const result = await this.#bounded(call, work);
        this.#bucketSeen = true;
        return result;
      } catch (error) {
        const converted = this.#convert(error, call);
        if (converted.code !== "BLOB_CLOCK_SKEW" || isRepeated) throw converted;
        this.#deps.log.warn("the store's clock and this machine's differ by minutes: set the clock", {
          store: this.description,
        });
      }
    }
  }

  /**
   * A call whose answer has no body when it fails (HEAD), so that it can't say why. On failure, a listing of one name asks again; its error tells.
   * Answers undefined if the name isn't there.
   */
  async headCall<T>(
    call: S3Call & { readonly key: string },
    work: (client: S3Client, signal: AbortSignal) => Promise<T>,
  ): Promise<T | undefined> {
    try {
      return await this.call(call, work);
    } catch (error) {
      if (!isFinal(error)) throw error;
      const isAbsence = error.code === "BLOB_MISSING" || error.code === "BLOB_BUCKET_MISSING";
      // 404 is also the answer for a bucket that isn't there: an absence is believed once the bucket was seen.
      if (isAbsence && this.#bucketSeen) return undefined;
      await this.#askWhy(call);
      if (isAbsence) return undefined;
      throw error;
    }
  }

  /** The store's clock, from the Date header of an answer (RFC 9110, 6.6.1). */
  async timeMs(options: BlobCallOptions): Promise<number> {
    const call = { ...options, doing: `ask ${this.description} for the time` };
    let date: string | undefined;
    const note = (value: string | undefined): void => {
      date = value;
    };
    try {
      await this.call(call, async (client, abortSignal) => {
        const command = new HeadBucketCommand({ Bucket: this.settings.bucket });
        command.middlewareStack.add(
          (next) => async (args) => {
            const result = await next(args);
            note(headerOf(result.response, "date"));
            return result;
          },
          { step: "deserialize", name: "noteDate" },
        );
        return client.send(command, { abortSignal });
      });
    } catch (error) {
      if (isFinal(error)) await this.#askWhy({ ...call, key: "" });
      throw error;
    }
    const ms = date === undefined ? Number.NaN : Date.parse(date);
    if (!Number.isFinite(ms))
      throw new BlobError("BLOB_IO", `${this.description} answered without a Date: expected one in every answer`);
    return ms;
  }

  /** Ends all calls with BLOB_ABORTED and the connections. */
  close(): void {
    this.#closing.abort();
    this.#client.destroy();
  }

  async #askWhy(call: S3Call & { readonly key: string }): Promise<void> {
    const { key, ...rest } = call;
    await this.call(rest, (client, abortSignal) =>
      client.send(new ListObjectsV2Command({ Bucket: this.settings.bucket, Prefix: key, MaxKeys: 1 }), { abortSignal }),
    );
  }

  async #bounded<T>(call: S3Call, work: (client: S3Client, signal: AbortSignal) => Promise<T>): Promise<T> {
    if (this.closed) throw this.#closedError();
    if (call.signal?.aborted === true) throw abortedError(call.signal);
    const { callMs } = this.settings.timeouts;
    const limitMs = Math.ceil(callMs + ((call.bytes ?? 0) / S3_BYTES_PER_SECOND_MIN) * 1000);
    const controller = new AbortController();
    const ended = Promise.withResolvers<never>();
    const end = (error: BlobError): void => {
      ended.reject(error);
      controller.abort();
    };
    const onAbort = (): void => end(abortedError(call.signal));
    const onClose = (): void => end(this.#closedError());
    const cancelTimer = this.#deps.timers.after(limitMs, () => {
      const words = `${this.#server} did not finish within ${Math.round(limitMs / 1000)} s`;
      end(new BlobError("BLOB_TIMEOUT", `Could not ${call.doing}: ${words}`));
    });
    call.signal?.addEventListener("abort", onAbort);
    this.#closing.signal.addEventListener("abort", onClose);
    try {
      const working = work(this.#client, controller.signal);
      // It may fail after the race is over: that is the same failure.
      working.catch(() => {});
      return await Promise.race([working, ended.promise]);
    } finally {
      cancelTimer();
      call.signal?.removeEventListener("abort", onAbort);
      this.#closing.signal.removeEventListener("abort", onClose);
    }
  }

  #convert(error: unknown, call: S3Call): BlobError {
    const { bucket, region, credentials } = this.settings;
    const context: S3Context = {
      doing: call.doing,
      bucket,
      region,
      server: this.#server,
      name: call.name,
      secrets: [credentials.secretAccessKey, credentials.sessionToken ?? ""],
    };
    const converted = s3Error(error, context);
    const actual = converted.code === "BLOB_WRONG_REGION" ? regionOf(error) : undefined;
    if (actual === undefined || actual === region) return converted;
    const message = `Could not ${call.doing}: bucket "${bucket}" is in region "${actual}", not "${region}": name that region`;
    return new BlobError("BLOB_WRONG_REGION", message, { cause: converted.cause });
  }

  #closedError(): BlobError {
    return new BlobError("BLOB_ABORTED", `${this.description} was closed`);
  }

  get #server(): string {
    return this.settings.endpoint ?? "Amazon S3";
  }
}

/** Whether an error is the store's last word, so that asking for its reason makes sense. */
function isFinal(error: unknown): error is BlobError {
  return isBlobError(error) && !error.retryable && error.code !== "BLOB_ABORTED";
}

function makeClient(settings: S3Settings): S3Client {
  const { timeouts, credentials, certificateAuthorities } = settings;
  const agent = { keepAlive: true, maxSockets: CONNECTIONS_MAX };
  return new S3Client({
    region: settings.region,
    ...(settings.endpoint === undefined ? {} : { endpoint: settings.endpoint }),
    forcePathStyle: settings.pathStyle,
    credentials: {
      accessKeyId: credentials.accessKeyId,
      secretAccessKey: credentials.secretAccessKey,
      ...(credentials.sessionToken === undefined ? {} : { sessionToken: credentials.sessionToken }),
    },
    // The SDK sends requests with this header over connections of their own, which know nothing of the certificate authorities.
    expectContinueHeader: false,
    // One attempt: `RetryingBlobs` knows which calls may be repeated, and what a repeated put means.
    maxAttempts: 1,
    requestChecksumCalculation: settings.checksums ? "WHEN_SUPPORTED" : "WHEN_REQUIRED",
    // What is read is authenticated by the repository itself.
    responseChecksumValidation: "WHEN_REQUIRED",
    requestHandler: {
      connectionTimeout: timeouts.connectMs,
      socketTimeout: timeouts.idleMs,
      httpAgent: agent,
      httpsAgent: certificateAuthorities === undefined ? agent : { ...agent, ca: certificateAuthorities },
    },
  });
}

function headerOf(response: unknown, name: string): string | undefined {
  if (typeof response !== "object" || response === null || !("headers" in response)) return undefined;
  const { headers } = response;
  const value: unknown = typeof headers === "object" && headers !== null ? Reflect.get(headers, name) : undefined;
  return typeof value === "string" ? value : undefined;
}
