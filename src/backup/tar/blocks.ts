/** The unit of tar: headers are one, contents are filled up to a whole number of them. */
export const BLOCK_BYTES = 512;

/** Bytes after a content of `size` bytes up to the next block. */
export function paddingOf(size: bigint): number {
  return Number(-size & 511n);
}

/** The largest number that a field of `digits` octal digits holds. */
const octalMax = (digits: number): number => 8 ** digits - 1;

/** Types of members whose header we make ourselves. */
export type OwnType = "x" | "3" | "4";

/** The sum of the header's bytes, its own field counted as spaces: unsigned, as POSIX has it, and signed, as some old writers had it. */
export function checksumsOf(block: Buffer): { readonly unsigned: number; readonly signed: number } {
  let unsigned = 8 * 0x20;
  let negative = 0;
  for (let at = 0; at < BLOCK_BYTES; at += 1) {
    if (at >= 148 && at < 156) continue;
    const byte = block[at] ?? 0;
    unsigned += byte;
    if (byte >= 0x80) negative += 256;
  }
  return { unsigned, signed: unsigned - negative };
}

/**
 * A ustar header (POSIX.1-2017 pax, "ustar Interchange Format"): 0..99 name, 100 mode, 108 uid, 116 gid, 124 size, 136 mtime, 148 checksum, 156 type, 157 link name,
 * 257 magic and version, 265 user, 297 group, 329 and 337 device numbers, 345 prefix. Numbers are octal digits with a NUL. `name` is ASCII, at most 100 bytes.
 */
export function ownHeader(header: {
  readonly name: string;
  readonly type: OwnType;
  readonly size?: number;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly mtimeSec?: number;
  readonly major?: number;
  readonly minor?: number;
}): Buffer {
  const block = Buffer.alloc(BLOCK_BYTES);
  const octal = (value: number, at: number, digits: number): void => {
    block.write(Math.min(value, octalMax(digits)).toString(8).padStart(digits, "0"), at, "latin1");
  };
  block.write(header.name, 0, 100, "latin1");
  octal(header.mode ?? 0o644, 100, 7);
  octal(header.uid ?? 0, 108, 7);
  octal(header.gid ?? 0, 116, 7);
  octal(header.size ?? 0, 124, 11);
  octal(header.mtimeSec ?? 0, 136, 11);
  block.write(header.type, 156, "latin1");
  block.write("ustar\x0000", 257, "latin1");
  octal(header.major ?? 0, 329, 7);
  octal(header.minor ?? 0, 337, 7);
  octal(checksumsOf(block).unsigned, 148, 6);
  block[155] = 0x20;
  return block;
}
