/**
 * Blobs as objects of a bucket of Amazon S3, or of a store with its API. The key of an object is the store's prefix, a slash, and the blob's name.
 *
 * Invariants:
 *   S1  One call is one request, or a bounded number of them; none is repeated here (but for parts of a large upload, which nobody sees).
 *   S2  A large blob goes up in parts, which are no object before they are put together by one request, with the same condition as a small one. A failed upload is aborted.
 *   S3  In a versioned bucket a deleted blob is hidden, not gone: its versions go when the bucket's lifecycle rule says so. `s3-version-view.ts` reads behind.
 *   S4  Some stores refuse the condition of a create-only put, some take no notice of it. Until a store has been seen to keep it, a name is looked for before it is put; so it is with one
 *       that does not keep it (`capabilities.createOnly` is false then).
 */
import {
  type _Error as DeleteFault,
  DeleteObjectCommand,
  DeleteObjectsCommand,
  GetObjectCommand,
  type GetObjectCommandOutput,
  HeadObjectCommand,
  PutObjectCommand,
  PutObjectRetentionCommand,
} from "@aws-sdk/client-s3";
import {
  bodyBytes,
  bytesToRead,
  checkName,
  checkRange,
  closedError,
  existsError,
  missingError,
} from "./blob-checks.ts";
import { BlobError, isBlobError } from "./blob-error.ts";
import {
  BLOB_DELETE_NAMES_MAX,
  type BlobCallOptions,
  type BlobCapabilities,
  type BlobEntry,
  type BlobGetOptions,
  type BlobListOptions,
  type BlobPutOptions,
  type BlobStat,
  type BlobStore,
} from "./blob-store.ts";
import { bodySlice, discardBody, parseContentRange, readBody } from "./s3-body.ts";
import { S3Connection } from "./s3-client.ts";
import { s3Error } from "./s3-errors.ts";
import { listObjects } from "./s3-listing.ts";
import type { S3Deps, S3Settings } from "./s3-options.ts";
import { dropOldUploads, uploadInParts } from "./s3-upload.ts";

/** The condition of a create-only put. */
const CREATE_ONLY = { IfNoneMatch: "*" } as const;

/** Bodies up to this many bytes are worth sending twice, once, to prove conditions. */
const PROOF_BYTES_MAX = 64 * 1024;

type S3Content = {
  readonly body: readonly Uint8Array[];
  readonly bytes: number;
  readonly condition: { readonly IfNoneMatch?: "*" };
};

/** A blob store in a bucket. */
export class S3Blobs implements BlobStore {
  readonly description: string;
  readonly #connection: S3Connection;
  readonly #settings: S3Settings;
  readonly #deps: S3Deps;
  /** Whether the store keeps `If-None-Match: *` (S4). */
  #conditions: "unproven" | "proven" | "none";
  /** Whether many objects can be deleted by one request; likewise. */
  #hasMultiDelete = true;
  #uploadsTidied = false;

  constructor(settings: S3Settings, deps: S3Deps) {
    this.#settings = settings;
    this.#deps = deps;
    this.#connection = new S3Connection(settings, deps);
    this.#conditions = ({ auto: "unproven", yes: "proven", no: "none" } as const)[settings.conditionalPuts];
    this.description = this.#connection.description;
  }

