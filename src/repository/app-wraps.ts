import { createHmac, hkdfSync } from "node:crypto";
import { isBlobError } from "../blob/blob-error.ts";
import type { BlobStore } from "../blob/blob-store.ts";
import { TidemarkError } from "../domain/errors.ts";
import type { AppId } from "../domain/ids.ts";
import { type AppKeyMaterial, newAppKeyMaterial, unwrapAppKey, wrapAppKey } from "./app-keys.ts";
import { mapBounded } from "./map-bounded.ts";
import { APP_KEYS_PREFIX, APPS_PREFIX, appPrefix } from "./names.ts";
import { type RepositoryAccess, randomName } from "./repository-access.ts";
import { listAppWraps, readSmall } from "./repository-keys.ts";

// FORMAT.md, "Keys": the apps' keys under `keys/apps/`.

/** Wraps read at a time. */
const READS_AT_ONCE = 8;

/** How often the keys of one app may have been destroyed in one repository. */
const TAGS_MAX = 64;

/** The first wrap of an app's key has this name, so that of two services that make it at once one fails. */
const FIRST_WRAP = "0".repeat(32);

const TAG_BYTES = 16;

/** Tags without a key that are told of: more say the same. */
const TAGS_TOLD_MAX = 1000;

export type DamagedWrap = { readonly tag: string; readonly error: TidemarkError };

/** The keys of all apps, by their tags in order. Of an app none of whose wraps opens, `onDamaged` is told. */
export async function readAppKeys(
  access: RepositoryAccess,
  onDamaged: (damaged: DamagedWrap) => void,
): Promise<AppKeyMaterial[]> {
  const wraps = [...(await listAppWraps(access.store))];
  const found = await mapBounded(wraps, READS_AT_ONCE, ([tag, names]) => openWraps(access, { tag, names, onDamaged }));
  return found.filter((material) => material !== undefined);
}

/** An app's key, or undefined. One listing and a get in most cases; else all wraps are read. */
export async function findAppKey(access: RepositoryAccess, appId: AppId): Promise<AppKeyMaterial | undefined> {
  const tag = tagOf(access, appId, 0);
  for (const [each, names] of await listAppWraps(access.store, `${tag}/`)) {
    const material = await openWraps(access, { tag: each, names, onDamaged: () => {} });
    if (material?.appId === appId) return material;
  }
  return (await readAppKeys(access, () => {})).find((material) => material.appId === appId);
}

/** The app's key, made if it is not there. Of several callers at once all get the same. */
export async function makeAppKey(access: RepositoryAccess, appId: AppId): Promise<AppKeyMaterial> {
  const found = await findAppKey(access, appId);
  if (found !== undefined) return found;
  for (let count = 0; count < TAGS_MAX; count++) {
    const tag = tagOf(access, appId, count);
    const names = (await listAppWraps(access.store, `${tag}/`)).get(tag) ?? [];
    // Under a tag with objects but without keys are the backups of an app whose keys were destroyed.
    if (names.length === 0 && (await hasObjects(access, tag))) continue;
    if (names.length === 0) await tryMake(access, appId, tag);
    const there = (await listAppWraps(access.store, `${tag}/`)).get(tag) ?? [];
    const material = await openWraps(access, { tag, names: there, onDamaged: () => {} });
    if (material?.appId === appId) return material;
  }
  throw new TidemarkError(
    "FAILED_PRECONDITION",
    `the keys of app ${appId} were destroyed ${TAGS_MAX} times: take another repository`,
  );
}

/** Deletes all wraps of the app's key. Throws BLOB_LOCKED while locks keep them. */
export async function destroyAppKey(access: RepositoryAccess, tag: string): Promise<void> {
  const names = (await listAppWraps(access.store, `${tag}/`)).get(tag) ?? [];
  await access.store.delete(names);
}

/** Tags with objects that no name of a key goes with: of apps that were destroyed, or whose keys got lost. One request for each tag, and one for the keys. */
export async function tagsWithoutKey(store: BlobStore): Promise<string[]> {
  const keys = await listAppWraps(store);
  const found: string[] = [];
  for (let after: string | undefined = ""; after !== undefined; ) {
    const tag = await nextTag(store, after);
    if (tag !== undefined && !keys.has(tag)) found.push(tag);
    // Behind all that begins with the tag and a slash: "0" is the character after that.
    after = tag === undefined || found.length === TAGS_TOLD_MAX ? undefined : `${APPS_PREFIX}${tag}0`;
  }
  return found;
}

/** The tag of the first object behind `after`. */
async function nextTag(store: BlobStore, after: string): Promise<string | undefined> {
  for await (const page of store.list(APPS_PREFIX, after === "" ? {} : { after }))
    for (const { name } of page) return name.slice(APPS_PREFIX.length).split("/")[0];
  return undefined;
}

/** Puts another wrap of an app's key, by `repositoryKey`; its name. */
export async function putAppWrap(
  access: RepositoryAccess,
  material: AppKeyMaterial,
  repositoryKey: Buffer,
): Promise<string> {
  const name = `${APP_KEYS_PREFIX}${material.tag}/${randomName(access.fill)}`;
  const bytes = wrapAppKey(material, { repositoryKey, fill: access.fill });
  await access.store.put(name, [bytes], { lockUntilMs: await access.keyLock?.untilMs() });
  return name;
}

async function tryMake(access: RepositoryAccess, appId: AppId, tag: string): Promise<void> {
  const { fill, repositoryKey, store } = access;
  const material = { ...newAppKeyMaterial({ appId, fill }), tag };
  const bytes = wrapAppKey(material, { repositoryKey, fill });
  try {
    await store.put(`${APP_KEYS_PREFIX}${tag}/${FIRST_WRAP}`, [bytes], {
      lockUntilMs: await access.keyLock?.untilMs(),
    });
  } catch (error) {
    if (!isBlobError(error, "BLOB_EXISTS")) throw error;
  }
}

async function openWraps(
  access: RepositoryAccess,
  wraps: {
    readonly tag: string;
    readonly names: readonly string[];
    readonly onDamaged: (damaged: DamagedWrap) => void;
  },
): Promise<AppKeyMaterial | undefined> {
  const { tag, names, onDamaged } = wraps;
  let failure: TidemarkError | undefined;
  for (const name of names) {
    try {
      return unwrapAppKey(await readSmall(access.store, name), { repositoryKey: access.repositoryKey, tag, name });
    } catch (error) {
      if (!(error instanceof TidemarkError)) throw error;
      failure = error;
    }
  }
  if (failure !== undefined) onDamaged({ tag, error: failure });
  return undefined;
}

async function hasObjects({ store }: RepositoryAccess, tag: string): Promise<boolean> {
  for await (const page of store.list(appPrefix(tag))) if (page.length > 0) return true;
  return false;
}

/** The tag that an app gets: the same for all who have the repository's key, and telling nothing to others. `count`: how many before it are used up. */
function tagOf({ repositoryKey, id }: RepositoryAccess, appId: AppId, count: number): string {
  const key = Buffer.from(hkdfSync("sha256", repositoryKey, Buffer.from(id, "hex"), "tidemark app tag 1", 32));
  return createHmac("sha256", key).update(`${appId} ${count}`).digest().toString("hex", 0, TAG_BYTES);
}
