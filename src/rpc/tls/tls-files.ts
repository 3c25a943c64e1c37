import { createPrivateKey, type KeyObject, type X509Certificate } from "node:crypto";
import { open } from "node:fs/promises";
import type { Timestamp } from "../../base/clock.ts";
import { TidemarkError } from "../../domain/errors.ts";
import { certificatesIn, serves, validityOf } from "./certificate.ts";
import type { Purpose } from "./x509.ts";

/** Where somebody's certificate, its key, and the certificates of the authorities that others are checked against are. */
export type TlsFiles = { readonly certFile: string; readonly keyFile: string; readonly caFile: string };

/** The same, read and found to fit: PEM. */
export type TlsMaterial = {
  /** With the certificates between it and the authority, if the file has some. */
  readonly certificate: string;
  readonly key: string;
  readonly authority: string;
};

/** A chain and a bundle of authorities have some KiB; all the authorities of a browser are below it. */
const FILE_BYTES_MAX = 1024 * 1024;

/** Permission bits that a key's file must not have: it may be read by its owner and his group, and changed by the owner. */
const KEY_MODE_REFUSED = 0o037;

/**
 * Reads and checks all three. Throws a TidemarkError that names the file and what is wrong with it: NOT_FOUND, PERMISSION_DENIED (also for a key that others may read), INVALID_ARGUMENT (no certificate or key, an encrypted key,
 * not a pair, wrong purpose), FAILED_PRECONDITION (expired, not valid yet).
 */
export async function readTlsFiles(
  files: TlsFiles,
  { purpose, now }: { readonly purpose: Purpose; readonly now: Timestamp },
): Promise<TlsMaterial> {
  const certificate = await readText(files.certFile);
  const key = await readText(files.keyFile, { secret: true });
  const authority = await readText(files.caFile);
  const leaf = parseCertificates(files.certFile, certificate)[0];
  checkKey(files, leaf, key);
  checkPurpose(files.certFile, leaf, purpose);
  checkTime(files.certFile, leaf, now);
  checkAuthorities(files.caFile, authority, now);
  return { certificate, key, authority };
}

/** A file's text. `secret`: it must be closed to others. Throws as `readTlsFiles`. */
export async function readText(file: string, { secret = false }: { readonly secret?: boolean } = {}): Promise<string> {
  try {
    await using handle = await open(file, "r");
    const { mode, size } = await handle.stat();
    if (secret && (mode & KEY_MODE_REFUSED) !== 0) {
      const shown = (mode & 0o777).toString(8).padStart(3, "0");
      const message = `the key ${file} is open to others (mode ${shown}): make it its owner's alone (chmod 600 ${file}), and if they may have read it, have a new one made`;
      throw new TidemarkError("PERMISSION_DENIED", message);
    }
    if (size > FILE_BYTES_MAX)
      throw new TidemarkError("INVALID_ARGUMENT", `${file} has ${size} bytes: that is no certificate or key`);
    return await handle.readFile("utf8");
  } catch (error) {
    throw unreadable(file, error);
  }
}

function unreadable(file: string, cause: unknown): unknown {
  if (cause instanceof TidemarkError) return cause;
  const { code } = cause as NodeJS.ErrnoException;
  if (code === "ENOENT") return new TidemarkError("NOT_FOUND", `there is no file ${file}`, { cause });
  if (code === "EACCES" || code === "EPERM")
    return new TidemarkError("PERMISSION_DENIED", `you may not read ${file}`, { cause });
  return new TidemarkError("INVALID_ARGUMENT", `${file} can't be read (${code ?? String(cause)})`, { cause });
}

/** The certificates of a PEM file, one at least. Throws INVALID_ARGUMENT, naming the file. */
export function parseCertificates(file: string, text: string): [X509Certificate, ...X509Certificate[]] {
  let found: X509Certificate[];
  try {
    found = certificatesIn(text);
  } catch (cause) {
    throw new TidemarkError("INVALID_ARGUMENT", `a certificate in ${file} is damaged`, { cause });
  }
  const [first, ...rest] = found;
  if (first !== undefined) return [first, ...rest];
  throw new TidemarkError("INVALID_ARGUMENT", `${file} has no certificate: expected PEM (-----BEGIN CERTIFICATE-----)`);
}

function parseKey(file: string, text: string): KeyObject {
  try {
    return createPrivateKey(text);
  } catch (cause) {
    // OpenSSL asks for a passphrase in words that differ by format; the label says it in all of them.
    const encrypted = /BEGIN ENCRYPTED PRIVATE KEY|Proc-Type: 4,ENCRYPTED/.test(text);
    const what = encrypted
      ? "is encrypted with a passphrase, which a service can't be asked for: give it without (openssl pkey)"
      : "has no private key: expected PEM (-----BEGIN PRIVATE KEY-----)";
    throw new TidemarkError("INVALID_ARGUMENT", `${file} ${what}`, { cause });
  }
}

function checkKey(files: TlsFiles, leaf: X509Certificate, key: string): void {
  if (leaf.checkPrivateKey(parseKey(files.keyFile, key))) return;
  throw new TidemarkError(
    "INVALID_ARGUMENT",
    `the key ${files.keyFile} is not that of the certificate ${files.certFile}: expected the pair as it was issued, the certificate itself first in its file`,
  );
}

function checkPurpose(file: string, leaf: X509Certificate, purpose: Purpose): void {
  if (serves(leaf, purpose)) return;
  const wanted = purpose === "service" ? "a server (extended key usage serverAuth)" : "a client (clientAuth)";
  throw new TidemarkError("INVALID_ARGUMENT", `the certificate ${file} is not for ${wanted}`);
}

function checkTime(file: string, certificate: X509Certificate, now: Timestamp): void {
  const { from, until } = validityOf(certificate);
  if (now.sec > until.sec)
    throw new TidemarkError("FAILED_PRECONDITION", `the certificate ${file} has expired on ${shown(until)}: renew it`, {
      data: { expired: true },
    });
  if (now.sec >= from.sec) return;
  const message = `the certificate ${file} holds from ${shown(from)} on: wait, or set this machine's clock`;
  throw new TidemarkError("FAILED_PRECONDITION", message);
}

function checkAuthorities(file: string, text: string, now: Timestamp): void {
  const all = parseCertificates(file, text);
  const foreign = all.find((each) => !each.ca);
  if (foreign !== undefined) {
    const subject = foreign.subject.replaceAll("\n", ", ");
    throw new TidemarkError("INVALID_ARGUMENT", `${file} has a certificate that is no authority's: ${subject}`);
  }
  if (all.some((each) => now.sec <= validityOf(each).until.sec)) return;
  throw new TidemarkError("FAILED_PRECONDITION", `every authority in ${file} has expired`);
}

function shown(time: Timestamp): string {
  return new Date(time.sec * 1000).toISOString().slice(0, 10);
}