  get capabilities(): BlobCapabilities {
    return { createOnly: this.#conditions !== "none", objectLock: true };
  }

  async put(name: string, body: readonly Uint8Array[], options: BlobPutOptions = {}): Promise<void> {
    this.#check(name);
    const content = { body, bytes: bodyBytes(body) };
    if (this.#conditions !== "proven" && (await this.stat(name, options)) !== undefined)
      throw existsError(name, this.description);
    if (this.#conditions === "none") return this.#send(name, { ...content, condition: {} }, options);
    try {
      await this.#send(name, { ...content, condition: CREATE_ONLY }, options);
    } catch (error) {
      // "Not implemented" may be said of the lock as well.
      if (!isBlobError(error, "BLOB_UNSUPPORTED") || options.lockUntilMs !== undefined) throw error;
      this.#hasNoConditions();
      return this.#send(name, { ...content, condition: {} }, options);
    }
    if (this.#conditions === "unproven" && content.bytes <= PROOF_BYTES_MAX)
      await this.#prove(name, { ...content, condition: CREATE_ONLY }, options);
  }

  async get(name: string, options: BlobGetOptions = {}): Promise<Buffer> {
    this.#check(name);
    return readObject(this.#connection, { name, key: this.#keyOf(name) }, options);
  }

  async stat(name: string, options: BlobCallOptions = {}): Promise<BlobStat | undefined> {
    this.#check(name);
    const key = this.#keyOf(name);
    const call = { ...options, doing: `look for "${name}" in ${this.description}`, name, key };
    const head = await this.#connection.headCall(call, (client, abortSignal) =>
      client.send(new HeadObjectCommand({ Bucket: this.#settings.bucket, Key: key }), { abortSignal }),
    );
    if (head === undefined) return undefined;
    const { ContentLength: bytes, LastModified, ObjectLockRetainUntilDate } = head;
    if (bytes === undefined || LastModified === undefined)
      throw new BlobError("BLOB_IO", `Could not ${call.doing}: the store did not say how large or how old it is`);
    const lockedUntilMs = ObjectLockRetainUntilDate?.getTime();
    return { bytes, modifiedMs: LastModified.getTime(), ...(lockedUntilMs === undefined ? {} : { lockedUntilMs }) };
  }

  async *list(prefix: string, options: BlobListOptions = {}): AsyncGenerator<readonly BlobEntry[]> {
    this.#check(undefined);
    yield* listObjects(this.#connection, prefix, options);
  }

  async delete(names: readonly string[], options: BlobCallOptions = {}): Promise<void> {
    for (const name of names) this.#check(name);
    for (let at = 0; at < names.length; at += BLOB_DELETE_NAMES_MAX) {
      const some = names.slice(at, at + BLOB_DELETE_NAMES_MAX);
      if (this.#hasMultiDelete && some.length > 1) await this.#deleteMany(some, options);
      else for (const name of some) await this.#deleteOne(name, options);
    }
  }

  async extendLock(name: string, untilMs: number, options: BlobCallOptions = {}): Promise<void> {
    const found = await this.stat(name, options);
    if (found === undefined) throw missingError(name, this.description);
    // Never shortens; and looking costs a tenth of changing.
    if (found.lockedUntilMs !== undefined && found.lockedUntilMs >= untilMs) return;
    const call = { ...options, doing: `lock "${name}" in ${this.description}`, name };
    await this.#connection.call(call, (client, abortSignal) =>
      client.send(
        new PutObjectRetentionCommand({
          Bucket: this.#settings.bucket,
          Key: this.#keyOf(name),
          Retention: { Mode: this.#lockMode, RetainUntilDate: new Date(untilMs) },
        }),
        { abortSignal },
      ),
    );
  }

  async timeMs(options: BlobCallOptions = {}): Promise<number> {
    this.#check(undefined);
    return this.#connection.timeMs(options);
  }

  async close(): Promise<void> {
    this.#connection.close();
  }

  /** Puts the same bytes again: a store that keeps the condition refuses them, one that doesn't has changed nothing. */
  async #prove(name: string, content: S3Content, options: BlobPutOptions): Promise<void> {
    try {
      await this.#send(name, content, options);
      this.#hasNoConditions();
    } catch (error) {
      // Anything else proves nothing: the next small put asks again.
      if (isBlobError(error, "BLOB_EXISTS")) this.#conditions = "proven";
    }
  }

  #hasNoConditions(): void {
    this.#conditions = "none";
    this.#deps.log.warn(
      "the store has no conditional puts: of two services that ship one app by mistake both may go on",
      {
        store: this.description,
      },
    );
  }

  async #send(name: string, content: S3Content, options: BlobPutOptions): Promise<void> {
    const { body, bytes, condition } = content;
    const target = {
      Bucket: this.#settings.bucket,
      Key: this.#keyOf(name),
      ContentType: "application/octet-stream",
      ...this.#lockOf(options.lockUntilMs),
    };
    const call = { signal: options.signal, doing: `write "${name}" to ${this.description}`, name, bytes };
    if (bytes > this.#settings.multipartFromBytes) {
      await this.#tidyUploads();
      return uploadInParts(this.#connection, this.#deps, { target, condition, body, call });
    }
    const command = new PutObjectCommand({
      ...target,
      ...condition,
      Body: bodySlice(body, 0, bytes),
      ContentLength: bytes,
    });
    await this.#connection.call(call, (client, abortSignal) => client.send(command, { abortSignal }));
  }

  /** Before the first upload in parts. */
  async #tidyUploads(): Promise<void> {
    if (this.#uploadsTidied) return;
    this.#uploadsTidied = true;
    await dropOldUploads(this.#connection, this.#deps);
  }

  #lockOf(
    untilMs: number | undefined,
  ): { ObjectLockMode: "COMPLIANCE" | "GOVERNANCE"; ObjectLockRetainUntilDate: Date } | undefined {
    if (untilMs === undefined) return undefined;
    return { ObjectLockMode: this.#lockMode, ObjectLockRetainUntilDate: new Date(untilMs) };
  }

  get #lockMode(): "COMPLIANCE" | "GOVERNANCE" {
    return this.#settings.lockMode === "compliance" ? "COMPLIANCE" : "GOVERNANCE";
  }

  async #deleteMany(names: readonly string[], options: BlobCallOptions): Promise<void> {
    const call = { ...options, doing: `delete ${names.length} blobs of ${this.description}` };
    const command = new DeleteObjectsCommand({
      Bucket: this.#settings.bucket,
      Delete: { Objects: names.map((name) => ({ Key: this.#keyOf(name) })), Quiet: true },
    });
    try {
      const { Errors: faults = [] } = await this.#connection.call(call, (client, abortSignal) =>
        client.send(command, { abortSignal }),
      );
      const [fault] = faults.filter(({ Code }) => Code !== "NoSuchKey");
      if (fault !== undefined) throw this.#deleteError(fault, names.length);
    } catch (error) {
      if (!isBlobError(error, "BLOB_UNSUPPORTED")) throw error;
      this.#hasMultiDelete = false;
      for (const name of names) await this.#deleteOne(name, options);
    }
  }

  #deleteError(fault: DeleteFault, count: number): BlobError {
    const { bucket, region, endpoint = "Amazon S3" } = this.#settings;
    const error = Object.assign(new Error(fault.Message ?? "no reason given"), {
      name: fault.Code ?? "UnknownError",
      $metadata: { httpStatusCode: 200 },
    });
    const doing = `delete "${fault.Key ?? "?"}", one of ${count}, in ${this.description}`;
    return s3Error(error, { doing, bucket, region, server: endpoint, name: fault.Key, secrets: [] });
  }

  async #deleteOne(name: string, options: BlobCallOptions): Promise<void> {
    const call = { ...options, doing: `delete "${name}" in ${this.description}`, name };
    try {
      await this.#connection.call(call, (client, abortSignal) =>
        client.send(new DeleteObjectCommand({ Bucket: this.#settings.bucket, Key: this.#keyOf(name) }), {
          abortSignal,
        }),
      );
    } catch (error) {
      if (!isBlobError(error, "BLOB_MISSING")) throw error;
    }
  }

  #keyOf(name: string): string {
    return keyOf(this.#settings, name);
  }

  #check(name: string | undefined): void {
    if (this.#connection.closed) throw closedError(this);
    if (name !== undefined) checkName(name);
  }
}

/** The key of a blob's object. */
export function keyOf(settings: S3Settings, name: string): string {
  return settings.prefix === "" ? name : `${settings.prefix}/${name}`;
}

/** Reads an object, or one version of it, as `BlobStore.get` promises. */
export async function readObject(
  connection: S3Connection,
  object: { readonly name: string; readonly key: string; readonly versionId?: string },
  options: BlobGetOptions,
): Promise<Buffer> {
  checkRange(options);
  const { name, key, versionId } = object;
  const { from = 0, length } = options;
  const isWhole = from === 0 && length === undefined;
  const range = isWhole ? {} : { Range: `bytes=${from}-${length === undefined ? "" : from + length - 1}` };
  const version = versionId === undefined ? {} : { VersionId: versionId };
  const command = new GetObjectCommand({ Bucket: connection.settings.bucket, Key: key, ...range, ...version });
  const doing = `read "${name}" of ${connection.description}`;
  const bytes = length ?? options.bytesMax ?? connection.settings.multipartFromBytes;
  return connection.call({ signal: options.signal, doing, name, bytes }, async (client, abortSignal) => {
    const output = await client.send(command, { abortSignal }).catch((error: unknown) => {
      if (error instanceof Error && error.name === "InvalidRange") return undefined;
      throw error;
    });
    const where = { name, where: connection.description };
    if (output === undefined) return readPastEnd(connection, object, { ...options, signal: abortSignal });
    try {
      const announced = announcedBytes(output, { isWhole, from, doing });
      return await readBody(output, bytesToRead(announced, options, where), `"${name}"`);
    } catch (error) {
      discardBody(output);
      throw error;
    }
  });
}

/** A range that begins at or behind the end: nothing if it begins there and has no length, else an error. */
async function readPastEnd(
  connection: S3Connection,
  object: { readonly name: string; readonly key: string; readonly versionId?: string },
  options: BlobGetOptions,
): Promise<Buffer> {
  const doing = `read "${object.name}" of ${connection.description}`;
  const { ContentLength: bytes } = await connection.call(
    { signal: options.signal, doing, name: object.name },
    (client, abortSignal) =>
      client.send(
        new HeadObjectCommand({
          Bucket: connection.settings.bucket,
          Key: object.key,
          ...(object.versionId === undefined ? {} : { VersionId: object.versionId }),
        }),
        { abortSignal },
      ),
  );
  const rest = bytesToRead(bytes ?? 0, options, { name: object.name, where: connection.description });
  if (rest > 0) throw new BlobError("BLOB_IO", `Could not ${doing}: the store refused a part that is there`);
  return Buffer.alloc(0);
}

/** How many bytes the whole object has, by the headers of an answer. */
function announcedBytes(
  output: GetObjectCommandOutput,
  asked: { isWhole: boolean; from: number; doing: string },
): number {
  const { ContentLength: length, ContentRange } = output;
  if (length === undefined)
    throw new BlobError("BLOB_IO", `Could not ${asked.doing}: the store did not say how many bytes come`);
  if (asked.isWhole) return length;
  const range = parseContentRange(ContentRange);
  if (range === undefined || range.from !== asked.from || range.to - range.from !== length)
    throw new BlobError("BLOB_IO", `Could not ${asked.doing}: the store sent another part than asked for`);
  return range.bytes;
}
