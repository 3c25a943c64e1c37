import { createHmac, createSecretKey, hkdfSync, type KeyObject, randomFillSync } from "node:crypto";
import { assert } from "../base/assert.ts";
import { type AppId, isHexId } from "../domain/ids.ts";
import { decodeWrap, KEY_BYTES, openWrap, type RandomFill, SALT_BYTES, sealWrap } from "./key-wrap.ts";
import { damagedObject, wrongKey } from "./object-errors.ts";

// FORMAT.md, "Keys": what belongs to one app.

/** An app's key with what it is the key of. Plain data, for a worker's `workerData`. `tag` stands for the app in names. */
export type AppKeyMaterial = { readonly appId: AppId; readonly tag: string; readonly key: Uint8Array };

/** Bytes of a chunk's id. */
export const CHUNK_ID_BYTES = 32;

const ID_BYTES = 16;
const GEAR_ENTRIES = 256;

/** The keys of one app. */
export class AppKeys {
  readonly appId: AppId;
  readonly tag: string;
  readonly appIdBytes: Buffer;
  readonly #key: Buffer;
  readonly #chunkKey: KeyObject;

  constructor({ appId, tag, key }: AppKeyMaterial) {
    assert(isHexId(appId) && isHexId(tag), "app ids and tags are 128 bits as hex");
    assert(key.length === KEY_BYTES, "an app's key has 32 bytes");
    this.appId = appId;
    this.tag = tag;
    this.appIdBytes = Buffer.from(appId, "hex");
    this.#key = Buffer.from(key);
    this.#chunkKey = createSecretKey(this.#derive("tidemark chunk id 1", KEY_BYTES));
  }

  /** The id of a chunk: 32 bytes, the same for the same bytes of the same app, and telling nothing to anybody without its key. */
  chunkId(bytes: Uint8Array): Buffer {
    return createHmac("sha256", this.#chunkKey).update(bytes).digest();
  }

  /** What the chunker's cuts depend on, so that lengths of chunks tell nothing of contents: 256 numbers. */
  gearTable(): Uint32Array {
    const bytes = this.#derive("tidemark chunking 1", GEAR_ENTRIES * 4);
    return Uint32Array.from({ length: GEAR_ENTRIES }, (_, index) => bytes.readUInt32BE(index * 4));
  }

  /** The key of one object: of its kind's number and its salt. */
  objectKey(kind: number, salt: Buffer): KeyObject {
    const info = Buffer.concat([Buffer.from("tidemark object 1"), Buffer.of(kind)]);
    return createSecretKey(Buffer.from(hkdfSync("sha256", this.#key, salt, info, KEY_BYTES)));
  }

  /** What another thread makes the same keys from. */
  material(): AppKeyMaterial {
    return { appId: this.appId, tag: this.tag, key: Uint8Array.from(this.#key) };
  }

  #derive(info: string, length: number): Buffer {
    return Buffer.from(hkdfSync("sha256", this.#key, Buffer.alloc(0), info, length));
  }
}

/** A new app's key, and a tag that tells nothing of the app. */
export function newAppKeyMaterial(options: { readonly appId: AppId; readonly fill?: RandomFill }): AppKeyMaterial {
  const fill = options.fill ?? randomFillSync;
  const key = Buffer.alloc(KEY_BYTES);
  const tag = Buffer.alloc(ID_BYTES);
  fill(key);
  fill(tag);
  return { appId: options.appId, tag: tag.toString("hex"), key };
}

/** The bytes of the object that gives the app's key to whoever has the repository key. */
export function wrapAppKey(
  material: AppKeyMaterial,
  options: { readonly repositoryKey: Buffer; readonly fill?: RandomFill },
): Buffer {
  const fill = options.fill ?? randomFillSync;
  const salt = Buffer.alloc(SALT_BYTES);
  fill(salt);
  const plain = Buffer.concat([material.key, Buffer.from(material.appId, "hex")]);
  const wrappingKey = deriveWrappingKey(options.repositoryKey, salt);
  return sealWrap(plain, { kind: "repository-key", wrappingKey, salt, context: contextOf(material.tag), fill });
}

/**
 * The app's key out of the wrap object `name`, which stands under `tag`. Throws REPOSITORY_KEY_WRONG if the repository key is not the one it was wrapped by (or the object is another
 * app's), REPOSITORY_DAMAGED, REPOSITORY_NEWER.
 */
export function unwrapAppKey(
  bytes: Buffer,
  options: { readonly repositoryKey: Buffer; readonly tag: string; readonly name: string },
): AppKeyMaterial {
  const { repositoryKey, tag, name } = options;
  const wrap = decodeWrap(bytes, name);
  if (wrap.kind !== "repository-key")
    throw damagedObject(name, "it is a wrap of the repository's key, not of an app's");
  const plain = openWrap(wrap, { wrappingKey: deriveWrappingKey(repositoryKey, wrap.salt), context: contextOf(tag) });
  if (plain === undefined) {
    throw wrongKey(name, "it was wrapped by another repository's key, or is another app's object put in this place.");
  }
  if (plain.length !== KEY_BYTES + ID_BYTES) throw damagedObject(name, "the key in it has the wrong length");
  return { appId: plain.toString("hex", KEY_BYTES) as AppId, tag, key: plain.subarray(0, KEY_BYTES) };
}

function deriveWrappingKey(repositoryKey: Buffer, salt: Buffer): Buffer {
  return Buffer.from(hkdfSync("sha256", repositoryKey, salt, "tidemark app key 1", KEY_BYTES));
}

function contextOf(tag: string): string {
  return `tidemark app key 1 ${tag}`;
}
