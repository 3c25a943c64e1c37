import { ListObjectsV2Command, type ListObjectsV2CommandOutput } from "@aws-sdk/client-s3";
import { isBlobName } from "./blob-checks.ts";
import { BlobError } from "./blob-error.ts";
import type { BlobEntry, BlobListOptions } from "./blob-store.ts";
import type { S3Connection } from "./s3-client.ts";

/** Pages in a row that hold nothing and still say there is more: a store that goes on for ever is an error. */
const EMPTY_PAGES_MAX = 1000;

/** Lists what of the bucket is ours. Every answer is checked, so that a store that repeats, skips back or loses its place is an error and not a short list. */
export async function* listObjects(
  connection: S3Connection,
  prefix: string,
  options: BlobListOptions,
): AsyncGenerator<readonly BlobEntry[]> {
  const { bucket, prefix: folder } = connection.settings;
  const base = folder === "" ? "" : `${folder}/`;
  const doing = `list "${prefix}" in ${connection.description}`;
  const progress = new ListingProgress(doing);
  let token: string | undefined;
  do {
    const page = await connection.call({ doing, signal: options.signal }, (client, abortSignal) =>
      client.send(
        new ListObjectsV2Command({
          Bucket: bucket,
          Prefix: base + prefix,
          EncodingType: "url",
          ...(token === undefined ? {} : { ContinuationToken: token }),
          ...(options.after === undefined ? {} : { StartAfter: base + options.after }),
        }),
        { abortSignal },
      ),
    );
    const entries = entriesOf(page, { base, prefix, after: options.after ?? "", progress, doing });
    token = progress.nextOf(page.IsTruncated, page.NextContinuationToken);
    if (entries.length > 0) yield entries;
  } while (token !== undefined);
}

function entriesOf(
  page: ListObjectsV2CommandOutput,
  of: { base: string; prefix: string; after: string; progress: ListingProgress; doing: string },
): BlobEntry[] {
  const entries: BlobEntry[] = [];
  for (const { Key, Size, LastModified } of page.Contents ?? []) {
    if (Key === undefined || Size === undefined || LastModified === undefined)
      throw new BlobError("BLOB_IO", `Could not ${of.doing}: the store named an object without its key, size or time`);
    const key = page.EncodingType === "url" ? decodeKey(Key, of.doing) : Key;
    of.progress.see(key);
    if (!key.startsWith(of.base + of.prefix))
      throw new BlobError("BLOB_IO", `Could not ${of.doing}: the store named objects that were not asked for`);
    const name = key.slice(of.base.length);
    // A store may include the name itself that it was to begin behind.
    if (isBlobName(name) && name > of.after) entries.push({ name, bytes: Size, modifiedMs: LastModified.getTime() });
  }
  return entries;
}

/** Checks that a listing goes forward and comes to an end. */
export class ListingProgress {
  readonly #doing: string;
  #last: Buffer | undefined;
  #token: string | undefined;
  #emptyPages = 0;
  #seenInPage = 0;

  constructor(doing: string) {
    this.#doing = doing;
  }

  /** Notes the next key of a page. With `isRepeatable`, the same key may follow itself, as those of versions do. */
  see(key: string, options: { readonly isRepeatable?: boolean } = {}): void {
    const bytes = Buffer.from(key);
    const order = this.#last === undefined ? -1 : Buffer.compare(this.#last, bytes);
    if (order > 0 || (order === 0 && options.isRepeatable !== true)) {
      const words = "the store listed names out of order or twice, so the list can't be trusted";
      throw new BlobError("BLOB_IO", `Could not ${this.#doing}: ${words}`);
    }
    this.#last = bytes;
    this.#seenInPage += 1;
  }

  /** What the next request says where to go on; undefined at the end. */
  nextOf(isTruncated: boolean | undefined, token: string | undefined): string | undefined {
    this.#emptyPages = this.#seenInPage === 0 ? this.#emptyPages + 1 : 0;
    this.#seenInPage = 0;
    if (isTruncated !== true) return undefined;
    if (token === undefined || token === "" || token === this.#token || this.#emptyPages > EMPTY_PAGES_MAX)
      throw new BlobError("BLOB_IO", `Could not ${this.#doing}: the store says there is more, but not where`);
    this.#token = token;
    return token;
  }
}

/** A key as `encoding-type=url` writes it. */
export function decodeKey(text: string, doing: string): string {
  try {
    return decodeURIComponent(text.replaceAll("+", " "));
  } catch (error) {
    throw new BlobError("BLOB_IO", `Could not ${doing}: the store wrote a name that can't be read`, { cause: error });
  }
}
