import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { newAppKeyMaterial, unwrapAppKey, wrapAppKey } from "./app-keys.ts";
import { newKeyFile, parseKeyFile } from "./key-file.ts";
import { APP, countingFill } from "./packs-fixture.ts";
import { newRepositoryKey, type RepositorySecret, unwrapRepositoryKey, wrapRepositoryKey } from "./secrets.ts";

const KEY = newRepositoryKey(countingFill("golden repository key"));

function golden(file: string): Buffer {
  return readFileSync(fileURLToPath(new URL(`./golden/${file}`, import.meta.url)));
}

test("the sample of a key file of version 1 is read, and written, as it was", () => {
  const text = golden("key-file-v1.txt").toString();
  const made = newKeyFile({ fill: countingFill("golden key file") });
  expect(parseKeyFile(text)).toEqual(made.key);
  expect(made.text).toBe(text);
});

test("the samples of wraps of version 1 are read, and written, as they were", async () => {
  const secrets: [string, RepositorySecret][] = [
    ["wrap-key-file-v1.json", { kind: "key-file", key: parseKeyFile(golden("key-file-v1.txt").toString()) }],
    ["wrap-passphrase-v1.json", { kind: "passphrase", passphrase: "correct horse battery staple" }],
  ];
  for (const [name, secret] of secrets) {
    expect(await unwrapRepositoryKey(golden(name), { name, secret })).toEqual(KEY);
    expect(await wrapRepositoryKey(KEY, secret, { fill: countingFill("golden wrap") })).toEqual(golden(name));
  }
});

test("the sample of an app's wrap of version 1 is read, and written, as it was", () => {
  const name = "wrap-app-v1.json";
  const material = newAppKeyMaterial({ appId: APP, fill: countingFill("golden app") });
  expect(unwrapAppKey(golden(name), { repositoryKey: KEY, tag: material.tag, name })).toEqual(material);
  expect(wrapAppKey(material, { repositoryKey: KEY, fill: countingFill("golden wrap") })).toEqual(golden(name));
});
