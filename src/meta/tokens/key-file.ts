import { createPrivateKey, createPublicKey, type KeyObject } from "node:crypto";
import fs from "node:fs/promises";
import path from "node:path";
import { syncFolder, writeWhole } from "../../base/durable-file.ts";
import type { Log } from "../../base/log.ts";

/**
 * The key that signs tokens, in a file of the data folder: readable by its owner alone, and not in the journal, since journals are backed up.
 *
 *   DATA/tokens/          0700
 *   DATA/tokens/key.json  0600  {"version": 1, "id": <RFC 7638 thumbprint>, "key": <JWK of a private Ed25519 key, RFC 8037>}
 */
const VERSION = 1;
const FOLDER = "tokens";
const FILE = "key.json";

/** A key file is 200 bytes. */
const FILE_BYTES_MAX = 4_096;

export type SigningKey = { readonly id: string; readonly privateKey: KeyObject };

/** The key in the file; undefined when there is none that can be used: it is said why, and a new one takes its place. */
export async function readSigningKey(dataFolder: string, log: Log): Promise<SigningKey | undefined> {
  const file = path.join(dataFolder, FOLDER, FILE);
  let text: string;
  try {
    const { mode, size } = await fs.stat(file);
    if (size > FILE_BYTES_MAX) throw new Error("it is too long");
    if ((mode & 0o077) !== 0) {
      await fs.chmod(file, 0o600);
      log.warn(
        "others could read the key that signs tokens: they may have it; if so: tidemark token rotate-keys --revoke-old",
        { file, mode: (mode & 0o7777).toString(8) },
      );
    }
    text = await fs.readFile(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT")
      log.error("the key that signs tokens can't be read: a new one is made", { file, cause: error });
    return undefined;
  }
  const key = parse(text);
  if (key === undefined) log.error("the file of the key that signs tokens is damaged: a new one is made", { file });
  return key;
}

/** Durable when it resolves: the old key, or the new one, is there after a crash. */
export async function writeSigningKey(dataFolder: string, key: SigningKey): Promise<void> {
  const folder = path.join(dataFolder, FOLDER);
  const made = await fs.mkdir(folder, { recursive: true, mode: 0o700 });
  if (made !== undefined) await syncFolder(dataFolder);
  const jwk = key.privateKey.export({ format: "jwk" });
  await writeWhole(path.join(folder, FILE), `${JSON.stringify({ version: VERSION, id: key.id, key: jwk }, null, 2)}\n`);
}

/** The public half, as a JWK's `x`. */
export function publicPart(privateKey: KeyObject): string {
  return createPublicKey(privateKey).export({ format: "jwk" }).x ?? "";
}

/** The public key of a row. */
export function publicKeyOf(x: string): KeyObject {
  return createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x }, format: "jwk" });
}

function parse(text: string): SigningKey | undefined {
  try {
    const { version, id, key } = JSON.parse(text) as Record<string, unknown>;
    if (version !== VERSION || typeof id !== "string") return undefined;
    const privateKey = createPrivateKey({ key: key as { kty: string }, format: "jwk" });
    return privateKey.asymmetricKeyType === "ed25519" ? { id, privateKey } : undefined;
  } catch {
    // Not with the parser's own words: they quote the file.
    return undefined;
  }
}
