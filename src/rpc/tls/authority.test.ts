import { X509Certificate } from "node:crypto";
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Clock } from "../../base/clock.ts";
import { CertificateAuthority, isRenewalDue } from "./authority.ts";
import { validityOf } from "./certificate.ts";

const DAY_SEC = 86_400;

let base: string;
let folder: string;
let nowSec: number;
const clock: Clock = { now: () => ({ sec: nowSec, nsec: 0 }), monotonicMs: () => 0 };

beforeEach(() => {
  base = mkdtempSync(path.join(tmpdir(), "tidemark-ca-"));
  folder = path.join(base, "tls");
  nowSec = 1_790_000_000;
});

afterEach(() => rmSync(base, { recursive: true }));

const open = (): Promise<CertificateAuthority> => CertificateAuthority.open(folder, { clock });
const file = (name: string): string => path.join(folder, name);
const modeOf = (name: string): number => statSync(name).mode & 0o777;

test("the first start makes an authority for ten years, for its owner's eyes alone; the next ones have the same", async () => {
  const made = await open();
  await made.service(["10.0.0.1"]);
  expect([folder, file("ca.crt"), file("ca.key"), file("service.crt"), file("service.key")].map(modeOf)).toEqual([
    0o700,
    ...[0o600, 0o600, 0o600, 0o600],
  ]);
  expect((made.validity.until.sec - nowSec) / DAY_SEC).toBeCloseTo(3653);
  expect((await open()).certificate).toBe(made.certificate);
});

test("a service keeps its certificate until a third of its time is left, or its names change", async () => {
  const authority = await open();
  const first = await authority.service(["fd00::1", "files.example.net"]);
  nowSec += 240 * DAY_SEC;
  expect(await authority.service(["FILES.example.net", "fd00:0:0::1"])).toEqual(first);
  nowSec += 10 * DAY_SEC;
  const second = await authority.service(["files.example.net", "fd00::1"]);
  expect(second.certificate).not.toBe(first.certificate);
  expect(validityOf(new X509Certificate(second.certificate)).until.sec).toBe(nowSec + 365 * DAY_SEC);
  const third = await authority.service(["files.example.net", "10.0.0.1"]);
  expect(third.certificate).not.toBe(second.certificate);
  expect(await (await open()).service(["10.0.0.1", "files.example.net"])).toEqual(third);
});

test("no certificate outlives its authority, and an expired authority is named", async () => {
  const authority = await open();
  nowSec = authority.validity.until.sec - 5 * DAY_SEC;
  const { certificate } = await authority.service(["10.0.0.1"]);
  expect(validityOf(new X509Certificate(certificate)).until).toEqual(authority.validity.until);
  nowSec = authority.validity.until.sec + 1;
  await expect(open()).rejects.toThrow(`${file("ca.crt")} has expired`);
});

test("after a crash between two files the next start makes what is missing", async () => {
  const first = await open();
  const before = await first.service(["10.0.0.1"]);
  // The new key was written, and the new certificate was not.
  await (await CertificateAuthority.open(path.join(base, "other"), { clock })).service(["10.0.0.1"]);
  writeFileSync(file("service.key"), readFileSync(path.join(base, "other", "service.key")), { mode: 0o600 });
  const after = await first.service(["10.0.0.1"]);
  expect(after.certificate).not.toBe(before.certificate);
  for (const damage of ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]) {
    writeFileSync(file("service.crt"), damage);
    expect((await first.service(["10.0.0.1"])).certificate).toContain("BEGIN CERTIFICATE");
  }
  // A new authority's key, before its certificate was there.
  rmSync(file("ca.crt"));
  expect((await open()).certificate).not.toBe(first.certificate);
});

test("the service's certificate of an authority of before is not used", async () => {
  const before = await (await open()).service(["10.0.0.1"]);
  rmSync(file("ca.crt"));
  const authority = await open();
  const after = await authority.service(["10.0.0.1"]);
  expect(after.certificate).not.toBe(before.certificate);
  expect(new X509Certificate(after.certificate).verify(new X509Certificate(authority.certificate).publicKey)).toBe(
    true,
  );
});

test("a lost, open or foreign key of the authority is named, with what to do", async () => {
  await open();
  chmodSync(file("ca.key"), 0o644);
  await expect(open()).rejects.toMatchObject({
    code: "PERMISSION_DENIED",
    message: expect.stringContaining("chmod 600"),
  });
  await CertificateAuthority.open(path.join(base, "other"), { clock });
  chmodSync(file("ca.key"), 0o600);
  writeFileSync(file("ca.key"), readFileSync(path.join(base, "other", "ca.key")));
  await expect(open()).rejects.toThrow(`the key ${file("ca.key")} is not that of the certificate`);
  rmSync(file("ca.key"));
  await expect(open()).rejects.toThrow(`${file("ca.key")} is missing: bring it back, or remove`);
});

test("a renewal is due in the last third", () => {
  const validity = { from: { sec: 0, nsec: 0 }, until: { sec: 300, nsec: 0 } };
  expect([0, 199, 200, 201, 400].map((sec) => isRenewalDue(validity, { sec, nsec: 0 }))).toEqual([
    ...[false, false, false],
    ...[true, true],
  ]);
});
