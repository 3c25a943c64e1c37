import { constants, zstdCompressSync, zstdDecompress, zstdDecompressSync } from "node:zlib";

// FORMAT.md, "Object": the plain text of a frame is a byte that says how it is packed, where that is zstd the length before, and the bytes.

export const STORED_AS_IS = 0;
export const STORED_ZSTD = 1;

/** How bytes are kept in a frame. */
export type Packed = { readonly method: typeof STORED_AS_IS | typeof STORED_ZSTD; readonly bytes: Uint8Array };

/** Less gain than this is not worth the time of every reader. */
const GAIN_MIN = 0.03;

const RAW_LENGTH_BYTES = 4;

/** Compresses `bytes`, or leaves them where that gains less than 3 %. What is returned may be `bytes` themselves. */
export function compress(bytes: Uint8Array, level: number): Packed {
  return choose(bytes, zstdCompressSync(bytes, compressOptions(bytes.length, level)));
}

/** Of the two forms of the same bytes, the one to keep. */
export function choose(bytes: Uint8Array, compressed: Uint8Array): Packed {
  const worth = compressed.length <= bytes.length * (1 - GAIN_MIN);
  return worth ? { method: STORED_ZSTD, bytes: compressed } : { method: STORED_AS_IS, bytes };
}

/** Options for Node's zstd: a buffer that takes everything at once, so that nothing is put together from pieces. */
export function compressOptions(length: number, level: number): { chunkSize: number; params: Record<number, number> } {
  // ZSTD_compressBound, and room for what streaming adds.
  const bound = length + (length >>> 8) + 1024;
  return { chunkSize: bound, params: { [constants.ZSTD_c_compressionLevel]: level } };
}

/** The plain text of a frame in which `rawLength` bytes are packed, as parts. */
export function framePlain({ method, bytes }: Packed, rawLength: number): [Buffer, Uint8Array] {
  if (method === STORED_AS_IS) return [Buffer.of(STORED_AS_IS), bytes];
  const lead = Buffer.alloc(1 + RAW_LENGTH_BYTES);
  lead.writeUInt8(STORED_ZSTD, 0);
  lead.writeUInt32BE(rawLength, 1);
  return [lead, bytes];
}

/** What is in the plain text of a frame: at most `bytesMax`. Throws RangeError for what no writer of this version makes. May be a view of `plain`. */
export function unpackFrame(plain: Buffer, bytesMax: number): Buffer {
  const { method, rawLength, bytes } = readFramePlain(plain, bytesMax);
  if (method === STORED_AS_IS) return bytes;
  let raw: Buffer;
  try {
    raw = zstdDecompressSync(bytes, decompressOptions(rawLength));
  } catch (cause) {
    throw notZstd(cause);
  }
  return checked(raw, rawLength);
}

/** As `unpackFrame`, with the work done in a thread of Node's pool. */
export async function unpackFrameInPool(plain: Buffer, bytesMax: number): Promise<Buffer> {
  const { method, rawLength, bytes } = readFramePlain(plain, bytesMax);
  if (method === STORED_AS_IS) return bytes;
  const raw = await new Promise<Buffer>((resolve, reject) => {
    zstdDecompress(bytes, decompressOptions(rawLength), (cause, result) =>
      cause === null ? resolve(result) : reject(notZstd(cause)),
    );
  });
  return checked(raw, rawLength);
}

type FramePlain = { readonly method: Packed["method"]; readonly rawLength: number; readonly bytes: Buffer };

function readFramePlain(plain: Buffer, bytesMax: number): FramePlain {
  if (plain.length === 0) throw new RangeError("a frame has no bytes");
  const method = plain.readUInt8(0);
  if (method !== STORED_AS_IS && method !== STORED_ZSTD) throw new RangeError(`a frame is packed by method ${method}`);
  const leadBytes = method === STORED_ZSTD ? 1 + RAW_LENGTH_BYTES : 1;
  if (plain.length < leadBytes) throw new RangeError("a frame is too short");
  const rawLength = method === STORED_ZSTD ? plain.readUInt32BE(1) : plain.length - leadBytes;
  if (rawLength > bytesMax) throw new RangeError(`a frame holds ${rawLength} bytes, more than ${bytesMax}`);
  return { method, rawLength, bytes: plain.subarray(leadBytes) };
}

/** Room behind what comes out: Node takes a buffer that is full for one that was too small, makes another of its size and asks once more. */
const SPARE_BYTES = 64;

/** A buffer that holds all of it, so that nothing is put together from pieces. */
function decompressOptions(rawLength: number): { chunkSize: number; maxOutputLength: number } {
  return { chunkSize: rawLength + SPARE_BYTES, maxOutputLength: Math.max(rawLength, 1) };
}

function checked(raw: Buffer, rawLength: number): Buffer {
  if (raw.length !== rawLength) throw new RangeError(`a frame holds ${raw.length} bytes, not ${rawLength}`);
  return raw;
}

function notZstd(cause: unknown): RangeError {
  return new RangeError("a frame does not decompress", { cause });
}
