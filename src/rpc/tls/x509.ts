import { createPrivateKey, randomBytes, type webcrypto } from "node:crypto";
import { isIP } from "node:net";
import type * as X509 from "@peculiar/x509";
import type { Timestamp } from "../../base/clock.ts";
import { TidemarkError } from "../../domain/errors.ts";
import { CERTIFICATE_REQUEST_BYTES_MAX } from "../../domain/node-join.ts";

/**
 * Making certificates (RFC 5280) and certificate requests (RFC 2986): all that asks for @peculiar/x509, which is loaded only then. What is read from files or shown by a peer is looked at with Node's own X509Certificate.
 */

/** A key with its certificate, PEM. */
export type IssuedCertificate = { readonly certificate: string; readonly key: string };

/** When a certificate holds. */
export type Validity = { readonly from: Timestamp; readonly until: Timestamp };

/** What an authority's certificate is for, besides being checked: proves a service to its clients, or a node to the service. */
export type Purpose = "service" | "node";

/** The curve of our own keys: TLS 1.3 clients must know it (RFC 8446, 9.1), and signing takes 0.1 ms. */
const OUR_KEYS = { name: "ECDSA", namedCurve: "P-256" } as const;

/** Curves of other people's keys that are signed. */
const CURVES: readonly string[] = ["P-256", "P-384"];

/** A new authority: self-signed, it signs certificates of ends only. */
export async function makeAuthority(name: string, validity: Validity): Promise<IssuedCertificate> {
  const x509 = await loadX509();
  const keys = await makeKeys();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name: [{ CN: [name] }],
    serialNumber: newSerial(),
    ...dates(validity),
    signingAlgorithm: { name: "ECDSA", hash: "SHA-256" },
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { certificate: pem(certificate), key: await keyPem(keys.privateKey) };
}

export type CertificateWish = {
  /** The common name. */
  readonly name: string;
  readonly purpose: Purpose;
  /** DNS names and IP addresses of the subject. */
  readonly alternativeNames: readonly string[];
  readonly validity: Validity;
};

/** Signs a certificate for a public key (SubjectPublicKeyInfo, DER) with the authority's key. */
export async function signCertificate(
  authority: IssuedCertificate,
  wish: CertificateWish & { readonly publicKey: Uint8Array<ArrayBuffer> },
): Promise<string> {
  const x509 = await loadX509();
  const issuer = new x509.X509Certificate(authority.certificate);
  const usage = wish.purpose === "service" ? "serverAuth" : "clientAuth";
  const subject = new x509.PublicKey(wish.publicKey);
  const names = wish.alternativeNames.map((value) => ({ type: isIP(value) === 0 ? "dns" : "ip", value }) as const);
  const certificate = await x509.X509CertificateGenerator.create({
    subject: [{ CN: [wish.name] }],
    issuer: issuer.subjectName.toJSON(),
    serialNumber: newSerial(),
    ...dates(wish.validity),
    signingAlgorithm: { name: "ECDSA", hash: "SHA-256" },
    publicKey: subject,
    signingKey: importKey(authority.key),
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage[usage]]),
      ...(names.length === 0 ? [] : [new x509.SubjectAlternativeNameExtension(names)]),
      await x509.SubjectKeyIdentifierExtension.create(subject),
      await x509.AuthorityKeyIdentifierExtension.create(issuer.publicKey),
    ],
  });
  return pem(certificate);
}

/** A new key with a certificate for it. */
export async function issueCertificate(
  authority: IssuedCertificate,
  wish: CertificateWish,
): Promise<IssuedCertificate> {
  const keys = await makeKeys();
  const publicKey = new Uint8Array(await crypto.subtle.exportKey("spki", keys.publicKey));
  return { certificate: await signCertificate(authority, { ...wish, publicKey }), key: await keyPem(keys.privateKey) };
}

/** A new private key (ECDSA P-256), PEM. */
export async function newPrivateKey(): Promise<string> {
  return keyPem((await makeKeys()).privateKey);
}

/** A certificate request (PKCS #10, DER) for the key `keyText` (PEM, ECDSA P-256). */
export async function makeCertificateRequest(name: string, keyText: string): Promise<Buffer> {
  const x509 = await loadX509();
  const privateKey = importKey(keyText);
  const jwk = createPrivateKey(keyText).export({ format: "jwk" });
  const { kty = "", crv = "", x = "", y = "" } = jwk;
  const publicKey = await crypto.subtle.importKey("jwk", { kty, crv, x, y }, OUR_KEYS, true, ["verify"]);
  const request = await x509.Pkcs10CertificateRequestGenerator.create({
    name: [{ CN: [name] }],
    keys: { privateKey, publicKey },
    signingAlgorithm: { name: "ECDSA", hash: "SHA-256" },
  });
  return Buffer.from(request.rawData);
}

