import { present } from "../../base/assert.ts";
import { FsError } from "../../domain/errors.ts";
import { type InodeId, LIVE, type Lsn } from "../../domain/ids.ts";
import type {
  Invalidation,
  MappedPiece,
  MetadataApi,
  ReplyOf,
  Request,
  RequestContext,
} from "../../domain/metadata-api.ts";
import type { ReadCache } from "./read-cache.ts";

/**
 * A MetadataApi whose larger reads are answered from a cache on this machine as far as that goes: first it asks where the bytes are, then only for those that are not here.
 *
 * Why what is put into the cache is right: a live file may change between the answer to "where" and that to "what". So its inode is looked at before the first and after the second; every change of
 * content takes a new `since`, so when both have the same one, the bytes are those of the places. At a moment nothing changes.
 */

/** Smaller reads go straight to the service: what the cache would save is less than what the second question costs when it is not there. */
const CACHED_READ_BYTES_MIN = 64 * 1024;

/** Parts that are fetched one by one; with more gaps than this the whole range is. */
const FETCHES_MAX = 8;

const ZEROS = Buffer.alloc(1024 * 1024);

type ReadRequest = Extract<Request, { op: "read" }>;
type Data = readonly Uint8Array[];
/** A piece of the range: what is in it, or what has to be fetched. */
type Part = { readonly from: number; readonly length: number; data?: Uint8Array };

export class CachedApi implements MetadataApi {
  readonly #api: MetadataApi;
  readonly #cache: ReadCache;

  constructor(api: MetadataApi, cache: ReadCache) {
    this.#api = api;
    this.#cache = cache;
  }

  execute<R extends Request>(request: R, context: RequestContext): ReplyOf<R> | Promise<ReplyOf<R>> {
    if (request.op !== "read" || request.length < CACHED_READ_BYTES_MIN) return this.#api.execute(request, context);
    return this.#read(request, context) as Promise<ReplyOf<R>>;
  }

  subscribe(listener: (invalidation: Invalidation) => void): () => void {
    return this.#api.subscribe(listener);
  }

  close(): Promise<void> {
    return this.#api.close();
  }

