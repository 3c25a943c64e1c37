import { hash } from "node:crypto";
import type { BlobStore } from "../blob/blob-store.ts";
import type { AppId } from "../domain/ids.ts";
import { randomBytesOf, seededRandom } from "../journal/journal-fixture.ts";
import { AppKeys, newAppKeyMaterial } from "./app-keys.ts";
import type { RandomFill } from "./key-wrap.ts";
import { PackWriter, type SealedPack } from "./pack-writer.ts";

export const APP = "0123456789abcdef0123456789abcdef" as AppId;
export const OTHER_APP = "fedcba9876543210fedcba9876543210" as AppId;

/** Bytes that look random and are the same in every run: the SHA-256 of `label` and a counter. */
export function countingFill(label: string): RandomFill {
  let count = 0;
  return (bytes) => {
    for (let at = 0; at < bytes.length; at += 32) {
      hash("sha256", `${label} ${count}`, "buffer").copy(bytes, at);
      count += 1;
    }
  };
}

/** The keys of an app, the same in every run. */
export function keysOf(appId: AppId = APP, label = "keys"): AppKeys {
  return new AppKeys(newAppKeyMaterial({ appId, fill: countingFill(`${label} ${appId}`) }));
}

/** Text that compresses, `length` bytes of it, other for each seed. */
export function textOf(seed: number, length: number): Buffer {
  const random = seededRandom(seed);
  const words = Array.from({ length: 200 }, () => randomBytesOf(random, 6).toString("hex"));
  const lines: string[] = [];
  for (let bytes = 0; bytes < length; ) {
    const line = `${words[Math.floor(random() * words.length)]} ${words[Math.floor(random() * words.length)]}\n`;
    lines.push(line);
    bytes += line.length;
  }
  return Buffer.from(lines.join("")).subarray(0, length);
}

/** A pack of `chunks`. */
export async function packOf(keys: AppKeys, chunks: readonly Buffer[], label = "pack"): Promise<SealedPack> {
  const writer = new PackWriter(keys, { fill: countingFill(label) });
  for (const chunk of chunks) writer.add(keys.chunkId(chunk), chunk);
  return await writer.finish();
}

/** Puts a pack into a store, as `bytes` if its body was changed. */
export async function putPack(store: BlobStore, pack: SealedPack, bytes?: Buffer): Promise<void> {
  await store.put(pack.name, bytes === undefined ? pack.body : [bytes]);
}

/** `bytes` with bit 4 of the byte `at` turned over. */
export function flipped(bytes: Buffer, at: number): Buffer {
  const changed = Buffer.from(bytes);
  changed.writeUInt8(changed.readUInt8(at) ^ 0x10, at);
  return changed;
}
