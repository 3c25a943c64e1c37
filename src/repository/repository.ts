import { randomFillSync } from "node:crypto";
import { type Clock, SystemClock } from "../base/clock.ts";
import { type BlobError, isBlobError } from "../blob/blob-error.ts";
import type { BlobStore } from "../blob/blob-store.ts";
import { TidemarkError } from "../domain/errors.ts";
import type { AppId } from "../domain/ids.ts";
import { type AppKeyMaterial, AppKeys } from "./app-keys.ts";
import { AppRepository } from "./app-repository.ts";
import {
  type DamagedWrap,
  destroyAppKey,
  findAppKey,
  makeAppKey,
  putAppWrap,
  readAppKeys,
  tagsWithoutKey,
} from "./app-wraps.ts";
import type { RandomFill, ScryptCost } from "./key-wrap.ts";
import { LockTime } from "./lock-time.ts";
import { APPS_PREFIX, appPrefix, KEYS_PREFIX, REPOSITORY_FILE, SETTINGS_PREFIX } from "./names.ts";
import { missingObject } from "./object-errors.ts";
import { type RepositoryAccess, randomName } from "./repository-access.ts";
import {
  decodeIdentity,
  encodeIdentity,
  encodeSettings,
  LOCK_DAYS_MAX,
  REPOSITORY_FILE_BYTES_MAX,
  type RepositoryIdentity,
} from "./repository-file.ts";
import { listAppWraps, listSecrets, listWraps, type SecretEntry, type Unlocked, unlock } from "./repository-keys.ts";
import { extendRepositoryLocks } from "./repository-locks.ts";
import { newRepositoryKey, type RepositorySecret, wrapRepositoryKey } from "./secrets.ts";

export type OpenOptions = {
  readonly store: BlobStore;
  readonly secret: RepositorySecret;
  /** Only orders requests for the store's time. */
  readonly clock?: Clock;
  /** For tests. */
  readonly fill?: RandomFill;
  readonly scrypt?: ScryptCost;
};

export type InitOptions = OpenOptions & {
  /** Objects stay locked for so many days (S3 Object Lock); not at all without it. */
  readonly lockDays?: number;
};

/** An app as the repository lists it. Its name is in its seals. */
export type AppEntry = { readonly appId: AppId; readonly tag: string };

/** Keys are locked for a shorter time than data: destroying them shall have its effect within a week. The maintenance pass makes it last as long as they are wanted. */
export const KEY_LOCK_DAYS_MAX = 7;

/** What an init that was cut off leaves: it hinders no other one. */
const LEFT_BY_INIT = /^(keys\/[0-9a-f]{32}|settings\/[0-9a-f]{8}-[0-9a-f]{32})$/;

/**
 * A repository in a store: FORMAT.md. Holds its key in memory. The store stays the caller's: close it after the last use. Errors of all methods: BlobErrors of the store, and TidemarkErrors with
 * REPOSITORY_DAMAGED, REPOSITORY_NEWER, REPOSITORY_KEY_WRONG, or as said.
 */
export class Repository {
  readonly #access: RepositoryAccess;
  readonly #clock: Clock;
  readonly #wrap: string;
  readonly #scrypt: ScryptCost | undefined;
  // Keys found once stay valid: nothing changes an app's key.
  readonly #keys = new Map<AppId, AppKeyMaterial>();

  private constructor(options: OpenOptions, { id }: { readonly id: string }, unlocked: Unlocked) {
    const { store, clock = new SystemClock(), fill = randomFillSync, scrypt } = options;
    const { repositoryKey, settings, wrap } = unlocked;
    const keyLock = keyLockOf(store, clock, settings.lockDays);
    this.#access = { store, id, repositoryKey, settings, fill, keyLock };
    this.#clock = clock;
    this.#wrap = wrap;
    this.#scrypt = scrypt;
  }

