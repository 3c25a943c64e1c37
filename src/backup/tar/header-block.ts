import { checksumsOf } from "./blocks.ts";
import { TarError } from "./tar-error.ts";

/** What a header block says; names as their bytes, numbers exactly. */
export type HeaderBlock = {
  readonly type: string;
  /** With the prefix of a ustar header. */
  readonly name: Buffer;
  readonly linkName: Buffer;
  readonly mode: number;
  readonly uid: bigint;
  readonly gid: bigint;
  readonly size: bigint;
  readonly mtimeSec: bigint;
  readonly major: number;
  readonly minor: number;
};

/** Why a file that begins with these bytes is no archive, but what to do about it. */
const COMPRESSED: readonly { readonly magic: string; readonly tool: string }[] = [
  { magic: "1f8b", tool: "gzip" },
  { magic: "28b52ffd", tool: "zstd" },
  { magic: "fd377a585a00", tool: "xz" },
  { magic: "425a68", tool: "bzip2" },
  { magic: "04224d18", tool: "lz4" },
];

/** Reads a header. `where` names its place in the message. Throws TAR_DAMAGED. */
export function decodeHeader(block: Buffer, where: string): HeaderBlock {
  checkSum(block, where);
  const number = (from: number, to: number, what: string): bigint => {
    const value = decodeNumber(block.subarray(from, to));
    if (value === undefined) throw new TarError("TAR_DAMAGED", `${where} is damaged: its ${what} is no number`);
    return value;
  };
  const small = (from: number, to: number, what: string): number => {
    const value = number(from, to, what);
    if (value < 0n || value > 0xffff_ffffn) {
      throw new TarError("TAR_DAMAGED", `${where} is damaged: its ${what} is ${value}`);
    }
    return Number(value);
  };
  const size = number(124, 136, "size");
  if (size < 0n) throw new TarError("TAR_DAMAGED", `${where} is damaged: its size is ${size}`);
  const type = block.toString("latin1", 156, 157);
  const isDevice = type === "3" || type === "4";
  return {
    type,
    name: nameOf(block),
    linkName: text(block, 157, 257),
    mode: small(100, 108, "mode"),
    uid: number(108, 116, "owner"),
    gid: number(116, 124, "group"),
    size,
    mtimeSec: number(136, 148, "time"),
    major: isDevice ? small(329, 337, "device number") : 0,
    minor: isDevice ? small(337, 345, "device number") : 0,
  };
}

function checkSum(block: Buffer, where: string): void {
  const stored = decodeNumber(block.subarray(148, 156));
  const { unsigned, signed } = checksumsOf(block);
  if (stored === BigInt(unsigned) || stored === BigInt(signed)) return;
  const compressed = COMPRESSED.find(({ magic }) => block.toString("hex", 0, 6).startsWith(magic));
  if (compressed !== undefined) {
    const { tool } = compressed;
    const message = `this is compressed by ${tool}: give the archive itself, as "${tool} -dc FILE | tidemark import ..."`;
    throw new TarError("TAR_UNSUPPORTED", message);
  }
  throw new TarError("TAR_DAMAGED", `${where} is damaged, or is none: its checksum does not fit`);
}

/** Old GNU headers ("ustar  ") have other things where POSIX ("ustar" and NUL) has the prefix. */
function nameOf(block: Buffer): Buffer {
  const name = text(block, 0, 100);
  if (block.toString("latin1", 257, 263) !== "ustar\0") return name;
  const prefix = text(block, 345, 500);
  return prefix.length === 0 ? name : Buffer.concat([prefix, SLASH, name]);
}

/** Up to the first NUL. A copy: the block's memory is used again. */
function text(block: Buffer, from: number, to: number): Buffer {
  const field = block.subarray(from, to);
  const end = field.indexOf(0);
  return Buffer.from(end === -1 ? field : field.subarray(0, end));
}

/**
 * A number field: octal digits among spaces and NULs, or GNU's base 256 (first bit set, big endian, two's complement; the first byte 0x80 or 0xff). Undefined for anything else.
 */
export function decodeNumber(field: Buffer): bigint | undefined {
  const first = field[0] ?? 0;
  if (first === 0x80 || first === 0xff) {
    const magnitude = BigInt(`0x${field.toString("hex", 1)}`);
    return first === 0x80 ? magnitude : magnitude - (1n << BigInt(8 * (field.length - 1)));
  }
  const match = /^[ \0]*([0-7]*)(?:[ \0].*)?$/s.exec(field.toString("latin1"));
  if (match === null) return undefined;
  return match[1] === "" || match[1] === undefined ? 0n : BigInt(`0o${match[1]}`);
}

const SLASH = Buffer.from("/");
