import { assert } from "../../base/assert.ts";
import { TidemarkError } from "../../domain/errors.ts";

/** `T` with every property that may be undefined made optional instead. */
export type Defined<T> = { [K in keyof T as undefined extends T[K] ? never : K]: T[K] } & {
  [K in keyof T as undefined extends T[K] ? K : never]?: Exclude<T[K], undefined>;
};

/** A copy of `value` without the properties that are undefined: absent on the wire is absent in the domain. */
export function defined<T extends object>(value: T): Defined<T> {
  const copy: Record<string, unknown> = {};
  for (const [key, item] of Object.entries(value)) if (item !== undefined) copy[key] = item;
  return copy as Defined<T>;
}

/** A field that must be set. Throws INVALID_ARGUMENT naming it. */
export function need<T>(value: T | undefined, field: string): T {
  if (value === undefined) throw new TidemarkError("INVALID_ARGUMENT", `the message lacks the field ${field}`);
  return value;
}

/** Applies `convert` to a value that may be absent. */
export function maybe<A, B>(value: A | undefined, convert: (value: A) => B): B | undefined {
  return value === undefined ? undefined : convert(value);
}

/** A 64-bit value of the wire that the domain holds as a safe number. Throws INVALID_ARGUMENT above 2^53-1. */
export function safeNumber(value: bigint, field: string): number {
  const number = Number(value);
  if (!Number.isSafeInteger(number)) throw new TidemarkError("INVALID_ARGUMENT", `${field} is out of range: ${value}`);
  return number;
}

/** A safe number as 64-bit value of the wire. */
export function wide(value: number): bigint {
  assert(Number.isSafeInteger(value), "not a safe integer");
  return BigInt(value);
}

/** Bytes of the wire as a Buffer over the same memory. */
export function buffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Translates a closed set of words of the domain to an enum of the wire and back. */
export class WordCodec<W extends string, N extends number> {
  readonly #numbers: Readonly<Record<W, N>>;
  readonly #words = new Map<number, W>();
  readonly #what: string;

  constructor(what: string, numbers: Readonly<Record<W, N>>) {
    this.#what = what;
    this.#numbers = numbers;
    for (const word of Object.keys(numbers) as W[]) this.#words.set(numbers[word], word);
  }

  /** The number of `word` on the wire. */
  to(word: W): N {
    return this.#numbers[word];
  }

  /** The word of a number. Throws INVALID_ARGUMENT for 0 (not set) and for those of a newer version. */
  from(number: number): W {
    const word = this.#words.get(number);
    if (word !== undefined) return word;
    const expected = Object.keys(this.#numbers).join(", ");
    throw new TidemarkError("INVALID_ARGUMENT", `${this.#what} ${number} is unknown: expected ${expected}`);
  }
}

/** Checks that a word that travels as text is one of `known`. Throws INVALID_ARGUMENT otherwise. */
export function oneOf<W extends string>(known: readonly W[], text: string, what: string): W {
  const word = known.find((candidate) => candidate === text);
  if (word === undefined)
    throw new TidemarkError("INVALID_ARGUMENT", `${what} "${text}" is unknown: expected ${known.join(", ")}`);
  return word;
}
