import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { TidemarkError } from "../../domain/errors.ts";
import { KnownRepositories, type KnownRepository } from "./known-repositories.ts";

let folder: string;
let known: KnownRepositories;

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "tidemark-known-"));
  known = new KnownRepositories(folder);
});

afterEach(() => rm(folder, { recursive: true }));

const MAIN: KnownRepository = {
  name: "main",
  id: "a".repeat(32),
  location: { url: "s3://bucket/prefix", endpoint: "https://s3.example", region: "eu-1" },
  addedAt: { sec: 7, nsec: 9 },
  secret: { kind: "key-file", text: "a key\nof two lines\n" },
  credentials: { accessKeyId: "id", secretAccessKey: "secret", sessionToken: "token" },
};
const PLAIN: KnownRepository = {
  name: "b",
  id: "b".repeat(32),
  location: { url: "/backup" },
  addedAt: { sec: 1, nsec: 0 },
  secret: { kind: "passphrase", passphrase: "secret words" },
};

test("what was put is there, for its owner alone, until it is deleted", async () => {
  expect(await known.all()).toEqual([]);
  await known.put(PLAIN);
  await known.put(MAIN);
  await known.put({ ...MAIN, location: { url: "/moved" } });
  expect(await new KnownRepositories(folder).all()).toEqual([PLAIN, { ...MAIN, location: { url: "/moved" } }]);
  const inside = path.join(folder, "repositories");
  expect((await stat(inside)).mode & 0o777).toBe(0o700);
  expect((await stat(path.join(inside, "main.json"))).mode & 0o777).toBe(0o600);
  expect((await readdir(inside)).sort()).toEqual(["b.json", "main.json"]);
  await known.delete("main");
  expect(await known.get("main")).toBeUndefined();
});

test("a name can't lead elsewhere", async () => {
  await expect(known.get("../x")).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  await expect(known.put({ ...PLAIN, name: "a/b" })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
});

test("a damaged file is named, and nothing of what is in it is said", async () => {
  await known.put(MAIN);
  const file = path.join(folder, "repositories", "main.json");
  const text = await readFile(file, "utf8");
  for (const damaged of [text.slice(0, -20), "{}", "null", "", text.replace('"version": 1', '"version": 2')]) {
    await writeFile(file, damaged);
    const error = await known.get("main").catch((raised: unknown) => raised);
    expect(error).toBeInstanceOf(TidemarkError);
    expect(String(error)).toContain(file);
    expect(String(error)).not.toMatch(/secret|token|a key/);
  }
});

test("somebody else's are told as such", async () => {
  await known.put(MAIN);
  await chmod(path.join(folder, "repositories"), 0);
  // Root may read anything: for a moment this is nobody.
  const isRoot = process.geteuid?.() === 0;
  if (isRoot) process.seteuid?.(65_534);
  try {
    await expect(known.all()).rejects.toMatchObject({ code: "PERMISSION_DENIED" });
  } finally {
    if (isRoot) process.seteuid?.(0);
    await chmod(path.join(folder, "repositories"), 0o700);
  }
});
