import { isBlobError } from "../blob/blob-error.ts";
import type { BlobStore } from "../blob/blob-store.ts";
import { TidemarkError } from "../domain/errors.ts";
import { isDamage } from "./as-damage.ts";
import { APP_KEYS_PREFIX, KEYS_PREFIX, SETTINGS_PREFIX } from "./names.ts";
import { damagedObject, missingObject, wrongKey } from "./object-errors.ts";
import { decodeSettings, type RepositorySettings } from "./repository-file.ts";
import { type RepositorySecret, unwrapRepositoryKey, wrapKind } from "./secrets.ts";

/** What a secret opened. */
export type Unlocked = {
  readonly repositoryKey: Buffer;
  /** The wrap it was in: its full name. */
  readonly wrap: string;
  readonly settings: RepositorySettings;
};

/** A wrap of the repository's key. `name`: the random part. */
export type SecretEntry = { readonly name: string; readonly kind: RepositorySecret["kind"] };

/** Wraps of one repository: people and services. Each of a passphrase takes half a second to try. */
const WRAPS_MAX = 64;

/** A wrap and a settings object have under 1 KiB. */
const SMALL_BYTES_MAX = 65_536;

const WRAP_NAME = /^keys\/[0-9a-f]{32}$/;

/** Full names of the wraps of the repository's key, in order. */
export async function listWraps(store: BlobStore): Promise<string[]> {
  const names: string[] = [];
  for await (const page of store.list(KEYS_PREFIX)) {
    names.push(...page.map(({ name }) => name).filter((name) => WRAP_NAME.test(name)));
    if (names.length > WRAPS_MAX)
      throw new TidemarkError(
        "FAILED_PRECONDITION",
        `${store.description} has more than ${WRAPS_MAX} keys: remove those nobody uses`,
      );
  }
  return names;
}

/** What opens the repository: wraps that are damaged are left out. */
export async function listSecrets(store: BlobStore): Promise<SecretEntry[]> {
  const entries: SecretEntry[] = [];
  for (const name of await listWraps(store)) {
    try {
      const kind = wrapKind(await readSmall(store, name), name);
      entries.push({ name: name.slice(KEYS_PREFIX.length), kind });
    } catch (error) {
      if (!isDamage(error)) throw error;
    }
  }
  return entries;
}

/**
 * Finds the wrap that `secret` opens. Throws REPOSITORY_KEY_WRONG if there is none, REPOSITORY_DAMAGED if there may be one that is damaged, REPOSITORY_NEWER, BlobErrors.
 */
export async function unlock(
  store: BlobStore,
  options: { readonly id: string; readonly secret: RepositorySecret },
): Promise<Unlocked> {
  const { id, secret } = options;
  const settings = await readSettings(store);
  // No key can be told to be the right one then.
  if (settings.length === 0) throw noSettings();
  const failures: TidemarkError[] = [];
  for (const wrap of await listWraps(store)) {
    try {
      const bytes = await readSmall(store, wrap);
      const repositoryKey = await unwrapRepositoryKey(bytes, { name: wrap, secret });
      const found = openSettings(settings, { id, repositoryKey });
      if (found !== undefined) return { repositoryKey, wrap, settings: found };
      // Of a repository key that was replaced, or of an attempt to make this repository that another one beat.
      failures.push(wrongKey(wrap, "the key in it is not this repository's, or was replaced."));
    } catch (error) {
      if (!(error instanceof TidemarkError)) throw error;
      failures.push(error);
    }
  }
  throw worstOf(failures) ?? missingObject("keys/", { cause: new Error("no wrap of the repository's key") });
}

/** The failure that says most: a newer version; the right kind of secret refused; damage; the wrong kind. */
function worstOf(failures: readonly TidemarkError[]): TidemarkError | undefined {
  const rank = ({ code, message }: TidemarkError): number => {
    if (code === "REPOSITORY_NEWER") return 0;
    if (code === "REPOSITORY_DAMAGED") return 2;
    return message.includes("it is opened by") ? 3 : 1;
  };
  return failures.toSorted((left, right) => rank(left) - rank(right))[0];
}

function noSettings(): TidemarkError {
  const message = `${SETTINGS_PREFIX} is missing in the repository: it was deleted, or this is an incomplete copy. Nothing was changed; bring the folder back from where the repository was copied from`;
  return new TidemarkError("REPOSITORY_DAMAGED", message, { data: { object: SETTINGS_PREFIX, missing: true } });
}

type StoredSettings = { readonly name: string; readonly bytes: Buffer };

async function readSettings(store: BlobStore): Promise<StoredSettings[]> {
  const stored: StoredSettings[] = [];
  for await (const page of store.list(SETTINGS_PREFIX)) {
    for (const { name } of page) stored.push({ name, bytes: await readSmall(store, name) });
    if (stored.length > WRAPS_MAX) throw damagedObject(SETTINGS_PREFIX, `it has more than ${WRAPS_MAX} objects`);
  }
  // Names begin with their number: the newest first.
  return stored.reverse();
}

/** The newest settings written with this key; undefined: none. */
function openSettings(
  stored: readonly StoredSettings[],
  options: { readonly id: string; readonly repositoryKey: Buffer },
): RepositorySettings | undefined {
  for (const { name, bytes } of stored) {
    try {
      const settings = decodeSettings(bytes, { name, ...options });
      if (settings !== undefined) return settings;
    } catch (error) {
      if (!isDamage(error)) throw error;
    }
  }
  return undefined;
}

/** The bytes of a small plain object. Throws REPOSITORY_DAMAGED if it is missing or much too long. */
export async function readSmall(store: BlobStore, name: string): Promise<Buffer> {
  try {
    return await store.get(name, { bytesMax: SMALL_BYTES_MAX });
  } catch (error) {
    if (isBlobError(error, "BLOB_MISSING")) throw missingObject(name, { cause: error });
    if (isBlobError(error, "BLOB_DAMAGED")) throw damagedObject(name, "it is too long", { cause: error });
    throw error;
  }
}

/** Names below `keys/` that are wraps of apps' keys, by their tags. */
export async function listAppWraps(store: BlobStore, tag = ""): Promise<Map<string, string[]>> {
  const found = new Map<string, string[]>();
  for await (const page of store.list(`${APP_KEYS_PREFIX}${tag}`)) {
    for (const { name } of page) {
      const [each, rest] = name.slice(APP_KEYS_PREFIX.length).split("/");
      if (each === undefined || rest === undefined || !/^[0-9a-f]{32}$/.test(each)) continue;
      const names = found.get(each);
      if (names === undefined) found.set(each, [name]);
      else names.push(name);
    }
  }
  return found;
}
