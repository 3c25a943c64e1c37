import type { GetObjectCommandOutput } from "@aws-sdk/client-s3";
import { BlobError } from "./blob-error.ts";

/** The bytes `from` (inclusive) to `to` (exclusive) of a body, copied only where they are of several parts. */
export function bodySlice(body: readonly Uint8Array[], from: number, to: number): Buffer {
  const slices: Uint8Array[] = [];
  let at = 0;
  for (const part of body) {
    const start = Math.max(from - at, 0);
    const end = Math.min(to - at, part.length);
    if (start < end) slices.push(part.subarray(start, end));
    at += part.length;
    if (at >= to) break;
  }
  const [only] = slices;
  if (only !== undefined && slices.length === 1) return Buffer.from(only.buffer, only.byteOffset, only.byteLength);
  return Buffer.concat(slices);
}

/** Reads exactly `length` bytes of an answer: fewer is a connection that broke, more a store that makes no sense. */
export async function readBody(output: GetObjectCommandOutput, length: number, what: string): Promise<Buffer> {
  const buffer = Buffer.allocUnsafeSlow(length);
  let at = 0;
  const stream = output.Body as AsyncIterable<Uint8Array> | undefined;
  for await (const chunk of stream ?? []) {
    if (at + chunk.length > length)
      throw new BlobError("BLOB_DAMAGED", `${what} came with more than the ${length} bytes announced`);
    buffer.set(chunk, at);
    at += chunk.length;
  }
  if (at === length) return buffer;
  throw new BlobError("BLOB_UNREACHABLE", `${what} broke off after ${at} of ${length} bytes`);
}

/** Lets go of an answer whose body nobody reads, and of its connection. */
export function discardBody(output: GetObjectCommandOutput): void {
  const body = output.Body as { destroy?: (error?: Error) => unknown } | undefined;
  body?.destroy?.();
}

/** `bytes 0-9/100` (RFC 9110, 14.4) as numbers; undefined if it is anything else. */
export function parseContentRange(text: string | undefined): { from: number; to: number; bytes: number } | undefined {
  const match = /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15})$/.exec(text ?? "");
  return match === null ? undefined : { from: Number(match[1]), to: Number(match[2]) + 1, bytes: Number(match[3]) };
}
