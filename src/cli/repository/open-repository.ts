import { join } from "node:path";
import { SystemTimers } from "../../base/timers.ts";
import { parseBlobAddress } from "../../blob/blob-address.ts";
import type { BlobStore } from "../../blob/blob-store.ts";
import { openBlobs } from "../../blob/open-blobs.ts";
import { resolveIdentity } from "../../blob/s3-credentials.ts";
import type { RepositoryLocation, StoreCredentials } from "../../domain/admin-backup.ts";
import { TidemarkError } from "../../domain/errors.ts";
import { Repository } from "../../repository/repository.ts";
import type { RepositorySecret } from "../../repository/secrets.ts";
import { askPassphrase } from "../passphrase.ts";
import type { Session } from "../session.ts";
import { readKeyFile } from "./key-files.ts";
import { KnownRepositories, type KnownRepository, openingSecret } from "./known-repositories.ts";
import { NoteLog } from "./note-log.ts";
import { randomFraction } from "./random-fraction.ts";
import type { RepoOptions } from "./repo-options.ts";
import { storeFailure } from "./store-failure.ts";

/** A repository as a person named it. */
export type Place = {
  readonly location: RepositoryLocation;
  /** What signs requests to a bucket. */
  readonly credentials?: StoreCredentials;
  /** The data folder's own entry of it. */
  readonly known?: KnownRepository;
  /** The versioned bucket as it was then, in milliseconds since 1970. */
  readonly atVersionMs?: number;
};

/** Where the repository is that the options mean: an address, or a name that the data folder knows; without either the only one it knows. Throws INVALID_ARGUMENT, NOT_FOUND. */
export async function placeOf(session: Session, options: RepoOptions): Promise<Place> {
  const { variables } = session.environment;
  const text = options.repo ?? variables["TIDEMARK_REPO"];
  const known = await new KnownRepositories(session.dataFolder).all().catch((error: unknown) => {
    // Somebody else's data folder: an address may do.
    if (error instanceof TidemarkError && error.code === "PERMISSION_DENIED" && text !== undefined) return [];
    throw error;
  });
  if (text !== undefined && isAddress(text)) {
    const place = await placeAt(session, text, options);
    const same = known.find(({ location }) => location.url === place.location.url);
    return same === undefined ? place : { ...place, known: same };
  }
  const found = text === undefined ? known : known.filter(({ name }) => name === text);
  const [first, second] = found;
  if (first !== undefined && second === undefined) return placeOfKnown(first, options);
  if (text !== undefined) {
    const message = `the data folder ${session.dataFolder} knows no repository "${text}": give its address, as s3://bucket/prefix or /a/directory`;
    throw new TidemarkError("NOT_FOUND", message);
  }
  const names = known.map(({ name }) => `--repo ${name}`).join(" or ");
  const message = `which repository? Expected ${names === "" ? "--repo s3://bucket/prefix or --repo /a/directory" : names}`;
  throw new TidemarkError("INVALID_ARGUMENT", message);
}

/** A place by its address, with the credentials of whoever asks. Throws INVALID_ARGUMENT, PERMISSION_DENIED without credentials. */
export async function placeAt(session: Session, address: string, options: RepoOptions): Promise<Place> {
  const { workingFolder, variables } = session.environment;
  try {
    const parsed = parseBlobAddress(address, { baseFolder: workingFolder });
    if (parsed.kind === "directory") return { location: { url: parsed.path } };
    const identity = await resolveIdentity({ environment: variables });
    const endpoint = options.endpoint ?? identity.endpoint;
    const region = options.region ?? identity.region;
    const url = parsed.prefix === "" ? `s3://${parsed.bucket}` : `s3://${parsed.bucket}/${parsed.prefix}`;
    return {
      location: { url, ...(endpoint === undefined ? {} : { endpoint }), ...(region === undefined ? {} : { region }) },
      credentials: identity.credentials as StoreCredentials,
    };
  } catch (error) {
    throw storeFailure(error);
  }
}

function placeOfKnown(known: KnownRepository, { endpoint, region }: RepoOptions): Place {
  const changes = { ...(endpoint === undefined ? {} : { endpoint }), ...(region === undefined ? {} : { region }) };
  const { location, credentials } = known;
  return { location: { ...location, ...changes }, known, ...(credentials === undefined ? {} : { credentials }) };
}

/** Whether it is written as an address and not as a name: names have no slash and no colon. */
export function isAddress(text: string): boolean {
  return /[/:]|^\.+$/.test(text);
}

/** What opens the repository at `place`: the key file given, the data folder's own key, or a passphrase, asked for if need be. */
export async function secretOf(session: Session, place: Place, options: RepoOptions): Promise<RepositorySecret> {
  const file = options.keyFile ?? session.environment.variables["TIDEMARK_KEY_FILE"];
  if (file !== undefined && file !== "") return { kind: "key-file", key: await readKeyFile(session.machinePath(file)) };
  if (place.known !== undefined) return openingSecret(place.known.secret);
  return { kind: "passphrase", passphrase: await askPassphrase(session, place.location.url) };
}

/** The store at `place`. `create`: a folder is made if it isn't there. */
export async function openStore(session: Session, place: Place, { create }: { create: boolean }): Promise<BlobStore> {
  const { location, credentials, atVersionMs } = place;
  const { endpoint, region, url } = location;
  const { clock, variables } = session.environment;
  try {
    return await openBlobs(url, {
      create,
      s3: { endpoint, region, credentials, atVersionTimeMs: atVersionMs },
      environment: variables,
      clock,
      timers: new SystemTimers(),
      random: randomFraction,
      log: new NoteLog(session.output),
    });
  } catch (error) {
    throw storeFailure(error);
  }
}

/** The repository that the options mean, open, and how to let go of it. Failures are those of the API. */
export async function openRepository(
  session: Session,
  options: RepoOptions,
): Promise<{ readonly repository: Repository; readonly place: Place; readonly secret: RepositorySecret }> {
  const place = { ...(await placeOf(session, options)), ...versionOf(session, options) };
  const store = await openStore(session, place, { create: false });
  try {
    // First of all: of a place that is no repository no key should be asked for.
    await Repository.checkThere(store);
    const secret = await secretOf(session, place, options);
    return { repository: await Repository.open({ store, secret }), place, secret };
  } catch (error) {
    await store.close();
    throw storeFailure(error);
  }
}

/** Which moment of a versioned bucket is meant. Throws INVALID_ARGUMENT for what is no time. */
function versionOf(session: Session, { atVersion }: RepoOptions): { atVersionMs?: number } {
  if (atVersion === undefined) return {};
  const moment = session.moment(atVersion);
  if (moment.kind === "time") return { atVersionMs: moment.time.sec * 1000 };
  throw new TidemarkError(
    "INVALID_ARGUMENT",
    `--at-version "${atVersion}" is no time: expected one, as 2026-11-20T10:00`,
  );
}

/** Where rows of repositories may be kept between commands. */
export function cacheFolderOf({ environment }: Session, repositoryId: string, { atVersionMs }: Place): string {
  const named = environment.variables["XDG_CACHE_HOME"] ?? "";
  // "If an implementation encounters a relative path, it should consider the path invalid" (XDG Base Directory Specification).
  const base = named.startsWith("/") ? named : join(environment.homeFolder, ".cache");
  return join(base, "tidemark", atVersionMs === undefined ? repositoryId : `${repositoryId}@${atVersionMs}`);
}
