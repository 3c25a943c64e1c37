import { isAbsolute, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { isBlobName } from "./blob-checks.ts";
import { BlobError } from "./blob-error.ts";

/** Where a store is. */
export type BlobAddress =
  | { readonly kind: "directory"; readonly path: string }
  | { readonly kind: "s3"; readonly bucket: string; readonly prefix: string };

/**
 * Reads `s3://bucket/prefix`, `/a/folder` or `file:///a/folder`. A relative folder is one below `baseFolder`, where that is given.
 * Errors: BLOB_INVALID, which says what was expected.
 */
export function parseBlobAddress(
  text: string,
  options: { readonly baseFolder?: string | undefined } = {},
): BlobAddress {
  if (text === "" || text.includes("\0")) throw invalid(text, "it is empty");
  const scheme = /^([A-Za-z][A-Za-z0-9+.-]*):/.exec(text)?.[1]?.toLowerCase();
  switch (scheme) {
    case undefined:
      return { kind: "directory", path: folderOf(text, options.baseFolder) };
    case "s3":
      return parseBucket(text);
    case "file":
      return { kind: "directory", path: parseFileUrl(text) };
    default:
      throw invalid(text, `"${scheme}:" is not supported; a store with S3's interface is s3://bucket with an endpoint`);
  }
}

/** The one way to write an address: what `parseBlobAddress` reads as the same. */
export function formatBlobAddress(address: BlobAddress): string {
  if (address.kind === "directory") return address.path;
  return address.prefix === "" ? `s3://${address.bucket}` : `s3://${address.bucket}/${address.prefix}`;
}

function folderOf(text: string, baseFolder: string | undefined): string {
  if (isAbsolute(text)) return resolve(text);
  if (baseFolder === undefined) throw invalid(text, "the path is relative: begin it with a slash");
  return resolve(baseFolder, text);
}

function parseFileUrl(text: string): string {
  try {
    const path = fileURLToPath(new URL(text));
    // `file:folder` and `file://folder` mean something else than they look like.
    if (/^file:\/\/\/[^/]/i.test(text)) return resolve(path);
  } catch {
    // Said below.
  }
  throw invalid(text, "a file URL has three slashes and an absolute path");
}

function parseBucket(text: string): BlobAddress {
  const [, bucket = "", rest = ""] = /^s3:\/\/([^/]*)\/?(.*)$/i.exec(text) ?? [];
  if (/[@:]/.test(bucket)) throw invalid("s3://…", "keys and ports don't belong into the address");
  // General purpose buckets: "Bucket naming rules" of the S3 user guide.
  if (!/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/.test(bucket))
    throw invalid(text, "a bucket's name has 3 to 63 lower-case letters, digits, dots and hyphens");
  if (/[?#]/.test(rest))
    throw invalid(text, `"?" and "#" don't belong into a prefix; the endpoint and region are options`);
  const prefix = rest.replace(/^\/+|\/+$/g, "");
  if (prefix !== "" && !isBlobName(prefix))
    throw invalid(text, `a prefix has parts of letters, digits, ".", "_" and "-", joined by single slashes`);
  return { kind: "s3", bucket, prefix };
}

function invalid(text: string, what: string): BlobError {
  const expected = "expected s3://bucket/prefix, /a/folder or file:///a/folder";
  return new BlobError(
    "BLOB_INVALID",
    `${JSON.stringify(text.slice(0, 200))} is no place for blobs: ${what} (${expected})`,
  );
}
