import { decodePaxRecords } from "./pax.ts";
import { TarError } from "./tar-error.ts";

/** Largest extended header of a member: all extended attributes that Linux would list (64 KiB of names) with some hundred values of the largest size (64 KiB). */
export const EXTENDED_BYTES_MAX = 32 * 1024 * 1024;

/** Longest name or link target in a header of its own: a path of DEPTH_MAX names of 255 bytes. */
export const LONG_NAME_BYTES_MAX = 1024 * 1024;

/** What headers that hold for all further members may say together. */
const GLOBAL_BYTES_MAX = 1024 * 1024;

/** Keys that a map in GNU's sparse format 0.0 has once for each range. */
const RANGE_KEYS: readonly string[] = ["GNU.sparse.offset", "GNU.sparse.numbytes"];

/** What stands before a member's own header: its extended header, GNU's long names, and what holds for all. */
export class ExtendedHeader {
  #records = new Map<string, Buffer>();
  readonly #global = new Map<string, Buffer>();
  #globalBytes = 0;
  #ranges: Buffer[] = [];
  #longName: Buffer | undefined;
  #longLink: Buffer | undefined;
  #hasOwn = false;

  /** Whether anything came that a member must follow. */
  get pending(): boolean {
    return this.#hasOwn || this.#longName !== undefined || this.#longLink !== undefined;
  }

  /** Whether the member has an extended header of POSIX. */
  get isPax(): boolean {
    return this.#hasOwn || this.#global.size > 0;
  }

  get longName(): Buffer | undefined {
    return this.#longName;
  }

  get longLink(): Buffer | undefined {
    return this.#longLink;
  }

  /** Offset, length, offset, length ... of GNU's sparse format 0.0, in their text. */
  get sparseRanges(): readonly Buffer[] {
    return this.#ranges;
  }

  /** A record's value; undefined when it is absent or empty, which takes a global one back. */
  value(key: string): Buffer | undefined {
    const value = this.#records.get(key) ?? this.#global.get(key);
    return value === undefined || value.length === 0 ? undefined : value;
  }

  /** All records that are about this member alone. */
  get own(): ReadonlyMap<string, Buffer> {
    return this.#records;
  }

  /** Takes an extended header. Throws TAR_DAMAGED. */
  take(body: Buffer, { global, where }: { readonly global: boolean; readonly where: string }): void {
    const records = decodePaxRecords(body);
    if (records === undefined) throw new TarError("TAR_DAMAGED", `${where} is damaged: its records do not fit`);
    if (global) this.#globalBytes += body.length;
    if (this.#globalBytes > GLOBAL_BYTES_MAX) {
      throw new TarError(
        "TAR_UNSUPPORTED",
        `${where}: what holds for all members has more than ${GLOBAL_BYTES_MAX} bytes`,
      );
    }
    if (!global) {
      this.#records = new Map();
      this.#ranges = [];
      this.#hasOwn = true;
    }
    for (const { key, value } of records) {
      if (global) this.#global.set(key, value);
      else if (RANGE_KEYS.includes(key)) this.#ranges.push(value);
      else this.#records.set(key, value);
    }
  }

  /** Takes one of GNU's long names, which ends at a NUL. */
  takeLong(kind: "name" | "link", body: Buffer): void {
    const end = body.indexOf(0);
    const name = end === -1 ? body : body.subarray(0, end);
    if (kind === "name") this.#longName = name;
    else this.#longLink = name;
  }

  /** The member is through: only what holds for all stays. */
  clear(): void {
    this.#records = new Map();
    this.#ranges = [];
    this.#longName = undefined;
    this.#longLink = undefined;
    this.#hasOwn = false;
  }
}
