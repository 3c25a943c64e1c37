import { hkdfSync, randomFillSync, scrypt } from "node:crypto";
import { assert, unreachable } from "../base/assert.ts";
import {
  decodeWrap,
  KEY_BYTES,
  type KeyWrap,
  openWrap,
  type RandomFill,
  SALT_BYTES,
  type ScryptCost,
  sealWrap,
} from "./key-wrap.ts";
import { damagedObject, wrongKey } from "./object-errors.ts";

// FORMAT.md, "Keys": the repository key and what opens it.

/** What a person has to open a repository with. `key` is what `parseKeyFile` read. */
export type RepositorySecret =
  | { readonly kind: "passphrase"; readonly passphrase: string }
  | { readonly kind: "key-file"; readonly key: Buffer };

/** 128 MiB and about 0.4 s for each guess: what OWASP's password storage guide asks of scrypt. */
export const SCRYPT_COST: ScryptCost = { N: 2 ** 17, r: 8, p: 1 };

const CONTEXT = "tidemark repository key 1";
const KEY_FILE_INFO = "tidemark key file 1";

/** A new repository key: 32 random bytes. */
export function newRepositoryKey(fill: RandomFill = randomFillSync): Buffer {
  const key = Buffer.alloc(KEY_BYTES);
  fill(key);
  return key;
}

/** The bytes of a wrap object from which `secret` gets `key` back. With a passphrase it takes as long as `scrypt` says, in a thread of Node's pool. */
export async function wrapRepositoryKey(
  key: Buffer,
  secret: RepositorySecret,
  options: { readonly fill?: RandomFill; readonly scrypt?: ScryptCost } = {},
): Promise<Buffer> {
  assert(key.length === KEY_BYTES, "a repository key has 32 bytes");
  const fill = options.fill ?? randomFillSync;
  const salt = Buffer.alloc(SALT_BYTES);
  fill(salt);
  const cost = secret.kind === "passphrase" ? (options.scrypt ?? SCRYPT_COST) : undefined;
  const wrappingKey = await deriveKey(secret, salt, cost);
  return sealWrap(key, { kind: secret.kind, wrappingKey, salt, scrypt: cost, context: CONTEXT, fill });
}

/**
 * The repository key out of the wrap object `name`. Throws REPOSITORY_KEY_WRONG for a secret that does not open it, and for one of the other kind;
 * REPOSITORY_DAMAGED, REPOSITORY_NEWER.
 */
export async function unwrapRepositoryKey(
  bytes: Buffer,
  options: { readonly name: string; readonly secret: RepositorySecret },
): Promise<Buffer> {
  const { name, secret } = options;
  const wrap = decodeRepositoryWrap(bytes, name);
  if (wrap.kind !== secret.kind) throw wrongKey(name, OTHER_KIND[secret.kind]);
  const wrappingKey = await deriveKey(secret, wrap.salt, wrap.scrypt);
  const key = openWrap(wrap, { wrappingKey, context: CONTEXT });
  if (key === undefined) throw wrongKey(name, REFUSED[secret.kind]);
  if (key.length !== KEY_BYTES) throw damagedObject(name, "the key in it has the wrong length");
  return key;
}

/** What the wrap object `name` wants: so that a program asks for that. Throws REPOSITORY_DAMAGED, REPOSITORY_NEWER. */
export function wrapKind(bytes: Buffer, name: string): RepositorySecret["kind"] {
  return decodeRepositoryWrap(bytes, name).kind;
}

const REFUSED: Record<RepositorySecret["kind"], string> = {
  passphrase: "the passphrase is wrong. The object itself is whole; capitals and the keyboard's layout count.",
  "key-file": "the key file is that of another repository, or its key was replaced. Both files are whole.",
};

const OTHER_KIND: Record<RepositorySecret["kind"], string> = {
  passphrase: "it is opened by a key file, not by a passphrase.",
  "key-file": "it is opened by a passphrase, not by a key file.",
};

type RepositoryWrap = KeyWrap & { readonly kind: RepositorySecret["kind"] };

function decodeRepositoryWrap(bytes: Buffer, name: string): RepositoryWrap {
  const wrap = decodeWrap(bytes, name);
  const { kind } = wrap;
  if (kind === "repository-key") throw damagedObject(name, "it is the wrap of an app's key");
  return { ...wrap, kind };
}

async function deriveKey(secret: RepositorySecret, salt: Buffer, cost: ScryptCost | undefined): Promise<Buffer> {
  switch (secret.kind) {
    case "key-file":
      return Buffer.from(hkdfSync("sha256", secret.key, salt, KEY_FILE_INFO, KEY_BYTES));
    case "passphrase":
      assert(cost !== undefined, "a passphrase comes with its cost");
      // NFC, as RFC 8265 asks: the same letters typed on another system are the same passphrase.
      return await scryptKey(secret.passphrase.normalize("NFC"), salt, cost);
    default:
      return unreachable(secret);
  }
}

function scryptKey(passphrase: string, salt: Buffer, { N, r, p }: ScryptCost): Promise<Buffer> {
  // What it needs is 128 · N · r and a little; Node.js refuses above maxmem.
  const options = { N, r, p, maxmem: 128 * N * r + 128 * r * p + 2 ** 20 };
  return new Promise((resolve, reject) => {
    scrypt(passphrase, salt, KEY_BYTES, options, (error, key) => (error === null ? resolve(key) : reject(error)));
  });
}
