/**
 * A versioned bucket as it was at a moment, to read from: what was deleted or overwritten since, by whomever, is there. A bucket with Object Lock is versioned, and its
 * locked versions can't be removed: so whoever has the credentials can hide, but not destroy.
 *
 * Times of versions are the store's, with a resolution of a second: of a version and a delete marker of the same second the version counts.
 */
import {
  type DeleteMarkerEntry,
  ListObjectVersionsCommand,
  type ListObjectVersionsCommandOutput,
  type ObjectVersion,
} from "@aws-sdk/client-s3";
import { checkName, closedError, isBlobName, missingError } from "./blob-checks.ts";
import { BlobError } from "./blob-error.ts";
import type {
  BlobCallOptions,
  BlobCapabilities,
  BlobEntry,
  BlobGetOptions,
  BlobListOptions,
  BlobStat,
  BlobStore,
} from "./blob-store.ts";
import { keyOf, readObject } from "./s3-blobs.ts";
import { S3Connection } from "./s3-client.ts";
import { decodeKey, ListingProgress } from "./s3-listing.ts";
import type { S3Deps, S3Settings } from "./s3-options.ts";

/** Versions known by name: those of the packs of a few TiB, about 20 MB of memory. */
const KNOWN_VERSIONS_MAX = 100_000;

type Version = { readonly name: string; readonly id: string; readonly bytes: number; readonly modifiedMs: number };

/** Something that happened to a key: a version of it, or its deletion. */
type Event = { readonly key: string; readonly timeMs: number; readonly version: Version | undefined };

/** Read-only: `put`, `delete` and `extendLock` throw BLOB_UNSUPPORTED. */
export class S3VersionView implements BlobStore {
  readonly description: string;
  readonly capabilities: BlobCapabilities = { createOnly: false, objectLock: false };
  readonly #connection: S3Connection;
  readonly #atMs: number;
  /** The moment never changes, so neither does what is known. */
  readonly #known = new Map<string, Version>();

  /** `atMs`: milliseconds since 1970 UTC, by the store's clock. */
  constructor(settings: S3Settings, deps: S3Deps, atMs: number) {
    this.#connection = new S3Connection(settings, deps);
    this.#atMs = atMs;
    this.description = `${this.#connection.description} as of ${new Date(atMs).toISOString()}`;
  }

  async put(name: string): Promise<void> {
    throw this.#readOnly(`write "${name}"`);
  }

