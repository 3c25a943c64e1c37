import { createHmac, hkdfSync, timingSafeEqual } from "node:crypto";
import { TidemarkError } from "../domain/errors.ts";
import { JsonFields } from "./json-fields.ts";
import { REPOSITORY_FILE } from "./names.ts";
import { damagedObject, newerObject } from "./object-errors.ts";

// FORMAT.md, "Names" and "Settings".

export const REPOSITORY_VERSION = 1;

/** What `repository.json` says. Not authenticated: whoever may write the store may have put it there. `settings/` are. */
export type RepositoryIdentity = { readonly id: string; readonly created: string };

/** What holds for the whole repository. */
export type RepositorySettings = {
  /** The newest of several counts. */
  readonly number: number;
  /** Days that objects are locked; null: not at all. */
  readonly lockDays: number | null;
};

/** The file has some 150 bytes. */
export const REPOSITORY_FILE_BYTES_MAX = 65_536;

/** A hundred years: what an S3 store takes as retention. */
export const LOCK_DAYS_MAX = 36_500;

const FORMAT = "tidemark-repository";
const SETTINGS_VERSION = 1;
const ID_BYTES = 16;
const MAC_BYTES = 32;

export function encodeIdentity({ id, created }: RepositoryIdentity): Buffer {
  return Buffer.from(`${JSON.stringify({ format: FORMAT, version: REPOSITORY_VERSION, id, created })}\n`);
}

/** Reads `repository.json` of the store `where`. Throws FAILED_PRECONDITION for a file that is none of ours, REPOSITORY_NEWER, REPOSITORY_DAMAGED. */
export function decodeIdentity(bytes: Buffer, where: string): RepositoryIdentity {
  const fields = parse(bytes, where);
  const version = fields.raw("version");
  if (typeof version === "number" && version > REPOSITORY_VERSION)
    throw newerObject(REPOSITORY_FILE, { version, known: REPOSITORY_VERSION });
  try {
    if (version !== REPOSITORY_VERSION) throw new RangeError("it has no version");
    return { id: fields.hex("id", ID_BYTES), created: fields.text("created") };
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
    throw damagedObject(REPOSITORY_FILE, cause.message, { cause });
  }
}

function parse(bytes: Buffer, where: string): JsonFields {
  let fields: JsonFields;
  try {
    fields = JsonFields.parse(bytes);
  } catch (cause) {
    throw damagedObject(REPOSITORY_FILE, "it is not JSON", { cause });
  }
  if (fields.raw("format") === FORMAT) return fields;
  throw new TidemarkError(
    "FAILED_PRECONDITION",
    `${where} has a ${REPOSITORY_FILE} of another program: choose another place for the repository. Nothing was changed`,
    { data: { object: REPOSITORY_FILE, reason: "foreign" } },
  );
}

/** The bytes of a settings object of the repository `id`. */
export function encodeSettings(settings: RepositorySettings, id: string, repositoryKey: Buffer): Buffer {
  const mac = settingsMac(settings, id, repositoryKey).toString("hex");
  return Buffer.from(`${JSON.stringify({ version: SETTINGS_VERSION, repository: id, ...settings, mac })}\n`);
}

/** The settings in an object; undefined if they weren't written with this key for this repository. Throws REPOSITORY_DAMAGED, REPOSITORY_NEWER. */
export function decodeSettings(
  bytes: Buffer,
  options: { readonly name: string; readonly id: string; readonly repositoryKey: Buffer },
): RepositorySettings | undefined {
  const { name, id, repositoryKey } = options;
  let settings: RepositorySettings;
  let mac: Buffer;
  try {
    const fields = JsonFields.parse(bytes);
    const version = fields.count("version");
    if (version > SETTINGS_VERSION) throw newerObject(name, { version, known: SETTINGS_VERSION });
    if (fields.text("repository") !== id) return undefined;
    const lockDays = fields.isNull("lockDays") ? null : fields.count("lockDays");
    if (lockDays === 0 || (lockDays ?? 0) > LOCK_DAYS_MAX) throw new RangeError("its lock days are out of range");
    settings = { number: fields.count("number"), lockDays };
    mac = Buffer.from(fields.hex("mac", MAC_BYTES), "hex");
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
    throw damagedObject(name, cause.message, { cause });
  }
  return timingSafeEqual(mac, settingsMac(settings, id, repositoryKey)) ? settings : undefined;
}

function settingsMac({ number, lockDays }: RepositorySettings, id: string, repositoryKey: Buffer): Buffer {
  const key = Buffer.from(hkdfSync("sha256", repositoryKey, Buffer.from(id, "hex"), "tidemark settings 1", MAC_BYTES));
  return createHmac("sha256", key)
    .update(`${number}\n${lockDays ?? "none"}\n`)
    .digest();
}
