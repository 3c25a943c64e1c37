import { crc32 } from "node:zlib";
import { readU64Be, writeU64Be } from "../base/bytes.ts";
import type { Timestamp } from "../base/clock.ts";
import type { AppId } from "../domain/ids.ts";
import type { Fault } from "./record-decoder.ts";

// FORMAT.md, "Segment".

export const SEGMENT_VERSION = 1;
export const HEADER_BYTES = 64;

const MAGIC = "TMSG";
const NAME = /^([0-9a-f]{16})\.seg$/;

/** `records`: what it is for. `removed`: cleaning took its records away; the header stays, so that the folder stays dense. */
export type SegmentState = "records" | "removed";

export type SegmentHeader = {
  readonly appId: AppId;
  readonly segment: number;
  readonly created: Timestamp;
  readonly state: SegmentState;
  /** Random; where the checksums of this segment's records start, so that no bytes from elsewhere pass for a record. */
  readonly seed: number;
};

/** The file name of a segment. */
export function segmentName(segment: number): string {
  return `${segment.toString(16).padStart(16, "0")}.seg`;
}

/** The segment a file name stands for; undefined for other names. */
export function parseSegmentName(name: string): number | undefined {
  const hex = NAME.exec(name)?.[1];
  if (hex === undefined) return undefined;
  const segment = Number.parseInt(hex, 16);
  return Number.isSafeInteger(segment) && segment > 0 ? segment : undefined;
}

/** The 64 bytes of a header. */
export function encodeHeader(header: SegmentHeader): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES);
  bytes.write(MAGIC, 0, "latin1");
  bytes.writeUInt8(SEGMENT_VERSION, 4);
  bytes.writeUInt8(header.state === "removed" ? 1 : 0, 5);
  bytes.write(header.appId, 8, "hex");
  writeU64Be(bytes, header.segment, 24);
  bytes.writeBigInt64BE(BigInt(header.created.sec), 32);
  bytes.writeUInt32BE(header.created.nsec, 40);
  bytes.writeUInt32BE(header.seed, 44);
  bytes.writeUInt32BE(crc32(bytes.subarray(0, 60)), 60);
  return bytes;
}

/** `foreign`: the bytes are in order, but not ours: another app's, another segment's, or a newer version's. */
export type HeaderFault = Fault & { readonly foreign: boolean };

/** Reads a header and checks that it is the one of `expected`. */
export function decodeHeader(
  bytes: Buffer,
  expected: { readonly appId: AppId; readonly segment: number },
): SegmentHeader | HeaderFault {
  if (bytes.length < HEADER_BYTES) return { fault: "the file is too short for a header", foreign: false };
  if (bytes.toString("latin1", 0, 4) !== MAGIC) return { fault: "this is not a segment", foreign: false };
  if (crc32(bytes.subarray(0, 60)) !== bytes.readUInt32BE(60)) {
    return { fault: "the header does not match its checksum", foreign: false };
  }
  const version = bytes.readUInt8(4);
  if (version !== SEGMENT_VERSION) {
    return { fault: `segment version ${version}, this program reads version ${SEGMENT_VERSION}`, foreign: true };
  }
  const state = bytes.readUInt8(5);
  if (state > 1) return { fault: `segment state ${state}`, foreign: true };
  const appId = bytes.toString("hex", 8, 24) as AppId;
  if (appId !== expected.appId) return { fault: `it belongs to app ${appId}`, foreign: true };
  const segment = readU64Be(bytes, 24);
  if (segment !== expected.segment) return { fault: `it is segment ${segmentName(segment)}`, foreign: true };
  const created = { sec: Number(bytes.readBigInt64BE(32)), nsec: bytes.readUInt32BE(40) };
  return { appId, segment, created, state: state === 1 ? "removed" : "records", seed: bytes.readUInt32BE(44) };
}
