/**
 * Makes RocksDB's recovery notice every hole in its write-ahead log, so that a store is a prefix of its batches after power loss.
 *
 * We never sync the log. After power loss a log may end early, or have pages of zeros inside, though a later log is whole: the pages of
 * different files, and on some file systems of one file, reach the disk in any order. RocksDB's point-in-time recovery, once it has noticed
 * damage in a log, goes on only with a batch whose sequence number follows without a gap. But (`RecoverLogFiles`, `log_reader.cc`, 9.7) it
 * does not notice
 *   - a log that ends between two records, or is empty: that is its normal end;
 *   - a header of zeros: it skips to the next block of 32 KiB without a word ("preallocated").
 * Then the batches after the hole are applied without those in it. (RocksDB has an option against it, `track_and_verify_wals`, from 10.0 on.)
 *
 * So before opening we write a header that is no header, SEAL, at those two places: after the end of every log but the last, and over a header
 * of zeros. RocksDB reports it as damage and then checks the sequence numbers itself: in a store that lost nothing they follow, and all is
 * applied; behind a hole they don't, and the rest is dropped. No byte that RocksDB would have used is changed, and sealing again changes nothing.
 *
 * Format of a log (`log_format.h`): blocks of 32 KiB; in them records of checksum u32, length u16 (little endian), type u8, and `length` bytes; types 5
 * to 8 and 11 have 4 bytes more in their header. Fewer than 7 bytes at the end of a block are padding.
 */
import { type FileHandle, open, readdir } from "node:fs/promises";
import { join } from "node:path";

const BLOCK_BYTES = 32 * 1024;
const HEADER_BYTES = 7;
/** Blocks read at once: 1 MiB. A log has at most the size of a write buffer and a batch. */
const BLOCKS_PER_READ = 32;

/** Its length, 65,535, is more than a block holds. Two headers long, so that a whole one is left when it begins in a block's padding. */
const SEAL = Buffer.alloc(2 * HEADER_BYTES + 2, 0xff);

/**
 * Seals the logs in `directory`, which holds a store that is not open. (If another process has it open after all, its files are not harmed: it
 * never writes again to any log but the last, and in that one there are no headers of zeros.) Throws errors of `node:fs`.
 */
export async function sealRocksLogs(directory: string): Promise<void> {
  const names = (await readdir(directory)).filter((name) => /^\d+\.log$/.test(name));
  const logs = names.sort((left, right) => Number.parseInt(left, 10) - Number.parseInt(right, 10));
  for (const [index, name] of logs.entries()) {
    const file = await open(join(directory, name), "r+");
    try {
      const end = await findSilentEnd(file);
      const isLast = index === logs.length - 1;
      if (end.kind === "zeros" || (end.kind === "end" && !isLast)) await file.write(SEAL, 0, SEAL.length, end.offset);
    } finally {
      await file.close();
    }
  }
}

/** Where the reader of RocksDB stops or skips without a report, if before it reports anything. */
type LogEnd = { kind: "end"; offset: number } | { kind: "zeros"; offset: number } | { kind: "reported" };

async function findSilentEnd(file: FileHandle): Promise<LogEnd> {
  const buffer = Buffer.alloc(BLOCKS_PER_READ * BLOCK_BYTES);
  for (let offset = 0; ; ) {
    const { bytesRead } = await file.read(buffer, 0, buffer.length, offset);
    for (let start = 0; start < bytesRead; start += BLOCK_BYTES) {
      const end = scanBlock(buffer.subarray(start, Math.min(start + BLOCK_BYTES, bytesRead)), offset + start);
      if (end !== undefined) return end;
    }
    offset += bytesRead;
    if (bytesRead < buffer.length) return { kind: "end", offset };
  }
}

/** Steps over the records of one block. Checksums are RocksDB's to check: what fails them it reports. */
function scanBlock(block: Buffer, blockOffset: number): LogEnd | undefined {
  for (let at = 0; at + HEADER_BYTES <= block.length; ) {
    const length = block.readUInt16LE(at + 4);
    const type = block.readUInt8(at + 6);
    if (type === 0 && length === 0) return { kind: "zeros", offset: blockOffset + at };
    const headerBytes = (type >= 5 && type <= 8) || type === 11 ? HEADER_BYTES + 4 : HEADER_BYTES;
    at += headerBytes + length;
    if (at > block.length) return { kind: "reported" };
  }
  return undefined;
}
