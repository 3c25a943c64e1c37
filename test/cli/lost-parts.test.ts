import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { BackupService } from "./backup-service.ts";
import { type CliOptions, type CliResult, cli } from "./harness.ts";

// What the commands for a repository say when a part of it is gone, or when it is none.

let folder: string;
let repository: string;
let keyFile: string;
let service: BackupService;

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "tidemark-cli-lost-"));
  repository = path.join(folder, "repository");
  keyFile = path.join(folder, "main.key");
  service = await BackupService.open(path.join(folder, "data"));
});

afterEach(async () => {
  await service.close();
  await rm(folder, { recursive: true });
});

function run(line: string, options: CliOptions = {}): Promise<CliResult> {
  const variables = { TIDEMARK_DATA: path.join(folder, "data"), XDG_CACHE_HOME: path.join(folder, "cache") };
  return cli(line.split(" "), { api: service.api, ...options, variables: { ...variables, ...options.variables } });
}

function elsewhere(line: string, options: CliOptions = {}): Promise<CliResult> {
  const variables = { TIDEMARK_DATA: path.join(folder, "none"), TIDEMARK_REPO: repository, TIDEMARK_KEY_FILE: keyFile };
  return run(line, { ...options, variables: { ...variables, ...options.variables } });
}

async function backedUp(): Promise<void> {
  for (const line of ["app create shop", "share create shop/files", `repo init ${repository} --key-file ${keyFile}`])
    expect(await run(line)).toMatchObject({ code: 0 });
  await service.put("shop", "note", "one".repeat(1000));
  for (const line of ["backup enable shop --repo main --every 1m", "backup now shop"])
    expect(await run(line)).toMatchObject({ code: 0 });
}

const at = (...names: string[]): string => path.join(repository, ...names);

async function gone(...names: string[]): Promise<void> {
  await rm(at(...names), { recursive: true });
}

const keyCount = async (): Promise<number> =>
  (await readdir(at("keys"), { withFileTypes: true })).filter((entry) => entry.isFile()).length;

describe("an app is lost", () => {
  const recover = (): Promise<CliResult> => elsewhere(`repo recover --into ${path.join(folder, "recovered")}`);

  test("with its seals: that is damage, and it is not recovered", async () => {
    await backedUp();
    for (const tag of await readdir(at("apps")))
      for (const part of ["seals", "checkpoints"]) await rm(at("apps", tag, part), { recursive: true, force: true });
    expect(await elsewhere("repo check")).toMatchObject({
      code: 7,
      stdout: expect.stringMatching(/^damage: apps\/[0-9a-f]{32}\/seals\/: no seal is there, though 1 packs are/),
    });
    const recovered = await recover();
    expect(recovered).toMatchObject({ code: 10, stderr: expect.stringMatching(/app [0-9a-f]{32}: not recovered/) });
    expect(recovered.stdout).not.toContain("Next:");
  });

  test("with everything but its key: nothing can be checked, and it is not recovered", async () => {
    await backedUp();
    await gone("apps");
    const checked = await elsewhere("repo check");
    expect(checked).toMatchObject({ code: 10, stdout: expect.stringContaining("first backup was not finished, or") });
    expect(checked.stdout).not.toContain("All well");
    expect(await recover()).toMatchObject({ code: 10, stdout: "" });
  });

  test("with the keys of all apps: their folders are named", async () => {
    await backedUp();
    await gone("keys", "apps");
    const checked = await elsewhere("repo check");
    expect(checked).toMatchObject({
      code: 10,
      stdout: expect.stringMatching(/^warning: apps\/\w+\/: no key opens it/),
    });
    expect((await elsewhere("repo apps")).stderr).toContain("No app of the repository can be read: 1 folder");
    const before = await keyCount();
    expect(await recover()).toMatchObject({ code: 10, stdout: "", stderr: expect.stringContaining("no key opens it") });
    expect(await keyCount()).toBe(before);
  });

  test("is told from a repository that has none", async () => {
    expect(await run(`repo init ${repository} --key-file ${keyFile}`)).toMatchObject({ code: 0 });
    const none = { code: 0, stdout: "", stderr: expect.stringContaining("The repository has no apps.") };
    for (const verb of ["check", "apps"]) expect(await elsewhere(`repo ${verb}`)).toMatchObject(none);
    expect(await recover()).toMatchObject(none);
  });
});