/** The public key (SubjectPublicKeyInfo, DER) of a certificate request whose sender has proven to hold the private one. Throws INVALID_ARGUMENT. */
export async function readCertificateRequest(der: Buffer): Promise<Uint8Array<ArrayBuffer>> {
  if (der.length > CERTIFICATE_REQUEST_BYTES_MAX)
    throw refusedRequest(`it has ${der.length} bytes, at most ${CERTIFICATE_REQUEST_BYTES_MAX} are read`);
  const x509 = await loadX509();
  const { request, key } = parseRequest(x509, der);
  const { algorithm } = key;
  const curve = "namedCurve" in algorithm ? String(algorithm.namedCurve) : "";
  if (algorithm.name !== "ECDSA" || !CURVES.includes(curve))
    throw refusedRequest("its key is not ECDSA on P-256 or P-384");
  const proven = await request.verify().catch(() => false);
  if (!proven) throw refusedRequest("its signature is not by its key");
  return new Uint8Array(key.rawData);
}

function parseRequest(
  x509: typeof X509,
  der: Buffer,
): { readonly request: X509.Pkcs10CertificateRequest; readonly key: X509.PublicKey } {
  try {
    const request = new x509.Pkcs10CertificateRequest(new Uint8Array(der));
    return { request, key: request.publicKey };
  } catch (cause) {
    throw refusedRequest("it is no PKCS #10 request in DER, or of an unknown kind of key", cause);
  }
}

function refusedRequest(reason: string, cause?: unknown): TidemarkError {
  return new TidemarkError("INVALID_ARGUMENT", `the certificate request is refused: ${reason}`, { cause });
}

async function makeKeys(): Promise<webcrypto.CryptoKeyPair> {
  return await crypto.subtle.generateKey(OUR_KEYS, true, ["sign", "verify"]);
}

function importKey(text: string): webcrypto.CryptoKey {
  return createPrivateKey(text).toCryptoKey(OUR_KEYS, false, ["sign"]);
}

async function keyPem(key: webcrypto.CryptoKey): Promise<string> {
  const der = Buffer.from(await crypto.subtle.exportKey("pkcs8", key));
  return String(createPrivateKey({ key: der, format: "der", type: "pkcs8" }).export({ format: "pem", type: "pkcs8" }));
}

function pem(certificate: X509.X509Certificate): string {
  return `${certificate.toString("pem")}\n`;
}

/** 128 random bits behind a byte that keeps the number positive (RFC 5280, 4.1.2.2: at most 20 octets). */
function newSerial(): string {
  return `01${randomBytes(16).toString("hex")}`;
}

function dates({ from, until }: Validity): { readonly notBefore: Date; readonly notAfter: Date } {
  return { notBefore: new Date(from.sec * 1000), notAfter: new Date(until.sec * 1000) };
}

let loaded: Promise<typeof X509> | undefined;

function loadX509(): Promise<typeof X509> {
  loaded ??= load();
  return loaded;
}

async function load(): Promise<typeof X509> {
  provideReflectMetadata();
  return await import("@peculiar/x509");
}

/**
 * The library finds its parts through tsyringe, which refuses to load without the three functions of the "reflect-metadata" proposal that it calls. These are they, so that no package has to patch the whole of Reflect.
 */
function provideReflectMetadata(): void {
  if ("getMetadata" in Reflect) return;
  const kept = new WeakMap<object, Map<unknown, unknown>>();
  const own = (key: unknown, target: object): unknown => kept.get(target)?.get(key);
  const define = (key: unknown, value: unknown, target: object): void => {
    const values = kept.get(target) ?? new Map<unknown, unknown>();
    kept.set(target, values.set(key, value));
  };
  const inherited = (key: unknown, target: object): unknown => {
    for (let each: object | null = target; each !== null; each = Reflect.getPrototypeOf(each)) {
      if (kept.get(each)?.has(key) === true) return own(key, each);
    }
    return undefined;
  };
  Object.assign(Reflect, { defineMetadata: define, getOwnMetadata: own, getMetadata: inherited });
}
