import {
  AbortMultipartUploadCommand,
  type CompletedPart,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  ListMultipartUploadsCommand,
  ListPartsCommand,
  UploadPartCommand,
} from "@aws-sdk/client-s3";
import { retry } from "./backoff.ts";
import { abortedError, bodyBytes } from "./blob-checks.ts";
import { BlobError, isBlobError } from "./blob-error.ts";
import { bodySlice } from "./s3-body.ts";
import type { S3Call, S3Connection } from "./s3-client.ts";
import type { S3Deps } from "./s3-options.ts";

/** Parts under way at a time: with parts of 16 MiB, 64 MiB of memory beside the body. */
const PARTS_AT_ONCE = 4;

/** How often a part is sent: a part may be sent again as often as one likes, and losing one should not cost the others. */
const PART_ATTEMPTS_MAX = 3;

/** How often an upload is dropped until it is gone, and the waits between, which grow: a part that is under way arrives within seconds or never. */
const DROP_ATTEMPTS_MAX = 4;
const DROP_DELAY_MS = 500;

/** What nobody finished for this long is a dead writer's: an upload takes minutes. */
const UNFINISHED_MS_MAX = 86_400_000;

/** A large blob on its way up. */
export type S3Upload = {
  readonly target: { readonly Bucket: string; readonly Key: string; readonly ContentType: string };
  readonly condition: { readonly IfNoneMatch?: "*" };
  readonly body: readonly Uint8Array[];
  readonly call: S3Call;
};

/** Creates one object of parts. If it fails, the parts are dropped: they would cost money and be seen by nobody. */
export async function uploadInParts(connection: S3Connection, deps: S3Deps, upload: S3Upload): Promise<void> {
  const { target, call } = upload;
  const small = { ...call, bytes: 0 };
  const id = await begin(connection, upload);
  try {
    if (call.signal?.aborted === true) throw abortedError(call.signal);
    const parts = await uploadParts(connection, deps, { ...upload, id });
    const command = new CompleteMultipartUploadCommand({
      Bucket: target.Bucket,
      Key: target.Key,
      UploadId: id,
      MultipartUpload: { Parts: parts },
      ...upload.condition,
    });
    await connection.call(small, (client, abortSignal) => client.send(command, { abortSignal }));
  } catch (error) {
    await drop(connection, deps, { key: target.Key, id });
    throw error;
  }
}

/**
 * Drops uploads below the connection's prefix that nobody has finished for a day: those of writers that died. Never throws: it is tidying, and somebody else's turn next time.
 * Ages are by the store's clock.
 */
export async function dropOldUploads(connection: S3Connection, deps: S3Deps): Promise<void> {
  const { bucket, prefix } = connection.settings;
  const call = { doing: `look for unfinished uploads in ${connection.description}` };
  try {
    const nowMs = await connection.timeMs({});
    const command = new ListMultipartUploadsCommand({ Bucket: bucket, Prefix: prefix === "" ? "" : `${prefix}/` });
    // One page: a thousand dead uploads are dropped, and the next writer sees the rest.
    const { Uploads: uploads = [] } = await connection.call(call, (client, abortSignal) =>
      client.send(command, { abortSignal }),
    );
    for (const { Key: key, UploadId: id, Initiated } of uploads) {
      const isOld = Initiated !== undefined && nowMs - Initiated.getTime() > UNFINISHED_MS_MAX;
      if (key !== undefined && id !== undefined && isOld) await drop(connection, deps, { key, id });
    }
  } catch (error) {
    deps.log.debug("unfinished uploads could not be listed", { store: connection.description, cause: error });
  }
}

/** The upload's id. Not ended by the caller's signal: an upload that began and whose id nobody knows could not be dropped. */
async function begin(connection: S3Connection, { target, call }: S3Upload): Promise<string> {
  // Said at the beginning, as each part comes with one and all are named at the end.
  const checksum = connection.settings.checksums ? { ChecksumAlgorithm: "CRC32" as const } : {};
  const command = new CreateMultipartUploadCommand({ ...target, ...checksum });
  const { doing, name = "" } = call;
  const { UploadId: id } = await connection.call({ doing, name }, (client, abortSignal) =>
    client.send(command, { abortSignal }),
  );
  if (id !== undefined) return id;
  throw new BlobError("BLOB_IO", `Could not ${doing}: the store gave no id for the upload`);
}