  /**
   * Makes a repository in an empty place. Of several at once one succeeds. Throws ALREADY_EXISTS, NOT_EMPTY (something else is there: nothing was changed), INVALID_ARGUMENT and UNSUPPORTED
   * for the lock days.
   */
  static async init(options: InitOptions): Promise<Repository> {
    const { store, lockDays, fill = randomFillSync, clock = new SystemClock() } = options;
    checkLockDays(store, lockDays);
    await Repository.checkEmpty(store);
    const identity = { id: randomName(fill), created: new Date(await store.timeMs()).toISOString() };
    const repositoryKey = newRepositoryKey(fill);
    const settings = { number: 1, lockDays: lockDays ?? null };
    // What makes it a repository comes last. What a crash leaves before that opens nothing, and is told from a repository by its absence.
    const wrap = `${KEYS_PREFIX}${randomName(fill)}`;
    const settingsName = settingsNameOf(1, fill);
    const wrapped = await wrapRepositoryKey(repositoryKey, options.secret, secretOptions(options));
    const keyLock = keyLockOf(store, clock, settings.lockDays);
    const lock = { lockUntilMs: await keyLock?.untilMs() };
    await store.put(wrap, [wrapped], lock);
    await store.put(settingsName, [encodeSettings(settings, identity.id, repositoryKey)], lock);
    try {
      await store.put(REPOSITORY_FILE, [encodeIdentity(identity)], lock);
    } catch (error) {
      if (!isBlobError(error, "BLOB_EXISTS")) throw error;
      // Nobody can have used what was put under names that only this call knew; under a lock it stays, unused.
      await store.delete([wrap, settingsName]).catch(() => {});
      throw alreadyThere(store);
    }
    return new Repository(options, identity, { repositoryKey, wrap, settings });
  }

  /** Throws ALREADY_EXISTS or NOT_EMPTY, as `init` would; changes nothing. */
  static async checkEmpty(store: BlobStore): Promise<void> {
    await refuseOccupied(store);
  }

  /** Throws what `open` throws of a place where no repository is, without any key. */
  static async checkThere(store: BlobStore): Promise<void> {
    await readIdentity(store);
  }

  /** Opens a repository. Throws NOT_FOUND (there is none), FAILED_PRECONDITION (another program's), REPOSITORY_NEWER, REPOSITORY_DAMAGED, REPOSITORY_KEY_WRONG. With a passphrase it takes half a second. */
  static async open(options: OpenOptions): Promise<Repository> {
    const { store, secret } = options;
    const identity = await readIdentity(store);
    return new Repository(options, identity, await unlock(store, { id: identity.id, secret }));
  }

  /** 128-bit hex; made with the repository. */
  get id(): string {
    return this.#access.id;
  }

  get store(): BlobStore {
    return this.#access.store;
  }

  /** Days that objects stay locked; undefined: not at all. */
  get lockDays(): number | undefined {
    return this.#access.settings.lockDays ?? undefined;
  }

