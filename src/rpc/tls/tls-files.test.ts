import { createPrivateKey, generateKeyPairSync } from "node:crypto";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { readTlsFiles, type TlsFiles } from "./tls-files.ts";
import { issueCertificate, makeAuthority, type Purpose } from "./x509.ts";

const NOW = { sec: 1_750_000_000, nsec: 0 };
const VALIDITY = { from: { sec: 1_700_000_000, nsec: 0 }, until: { sec: 1_800_000_000, nsec: 0 } };
const OVER = { from: VALIDITY.from, until: { sec: NOW.sec - 1, nsec: 0 } };
const TO_COME = { from: { sec: NOW.sec + 1, nsec: 0 }, until: VALIDITY.until };

let folder: string;
let good: TlsFiles;

function put(name: string, text: string, mode = 0o600): string {
  const file = path.join(folder, name);
  writeFileSync(file, text);
  chmodSync(file, mode);
  return file;
}

function read(files: Partial<TlsFiles>, purpose: Purpose = "node"): Promise<unknown> {
  return readTlsFiles({ ...good, ...files }, { purpose, now: NOW });
}

beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), "tidemark-tls-"));
  const authority = await makeAuthority("CA", VALIDITY);
  const wish = { name: "web1", purpose: "node" as const, alternativeNames: [] };
  const node = await issueCertificate(authority, { ...wish, validity: VALIDITY });
  const over = await issueCertificate(authority, { ...wish, validity: OVER });
  const toCome = await issueCertificate(authority, { ...wish, validity: TO_COME });
  good = {
    certFile: put("node.crt", node.certificate + authority.certificate),
    keyFile: put("node.key", node.key),
    caFile: put("ca.crt", authority.certificate),
  };
  for (const [name, made] of [["over", over] as const, ["to-come", toCome] as const]) {
    put(`${name}.crt`, made.certificate);
    put(`${name}.key`, made.key);
  }
  put("old-ca.crt", (await makeAuthority("old", OVER)).certificate);
  put("both-ca.crt", (await makeAuthority("old", OVER)).certificate + authority.certificate);
});

afterAll(() => rmSync(folder, { recursive: true }));

const at = (name: string): string => path.join(folder, name);

test("a pair and its authority are read; a chain, and an authority of before, may be with them", async () => {
  expect(await read({})).toMatchObject({ certificate: expect.stringContaining("BEGIN"), key: expect.any(String) });
  await read({ caFile: at("both-ca.crt") });
});

test("a key that its owner's group may read is taken", async () => {
  chmodSync(good.keyFile, 0o640);
  await read({});
  chmodSync(good.keyFile, 0o600);
});

test.each([0o604, 0o644, 0o660, 0o666, 0o601])(
  "a key with mode %o is refused, with the file and what to do",
  async (mode) => {
    const keyFile = put(`open-${mode}.key`, "whatever", mode);
    await expect(read({ keyFile })).rejects.toMatchObject({
      code: "PERMISSION_DENIED",
      message: expect.stringContaining(
        `${keyFile} is open to others (mode ${mode.toString(8)}): make it its owner's alone`,
      ),
    });
  },
);

test.each(["certFile", "keyFile", "caFile"] as const)("a missing %s is named", async (which) => {
  await expect(read({ [which]: at("absent") })).rejects.toMatchObject({
    code: "NOT_FOUND",
    message: `there is no file ${at("absent")}`,
  });
  await expect(read({ [which]: folder })).rejects.toMatchObject({ message: expect.stringContaining(folder) });
});

test("a file without what belongs into it is named", async () => {
  const empty = put("empty", "");
  await expect(read({ certFile: empty })).rejects.toThrow(`${empty} has no certificate`);
  await expect(read({ caFile: empty })).rejects.toThrow(`${empty} has no certificate`);
  await expect(read({ keyFile: empty })).rejects.toThrow(`${empty} has no private key`);
  await expect(
    read({ keyFile: put("crt.key", "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n") }),
  ).rejects.toThrow("has no private key");
  const damaged = put("damaged.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
  await expect(read({ certFile: damaged })).rejects.toThrow(`a certificate in ${damaged} is damaged`);
  const large = put("large.crt", "x".repeat(2 * 1024 * 1024));
  await expect(read({ caFile: large })).rejects.toThrow(`${large} has 2097152 bytes`);
});

test("an encrypted key is named as such", async () => {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const text = privateKey.export({ type: "pkcs8", format: "pem", cipher: "aes-256-cbc", passphrase: "secret" });
  await expect(read({ keyFile: put("encrypted.key", String(text)) })).rejects.toThrow("is encrypted with a passphrase");
});

test("a key of another certificate is named with it, and nothing of it is shown", async () => {
  const other = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;
  const text = String(
    createPrivateKey(other.export({ type: "pkcs8", format: "pem" })).export({ type: "pkcs8", format: "pem" }),
  );
  const keyFile = put("other.key", text);
  const failing = read({ keyFile });
  await expect(failing).rejects.toThrow(`the key ${keyFile} is not that of the certificate ${good.certFile}`);
  await failing.catch((error: unknown) => expect(String(error)).not.toContain(text.slice(40, 60)));
});

test("a certificate for something else is refused", async () => {
  await expect(read({}, "service")).rejects.toThrow(`the certificate ${good.certFile} is not for a server`);
});

test("a certificate that has expired, or does not hold yet, is named with the day", async () => {
  const over = read({ certFile: at("over.crt"), keyFile: at("over.key") });
  await expect(over).rejects.toMatchObject({ code: "FAILED_PRECONDITION" });
  await expect(over).rejects.toThrow(`${at("over.crt")} has expired on 2025-06-15`);
  const toCome = read({ certFile: at("to-come.crt"), keyFile: at("to-come.key") });
  await expect(toCome).rejects.toThrow("this machine's clock");
});

test("authorities that have all expired, or are none, are refused", async () => {
  await expect(read({ caFile: at("old-ca.crt") })).rejects.toThrow(
    `every authority in ${at("old-ca.crt")} has expired`,
  );
  await expect(read({ caFile: at("over.crt") })).rejects.toThrow("has a certificate that is no authority's: CN=web1");
});
