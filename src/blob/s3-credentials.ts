import { open } from "node:fs/promises";
import { join } from "node:path";
import { BlobError } from "./blob-error.ts";
import { errnoOf } from "./directory-errors.ts";
import type { S3Credentials } from "./s3-options.ts";

/** Environment variables, as the composer hands them on. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** What is known of a user of S3: from options, variables, and the two files that other tools use too. */
export interface S3Identity {
  readonly credentials: S3Credentials;
  readonly region: string | undefined;
  readonly endpoint: string | undefined;
}

export interface S3IdentityOptions {
  readonly credentials?: S3Credentials | undefined;
  /** A section of the two files. Given, it comes before the variables with keys. */
  readonly profile?: string | undefined;
  readonly environment: Environment;
}

/** Files of that kind have some lines for each of some accounts. */
const FILE_BYTES_MAX = 1024 * 1024;

type Section = ReadonlyMap<string, string>;

/**
 * Who signs requests, and the region and endpoint that come with it. First what is given, then the variables AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
 * AWS_SESSION_TOKEN, then the files `~/.aws/credentials` and `~/.aws/config` (AWS Command Line Interface, "Configuration and credential file settings").
 * Errors: BLOB_DENIED if there is nothing, BLOB_INVALID if it is half there.
 */
export async function resolveIdentity(options: S3IdentityOptions): Promise<S3Identity> {
  const { environment } = options;
  const profile = options.profile ?? nonEmpty(environment["AWS_PROFILE"]) ?? "default";
  const section = await readProfile(profile, environment);
  const fromEnvironment = options.profile === undefined ? credentialsOf(environmentSection(environment)) : undefined;
  const credentials = options.credentials ?? fromEnvironment ?? credentialsOf(section);
  if (credentials === undefined) throw noCredentials(profile, options.profile !== undefined);
  return {
    credentials: checkCredentials(credentials),
    region: nonEmpty(environment["AWS_REGION"]) ?? nonEmpty(environment["AWS_DEFAULT_REGION"]) ?? section.get("region"),
    endpoint:
      nonEmpty(environment["AWS_ENDPOINT_URL_S3"]) ??
      nonEmpty(environment["AWS_ENDPOINT_URL"]) ??
      section.get("endpoint_url"),
  };
}

/** The sections of a file in the format of `~/.aws/credentials`; names and keys as they are written, later ones win. */
export function parseSections(text: string): Map<string, Map<string, string>> {
  const sections = new Map<string, Map<string, string>>();
  let current: Map<string, string> | undefined;
  for (const line of text.split(/\r?\n/)) {
    const header = /^\s*\[\s*([^\]]+?)\s*\]\s*([#;].*)?$/.exec(line)?.[1];
    if (header !== undefined) {
      current = sections.get(header) ?? new Map();
      sections.set(header, current);
      continue;
    }
    // Indented lines belong to a nested setting such as `s3 =`; comments stand on lines of their own.
    const [, key, value] = /^([A-Za-z0-9_.-]+)\s*=\s*(.*?)\s*$/.exec(line) ?? [];
    if (key !== undefined && value !== undefined && value !== "") current?.set(key.toLowerCase(), value);
  }
  return sections;
}

async function readProfile(profile: string, environment: Environment): Promise<Section> {
  const home = nonEmpty(environment["HOME"]);
  const fallback = (name: string): string | undefined => (home === undefined ? undefined : join(home, ".aws", name));
  const credentialsPath = nonEmpty(environment["AWS_SHARED_CREDENTIALS_FILE"]) ?? fallback("credentials");
  const configPath = nonEmpty(environment["AWS_CONFIG_FILE"]) ?? fallback("config");
  const credentials = parseSections(await readIfThere(credentialsPath));
  const config = parseSections(await readIfThere(configPath));
  // In the file `config` all sections but the default one are called "profile NAME".
  const ofConfig = config.get(`profile ${profile}`) ?? config.get(profile) ?? new Map<string, string>();
  return new Map([...ofConfig, ...(credentials.get(profile) ?? [])]);
}

async function readIfThere(path: string | undefined): Promise<string> {
  if (path === undefined) return "";
  try {
    const file = await open(path);
    try {
      const { size } = await file.stat();
      if (size > FILE_BYTES_MAX)
        throw new BlobError("BLOB_INVALID", `${path} is too large for a file with credentials: expected at most 1 MiB`);
      return await file.readFile("utf8");
    } finally {
      await file.close();
    }
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === "ENOENT" || errno === "ENOTDIR") return "";
    if (error instanceof BlobError) throw error;
    throw new BlobError("BLOB_DENIED", `Could not read the credentials in ${path} (${errno ?? "unknown"})`, {
      cause: error,
    });
  }
}

function environmentSection(environment: Environment): Section {
  const names = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];
  return new Map(
    names.flatMap((name): [string, string][] => {
      const value = nonEmpty(environment[name]);
      return value === undefined ? [] : [[name.toLowerCase(), value]];
    }),
  );
}

function credentialsOf(section: Section): S3Credentials | undefined {
  const accessKeyId = section.get("aws_access_key_id");
  const secretAccessKey = section.get("aws_secret_access_key");
  const sessionToken = section.get("aws_session_token");
  if (accessKeyId === undefined && secretAccessKey === undefined) return undefined;
  if (accessKeyId === undefined || secretAccessKey === undefined)
    throw new BlobError(
      "BLOB_INVALID",
      `The credentials for S3 have only ${accessKeyId === undefined ? "a secret access key" : "an access key id"}: expected both`,
    );
  return { accessKeyId, secretAccessKey, ...(sessionToken === undefined ? {} : { sessionToken }) };
}

function checkCredentials(credentials: S3Credentials): S3Credentials {
  const isClean = (text: string): boolean => text !== "" && /^[\x21-\x7e]*$/.test(text);
  if (isClean(credentials.accessKeyId) && isClean(credentials.secretAccessKey)) return credentials;
  throw new BlobError(
    "BLOB_INVALID",
    "The credentials for S3 are empty, or hold blanks or other characters that keys don't have",
  );
}

function noCredentials(profile: string, isNamed: boolean): BlobError {
  const where = isNamed
    ? `there are none for the profile "${profile}" in ~/.aws/credentials`
    : `set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a profile of ~/.aws/credentials (looked for "${profile}")`;
  return new BlobError("BLOB_DENIED", `S3 needs credentials: ${where}`);
}

function nonEmpty(text: string | undefined): string | undefined {
  return text === undefined || text === "" ? undefined : text;
}
