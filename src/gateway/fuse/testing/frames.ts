import { readFileSync } from "node:fs";
import type { FuseDeviceIo } from "../device.ts";
import { RequestFrame } from "../frame.ts";
import type { NegotiatedInit } from "../init.ts";
import { align8, Wire } from "../wire.ts";

/** A request frame from its bytes. */
export function frameOf(bytes: Uint8Array): RequestFrame {
  const wire = new Wire(align8(Math.max(bytes.length, 40)));
  wire.bytes.set(bytes);
  return new RequestFrame(wire, 0, bytes.length);
}

/** The recorded requests: opcode name (with "#2" and so on for further ones) and bytes. */
export function goldenRequests(): Map<string, Buffer> {
  const text = readFileSync(new URL("../golden/requests-7.45.txt", import.meta.url), "utf8");
  const requests = new Map<string, Buffer>();
  for (const line of text.trim().split("\n")) {
    const [name = "", hex = ""] = line.split(" ");
    requests.set(name, Buffer.from(hex, "hex"));
  }
  return requests;
}

/** A device that records what is written to it, and answers each write with `result` (or the length). */
export class RecordingIo implements FuseDeviceIo {
  readonly messages: Buffer[] = [];
  results: number[] = [];

  read(): number {
    return -11;
  }

  write(_fd: number, memory: Buffer, bytes: number): number {
    this.messages.push(Buffer.from(memory.subarray(0, bytes)));
    return this.results.shift() ?? bytes;
  }

  writev(_fd: number, pieces: readonly Uint8Array[]): number {
    this.messages.push(Buffer.concat(pieces));
    return this.results.shift() ?? 0;
  }
}

/** A negotiation result as Linux 6.18 gives it. */
export const NEGOTIATED: NegotiatedInit = {
  major: 7,
  minor: 45,
  kernelMinor: 45,
  flags: ["HAS_EXPIRE_ONLY", "HAS_RESEND", "INIT_EXT", "MAX_PAGES", "SETXATTR_EXT"],
  maxWriteBytes: 1024 * 1024,
  maxReadaheadBytes: 1024 * 1024,
  maxBackground: 128,
};
