import { randomBytes } from "node:crypto";
import { mkdir, readdir, readFile, unlink } from "node:fs/promises";
import { join } from "node:path";
import type { Timestamp } from "../../base/clock.ts";
import { syncFolder, writeWhole } from "../../base/durable-file.ts";
import type { RepositoryLocation, StoreCredentials } from "../../domain/admin-backup.ts";
import { TidemarkError } from "../../domain/errors.ts";
import { checkObjectName } from "../../domain/names.ts";
import { parseKeyFile } from "../../repository/key-file.ts";
import type { RepositorySecret } from "../../repository/secrets.ts";

/**
 * The repositories that a data folder knows: one file for each, with its key and credentials, so readable by the folder's owner alone. Written beside, synced, renamed over, and the folder
 * synced: after a crash it is the old one or the new one.
 *
 *   DATA/repositories/          0700
 *   DATA/repositories/NAME.json 0600  {"version": 1, "name", "id", "url", "endpoint"?, "region"?, "addedAt", "key": <text of a key file> or "passphrase", "credentials"?}
 */
export type KnownSecret =
  | { readonly kind: "key-file"; readonly text: string }
  | { readonly kind: "passphrase"; readonly passphrase: string };

/** As a repository takes it. Throws INVALID_ARGUMENT for a damaged key file. */
export function openingSecret(secret: KnownSecret): RepositorySecret {
  return secret.kind === "passphrase" ? secret : { kind: "key-file", key: parseKeyFile(secret.text) };
}

export type KnownRepository = {
  readonly name: string;
  readonly id: string;
  readonly location: RepositoryLocation;
  readonly addedAt: Timestamp;
  /** What opens it: the text of a key file made for this data folder, or, where none could be made, what a person opened it with. */
  readonly secret: KnownSecret;
  readonly credentials?: StoreCredentials;
  /** Recovered from a versioned bucket as it was then: what is still there only is read so. */
  readonly atVersionMs?: number;
};

const VERSION = 1;
const SUFFIX = ".json";

/** Of one data folder; people name a handful. */
export const REPOSITORIES_MAX = 100;

export class KnownRepositories {
  readonly #folder: string;

  constructor(dataFolder: string) {
    this.#folder = join(dataFolder, "repositories");
  }

  /** By name. Throws DATA_DAMAGED naming a file that is none of ours, PERMISSION_DENIED. */
  async all(): Promise<KnownRepository[]> {
    const names = await readdir(this.#folder).catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT" || error.code === "ENOTDIR") return [];
      throw unreadable(this.#folder, error);
    });
    const known: KnownRepository[] = [];
    for (const name of names.filter((each) => each.endsWith(SUFFIX) && !each.startsWith(".")).sort()) {
      const repository = await this.get(name.slice(0, -SUFFIX.length));
      if (repository !== undefined) known.push(repository);
    }
    return known;
  }

  /** Undefined when there is none of that name. */
  async get(name: string): Promise<KnownRepository | undefined> {
    const path = this.#pathOf(name);
    try {
      return decode(await readFile(path, "utf8"), path);
    } catch (error) {
      if (error instanceof TidemarkError) throw error;
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
      throw unreadable(path, error);
    }
  }

  /** Adds it or replaces the one of its name. Durable when it resolves. */
  async put(repository: KnownRepository): Promise<void> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    const path = this.#pathOf(repository.name);
    const partial = join(this.#folder, `.${randomBytes(8).toString("hex")}`);
    await writeWhole(path, encode(repository), { draft: partial, isNew: true });
  }

  /** Forgets it. Durable when it resolves. */
  async delete(name: string): Promise<void> {
    await unlink(this.#pathOf(name));
    await syncFolder(this.#folder);
  }

  #pathOf(name: string): string {
    return join(this.#folder, `${checkObjectName("repository", name)}${SUFFIX}`);
  }
}

function encode({ secret, location, ...rest }: KnownRepository): string {
  const key = secret.kind === "key-file" ? { key: secret.text } : { passphrase: secret.passphrase };
  return `${JSON.stringify({ version: VERSION, ...rest, ...location, ...key }, undefined, 2)}\n`;
}

type StoredName = "version" | "name" | "id" | "url" | "endpoint" | "region" | "key" | "passphrase";
type Stored = Partial<Record<StoredName, unknown>> & {
  readonly addedAt?: Timestamp;
  readonly credentials?: StoreCredentials;
};

function decode(text: string, path: string): KnownRepository {
  const stored = parse(text, path);
  const { version, name, id, url, endpoint, region, key, passphrase, addedAt, credentials } = stored;
  if (version !== VERSION)
    throw new TidemarkError(
      "DATA_FOLDER_FOREIGN",
      `${path} is of version ${String(version)}: this program knows ${VERSION}`,
    );
  const texts = [name, id, url, key ?? passphrase];
  if (texts.some((value) => typeof value !== "string") || addedAt === undefined) throw damaged(path);
  return {
    name: String(name),
    id: String(id),
    location: {
      url: String(url),
      ...(typeof endpoint === "string" ? { endpoint } : {}),
      ...(typeof region === "string" ? { region } : {}),
    },
    addedAt,
    secret:
      key === undefined
        ? { kind: "passphrase", passphrase: String(passphrase) }
        : { kind: "key-file", text: String(key) },
    ...(credentials === undefined ? {} : { credentials }),
  };
}

function parse(text: string, path: string): Stored {
  try {
    return (JSON.parse(text) ?? {}) as Stored;
  } catch {
    // Not with the parser's own words: they quote the file, which has a key.
    throw damaged(path);
  }
}

function damaged(path: string): TidemarkError {
  return new TidemarkError(
    "DATA_DAMAGED",
    `${path} is not what this program writes: remove it, and make the repository known again with "tidemark repo add"`,
  );
}

function unreadable(path: string, cause: unknown): TidemarkError {
  const { code } = cause as NodeJS.ErrnoException;
  const denied = code === "EACCES" || code === "EPERM";
  const message = denied
    ? `${path} has keys and is for its owner alone: do it as root, or as the user that the service runs as`
    : `${path} can't be read (${code ?? String(cause)})`;
  return new TidemarkError(denied ? "PERMISSION_DENIED" : "DATA_DAMAGED", message, { cause });
}