  /** All apps, in no order that means anything. Those whose key does not open `onDamaged` is told of. */
  async apps(onDamaged: (damaged: DamagedWrap) => void = () => {}): Promise<AppEntry[]> {
    const materials = await readAppKeys(this.#access, onDamaged);
    for (const material of materials) this.#keys.set(material.appId, material);
    return materials.map(({ appId, tag }) => ({ appId, tag }));
  }

  /** Folders of apps that no key goes with, as "apps/<tag>/": destroyed ones, or lost keys. At most 1,000. One request for each app. */
  async appsWithoutKey(): Promise<string[]> {
    return (await tagsWithoutKey(this.store)).map(appPrefix);
  }

  /** An app that is in the repository. Throws NOT_FOUND. */
  async openApp(appId: AppId): Promise<AppRepository> {
    const material = this.#keys.get(appId) ?? (await findAppKey(this.#access, appId));
    if (material === undefined)
      throw new TidemarkError("NOT_FOUND", `${this.store.description} has no app ${appId}`, {
        data: { missing: "app" },
      });
    return this.#appOf(material);
  }

  /** An app with a key of its own, made if it is not there. Several callers at once get the same. */
  async createApp(appId: AppId): Promise<AppRepository> {
    return this.#appOf(await makeAppKey(this.#access, appId));
  }

  /** Deletes the app's key: its backups can't be read any more, by nobody. Throws NOT_FOUND; BLOB_LOCKED while the key is locked. May run again. */
  async destroyApp(appId: AppId): Promise<void> {
    const { tag } = await this.openApp(appId);
    await destroyAppKey(this.#access, tag);
    this.#keys.delete(appId);
  }

  /** What opens the repository. */
  async secrets(): Promise<SecretEntry[]> {
    return await listSecrets(this.store);
  }

  /** Lets another secret open the repository; the new entry's name. */
  async addSecret(secret: RepositorySecret): Promise<string> {
    const { store, keyLock, repositoryKey } = this.#access;
    return await putWrap({ store, keyLock, repositoryKey }, secret, { fill: this.#access.fill, scrypt: this.#scrypt });
  }

  /**
   * Takes a secret away. Who used it may have kept the repository's key: see `rotate`. Throws FAILED_PRECONDITION for the one the repository was opened with, so that one that works is always left;
   * NOT_FOUND; BLOB_LOCKED.
   */
  async removeSecret(name: string): Promise<void> {
    const wrap = `${KEYS_PREFIX}${name}`;
    if (wrap === this.#wrap)
      throw new TidemarkError(
        "FAILED_PRECONDITION",
        "this is the key the repository was opened with: open it with another one to remove it",
      );
    if (!(await listWraps(this.store)).includes(wrap))
      throw new TidemarkError("NOT_FOUND", `the repository has no key ${name}`);
    await this.store.delete([wrap]);
  }

  /**
   * Replaces the repository's key: afterwards only `secrets` open it, and apps made later are out of reach for who kept the old key. Apps' own keys stay, so who has read one before can still read that
   * app's backups. No service may make apps meanwhile. May run again after a crash; until then old and new secrets both open it. The repository, opened by the first of `secrets`.
   */
  async rotate(secrets: readonly [RepositorySecret, ...RepositorySecret[]]): Promise<Repository> {
    const { store, id, fill, keyLock, settings } = this.#access;
    const old = await this.#oldKeys();
    const repositoryKey = newRepositoryKey(fill);
    const renewed = { ...settings, number: settings.number + 1 };
    const settingsName = settingsNameOf(renewed.number, fill);
    await store.put(settingsName, [encodeSettings(renewed, id, repositoryKey)], {
      lockUntilMs: await keyLock?.untilMs(),
    });
    for (const material of await readAppKeys(this.#access, () => {}))
      await putAppWrap(this.#access, material, repositoryKey);
    const wraps: string[] = [];
    for (const secret of secrets)
      wraps.push(await putWrap({ store, keyLock, repositoryKey }, secret, { fill, scrypt: this.#scrypt }));
    await store.delete(old.wraps);
    await store.delete(old.others);
    const unlocked = { repositoryKey, wrap: `${KEYS_PREFIX}${wraps[0]}`, settings: renewed };
    const options = {
      store,
      secret: secrets[0],
      clock: this.#clock,
      fill,
      ...(this.#scrypt === undefined ? {} : { scrypt: this.#scrypt }),
    };
    return new Repository(options, { id }, unlocked);
  }

  /** Makes the locks of the repository's own objects (keys, settings, identity) last again; apps have their own. One request for each. */
  async extendLocks(): Promise<{ extended: number }> {
    return await extendRepositoryLocks({ store: this.store, keyLock: this.#access.keyLock });
  }

  async #oldKeys(): Promise<{ wraps: string[]; others: string[] }> {
    const { store } = this.#access;
    const others = [...(await listAppWraps(store)).values()].flat();
    for await (const page of store.list(SETTINGS_PREFIX)) others.push(...page.map(({ name }) => name));
    return { wraps: await listWraps(store), others };
  }

  #appOf(material: AppKeyMaterial): AppRepository {
    this.#keys.set(material.appId, material);
    const { store, fill } = this.#access;
    return new AppRepository({ store, keys: new AppKeys(material), lockDays: this.lockDays, clock: this.#clock, fill });
  }
}

async function putWrap(
  { store, keyLock, repositoryKey }: Pick<RepositoryAccess, "store" | "keyLock" | "repositoryKey">,
  secret: RepositorySecret,
  options: { readonly fill: RandomFill; readonly scrypt: ScryptCost | undefined },
): Promise<string> {
  const name = randomName(options.fill);
  const bytes = await wrapRepositoryKey(repositoryKey, secret, secretOptions(options));
  await store.put(`${KEYS_PREFIX}${name}`, [bytes], { lockUntilMs: await keyLock?.untilMs() });
  return name;
}

function secretOptions(options: { readonly fill?: RandomFill; readonly scrypt?: ScryptCost | undefined }): {
  fill?: RandomFill;
  scrypt?: ScryptCost;
} {
  const { fill, scrypt } = options;
  return { ...(fill === undefined ? {} : { fill }), ...(scrypt === undefined ? {} : { scrypt }) };
}

function settingsNameOf(number: number, fill: RandomFill): string {
  return `${SETTINGS_PREFIX}${number.toString(16).padStart(8, "0")}-${randomName(fill)}`;
}

function keyLockOf(store: BlobStore, clock: Clock, lockDays: number | null): LockTime | undefined {
  if (lockDays === null) return undefined;
  return new LockTime({ store, clock, lockDays: Math.min(lockDays, KEY_LOCK_DAYS_MAX) });
}

function checkLockDays(store: BlobStore, lockDays: number | undefined): void {
  if (lockDays === undefined) return;
  if (!Number.isSafeInteger(lockDays) || lockDays < 1 || lockDays > LOCK_DAYS_MAX)
    throw new TidemarkError("INVALID_ARGUMENT", `lock days are a whole number from 1 to ${LOCK_DAYS_MAX}`);
  if (store.capabilities.objectLock) return;
  throw new TidemarkError(
    "UNSUPPORTED",
    `${store.description} can't lock objects: leave out the lock days, or take a bucket with Object Lock switched on`,
  );
}

async function readIdentity(store: BlobStore): Promise<RepositoryIdentity> {
  try {
    return decodeIdentity(await store.get(REPOSITORY_FILE, { bytesMax: REPOSITORY_FILE_BYTES_MAX }), store.description);
  } catch (error) {
    if (!isBlobError(error, "BLOB_MISSING")) throw error;
    if (await hasApps(store)) throw missingObject(REPOSITORY_FILE, { cause: error });
    throw new TidemarkError(
      "NOT_FOUND",
      `there is no repository in ${store.description}: check the address, or make one with "tidemark repo init"`,
      { cause: error, data: { missing: "repository" } },
    );
  }
}

async function hasApps(store: BlobStore): Promise<boolean> {
  try {
    for await (const page of store.list(APPS_PREFIX)) if (page.length > 0) return true;
  } catch (error) {
    if (!isOtherKind(error)) throw error;
  }
  return false;
}

async function refuseOccupied(store: BlobStore): Promise<void> {
  if ((await store.stat(REPOSITORY_FILE)) !== undefined) throw alreadyThere(store);
  try {
    for await (const page of store.list("")) {
      const other = page.find(({ name }) => !LEFT_BY_INIT.test(name));
      if (other === undefined) continue;
      if (other.name === REPOSITORY_FILE) throw alreadyThere(store);
      throw notEmpty(store, `has "${other.name}" in it and no ${REPOSITORY_FILE}`);
    }
  } catch (error) {
    if (isOtherKind(error)) throw notEmpty(store, `is not empty (${error.message})`, error);
    throw error;
  }
}

/** A folder with links, sockets or devices: somebody else's. Without a cause, as opposed to a disk that fails. */
function isOtherKind(error: unknown): error is BlobError {
  return isBlobError(error, "BLOB_IO") && error.cause === undefined;
}

function notEmpty({ description }: BlobStore, why: string, cause?: Error): TidemarkError {
  const message = `${description} ${why}: choose an empty place. Nothing was changed`;
  return new TidemarkError("NOT_EMPTY", message, cause === undefined ? {} : { cause });
}

function alreadyThere({ description }: BlobStore): TidemarkError {
  return new TidemarkError(
    "ALREADY_EXISTS",
    `${description} is a repository already: use it with --repo, tell the service of it with "tidemark repo add", or choose an empty place. Nothing was changed`,
  );
}