async function uploadParts(
  connection: S3Connection,
  deps: S3Deps,
  upload: S3Upload & { readonly id: string },
): Promise<CompletedPart[]> {
  const { partBytes } = connection.settings;
  const total = bodyBytes(upload.body);
  const parts: CompletedPart[] = [];
  const failed = new AbortController();
  const signal =
    upload.call.signal === undefined ? failed.signal : AbortSignal.any([failed.signal, upload.call.signal]);
  let next = 0;
  const worker = async (): Promise<void> => {
    // No await between reading `next` and counting it up: each part has one worker.
    for (let index = next++; index * partBytes < total && !signal.aborted; index = next++) {
      const bytes = bodySlice(upload.body, index * partBytes, Math.min(total, (index + 1) * partBytes));
      const part = { number: index + 1, bytes };
      parts[index] = await retry(() => uploadPart(connection, { ...upload, part, signal }), {
        timers: deps.timers,
        random: deps.random,
        attemptsMax: PART_ATTEMPTS_MAX,
        signal,
      });
    }
  };
  const workers = Array.from({ length: PARTS_AT_ONCE }, () =>
    worker().catch((error: unknown) => {
      failed.abort();
      throw error;
    }),
  );
  // The first failure ends the others; all have ended before the upload is aborted, so no part comes after that.
  const results = await Promise.allSettled(workers);
  const reasons = results.flatMap((result) => (result.status === "rejected" ? [result.reason as unknown] : []));
  const reason = reasons.find((each) => !(each instanceof BlobError && each.code === "BLOB_ABORTED")) ?? reasons[0];
  if (reason !== undefined) throw reason;
  return parts;
}

async function uploadPart(
  connection: S3Connection,
  upload: S3Upload & { id: string; part: { number: number; bytes: Buffer }; signal: AbortSignal },
): Promise<CompletedPart> {
  const { target, id, part, signal } = upload;
  const command = new UploadPartCommand({
    Bucket: target.Bucket,
    Key: target.Key,
    UploadId: id,
    PartNumber: part.number,
    Body: part.bytes,
    ContentLength: part.bytes.length,
  });
  const call = { ...upload.call, signal, bytes: part.bytes.length };
  const { ETag, ChecksumCRC32 } = await connection.call(call, (client, abortSignal) =>
    client.send(command, { abortSignal }),
  );
  if (ETag === undefined) throw new BlobError("BLOB_IO", `Could not ${call.doing}: a part came without an ETag`);
  return { PartNumber: part.number, ETag, ...(ChecksumCRC32 === undefined ? {} : { ChecksumCRC32 }) };
}

/**
 * Never throws: the upload's own failure is what the caller must know. A part that was under way may arrive behind the order to drop them all (S3 API Reference, AbortMultipartUpload), so
 * it is given until the store knows the upload no more.
 */
async function drop(connection: S3Connection, deps: S3Deps, upload: { key: string; id: string }): Promise<void> {
  const target = { Bucket: connection.settings.bucket, Key: upload.key, UploadId: upload.id };
  // Without the caller's signal, which may be what ended the upload.
  const call = { doing: `drop the parts of "${upload.key}"` };
  try {
    for (let attempt = 1; attempt <= DROP_ATTEMPTS_MAX; attempt += 1) {
      await connection.call(call, (client, abortSignal) =>
        client.send(new AbortMultipartUploadCommand(target), { abortSignal }),
      );
      await connection.call(call, (client, abortSignal) =>
        client.send(new ListPartsCommand({ ...target, MaxParts: 1 }), { abortSignal }),
      );
      await deps.timers.wait(DROP_DELAY_MS * attempt);
    }
  } catch (error) {
    if (isBlobError(error) && /NoSuchUpload/.test(error.message)) return;
    deps.log.warn("the parts of an upload could not be dropped", { store: connection.description, cause: error });
  }
}
