import { createPrivateKey, X509Certificate } from "node:crypto";
import { expect, test } from "vitest";
import { alternativeNamesOf, nodeNameIn, serves, thumbprintOf, validityOf } from "./certificate.ts";
import {
  issueCertificate,
  makeAuthority,
  makeCertificateRequest,
  newPrivateKey,
  readCertificateRequest,
  signCertificate,
} from "./x509.ts";

const VALIDITY = { from: { sec: 1_700_000_000, nsec: 0 }, until: { sec: 1_800_000_000, nsec: 0 } };

test("an authority signs certificates of services and nodes, each good for its own purpose only", async () => {
  const authority = await makeAuthority("Tidemark CA test", VALIDITY);
  const names = ["10.0.0.1", "fd00::1", "files.example.net"];
  const wish = { name: "tidemark service", alternativeNames: names, validity: VALIDITY };
  const service = await issueCertificate(authority, { ...wish, purpose: "service" });
  const node = await issueCertificate(authority, { ...wish, name: "web1", alternativeNames: [], purpose: "node" });
  const [ca, one, two] = [authority, service, node].map(({ certificate }) => new X509Certificate(certificate));
  if (ca === undefined || one === undefined || two === undefined) throw new Error("three certificates were made");
  for (const leaf of [one, two])
    expect([leaf.checkIssued(ca), leaf.verify(ca.publicKey), leaf.ca]).toEqual([true, true, false]);
  expect([ca.ca, ca.checkIssued(ca), validityOf(ca)]).toEqual([true, true, VALIDITY]);
  expect([serves(one, "service"), serves(one, "node"), serves(two, "service"), serves(two, "node")]).toEqual([
    ...[true, false],
    ...[false, true],
  ]);
  expect([
    one.checkHost("files.example.net"),
    one.checkIP("10.0.0.1"),
    one.checkIP("fd00::1"),
    one.checkIP("10.0.0.2"),
  ]).toEqual(["files.example.net", "10.0.0.1", "fd00::1", undefined]);
  expect(alternativeNamesOf(one)).toHaveLength(3);
  expect([nodeNameIn(two), validityOf(two)]).toEqual(["web1", VALIDITY]);
  expect(thumbprintOf(one)).toMatch(/^[A-Za-z0-9_-]{43}$/);
  // 128 random bits, positive.
  expect(two.serialNumber).toMatch(/^01[0-9A-F]{32}$/);
  expect(two.serialNumber).not.toBe(one.serialNumber);
});

test("a name with characters that mean something in distinguished names stays one name", async () => {
  const authority = await makeAuthority('CA "a", O=b\\+c', VALIDITY);
  expect(new X509Certificate(authority.certificate).subject).not.toContain("\nO=");
});

test("a certificate is signed for the key of a request, whatever name the request has", async () => {
  const authority = await makeAuthority("CA", VALIDITY);
  const key = await newPrivateKey();
  const publicKey = await readCertificateRequest(await makeCertificateRequest("somebody-else", key));
  const wish = { name: "web1", purpose: "node" as const, alternativeNames: [], validity: VALIDITY };
  const certificate = new X509Certificate(await signCertificate(authority, { ...wish, publicKey }));
  expect(certificate.checkPrivateKey(createPrivateKey(key))).toBe(true);
  expect(nodeNameIn(certificate)).toBe("web1");
});

test("a request that is too long, damaged, or signed by another key is refused", async () => {
  const request = await makeCertificateRequest("web1", await newPrivateKey());
  await expect(readCertificateRequest(Buffer.alloc(20_000))).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  await expect(readCertificateRequest(Buffer.alloc(0))).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  await expect(readCertificateRequest(Buffer.from("hello"))).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  for (let length = 0; length < request.length; length += 5) {
    await expect(readCertificateRequest(request.subarray(0, length))).rejects.toMatchObject({
      code: "INVALID_ARGUMENT",
    });
  }
});

test("whatever bit of a request is flipped, no other key comes out of it than the one that has signed", async () => {
  const request = await makeCertificateRequest("web1", await newPrivateKey());
  const key = await readCertificateRequest(request);
  let refused = 0;
  for (let bit = 0; bit < request.length * 8; bit += 3) {
    const damaged = Buffer.from(request);
    damaged.writeUInt8(damaged.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
    try {
      // A few bits say only how the rest is written down.
      expect(await readCertificateRequest(damaged)).toEqual(key);
    } catch (error) {
      expect(error).toMatchObject({ code: "INVALID_ARGUMENT" });
      refused += 1;
    }
  }
  expect(refused).toBeGreaterThan(request.length * 2);
});

test("keys that are too weak or of another kind are refused", async () => {
  const x509 = await import("@peculiar/x509");
  const { privateKey, publicKey } = await crypto.subtle.generateKey(
    { name: "RSASSA-PKCS1-v1_5", modulusLength: 2048, publicExponent: new Uint8Array([1, 0, 1]), hash: "SHA-256" },
    true,
    ["sign", "verify"],
  );
  const request = await x509.Pkcs10CertificateRequestGenerator.create({
    name: "CN=web1",
    keys: { privateKey, publicKey },
    signingAlgorithm: { name: "RSASSA-PKCS1-v1_5" },
  });
  await expect(readCertificateRequest(Buffer.from(request.rawData))).rejects.toThrow("not ECDSA");
});