  async #read(request: ReadRequest, context: RequestContext): Promise<Data> {
    const { ino, at } = request;
    const before = this.#versionOf(ino, at, context);
    const pieces = await this.#map(request, context);
    if (pieces === undefined) return await this.#api.execute(request, context);
    const parts = await this.#partsOf(request, pieces);
    const missing = gapsOf(parts);
    if (missing.length === 0) return dataOf(parts);
    const whole = missing.length > FETCHES_MAX || parts.every((part) => part.data === undefined || part.data === HOLE);
    return whole
      ? await this.#readWhole(request, { pieces, before }, context)
      : await this.#readGaps(request, { pieces, before, parts, missing }, context);
  }

  /** Nothing is here, or little: one plain read, and then it is kept. The check needs another question, which the caller does not wait for. */
  async #readWhole(
    request: ReadRequest,
    { pieces, before }: { readonly pieces: readonly MappedPiece[]; readonly before: Promise<Lsn | undefined> },
    context: RequestContext,
  ): Promise<Data> {
    const data = await this.#api.execute(request, context);
    const lengths = pieces.reduce((sum, piece) => sum + piece.length, 0);
    const bytes = Buffer.concat(data);
    if (bytes.length === lengths) {
      void this.#unchanged(request, before, context).then((unchanged) => {
        if (unchanged) this.#keep(pieces, { offset: request.offset, bytes });
      });
    }
    return [bytes];
  }

  /** Some is here: only the rest is fetched. All of it must be of one state of the file, else it is read anew as a whole. */
  async #readGaps(
    request: ReadRequest,
    found: {
      readonly pieces: readonly MappedPiece[];
      readonly before: Promise<Lsn | undefined>;
      readonly parts: readonly Part[];
      readonly missing: readonly Gap[];
    },
    context: RequestContext,
  ): Promise<Data> {
    const { ino, at, offset } = request;
    const fetched = await Promise.all(
      found.missing.map(async ({ from, length }) => {
        const wanted = { op: "read", ino, offset: offset + BigInt(from), length, at } as const;
        return { from, length, bytes: Buffer.concat(await this.#api.execute(wanted, context)) };
      }),
    );
    const complete = fetched.every(({ length, bytes }) => bytes.length === length);
    if (!complete || !(await this.#unchanged(request, found.before, context)))
      return await this.#api.execute(request, context);
    for (const { from, bytes } of fetched) {
      this.#keep(found.pieces, { offset: offset + BigInt(from), bytes });
      for (const part of found.parts) {
        if (part.data === undefined && part.from >= from && part.from < from + bytes.length)
          part.data = bytes.subarray(part.from - from, part.from - from + part.length);
      }
    }
    return dataOf(found.parts);
  }

  /** Keeps what of `bytes` has a place. */
  #keep(pieces: readonly MappedPiece[], fetched: { readonly offset: bigint; readonly bytes: Buffer }): void {
    const end = fetched.offset + BigInt(fetched.bytes.length);
    const extents = pieces.flatMap(({ offset, length, place }) => {
      if (place === undefined || offset >= end || offset + BigInt(length) <= fetched.offset) return [];
      const skip = offset < fetched.offset ? Number(fetched.offset - offset) : 0;
      const from = Number(offset + BigInt(skip) - fetched.offset);
      const data = fetched.bytes.subarray(from, Math.min(from + length - skip, fetched.bytes.length));
      return [{ segment: place.segment, position: place.position + skip, data }];
    });
    this.#cache.keep(extents);
  }

  /** Where the bytes are; undefined when that can't be said: then the plain read says what there is to say. */
  async #map(
    { ino, offset, length, at }: ReadRequest,
    context: RequestContext,
  ): Promise<readonly MappedPiece[] | undefined> {
    try {
      return await this.#api.execute({ op: "map", ino, offset, length, at }, context);
    } catch (error) {
      if (error instanceof FsError) return undefined;
      throw error;
    }
  }

  /** The pieces with what the cache has of them. */
  async #partsOf({ offset }: ReadRequest, pieces: readonly MappedPiece[]): Promise<Part[]> {
    const parts = await Promise.all(
      pieces.map(async (piece): Promise<Part[]> => {
        const from = Number(piece.offset - offset);
        if (piece.place === undefined) return [{ from, length: piece.length, data: HOLE }];
        const cached = await this.#cache.read(piece.place, piece.length);
        return cached.map((part) => ({ ...part, from: from + part.from }));
      }),
    );
    return parts.flat();
  }

  /** What changes with every change of a live file; the moment, for one of the past; undefined when it can't be had. Never rejects. */
  async #versionOf(ino: InodeId, at: Lsn, context: RequestContext): Promise<Lsn | undefined> {
    if (at !== LIVE) return at;
    try {
      return (await this.#api.execute({ op: "getattr", ino, at }, context)).since;
    } catch {
      return undefined;
    }
  }

  async #unchanged(
    { ino, at }: ReadRequest,
    before: Promise<Lsn | undefined>,
    context: RequestContext,
  ): Promise<boolean> {
    const version = await before;
    return version !== undefined && version === (await this.#versionOf(ino, at, context));
  }
}

/** Stands for the data of a hole. */
const HOLE = new Uint8Array(0);

type Gap = { readonly from: number; readonly length: number };

/** What has to be fetched: neighbours together. */
function gapsOf(parts: readonly Part[]): Gap[] {
  const gaps: { from: number; length: number }[] = [];
  for (const { from, length, data } of parts) {
    if (data !== undefined) continue;
    const last = gaps.at(-1);
    if (last !== undefined && last.from + last.length === from) last.length += length;
    else gaps.push({ from, length });
  }
  return gaps;
}

function dataOf(parts: readonly Part[]): Uint8Array[] {
  return parts.map(({ data, length }) => (data === HOLE ? ZEROS.subarray(0, length) : present(data, "data of a read")));
}
