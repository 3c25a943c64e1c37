import { createCipheriv, createDecipheriv, hash } from "node:crypto";
import { assert } from "../base/assert.ts";
import { damagedObject, newerObject } from "./object-errors.ts";

// FORMAT.md, "Keys". A wrap is plain JSON, so that a person who finds a repository sees what is needed to open it.

/** Fills a buffer with bytes nobody can foretell. Injected, so that samples of the format can be written. */
export type RandomFill = (bytes: Buffer) => void;

/** Cost of scrypt (RFC 7914): memory is 128 · N · r bytes. */
export type ScryptCost = { readonly N: number; readonly r: number; readonly p: number };

/** What opens a wrap. */
export type WrapKind = "passphrase" | "key-file" | "repository-key";

/** A wrap, read. */
export type KeyWrap = {
  readonly kind: WrapKind;
  readonly salt: Buffer;
  /** Of a passphrase alone. */
  readonly scrypt: ScryptCost | undefined;
  readonly nonce: Buffer;
  readonly wrapped: Buffer;
};

export const KEY_BYTES = 32;
export const SALT_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const WRAP_VERSION = 1;
const KINDS: readonly WrapKind[] = ["passphrase", "key-file", "repository-key"];

/** A wrap has under 600 bytes. Whatever is longer is something else, and is not parsed. */
const WRAP_JSON_BYTES_MAX = 4096;

/** Most that a wrap may ask of whoever opens it: 1 GiB of memory, some 4 s. Ours asks for an eighth of it. A store is not trusted with more. */
const SCRYPT_MEMORY_BYTES_MAX = 2 ** 30;
const SCRYPT_PARALLEL_MAX = 4;

/** Encrypts `plain` under `wrappingKey`; `context` says what it is and is needed to open it. The bytes of the object. */
export function sealWrap(
  plain: Buffer,
  options: {
    readonly kind: WrapKind;
    readonly wrappingKey: Buffer;
    readonly salt: Buffer;
    readonly scrypt?: ScryptCost | undefined;
    readonly context: string;
    readonly fill: RandomFill;
  },
): Buffer {
  assert(options.wrappingKey.length === KEY_BYTES && options.salt.length === SALT_BYTES);
  const nonce = Buffer.alloc(NONCE_BYTES);
  options.fill(nonce);
  const cipher = createCipheriv("aes-256-gcm", options.wrappingKey, nonce, { authTagLength: TAG_BYTES });
  cipher.setAAD(Buffer.from(options.context));
  const wrapped = Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
  return encodeWrap({ kind: options.kind, salt: options.salt, scrypt: options.scrypt, nonce, wrapped });
}

/** The plain text of `wrap`, or undefined if `wrappingKey` or `context` are not those it was sealed with. */
export function openWrap(
  wrap: KeyWrap,
  options: { readonly wrappingKey: Buffer; readonly context: string },
): Buffer | undefined {
  const end = wrap.wrapped.length - TAG_BYTES;
  const decipher = createDecipheriv("aes-256-gcm", options.wrappingKey, wrap.nonce, { authTagLength: TAG_BYTES });
  decipher.setAAD(Buffer.from(options.context));
  decipher.setAuthTag(wrap.wrapped.subarray(end));
  const plain = decipher.update(wrap.wrapped.subarray(0, end));
  try {
    decipher.final();
  } catch {
    return undefined;
  }
  return plain;
}

/**
 * Reads a wrap. `name` is its object's, for messages. Throws REPOSITORY_NEWER and REPOSITORY_DAMAGED: its checksum needs no key, so that damage is not
 * taken for a wrong passphrase.
 */
export function decodeWrap(bytes: Buffer, name: string): KeyWrap {
  const json = parseObject(bytes, name);
  const version = json["version"];
  if (typeof version !== "number" || !Number.isSafeInteger(version) || version < 1)
    throw damagedObject(name, "it has no version");
  if (version > WRAP_VERSION) throw newerObject(name, { version, known: WRAP_VERSION });
  const kind = KINDS.find((each) => each === json["kind"]);
  if (kind === undefined) throw damagedObject(name, "its kind is not one of this version");
  const wrap: KeyWrap = {
    kind,
    salt: hexField(json, "salt", name),
    scrypt: kind === "passphrase" ? scryptField(json, name) : undefined,
    nonce: hexField(json, "nonce", name),
    wrapped: hexField(json, "wrapped", name),
  };
  if (json["checksum"] !== checksumOf(wrap)) throw damagedObject(name, "it does not match its checksum");
  if (wrap.salt.length !== SALT_BYTES || wrap.nonce.length !== NONCE_BYTES || wrap.wrapped.length <= TAG_BYTES)
    throw damagedObject(name, "a field has the wrong length");
  return wrap;
}

function encodeWrap(wrap: KeyWrap): Buffer {
  const json = {
    version: WRAP_VERSION,
    kind: wrap.kind,
    salt: wrap.salt.toString("hex"),
    ...(wrap.scrypt === undefined ? {} : { scrypt: { N: wrap.scrypt.N, r: wrap.scrypt.r, p: wrap.scrypt.p } }),
    nonce: wrap.nonce.toString("hex"),
    wrapped: wrap.wrapped.toString("hex"),
    checksum: checksumOf(wrap),
  };
  return Buffer.from(`${JSON.stringify(json, null, 2)}\n`);
}

/** SHA-256 of the fields as lines, in the order of FORMAT.md. Finds damage; authenticity is the cipher's business. */
function checksumOf({ kind, salt, scrypt, nonce, wrapped }: KeyWrap): string {
  const cost = scrypt === undefined ? "" : `${scrypt.N} ${scrypt.r} ${scrypt.p}`;
  const fields = [WRAP_VERSION, kind, salt.toString("hex"), cost, nonce.toString("hex"), wrapped.toString("hex")];
  return hash("sha256", fields.join("\n"), "hex");
}

function parseObject(bytes: Buffer, name: string): Record<string, unknown> {
  if (bytes.length > WRAP_JSON_BYTES_MAX) throw damagedObject(name, `it has ${bytes.length} bytes`);
  let json: unknown;
  try {
    json = JSON.parse(bytes.toString());
  } catch (cause) {
    throw damagedObject(name, "it is not JSON", { cause });
  }
  if (typeof json !== "object" || json === null || Array.isArray(json)) throw damagedObject(name, "it is no object");
  return json as Record<string, unknown>;
}

function hexField(json: Record<string, unknown>, field: string, name: string): Buffer {
  const text = json[field];
  if (typeof text !== "string" || !/^([0-9a-f]{2})+$/.test(text)) throw damagedObject(name, `its ${field} is not hex`);
  return Buffer.from(text, "hex");
}

function scryptField(json: Record<string, unknown>, name: string): ScryptCost {
  const { N, r, p } = (json["scrypt"] ?? {}) as Record<string, unknown>;
  const positive = (value: unknown): value is number =>
    typeof value === "number" && Number.isSafeInteger(value) && value > 0;
  if (!positive(N) || !positive(r) || !positive(p) || N < 2 || !Number.isInteger(Math.log2(N)))
    throw damagedObject(name, "its scrypt numbers make no sense");
  if (128 * N * r > SCRYPT_MEMORY_BYTES_MAX || p > SCRYPT_PARALLEL_MAX)
    throw damagedObject(name, "its scrypt numbers ask for more memory or time than any Tidemark does");
  return { N, r, p };
}
