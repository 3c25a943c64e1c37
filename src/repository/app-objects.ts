import { randomFillSync } from "node:crypto";
import type { Clock } from "../base/clock.ts";
import { isBlobError } from "../blob/blob-error.ts";
import type { BlobEntry, BlobStore } from "../blob/blob-store.ts";
import type { AppKeys } from "./app-keys.ts";
import type { RandomFill } from "./key-wrap.ts";
import { LockTime } from "./lock-time.ts";
import { type AppFolder, appPrefix } from "./names.ts";
import { type FramedKind, openObject, sealObject } from "./object-codec.ts";
import { damagedObject, missingObject } from "./object-errors.ts";

/** What an app's part of a repository is reached with. */
export type AppAccess = {
  readonly store: BlobStore;
  readonly keys: AppKeys;
  /** Days that objects stay locked; undefined: the repository has no locks. */
  readonly lockDays: number | undefined;
  /** Orders requests for the store's time; its wall time is never used. */
  readonly clock: Clock;
  /** For tests. */
  readonly fill?: RandomFill | undefined;
};

/** Most bytes of an object of JSON before it is parsed. */
export const JSON_OBJECT_BYTES_MAX = 32 * 1024 * 1024;

const RANDOM_BYTES = 16;

/** The objects of one app: names, encryption, locks. What is in them is not its concern. */
export class AppObjects {
  readonly store: BlobStore;
  readonly keys: AppKeys;
  readonly prefix: string;
  readonly #fill: RandomFill;
  readonly #locks: LockTime | undefined;

  constructor({ store, keys, lockDays, clock, fill }: AppAccess) {
    this.store = store;
    this.keys = keys;
    this.prefix = appPrefix(keys.tag);
    this.#fill = fill ?? randomFillSync;
    this.#locks = lockDays === undefined ? undefined : new LockTime({ store, clock, lockDays });
  }

  /** The full name of an object, or of a folder with an empty `text`. */
  name(folder: AppFolder, text = ""): string {
    return `${this.prefix}${folder}/${text}`;
  }

  /** 128 random bits as hex. */
  randomText(): string {
    const bytes = Buffer.alloc(RANDOM_BYTES);
    this.#fill(bytes);
    return bytes.toString("hex");
  }

  /** Until when what is put now is locked, by the store's clock; undefined: not at all. */
  async lockUntilMs(): Promise<number | undefined> {
    return await this.#locks?.untilMs();
  }

  /** Encrypts and creates an object; its length. Errors: those of `BlobStore.put`. */
  async put(kind: FramedKind, name: string, plain: readonly Uint8Array[]): Promise<number> {
    return await this.putSealed(name, sealObject(this.keys, { kind, name }, plain, { fill: this.#fill }));
  }

  /** Creates an object of bytes that are encrypted already; its length. */
  async putSealed(name: string, body: readonly Uint8Array[]): Promise<number> {
    await this.store.put(name, body, { lockUntilMs: await this.lockUntilMs() });
    return body.reduce((sum, part) => sum + part.length, 0);
  }

  /** The bytes of an object as they are in the store. Throws REPOSITORY_DAMAGED if it is missing or longer than `bytesMax`; other BlobErrors pass. */
  async readSealed(name: string, bytesMax: number): Promise<Buffer> {
    try {
      return await this.store.get(name, { bytesMax });
    } catch (error) {
      throw readError(name, error);
    }
  }

  /** A part of an object. Throws as `readSealed`. */
  async readRange(name: string, range: { readonly from: number; readonly length: number }): Promise<Buffer> {
    try {
      return await this.store.get(name, range);
    } catch (error) {
      throw readError(name, error);
    }
  }

  /** The plain text of an object of JSON. Throws as `readSealed`, and for what does not open. */
  async readJson(kind: FramedKind, name: string): Promise<Buffer> {
    const bytes = await this.readSealed(name, JSON_OBJECT_BYTES_MAX);
    return openObject(this.keys, { kind, name }, bytes, { plainBytesMax: JSON_OBJECT_BYTES_MAX });
  }

  /** Pages of a folder, in order of names. `after` is a text in the folder. */
  list(folder: AppFolder, options: { readonly after?: string } = {}): AsyncGenerator<readonly BlobEntry[]> {
    const { after } = options;
    return this.store.list(this.name(folder), after === undefined ? {} : { after: this.name(folder, after) });
  }

  /** A random source for what encrypts by itself. */
  get fill(): RandomFill {
    return this.#fill;
  }
}

function readError(name: string, error: unknown): unknown {
  if (isBlobError(error, "BLOB_MISSING")) return missingObject(name, { cause: error });
  if (isBlobError(error, "BLOB_DAMAGED"))
    return damagedObject(name, "it has not the length it should have", { cause: error });
  return error;
}
