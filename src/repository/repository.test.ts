import { mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { DirectoryBlobs } from "../blob/directory-blobs.ts";
import { FaultyBlobs } from "../blob/testing/faulty-blobs.ts";
import { MemoryBlobs } from "../blob/testing/memory-blobs.ts";
import type { AppId } from "../domain/ids.ts";
import { APP, countingFill, OTHER_APP } from "./packs-fixture.ts";
import { Repository } from "./repository.ts";
import { memoryStore, namesIn, pass, RecordSource, TestShipper } from "./seals-fixture.ts";
import type { RepositorySecret } from "./secrets.ts";

const DAY_MS = 86_400_000;

const KEY: RepositorySecret = { kind: "key-file", key: Buffer.alloc(32, 1) };
const OTHER_KEY: RepositorySecret = { kind: "key-file", key: Buffer.alloc(32, 2) };
const THIRD_KEY: RepositorySecret = { kind: "key-file", key: Buffer.alloc(32, 3) };
const WORDS: RepositorySecret = { kind: "passphrase", passphrase: "correct horse" };

/** So cheap that tests can use passphrases. */
const scrypt = { N: 16, r: 8, p: 1 };

const code = (name: string) => expect.objectContaining({ code: name });

async function made(secret: RepositorySecret = KEY) {
  const { store, clock } = memoryStore();
  return { store, clock, repository: await Repository.init({ store, secret, clock, scrypt }) };
}

describe("making one", () => {
  test("is opened again by its secret, in another process", async () => {
    for (const secret of [KEY, WORDS]) {
      const { store, repository } = await made(secret);
      const again = await Repository.open({ store, secret });
      expect([again.id, again.lockDays]).toEqual([repository.id, undefined]);
      expect(again.id).toMatch(/^[0-9a-f]{32}$/);
    }
  });

  test("works in a directory", async () => {
    const folder = mkdtempSync(join(tmpdir(), "tidemark-repository-"));
    try {
      const store = await DirectoryBlobs.open(join(folder, "repo"), { create: true });
      const { id } = await Repository.init({ store, secret: KEY });
      await (await Repository.open({ store, secret: KEY })).createApp(APP);
      expect((await Repository.open({ store, secret: KEY })).id).toBe(id);
      await expect(Repository.init({ store, secret: KEY })).rejects.toThrow(code("ALREADY_EXISTS"));
      await store.close();
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test("is refused where there is one, and where something else is; nothing is changed", async () => {
    const { store } = await made();
    const before = await namesIn(store);
    await expect(Repository.init({ store, secret: OTHER_KEY })).rejects.toThrow(code("ALREADY_EXISTS"));
    expect(await namesIn(store)).toEqual(before);
    const other = new MemoryBlobs();
    await other.put("photos/cat.jpg", [Buffer.from("meow")]);
    await expect(Repository.init({ store: other, secret: KEY })).rejects.toThrow(code("NOT_EMPTY"));
    expect(await namesIn(other)).toEqual(["photos/cat.jpg"]);
  });

  test("by several at once succeeds for one", async () => {
    const { store } = memoryStore();
    const secrets = Array.from(
      { length: 5 },
      (_, index) => ({ kind: "key-file", key: Buffer.alloc(32, index + 1) }) as const,
    );
    const results = await Promise.allSettled(secrets.map((secret) => Repository.init({ store, secret })));
    const winners = results.flatMap((result, index) =>
      result.status === "fulfilled" ? [{ index, id: result.value.id }] : [],
    );
    expect(winners.length).toBe(1);
    for (const result of results)
      if (result.status === "rejected") expect(result.reason).toMatchObject({ code: "ALREADY_EXISTS" });
    for (const [index, secret] of secrets.entries()) {
      const opened = Repository.open({ store, secret });
      if (index === winners[0]?.index) expect((await opened).id).toBe(winners[0]?.id);
      else await expect(opened).rejects.toThrow(code("REPOSITORY_KEY_WRONG"));
    }
  });

  test("that broke off at any step can be done again, and what is left opens nothing", async () => {
    for (let nth = 1; nth <= 3; nth++) {
      for (const kind of ["fail", "lose-answer"] as const) {
        const { store } = memoryStore();
        const faulty = new FaultyBlobs(store);
        faulty.inject({ operation: "put", nth, effect: { kind } });
        await expect(Repository.init({ store: faulty, secret: KEY })).rejects.toThrow(code("BLOB_UNREACHABLE"));
        if (nth === 3 && kind === "lose-answer") {
          expect((await Repository.open({ store, secret: KEY })).id).toMatch(/^[0-9a-f]{32}$/);
          continue;
        }
        await expect(Repository.open({ store, secret: KEY })).rejects.toThrow(code("NOT_FOUND"));
        const { id } = await Repository.init({ store, secret: OTHER_KEY });
        expect((await Repository.open({ store, secret: OTHER_KEY })).id).toBe(id);
        await expect(Repository.open({ store, secret: KEY })).rejects.toThrow(code("REPOSITORY_KEY_WRONG"));
      }
    }
  });

  test("is not begun when the place can't be listed", async () => {
    const faulty = new FaultyBlobs(new MemoryBlobs());
    faulty.inject({ operation: "list-page", effect: { kind: "fail" } });
    await expect(Repository.init({ store: faulty, secret: KEY })).rejects.toThrow(code("BLOB_UNREACHABLE"));
    expect(await namesIn(faulty)).toEqual([]);
  });
});

describe("opening one", () => {
  const openWith = async (bytes: string) => {
    const { store } = await made();
    store.damage("repository.json", () => Buffer.from(bytes));
    return Repository.open({ store, secret: KEY });
  };

  test("tells none, another program's, damage and a newer version apart", async () => {
    await expect(Repository.open({ store: new MemoryBlobs(), secret: KEY })).rejects.toThrow(code("NOT_FOUND"));
    const id = "0".repeat(32);
    await expect(openWith('{"name": "my package", "version": 7}')).rejects.toMatchObject({
      code: "FAILED_PRECONDITION",
      data: { reason: "foreign" },
    });
    await expect(openWith(`{"format": "tidemark-repository", "version": 2, "id": 5}`)).rejects.toThrow(
      code("REPOSITORY_NEWER"),
    );
    for (const bytes of [
      "",
      "{",
      "[]",
      `{"format": "tidemark-repository"}`,
      `{"format": "tidemark-repository", "version": 1, "id": "../x", "created": ""}`,
    ])
      await expect(openWith(bytes), bytes).rejects.toThrow(code("REPOSITORY_DAMAGED"));
    // Somebody else's identity over these keys.
    await expect(
      openWith(`{"format": "tidemark-repository", "version": 1, "id": "${id}", "created": ""}`),
    ).rejects.toThrow(code("REPOSITORY_KEY_WRONG"));
  });

  test("without its identity is damage when there are apps", async () => {
    const { store, repository } = await made();
    const app = await repository.createApp(APP);
    await (await new TestShipper(app, new RecordSource(1)).start()).ship();
    await store.delete(["repository.json"]);
    await expect(Repository.open({ store, secret: KEY })).rejects.toMatchObject({
      code: "REPOSITORY_DAMAGED",
      data: { object: "repository.json" },
    });
  });

  test("says which kind of secret it wants, and tells a damaged wrap from a wrong secret", async () => {
    const { store, repository } = await made(WORDS);
    await expect(Repository.open({ store, secret: KEY })).rejects.toThrow(/opened by a passphrase/);
    await expect(Repository.open({ store, secret: { kind: "passphrase", passphrase: "wrong" } })).rejects.toThrow(
      /passphrase is wrong/,
    );
    await repository.addSecret(KEY);
    await expect(Repository.open({ store, secret: OTHER_KEY })).rejects.toThrow(/key file is that of another/);
    const [words] = (await repository.secrets()).filter(({ kind }) => kind === "passphrase");
    store.damage(`keys/${words?.name}`, (bytes) => bytes.subarray(5));
    await expect(Repository.open({ store, secret: WORDS })).rejects.toThrow(code("REPOSITORY_DAMAGED"));
    expect((await Repository.open({ store, secret: KEY })).id).toBe(repository.id);
    expect((await repository.secrets()).length).toBe(1);
  });

  test("does not take a store that can't be reached for a wrong secret", async () => {
    const { store } = await made();
    for (const operation of ["get", "list-page"] as const) {
      const faulty = new FaultyBlobs(store);
      faulty.inject({ operation, nth: 2, effect: { kind: "fail" } });
      await expect(Repository.open({ store: faulty, secret: KEY })).rejects.toThrow(code("BLOB_UNREACHABLE"));
    }
  });

  test("says that settings are missing, and does not blame the key", async () => {
    const { store } = await made();
    await store.delete(await namesIn(store, "settings/"));
    for (const secret of [KEY, OTHER_KEY])
      await expect(Repository.open({ store, secret })).rejects.toMatchObject({
        code: "REPOSITORY_DAMAGED",
        message: expect.stringContaining("settings/ is missing"),
      });
  });

  test("tells of folders of apps that no key goes with", async () => {
    const { store, repository } = await made();
    const tags: string[] = [];
    for (const id of [APP, OTHER_APP]) {
      const { tag } = await repository.createApp(id);
      tags.push(tag);
      for (const name of ["a", "b"]) await store.put(`apps/${tag}/packs/${name}`, [Buffer.from(name)]);
    }
    expect(await repository.appsWithoutKey()).toEqual([]);
    await repository.destroyApp(APP);
    expect(await repository.appsWithoutKey()).toEqual([`apps/${tags[0]}/`]);
    await repository.destroyApp(OTHER_APP);
    expect(await repository.appsWithoutKey()).toEqual(tags.map((tag) => `apps/${tag}/`).sort());
  });

  test("and making one takes a folder with links in it for somebody else's", async () => {
    const folder = mkdtempSync(join(tmpdir(), "tidemark-repository-"));
    try {
      symlinkSync("nowhere", join(folder, "link"));
      const store = await DirectoryBlobs.open(folder, { create: false });
      await expect(Repository.open({ store, secret: KEY })).rejects.toThrow(code("NOT_FOUND"));
      await expect(Repository.init({ store, secret: KEY })).rejects.toThrow(code("NOT_EMPTY"));
      await store.close();
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test("finds settings that were changed in the store", async () => {
    const { store, clock } = memoryStore();
    await Repository.init({ store, secret: KEY, clock, lockDays: 30 });
    expect((await Repository.open({ store, secret: KEY })).lockDays).toBe(30);
    const [name = ""] = await namesIn(store, "settings/");
    store.damage(name, (bytes) => Buffer.from(bytes.toString().replace('"lockDays":30', '"lockDays":1')));
    await expect(Repository.open({ store, secret: KEY })).rejects.toThrow(code("REPOSITORY_KEY_WRONG"));
  });
});

describe("secrets", () => {
  test("several open it; one is taken away; the one in use stays", async () => {
    const { store, repository } = await made(WORDS);
    const added = await repository.addSecret(KEY);
    expect((await repository.secrets()).map(({ kind }) => kind).sort()).toEqual(["key-file", "passphrase"]);
    const byFile = await Repository.open({ store, secret: KEY, scrypt });
    await expect(byFile.removeSecret(added)).rejects.toThrow(code("FAILED_PRECONDITION"));
    await expect(byFile.removeSecret("f".repeat(32))).rejects.toThrow(code("NOT_FOUND"));
    await expect(byFile.removeSecret("../repository.json")).rejects.toThrow(code("NOT_FOUND"));
    await repository.removeSecret(added);
    await expect(Repository.open({ store, secret: KEY })).rejects.toThrow(code("REPOSITORY_KEY_WRONG"));
    expect((await Repository.open({ store, secret: WORDS })).id).toBe(repository.id);
  });

  test("replacing the repository's key leaves apps readable by the new secrets alone", async () => {
    const { store, repository } = await made(WORDS);
    const app = await repository.createApp(APP);
    await (await new TestShipper(app, new RecordSource(1)).start()).ship();
    const rotated = await repository.rotate([OTHER_KEY, KEY]);
    for (const secret of [OTHER_KEY, KEY]) {
      const again = await Repository.open({ store, secret });
      expect((await (await again.openApp(APP)).head()).seal?.head.to).toBe(3);
      expect([again.id, await again.createApp(APP).then(({ tag }) => tag)]).toEqual([repository.id, app.tag]);
    }
    await expect(Repository.open({ store, secret: WORDS })).rejects.toThrow(code("REPOSITORY_KEY_WRONG"));
    // Who kept the old key finds no key of an app any more.
    await expect(Repository.prototype.openApp.call(repository, OTHER_APP)).rejects.toThrow(code("NOT_FOUND"));
    expect((await repository.apps()).length).toBe(0);
    expect((await rotated.apps()).map(({ appId }) => appId)).toEqual([APP]);
  });

  test("a rotation that broke off at any step loses nothing, and can be done again", async () => {
    for (let nth = 1; nth <= 6; nth++) {
      for (const operation of ["put", "delete"] as const) {
        const { store } = await made(KEY);
        const app = await (await Repository.open({ store, secret: KEY })).createApp(APP);
        const faulty = new FaultyBlobs(store);
        const repository = await Repository.open({ store: faulty, secret: KEY });
        faulty.inject({ operation, nth, effect: { kind: "fail" } });
        const failed = await repository.rotate([OTHER_KEY]).then(
          () => false,
          () => true,
        );
        faulty.heal();
        const secrets = failed ? [KEY, OTHER_KEY] : [OTHER_KEY];
        const opened = await Promise.allSettled(secrets.map((secret) => Repository.open({ store, secret })));
        const working =
          opened.find((result) => result.status === "fulfilled")?.value ?? expect.fail(`${operation} ${nth}`);
        expect((await working.openApp(APP)).tag).toBe(app.tag);
        const rotated = await working.rotate([THIRD_KEY]);
        expect((await rotated.openApp(APP)).tag).toBe(app.tag);
        expect((await Repository.open({ store, secret: THIRD_KEY })).id).toBe(rotated.id);
        for (const secret of [KEY, OTHER_KEY])
          await expect(Repository.open({ store, secret })).rejects.toThrow(code("REPOSITORY_KEY_WRONG"));
      }
    }
  });
});

describe("apps", () => {
  test("are made once, listed and opened", async () => {
    const { store, repository } = await made();
    const app = await repository.createApp(APP);
    const other = await repository.createApp(OTHER_APP);
    expect((await repository.createApp(APP)).tag).toBe(app.tag);
    expect(app.tag).not.toBe(other.tag);
    const again = await Repository.open({ store, secret: KEY });
    expect((await again.apps()).map(({ appId }) => appId).sort()).toEqual([APP, OTHER_APP].sort());
    expect((await again.openApp(APP)).keys.chunkId(Buffer.from("x"))).toEqual(app.keys.chunkId(Buffer.from("x")));
    await expect(again.openApp("1".repeat(32) as AppId)).rejects.toThrow(code("NOT_FOUND"));
  });

  test("made by several at once have one key", async () => {
    const { store } = await made();
    const services = await Promise.all([1, 2, 3, 4].map(() => Repository.open({ store, secret: KEY })));
    const apps = await Promise.all(services.map((service) => service.createApp(APP)));
    const ids = new Set(apps.map(({ tag, keys }) => `${tag} ${keys.chunkId(Buffer.from("x")).toString("hex")}`));
    expect(ids.size).toBe(1);
    expect((await services[0]?.apps())?.length).toBe(1);
  });

  test("say nothing of themselves in names", async () => {
    const { store, repository } = await made();
    await repository.createApp(APP);
    for (const name of await namesIn(store)) expect(name).not.toContain(APP);
  });

  test("whose key is destroyed can't be read any more; the same app begins anew in another place", async () => {
    const { store, repository } = await made();
    const app = await repository.createApp(APP);
    const service = await new TestShipper(app, new RecordSource(1)).start();
    await service.ship();
    await repository.destroyApp(APP);
    for (const each of [repository, await Repository.open({ store, secret: KEY })]) {
      expect(await each.apps()).toEqual([]);
      await expect(each.openApp(APP)).rejects.toThrow(code("NOT_FOUND"));
      await expect(each.destroyApp(APP)).rejects.toThrow(code("NOT_FOUND"));
    }
    const anew = await repository.createApp(APP);
    expect(anew.tag).not.toBe(app.tag);
    expect((await anew.head()).seal).toBeNull();
    expect((await (await Repository.open({ store, secret: KEY })).openApp(APP)).tag).toBe(anew.tag);
  });

  test("whose key is damaged, or stands in another's place, are told of, and hinder no other", async () => {
    const { store, repository } = await made();
    const app = await repository.createApp(APP);
    const other = await repository.createApp(OTHER_APP);
    const nameOf = async (tag: string) => (await namesIn(store, `keys/apps/${tag}/`))[0] ?? "";
    const foreign = await store.get(await nameOf(other.tag));
    for (const change of [(bytes: Buffer) => bytes.subarray(3), () => foreign]) {
      store.damage(await nameOf(app.tag), change);
      const damaged: string[] = [];
      const again = await Repository.open({ store, secret: KEY });
      expect((await again.apps(({ tag }) => damaged.push(tag))).map(({ appId }) => appId)).toEqual([OTHER_APP]);
      expect(damaged).toEqual([app.tag]);
      expect((await again.openApp(OTHER_APP)).tag).toBe(other.tag);
    }
  });
});

describe("locks", () => {
  test("are refused where the store has none, and out of range", async () => {
    const store = new MemoryBlobs({ objectLock: false });
    await expect(Repository.init({ store, secret: KEY, lockDays: 5 })).rejects.toThrow(code("UNSUPPORTED"));
    for (const lockDays of [0, -1, 1.5, 1e9])
      await expect(Repository.init({ store: new MemoryBlobs(), secret: KEY, lockDays })).rejects.toThrow(
        code("INVALID_ARGUMENT"),
      );
    expect(await namesIn(store)).toEqual([]);
  });

  test("of keys last a week at most and can be made to last again; those of data as long as was said", async () => {
    const { store, clock } = memoryStore();
    const repository = await Repository.init({ store, secret: KEY, clock, lockDays: 30, fill: countingFill("locks") });
    const app = await repository.createApp(APP);
    await (await new TestShipper(app, new RecordSource(1)).start()).ship();
    const daysLeft = async (name: string) =>
      (((await store.stat(name))?.lockedUntilMs ?? 0) - (await store.timeMs())) / DAY_MS;
    const keys = [...(await namesIn(store, "keys/")), ...(await namesIn(store, "settings/")), "repository.json"];
    for (const name of keys) expect(await daysLeft(name)).toBe(7);
    for (const name of await namesIn(store, app.prefix)) expect(await daysLeft(name)).toBe(30);
    await expect(repository.destroyApp(APP)).rejects.toThrow(code("BLOB_LOCKED"));
    pass(clock, 5 * DAY_MS);
    expect(await repository.extendLocks()).toEqual({ extended: keys.length });
    for (const name of keys) expect(await daysLeft(name)).toBe(7);
    pass(clock, 8 * DAY_MS);
    await repository.destroyApp(APP);
  });
});
