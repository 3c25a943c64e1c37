import { X509Certificate } from "node:crypto";
import type { PeerCertificate } from "node:tls";
import type { Timestamp } from "../../base/clock.ts";
import { isNodeName } from "../../domain/admin-nodes.ts";

/** Reading certificates: what we want to know of one, from a file or shown by a peer. */

const PEM_BLOCK = /-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g;

/** More certificates than a chain of authorities has. */
const CERTIFICATES_MAX = 32;

/** RFC 5280, 4.2.1.12. */
const EXTENDED_USAGE = { service: "1.3.6.1.5.5.7.3.1", node: "1.3.6.1.5.5.7.3.2" } as const;

/** The certificates in a PEM text, in order. Throws what `X509Certificate` throws. */
export function certificatesIn(text: string): X509Certificate[] {
  const blocks = text.match(PEM_BLOCK) ?? [];
  return blocks.slice(0, CERTIFICATES_MAX).map((block) => new X509Certificate(block));
}

/** SHA-256 of a certificate (DER), base64url: "x5t#S256" of RFC 8705, 3.1. */
export function thumbprintOf(certificate: X509Certificate): string {
  return thumbprintOfHex(certificate.fingerprint256);
}

/** As `thumbprintOf`, of what a TLS socket has. */
export function thumbprintOfPeer(certificate: PeerCertificate): string {
  return thumbprintOfHex(certificate.fingerprint256);
}

function thumbprintOfHex(colonHex: string): string {
  return Buffer.from(colonHex.replaceAll(":", ""), "hex").toString("base64url");
}

/** From when to when it holds. */
export function validityOf(certificate: X509Certificate): { readonly from: Timestamp; readonly until: Timestamp } {
  return { from: timeOf(certificate.validFromDate), until: timeOf(certificate.validToDate) };
}

function timeOf(date: Date): Timestamp {
  return { sec: Math.floor(date.getTime() / 1000), nsec: 0 };
}

/** Whether it may prove a service, or a node: a certificate that names no purpose may everything (as OpenSSL has it). */
export function serves(certificate: X509Certificate, purpose: keyof typeof EXTENDED_USAGE): boolean {
  const usages: readonly string[] | undefined = certificate.keyUsage;
  return usages === undefined || usages.length === 0 || usages.includes(EXTENDED_USAGE[purpose]);
}

/** The common name of a certificate's subject, if it has exactly one, and it can name a node. */
export function nodeNameOf(subject: { readonly CN?: string | string[] } | undefined): string | undefined {
  const name = subject?.CN;
  return typeof name === "string" && isNodeName(name) ? name : undefined;
}

/** As `nodeNameOf`, of a certificate that is no peer's. */
export function nodeNameIn(certificate: X509Certificate): string | undefined {
  const { subject } = certificate.toLegacyObject();
  return nodeNameOf(subject as { readonly CN?: string | string[] } | undefined);
}

/** DNS names and IP addresses that it holds for, as OpenSSL writes the addresses. */
export function alternativeNamesOf(certificate: X509Certificate): string[] {
  const text = certificate.subjectAltName ?? "";
  return text
    .split(", ")
    .flatMap((part) => /^(?:DNS|IP Address):(.+)$/.exec(part)?.[1] ?? [])
    .sort();
}
