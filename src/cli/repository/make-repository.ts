import { existsSync } from "node:fs";
import { unlink } from "node:fs/promises";
import type { BlobStore } from "../../blob/blob-store.ts";
import type { RepositoryInfo } from "../../domain/admin-backup.ts";
import { TidemarkError } from "../../domain/errors.ts";
import { checkObjectName } from "../../domain/names.ts";
import { newKeyFile } from "../../repository/key-file.ts";
import { REPOSITORY_FILE } from "../../repository/names.ts";
import { Repository } from "../../repository/repository.ts";
import type { RepositorySecret } from "../../repository/secrets.ts";
import { askNewPassphrase } from "../passphrase.ts";
import type { Session } from "../session.ts";
import { makeKeyFile, readKeyFile } from "./key-files.ts";
import { openStore, type Place, placeAt, secretOf } from "./open-repository.ts";
import type { RepoOptions } from "./repo-options.ts";
import { storeFailure } from "./store-failure.ts";

type NewRepository = RepoOptions & { readonly address: string; readonly name: string };

/** `repo init`: makes a repository and, if a service runs, tells it. */
export async function initRepository(
  session: Session,
  options: NewRepository & { readonly lockDays?: number },
): Promise<undefined> {
  const { output, environment } = session;
  const name = checkObjectName("repository", options.name);
  const place = await placeAt(session, options.address, options);
  await checkFree(session, place);
  const serviceRuns = await checkName(session, name);
  const { secret, madeKeyFile } = await newSecret(session, options, place);
  const store = await openStore(session, place, { create: true }).catch(async (error: unknown) => {
    if (madeKeyFile !== undefined) await unlink(madeKeyFile);
    throw error;
  });
  try {
    const days = options.lockDays === undefined ? {} : { lockDays: options.lockDays };
    const init = Repository.init({ store, secret, clock: environment.clock, ...days });
    const repository = await init.catch(async (error: unknown) => {
      if (madeKeyFile !== undefined && (await isUnmade(store, error))) await unlink(madeKeyFile);
      throw error;
    });
    const known = serviceRuns ? await register(session, repository, { name, place }) : undefined;
    const url = place.location.url;
    if (output.json) {
      await output.value({
        id: repository.id,
        location: place.location,
        registered: known !== undefined,
        ...(madeKeyFile === undefined ? {} : { madeKeyFile }),
      });
      return undefined;
    }
    await output.line(`Made the repository ${url} (${repository.id}).`);
    for (const line of keeping(secret, { madeKeyFile, keyFile: options.keyFile })) await output.line(line);
    await output.line(
      known === undefined
        ? `No service runs on ${session.dataFolder}. Once one does: tidemark repo add ${url} --name ${name}`
        : `The service knows it as "${name}". Next: tidemark backup enable APP --repo ${name}`,
    );
    return undefined;
  } catch (error) {
    throw storeFailure(error);
  } finally {
    await store.close();
  }
}

/** Before a key is asked for or made. Throws ALREADY_EXISTS, NOT_EMPTY. A folder that isn't there is free. */
async function checkFree(session: Session, place: Place): Promise<void> {
  let store: BlobStore;
  try {
    store = await openStore(session, place, { create: false });
  } catch (error) {
    if (error instanceof TidemarkError && error.data["reason"] === "BLOB_BUCKET_MISSING") return;
    throw error;
  }
  try {
    await Repository.checkEmpty(store);
  } catch (error) {
    throw storeFailure(error);
  } finally {
    await store.close();
  }
}

/** Whether it is sure that the key made for a repository opens nothing: another one was faster, or there is none. */
async function isUnmade(store: BlobStore, error: unknown): Promise<boolean> {
  if (error instanceof TidemarkError) return true;
  return await store.stat(REPOSITORY_FILE).then(
    (found) => found === undefined,
    () => false,
  );
}

/** `repo add`: tells the service of a repository that is there. */
export async function addRepository(session: Session, options: NewRepository): Promise<undefined> {
  const name = checkObjectName("repository", options.name);
  const place = await placeAt(session, options.address, options);
  if (!(await checkName(session, name, place)))
    throw new TidemarkError(
      "UNAVAILABLE",
      `no service runs on ${session.dataFolder}: start it with "tidemark serve", or name its data folder with --data`,
    );
  const store = await openStore(session, place, { create: false });
  try {
    await Repository.checkThere(store);
    const secret = await secretOf(session, place, options);
    const repository = await Repository.open({ store, secret });
    const known = await register(session, repository, { name, place });
    await session.output.done(
      known,
      `The service knows ${known.location.url} as "${name}". Next: tidemark backup enable APP --repo ${name}`,
    );
    return undefined;
  } catch (error) {
    throw storeFailure(error);
  } finally {
    await store.close();
  }
}

/** Tells the service of a repository, with a key made for it alone: it can be taken away without changing anybody else's. */
export async function register(
  session: Session,
  repository: Repository,
  { name, place }: { readonly name: string; readonly place: Place },
): Promise<RepositoryInfo> {
  const { text, key } = newKeyFile({ comment: `Made for the service on ${session.dataFolder}.` });
  const added = await repository.addSecret({ kind: "key-file", key });
  const { location, credentials } = place;
  try {
    return await (await session.api()).backups.addRepository(
      { name, location, keyFile: Buffer.from(text), ...(credentials === undefined ? {} : { credentials }) },
      session.callOptions,
    );
  } catch (error) {
    // A key that nobody has is no danger, only clutter.
    await repository.removeSecret(added).catch(() => {});
    throw error;
  }
}

/** Whether a service runs; and if so, that the name is free, or that of this very place. */
async function checkName(session: Session, name: string, place?: Place): Promise<boolean> {
  try {
    for await (const page of (await session.api()).backups.listRepositories(session.callOptions)) {
      const taken = page.find((each) => each.name === name);
      if (taken === undefined || taken.location.url === place?.location.url) continue;
      const message = `the service knows ${taken.location.url} as "${name}": choose another name with --name`;
      throw new TidemarkError("ALREADY_EXISTS", message);
    }
    return true;
  } catch (error) {
    if (error instanceof TidemarkError && error.code === "UNAVAILABLE") return false;
    throw error;
  }
}

async function newSecret(
  session: Session,
  options: RepoOptions,
  place: Place,
): Promise<{ readonly secret: RepositorySecret; readonly madeKeyFile?: string }> {
  const { keyFile } = options;
  if (keyFile === undefined) return { secret: { kind: "passphrase", passphrase: await askNewPassphrase(session) } };
  const path = session.machinePath(keyFile);
  // One that is there is used: several repositories may share it.
  if (existsSync(path)) return { secret: { kind: "key-file", key: await readKeyFile(path) } };
  const key = await makeKeyFile(path, `For ${place.location.url}.`);
  return { secret: { kind: "key-file", key }, madeKeyFile: path };
}

function keeping(
  secret: RepositorySecret,
  { madeKeyFile, keyFile }: { readonly madeKeyFile: string | undefined; readonly keyFile: string | undefined },
): string[] {
  if (secret.kind === "passphrase")
    return [
      "Without its passphrase nothing in it can be read, by nobody. Write it down where a fire at this machine does not reach,",
      "or add a key file to keep elsewhere: tidemark repo key add --new-key-file FILE",
    ];
  if (madeKeyFile === undefined) return [`It is opened by the key file ${keyFile}.`];
  return [
    `Its key is in ${madeKeyFile}, made now. Without it nothing in the repository can be read, by nobody: copy it to another place than this machine`,
    "and the repository. It is a few lines of text, which can be printed and typed in again.",
  ];
}
