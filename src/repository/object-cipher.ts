import { createCipheriv, createDecipheriv, type KeyObject } from "node:crypto";
import { assert } from "../base/assert.ts";
import { writeU64Be } from "../base/bytes.ts";
import type { AppKeys } from "./app-keys.ts";
import { damagedObject, newerObject } from "./object-errors.ts";

// FORMAT.md, "Object": header and frames.

/** Numbers of the kinds of objects, as they stand in headers. */
export const OBJECT_KIND = { pack: 1, seal: 2, run: 3, checkpoint: 4, epoch: 5, tomb: 6 } as const;

export type ObjectKind = keyof typeof OBJECT_KIND;

/** What an object is and where it stands: part of what is authenticated. `name` is the full one in the store. */
export type ObjectRef = { readonly kind: ObjectKind; readonly name: string };

/** Where a frame stands: its cipher text's offset in the object, and whether it is the object's last. Never twice the same in one object. */
export type FramePlace = { readonly offset: number; readonly last: boolean };

export const OBJECT_HEADER_BYTES = 40;
export const FRAME_TAG_BYTES = 16;
export const OBJECT_SALT_BYTES = 32;

const MAGIC = Buffer.from("TMRO", "latin1");
const VERSION = 1;
const SALT_OFFSET = 8;
const NONCE_BYTES = 12;

/** The 40 bytes an object begins with. */
export function encodeObjectHeader(kind: ObjectKind, salt: Buffer): Buffer {
  assert(salt.length === OBJECT_SALT_BYTES, "an object's salt has 32 bytes");
  const header = Buffer.alloc(OBJECT_HEADER_BYTES);
  MAGIC.copy(header, 0);
  header.writeUInt8(VERSION, 4);
  header.writeUInt8(OBJECT_KIND[kind], 5);
  salt.copy(header, SALT_OFFSET);
  return header;
}

/** The salt of the object that begins with `bytes`. Throws REPOSITORY_NEWER, and REPOSITORY_DAMAGED if these are not the header of such an object. */
export function decodeObjectHeader(ref: ObjectRef, bytes: Buffer): Buffer {
  if (bytes.length < OBJECT_HEADER_BYTES) throw damagedObject(ref.name, `it is cut off after ${bytes.length} bytes`);
  if (!bytes.subarray(0, MAGIC.length).equals(MAGIC)) {
    throw damagedObject(ref.name, "it does not begin as an object of Tidemark does");
  }
  const version = bytes.readUInt8(4);
  if (version > VERSION) throw newerObject(ref.name, { version, known: VERSION });
  if (version !== VERSION) throw damagedObject(ref.name, `its version is ${version}`);
  if (bytes.readUInt8(5) !== OBJECT_KIND[ref.kind]) {
    throw damagedObject(ref.name, `it is an object of kind ${bytes.readUInt8(5)}, not a ${ref.kind}`);
  }
  if (bytes.readUInt16BE(6) !== 0) throw damagedObject(ref.name, "bytes of its header that must be 0 are not");
  return Buffer.from(bytes.subarray(SALT_OFFSET, OBJECT_HEADER_BYTES));
}

/** Encrypts and decrypts the frames of one object. Keeps no order: a frame may be opened by itself. */
export class ObjectCipher {
  readonly #ref: ObjectRef;
  readonly #key: KeyObject;
  readonly #context: Buffer;
  // The nonce of the call under way: OpenSSL copies it.
  readonly #nonce = Buffer.alloc(NONCE_BYTES);

  constructor(keys: AppKeys, ref: ObjectRef, salt: Buffer) {
    const kind = OBJECT_KIND[ref.kind];
    const name = Buffer.from(ref.name);
    const lead = Buffer.from([...MAGIC, VERSION, kind]);
    const length = Buffer.alloc(2);
    length.writeUInt16BE(name.length);
    this.#ref = ref;
    this.#key = keys.objectKey(kind, salt);
    this.#context = Buffer.concat([lead, keys.appIdBytes, length, name]);
  }

  /** The frame's cipher text with its tag, as parts one after the other; FRAME_TAG_BYTES longer than `parts`. A place is used once. */
  seal(parts: readonly Uint8Array[], place: FramePlace): Buffer[] {
    const cipher = createCipheriv("aes-256-gcm", this.#key, this.#nonceOf(place), { authTagLength: FRAME_TAG_BYTES });
    cipher.setAAD(this.#context);
    const sealed = parts.map((part) => cipher.update(part));
    cipher.final();
    sealed.push(cipher.getAuthTag());
    return sealed;
  }

  /** The plain text of what `seal` made at `place`. Throws REPOSITORY_DAMAGED for anything else. */
  open(sealed: Buffer, place: FramePlace): Buffer {
    const end = sealed.length - FRAME_TAG_BYTES;
    if (end < 0) throw damagedObject(this.#ref.name, `it is cut off at byte ${place.offset + sealed.length}`);
    const decipher = createDecipheriv("aes-256-gcm", this.#key, this.#nonceOf(place), {
      authTagLength: FRAME_TAG_BYTES,
    });
    decipher.setAAD(this.#context);
    decipher.setAuthTag(sealed.subarray(end));
    const plain = decipher.update(sealed.subarray(0, end));
    try {
      decipher.final();
    } catch (cause) {
      const where = `its ${sealed.length} bytes from byte ${place.offset}`;
      const fault = `${where} are not what was written there, or belong to another object or app`;
      throw damagedObject(this.#ref.name, fault, { cause });
    }
    return plain;
  }

  #nonceOf(place: FramePlace): Buffer {
    this.#nonce.writeUInt8(place.last ? 1 : 0, 3);
    writeU64Be(this.#nonce, place.offset, 4);
    return this.#nonce;
  }
}