test("an epoch without seals is told of, and is no damage", async () => {
  await backedUp();
  const [tag = ""] = await readdir(at("apps"));
  await service.put("shop", "note", "two");
  await writeFile(at("apps", tag, "epochs", "00000005"), "taken");
  const checked = await elsewhere("repo check");
  expect(checked).toMatchObject({ code: 0, stdout: expect.stringMatching(/epoch 5 was begun and has no seal/) });
  expect(checked.stdout).toContain("Nothing is damaged");
});

test("of many files that are touched, a terminal gets the first ones", async () => {
  await backedUp();
  for (let count = 0; count < 25; count++) await service.put("shop", `file${count}`, `${count} `.repeat(1000));
  expect((await run("backup now shop")).code).toBe(0);
  for (const tag of await readdir(at("apps"))) await gone("apps", tag, "packs");
  const shown = await elsewhere("repo check", { terminal: true });
  expect(shown.stdout.match(/^ {2}files\//gm)).toHaveLength(20);
  expect(shown.stdout).toMatch(/^ {2}\.\.\. and \d+ more \(--json lists them\)$/m);
  const plain = await elsewhere("repo check");
  expect(plain.stdout.match(/^ {2}files\//gm)?.length).toBeGreaterThan(25);
});

test("a recovery of an app that isn't there adds no key to the repository", async () => {
  await backedUp();
  const before = await keyCount();
  const into = path.join(folder, "recovered");
  expect((await elsewhere(`repo recover --into ${into} --app nope`)).code).toBe(3);
  expect(await keyCount()).toBe(before);
  expect(existsSync(into)).toBe(false);
  expect((await elsewhere(`repo recover --into ${into} --app shop`)).code).toBe(0);
  expect(await keyCount()).toBe(before + 1);
});

test("lost settings are not the key's fault", async () => {
  await backedUp();
  await gone("settings");
  expect(await elsewhere("repo check")).toMatchObject({
    code: 7,
    stderr: expect.stringContaining("settings/ is missing"),
  });
});

describe("a directory that is no repository", () => {
  let other: string;

  beforeEach(async () => {
    other = path.join(folder, "other");
    await mkdir(other);
    await writeFile(path.join(other, "passwd"), "root");
    await symlink("passwd", path.join(other, "link"));
  });

  test("is none, whatever the key", async () => {
    for (const key of [keyFile, "/etc/passwd"])
      expect(await elsewhere(`repo apps --repo ${other} --key-file ${key}`)).toMatchObject({
        code: 3,
        stderr: expect.stringContaining(`there is no repository in ${other}`),
      });
  });

  test("does not become one, and no key is made for it", async () => {
    expect(await run(`repo init ${other} --key-file ${keyFile}`)).toMatchObject({
      code: 5,
      stderr: expect.stringContaining("not empty"),
    });
    expect(existsSync(keyFile)).toBe(false);
    await rm(path.join(other, "link"));
    expect((await run(`repo init ${other} --key-file ${keyFile}`)).stderr).toContain('has "passwd" in it');
    expect([existsSync(keyFile), (await readdir(other)).length]).toEqual([false, 1]);
  });

  test("and where one is, another one is refused with what to do", async () => {
    await run(`repo init ${repository} --key-file ${keyFile}`);
    const again = await run(`repo init ${repository} --key-file ${keyFile}2`);
    expect(again).toMatchObject({ code: 5, stderr: expect.stringMatching(/is a repository already: .*repo add/) });
    expect(existsSync(`${keyFile}2`)).toBe(false);
  });
});
