import type { Timestamp } from "../base/clock.ts";

/** What JSON can say. */
export type JsonValue = null | boolean | number | string | readonly JsonValue[] | JsonObject;
export type JsonObject = { readonly [name: string]: JsonValue };

/** Longest text field that is believed: labels and names are far shorter. */
const TEXT_CHARS_MAX = 65_536;

/** Reads the fields of a JSON object which somebody else wrote. Everything throws RangeError for what is not as expected; fields that nobody asks for are ignored. */
export class JsonFields {
  readonly #value: Readonly<Record<string, unknown>>;

  constructor(value: unknown) {
    if (typeof value !== "object" || value === null || Array.isArray(value)) throw new RangeError("no JSON object");
    this.#value = value as Record<string, unknown>;
  }

  /** Reads a text that is one JSON object. */
  static parse(bytes: Buffer): JsonFields {
    try {
      return new JsonFields(JSON.parse(bytes.toString()));
    } catch (cause) {
      if (cause instanceof SyntaxError) throw new RangeError("no JSON", { cause });
      throw cause;
    }
  }

  /** The field as it is. */
  raw(name: string): unknown {
    return this.#value[name];
  }

  isNull(name: string): boolean {
    return this.#value[name] === null;
  }

  text(name: string): string {
    const value = this.#value[name];
    if (typeof value === "string" && value.length <= TEXT_CHARS_MAX) return value;
    throw wrong(name, "a text");
  }

  /** A whole number from 0. */
  count(name: string): number {
    const value = this.#value[name];
    if (Number.isSafeInteger(value) && (value as number) >= 0) return value as number;
    throw wrong(name, "a whole number from 0");
  }

  /** `byteCount` bytes as lower-case hex digits; any number of them without it. */
  hex(name: string, byteCount?: number): string {
    const value = this.#value[name];
    const ok = typeof value === "string" && /^([0-9a-f]{2})*$/.test(value);
    if (ok && (byteCount === undefined || value.length === 2 * byteCount)) return value;
    throw wrong(name, byteCount === undefined ? "hex digits" : `${byteCount} bytes as hex digits`);
  }

  object(name: string): JsonFields {
    const value = this.#value[name];
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return new JsonFields(value);
    throw wrong(name, "an object");
  }

  /** At most `countMax` elements. */
  list(name: string, countMax: number): readonly unknown[] {
    const value = this.#value[name];
    if (Array.isArray(value) && value.length <= countMax) return value;
    throw wrong(name, `a list of at most ${countMax}`);
  }

  /** An object all of whose fields are texts. */
  texts(name: string): Readonly<Record<string, string>> {
    const value = this.object(name).#value;
    for (const each of Object.values(value)) if (typeof each !== "string") throw wrong(name, "an object of texts");
    return value as Record<string, string>;
  }

  time(name: string): Timestamp {
    const fields = this.object(name);
    const sec = fields.raw("sec");
    const nsec = fields.count("nsec");
    if (!Number.isSafeInteger(sec) || nsec >= 1_000_000_000) throw wrong(name, "a time");
    return { sec: sec as number, nsec };
  }
}

function wrong(name: string, expected: string): RangeError {
  return new RangeError(`"${name}" is not ${expected}`);
}
