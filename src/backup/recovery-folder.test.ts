import fs from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { SystemClock } from "../base/clock.ts";
import { silentLog } from "../base/log.ts";
import type { AppId } from "../domain/ids.ts";
import { DataFolder } from "../journal/data-folder.ts";
import { beginRecovery, endRecovery, openRecoveryFolder } from "./recovery-folder.ts";

let parent: string;
beforeEach(() => {
  parent = fs.mkdtempSync(path.join(tmpdir(), "tidemark-recovery-"));
});
afterEach(() => fs.rmSync(parent, { recursive: true, force: true }));

const options = (name: string) => ({ path: path.join(parent, name), clock: new SystemClock(), log: silentLog });
const item = { sourceApp: "1".repeat(32) as AppId, appId: "1".repeat(32) as AppId, namespace: "default", name: "shop" };
const PLAN = { repositoryId: "abc", lazy: true, items: [item] };

test("a missing and an empty folder are taken", async () => {
  fs.mkdirSync(path.join(parent, "empty"));
  for (const name of ["missing", "empty"]) {
    const { folder, plan } = await openRecoveryFolder(options(name));
    expect(plan).toBeUndefined();
    folder.close();
  }
});

test("a folder with anything in it is refused by name, and not changed", async () => {
  fs.mkdirSync(path.join(parent, "used"));
  fs.writeFileSync(path.join(parent, "used", "letter.txt"), "dear");
  await expect(openRecoveryFolder(options("used"))).rejects.toMatchObject({
    code: "FAILED_PRECONDITION",
    message: expect.stringContaining("letter.txt"),
  });
  expect(fs.readdirSync(path.join(parent, "used"))).toEqual(["letter.txt"]);
});

test("a data folder that is in use by apps is refused", async () => {
  const data = await DataFolder.open(options("data"));
  fs.mkdirSync(path.join(data.path, "apps"));
  data.close();
  await expect(openRecoveryFolder(options("data"))).rejects.toMatchObject({ code: "FAILED_PRECONDITION" });
});

test("until it is finished no service opens it, and the recovery finds its plan again", async () => {
  const begun = await openRecoveryFolder(options("data"));
  await beginRecovery(begun.folder, PLAN);
  begun.folder.close();
  await expect(DataFolder.open(options("data"))).rejects.toMatchObject({
    code: "FAILED_PRECONDITION",
    message: expect.stringContaining("recover"),
  });
  const again = await openRecoveryFolder(options("data"));
  expect(again.plan).toEqual(PLAN);
  await endRecovery(again.folder);
  again.folder.close();
  (await DataFolder.open(options("data"))).close();
});

test("a damaged plan is refused", async () => {
  const begun = await openRecoveryFolder(options("data"));
  await beginRecovery(begun.folder, PLAN);
  begun.folder.close();
  fs.writeFileSync(path.join(parent, "data", "recovery.json"), "{");
  await expect(openRecoveryFolder(options("data"))).rejects.toMatchObject({ code: "DATA_FOLDER_FOREIGN" });
});