  async get(name: string, options: BlobGetOptions = {}): Promise<Buffer> {
    const version = await this.#find(name, options);
    if (version === undefined) throw missingError(name, this.description);
    const key = keyOf(this.#connection.settings, name);
    return readObject(this.#connection, { name, key, versionId: version.id }, options);
  }

  async stat(name: string, options: BlobCallOptions = {}): Promise<BlobStat | undefined> {
    const version = await this.#find(name, options);
    return version === undefined ? undefined : { bytes: version.bytes, modifiedMs: version.modifiedMs };
  }

  async *list(prefix: string, options: BlobListOptions = {}): AsyncGenerator<readonly BlobEntry[]> {
    if (this.#connection.closed) throw closedError(this);
    for await (const versions of this.#versions(prefix, options)) {
      for (const version of versions) this.#remember(version);
      yield versions.map(({ name, bytes, modifiedMs }) => ({ name, bytes, modifiedMs }));
    }
  }

  async delete(names: readonly string[]): Promise<void> {
    throw this.#readOnly(`delete ${names.length} blobs`);
  }

  async extendLock(name: string): Promise<void> {
    throw this.#readOnly(`lock "${name}"`);
  }

  async timeMs(options: BlobCallOptions = {}): Promise<number> {
    return this.#connection.timeMs(options);
  }

  async close(): Promise<void> {
    this.#connection.close();
  }

  async #find(name: string, options: BlobCallOptions): Promise<Version | undefined> {
    if (this.#connection.closed) throw closedError(this);
    checkName(name);
    const known = this.#known.get(name);
    if (known !== undefined) return known;
    // The name is the first of those that begin with it; what follows isn't fetched.
    for await (const [version] of this.#versions(name, { signal: options.signal })) {
      if (version?.name !== name) return undefined;
      this.#remember(version);
      return version;
    }
    return undefined;
  }

  #remember(version: Version): void {
    if (this.#known.size >= KNOWN_VERSIONS_MAX) this.#known.clear();
    this.#known.set(version.name, version);
  }

  /** The versions that were current at the moment, in pages, ordered by name. */
  async *#versions(prefix: string, options: BlobListOptions): AsyncGenerator<readonly Version[]> {
    const { after = "" } = options;
    // A key's versions may go on in the next page, so the last key of each waits for it.
    let waiting: Event[] = [];
    for await (const events of this.#events(prefix, options)) {
      const all = [...waiting, ...events];
      const lastKey = all.at(-1)?.key;
      const done = all.filter(({ key }) => key !== lastKey);
      waiting = all.filter(({ key }) => key === lastKey);
      const current = currentOf(done, this.#atMs).filter(({ name }) => name > after);
      if (current.length > 0) yield current;
    }
    const current = currentOf(waiting, this.#atMs).filter(({ name }) => name > after);
    if (current.length > 0) yield current;
  }

  async *#events(prefix: string, options: BlobListOptions): AsyncGenerator<Event[]> {
    const { bucket, prefix: folder } = this.#connection.settings;
    const base = folder === "" ? "" : `${folder}/`;
    const doing = `list versions of "${prefix}" in ${this.#connection.description}`;
    const progress = new ListingProgress(doing);
    // Behind the key `after` means: its versions are passed over too, which a marker without a version does.
    let marker: { KeyMarker?: string; VersionIdMarker?: string } =
      options.after === undefined ? {} : { KeyMarker: base + options.after };
    for (;;) {
      const page = await this.#connection.call({ doing, signal: options.signal }, (client, abortSignal) =>
        client.send(
          new ListObjectVersionsCommand({ Bucket: bucket, Prefix: base + prefix, EncodingType: "url", ...marker }),
          { abortSignal },
        ),
      );
      const events = eventsOf(page, { base, doing });
      for (const { key } of events) progress.see(key, { isRepeatable: true });
      yield events;
      const next = nextMarker(page, doing);
      if (progress.nextOf(page.IsTruncated, next === undefined ? undefined : JSON.stringify(next)) === undefined)
        return;
      marker = next ?? {};
    }
  }

  #readOnly(doing: string): BlobError {
    return new BlobError(
      "BLOB_UNSUPPORTED",
      `Could not ${doing}: ${this.description} is a view of the past, to read from`,
    );
  }
}

/** Of each key the newest version not after `atMs`, unless it was deleted behind that. `events` are ordered by key. */
function currentOf(events: readonly Event[], atMs: number): Version[] {
  const newest = new Map<string, Event>();
  for (const event of events) {
    if (event.timeMs > atMs) continue;
    const best = newest.get(event.key);
    const isNewer = best === undefined || event.timeMs > best.timeMs;
    const isVersionOfSameTime = event.timeMs === best?.timeMs && best.version === undefined;
    if (isNewer || isVersionOfSameTime) newest.set(event.key, event);
  }
  return [...newest.values()].flatMap(({ version }) =>
    version !== undefined && isBlobName(version.name) ? [version] : [],
  );
}

/** The versions and delete markers of a page, ordered by key. */
function eventsOf(page: ListObjectVersionsCommandOutput, of: { base: string; doing: string }): Event[] {
  const decode = (key: string): string => (page.EncodingType === "url" ? decodeKey(key, of.doing) : key);
  const read = (entry: ObjectVersion | DeleteMarkerEntry): { key: string; timeMs: number; id: string } => {
    const { Key, LastModified, VersionId } = entry;
    if (Key === undefined || LastModified === undefined || VersionId === undefined)
      throw new BlobError("BLOB_IO", `Could not ${of.doing}: the store named a version without its key, id or time`);
    return { key: decode(Key), timeMs: madeAtMs(VersionId, LastModified.getTime()), id: VersionId };
  };
  const versions = (page.Versions ?? []).map((entry): Event => {
    const { key, timeMs, id } = read(entry);
    const name = key.slice(of.base.length);
    return { key, timeMs, version: { name, id, bytes: entry.Size ?? 0, modifiedMs: timeMs } };
  });
  const markers = (page.DeleteMarkers ?? []).map((entry): Event => ({ ...read(entry), version: undefined }));
  // Stable, so that versions of one key stay in the store's order, the newest first.
  return [...versions, ...markers].sort((left, right) => Buffer.compare(Buffer.from(left.key), Buffer.from(right.key)));
}

const ULID = /^[0-7][0-9A-HJKMNP-TV-Z]{25}$/;
const ULID_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/**
 * When a version, or a delete marker, was made. Amazon and MinIO say that; versitygw gives a version that was replaced the time when it was, and a marker that of what it hides. But its
 * version ids are ULIDs, whose first ten digits are milliseconds. (No version id of the other two looks like one.)
 */
function madeAtMs(versionId: string, modifiedMs: number): number {
  if (!ULID.test(versionId)) return modifiedMs;
  return [...versionId.slice(0, 10)].reduce((ms, digit) => ms * 32 + ULID_DIGITS.indexOf(digit), 0);
}

function nextMarker(
  page: ListObjectVersionsCommandOutput,
  doing: string,
): { KeyMarker: string; VersionIdMarker?: string } | undefined {
  const { NextKeyMarker: key, NextVersionIdMarker: version } = page;
  if (key === undefined || key === "") return undefined;
  const KeyMarker = page.EncodingType === "url" ? decodeKey(key, doing) : key;
  return version === undefined || version === "" ? { KeyMarker } : { KeyMarker, VersionIdMarker: version };
}
