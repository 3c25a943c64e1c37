import { expect, test } from "vitest";
import { AppKeys, newAppKeyMaterial, unwrapAppKey, wrapAppKey } from "./app-keys.ts";
import { newKeyFile } from "./key-file.ts";
import { APP, countingFill, flipped, keysOf, OTHER_APP } from "./packs-fixture.ts";
import { newRepositoryKey, wrapRepositoryKey } from "./secrets.ts";

const REPOSITORY_KEY = newRepositoryKey(countingFill("repository"));
const MATERIAL = newAppKeyMaterial({ appId: APP });
const WHERE = { repositoryKey: REPOSITORY_KEY, tag: MATERIAL.tag, name: `keys/apps/${MATERIAL.tag}/1` };

test("an app's key and id come back with the repository key, and the wrap shows neither", () => {
  const bytes = wrapAppKey(MATERIAL, { repositoryKey: REPOSITORY_KEY });
  const back = unwrapAppKey(bytes, WHERE);
  expect([back.appId, back.tag, Buffer.from(back.key)]).toEqual([APP, MATERIAL.tag, Buffer.from(MATERIAL.key)]);
  expect(bytes.toString()).not.toContain(APP);
  expect(bytes.toString()).not.toContain(Buffer.from(MATERIAL.key).toString("hex"));
});

test("another repository's key does not open an app's wrap, nor does it open in another app's place", () => {
  const bytes = wrapAppKey(MATERIAL, { repositoryKey: REPOSITORY_KEY });
  const wrong = { code: "REPOSITORY_KEY_WRONG", data: { object: WHERE.name } };
  expect(() => unwrapAppKey(bytes, { ...WHERE, repositoryKey: newRepositoryKey() })).toThrow(
    expect.objectContaining(wrong),
  );
  expect(() => unwrapAppKey(bytes, { ...WHERE, tag: "0".repeat(32) })).toThrow(expect.objectContaining(wrong));
});

test("damage of an app's wrap is told, and so is a wrap of the repository's key in its place", async () => {
  const bytes = wrapAppKey(MATERIAL, { repositoryKey: REPOSITORY_KEY });
  for (let at = 0; at < bytes.length; at += 3) {
    let code = "none";
    try {
      unwrapAppKey(flipped(bytes, at), WHERE);
    } catch (error) {
      code = (error as { code: string }).code;
    }
    // White space between the fields is not part of what they say.
    if (code !== "none" || !/\s/.test(bytes.toString("latin1", at, at + 1)))
      expect(code, `byte ${at}`).toMatch(/DAMAGED|NEWER/);
  }
  const other = await wrapRepositoryKey(REPOSITORY_KEY, { kind: "key-file", key: newKeyFile().key });
  expect(() => unwrapAppKey(other, WHERE)).toThrow(expect.objectContaining({ code: "REPOSITORY_DAMAGED" }));
});

test("ids of chunks are the same for the same bytes of one app, in every thread, and others for another app", () => {
  const keys = keysOf();
  const bytes = Buffer.from("a chunk");
  const again = new AppKeys(structuredClone(keys.material()));
  expect(again.chunkId(bytes)).toEqual(keys.chunkId(bytes));
  expect(again.gearTable()).toEqual(keys.gearTable());
  expect(keys.chunkId(Buffer.from("A chunk"))).not.toEqual(keys.chunkId(bytes));
  expect(keysOf(OTHER_APP).chunkId(bytes)).not.toEqual(keys.chunkId(bytes));
  expect(keysOf(OTHER_APP).gearTable()).not.toEqual(keys.gearTable());
});

test("each kind of object and each salt has a key of its own", () => {
  const keys = keysOf();
  const salts = [Buffer.alloc(32, 1), Buffer.alloc(32, 2)];
  const seen = [1, 2].flatMap((kind) => salts.map((salt) => keys.objectKey(kind, salt).export().toString("hex")));
  expect(new Set(seen).size).toBe(4);
});

test("tags tell nothing of the app: they are new each time", () => {
  expect(newAppKeyMaterial({ appId: APP }).tag).not.toBe(MATERIAL.tag);
});
