import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { toJson } from "../../src/cli/output/json.ts";
import type { ExportItem } from "../../src/domain/admin-reading.ts";
import { BackupService } from "./backup-service.ts";
import { type CliOptions, type CliResult, cli } from "./harness.ts";

let folder: string;
let data: string;
let repository: string;
let keyFile: string;
let service: BackupService;

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "tidemark-cli-backup-"));
  [data, repository, keyFile] = ["data", "repository", "main.key"].map((name) => path.join(folder, name)) as [
    string,
    string,
    string,
  ];
  service = await BackupService.open(data);
});

afterEach(async () => {
  await service.close();
  await rm(folder, { recursive: true });
});

/** A command line on the machine of the service. */
function run(line: string | readonly string[], options: CliOptions = {}): Promise<CliResult> {
  const args = typeof line === "string" ? line.split(" ") : line;
  const variables = { TIDEMARK_DATA: data, XDG_CACHE_HOME: path.join(folder, "cache"), ...options.variables };
  return cli(args, { api: service.api, ...options, variables });
}

/** The same on another machine, which has the repository and the key file only. */
function elsewhere(line: string | readonly string[], options: CliOptions = {}): Promise<CliResult> {
  const variables = { TIDEMARK_DATA: path.join(folder, "none"), TIDEMARK_REPO: repository, TIDEMARK_KEY_FILE: keyFile };
  return run(line, { ...options, variables: { ...variables, ...options.variables } });
}

async function done(result: Promise<CliResult>): Promise<string> {
  const { code, stdout, stderr } = await result;
  expect({ code, stderr }).toEqual({ code: 0, stderr: expect.not.stringMatching(/tidemark:/) });
  return stdout;
}

/** An app with a history, backed up. */
async function backedUp(): Promise<void> {
  await done(run("app create shop"));
  await done(run("share create shop/files"));
  await service.put("shop", "note", "one");
  await service.put("shop", ".env", "SECRET=1");
  await done(run(["repo", "init", repository, "--key-file", keyFile]));
  await done(run("backup enable shop --repo main --every 1m"));
  await done(run("backup now shop"));
  await service.put("shop", "note", "two");
  await service.put("shop", "large", Buffer.alloc(300_000, "text "));
  await service.unlink("shop", ".env");
  await done(run("backup now shop"));
}

async function tree(from: BackupService, app: string, lsn: number): Promise<string[]> {
  const items: string[] = [];
  const at = { kind: "lsn", lsn } as never;
  const request = {
    path: { app: { namespace: "default", name: app }, share: { name: "files" }, path: Buffer.alloc(0) },
    at,
  };
  for await (const page of from.api.reading.exportTree({ ...request, content: true }))
    items.push(...page.map((item: ExportItem) => toJson(item)));
  return items;
}

describe("a repository", () => {
  test("is made with a key file for its owner alone, which is never shown", async () => {
    const said = await run(["repo", "init", repository, "--key-file", keyFile]);
    expect(said.code).toBe(0);
    expect(said.stdout).toContain(keyFile);
    const key = await readFile(keyFile, "utf8");
    expect((await stat(keyFile)).mode & 0o777).toBe(0o600);
    const digits =
      key
        .split("\n")
        .find((line) => line.startsWith("1:"))
        ?.slice(3, 12) ?? "";
    expect(digits).toMatch(/^[0-9a-f]{4} [0-9a-f]{4}$/);
    expect(said.stdout + said.stderr).not.toContain(digits);
    expect(JSON.parse((await run("repo list --json")).stdout)).toMatchObject({
      name: "main",
      location: { url: repository },
    });
    expect((await run(["repo", "init", repository, "--name", "second", "--key-file", keyFile])).code).toBe(5);
    expect((await run(["repo", "init", path.join(folder, "other"), "--key-file", keyFile])).code).toBe(5);
    expect(await readFile(keyFile, "utf8")).toBe(key);
  });

  test("is made without a service too, and made known later", async () => {
    const { TidemarkError } = await import("../../src/domain/errors.ts");
    const unreachable = Object.assign(Object.create(service.api), {
      backups: {
        // biome-ignore lint/correctness/useYield: it fails before there is anything.
        listRepositories: async function* () {
          throw new TidemarkError("UNAVAILABLE", "no service");
        },
      },
    });
    const variables = { TIDEMARK_PASSPHRASE: "correct horse" };
    const made = await run(["repo", "init", repository], { api: unreachable, variables });
    expect(made).toMatchObject({ code: 0, stdout: expect.stringContaining("repo add") });
    expect((await run(["repo", "add", repository, "--name", "x"], { api: unreachable, variables })).code).toBe(4);
    expect(await done(run(["repo", "add", repository, "--name", "x"], { variables }))).toContain('"x"');
    expect(await done(run("repo remove x"))).toContain(repository);
  });

  test("asks for a new passphrase twice, and refuses short ones and two that differ", async () => {
    const said = async (answer: string) => run(["repo", "init", repository], { terminal: true, answer });
    expect((await said("long enough\nlong enouhg")).stderr).toContain("differ");
    expect((await said("short\nshort")).stderr).toContain("at least 8");
    expect(await readdir(folder)).not.toContain("repository");
    const made = await said("long enough\nlong enough");
    expect({ code: made.code, stdout: made.stdout }).toMatchObject({
      code: 0,
      stdout: expect.stringContaining("passphrase"),
    });
    expect(made.stdout + made.stderr).not.toContain("long enough");
  });

  test("says what is wrong with a key, and never what is in it", async () => {
    await backedUp();
    const bad = path.join(folder, "bad.key");
    const cases: [string, number, RegExp][] = [
      [path.join(folder, "missing.key"), 3, /no key file .*missing\.key/],
      [repository, 2, /can't be read as a key file/],
      [bad, 2, /line 2 of the key/],
    ];
    const lines = (await readFile(keyFile, "utf8")).split("\n");
    await writeFile(
      bad,
      lines.map((line) => (line.startsWith("2:") ? line.replace(/[0-9a-f]{4}$/, "0000") : line)).join("\n"),
    );
    for (const [file, code, message] of cases) {
      const result = await elsewhere("repo apps", { variables: { TIDEMARK_KEY_FILE: file } });
      expect(result).toMatchObject({ code, stderr: expect.stringMatching(message) });
      expect(result.stderr).not.toMatch(/[0-9a-f]{4} [0-9a-f]{4} [0-9a-f]{4}/);
    }
    const none = { TIDEMARK_KEY_FILE: "" };
    expect(await elsewhere("repo apps", { variables: none })).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/--key-file/),
    });
    const wrong = await elsewhere("repo apps --json", { variables: { ...none, TIDEMARK_PASSPHRASE: "not the one" } });
    expect(JSON.parse(wrong.stderr)).toMatchObject({ error: { code: "REPOSITORY_KEY_WRONG" } });
    expect(wrong).toMatchObject({ code: 6, stderr: expect.not.stringContaining("not the one") });
    expect((await elsewhere("repo apps", { variables: { TIDEMARK_REPO: path.join(folder, "nothing") } })).code).toBe(3);
  });
});

describe("an app that is backed up", () => {
  test("is protected when `now` says so, and its status tells how far", async () => {
    await backedUp();
    const status = JSON.parse(await done(run("backup status --json")));
    const { lastLsn } = status;
    expect(status).toMatchObject({ repository: "main", everyMs: 60_000, state: "idle", unprotectedBytes: 0, lagMs: 0 });
    expect(status.protected.lsn).toBe(lastLsn);
    await service.put("shop", "more", "x");
    const later = JSON.parse(await done(run("backup status --json")));
    expect(later.protected.lsn).toBeLessThan(later.lastLsn);
    expect(later.unprotectedBytes).toBeGreaterThan(0);
    expect(await done(run("backup disable shop"))).toContain("not backed up any more");
    expect((await run("backup now shop")).code).toBe(5);
  });

  test("is read from the repository alone as from the service", async () => {
    await backedUp();
    const verbs = [
      "ls shop",
      "ls shop/files",
      "ls shop/files --at lsn:3 --json",
      "cat shop/files/large",
      "cat shop/files/note --at lsn:4",
      "log shop --newest-first --limit 5",
      "history shop/files/note --json",
      "diff shop --from lsn:4",
      "find shop *",
      "find shop/files .e?v --deleted --json",
    ];
    for (const verb of verbs) {
      const live = await done(run(verb));
      expect(live).not.toBe("");
      expect(await done(elsewhere(`repo ${verb}`))).toBe(live);
      expect(await done(run(`repo ${verb} --repo main`))).toBe(live);
    }
    expect((await elsewhere("repo cat shop/files/.env")).code).toBe(3);
    expect((await elsewhere("repo ls nothing/x")).code).toBe(3);
    expect((await elsewhere("repo ls prod:shop")).code).toBe(3);
  });

  test("comes back out of the repository, to a directory and as a data folder, as it was at any moment", async () => {
    await backedUp();
    const out = path.join(folder, "out");
    await done(elsewhere(["repo", "restore", "shop/files", "--at", "lsn:6", "--to", out]));
    expect((await readdir(out)).sort()).toEqual([".env", "note"]);
    expect((await elsewhere("repo restore shop/files --to shop/files")).code).toBe(2);

    const into = path.join(folder, "recovered");
    expect(await done(elsewhere(["repo", "recover", "--into", into]))).toContain("Recovered 1 app");
    const lsn = service.service.find({ namespace: "default", name: "shop" }).core.lastLsn;
    const recovered = await BackupService.open(into);
    try {
      for (const at of [4, 6, lsn]) expect(await tree(recovered, "shop", at)).toEqual(await tree(service, "shop", at));
      expect(JSON.parse((await run("repo list --json", { api: recovered.api })).stdout)).toMatchObject({
        name: "main",
      });
      expect((await run("backup status", { api: recovered.api })).stdout).toBe("");
    } finally {
      await recovered.close();
    }
    expect((await elsewhere(["repo", "recover", "--into", into])).code).toBe(5);
  });

  test("comes back under another name, and lazily", async () => {
    await backedUp();
    const into = path.join(folder, "recovered");
    await done(elsewhere(["repo", "recover", "--into", into, "--app", "shop", "--as", "copy", "--lazy"]));
    const recovered = await BackupService.open(into);
    try {
      expect(await tree(recovered, "copy", 6)).toEqual(await tree(service, "shop", 6));
    } finally {
      await recovered.close();
    }
  });

  test("is lost with its key, when that is what was asked for", async () => {
    await backedUp();
    expect((await run("repo destroy shop --yes")).code).toBe(5);
    await done(run("backup disable shop"));
    expect((await elsewhere("repo destroy shop")).code).toBe(9);
    expect(await done(elsewhere("repo apps"))).toMatch(/^shop\t/);
    await done(elsewhere("repo destroy shop --yes"));
    expect(await done(elsewhere("repo apps"))).toBe("");
    expect((await elsewhere("repo ls shop")).code).toBe(3);
  });
});

test("an app that is damaged does not keep the others from being read", async () => {
  await backedUp();
  await done(run("app create other"));
  await done(run("share create other/files"));
  await done(run("backup enable other"));
  await done(run("backup now other"));
  expect((await done(elsewhere("repo apps"))).trim().split("\n")).toHaveLength(2);
  const shop = JSON.parse((await done(elsewhere("repo apps --json"))).split("\n")[1] ?? "");
  expect(shop.name).toBe("shop");
  for (const tag of await readdir(path.join(repository, "apps"))) {
    const seals = path.join(repository, "apps", tag, "seals");
    const names = await readdir(seals);
    // The one with two seals is shop.
    if (names.length < 2) continue;
    for (const name of names) await writeFile(path.join(seals, name), "no seal");
    await rm(path.join(repository, "apps", tag, "checkpoints"), { recursive: true, force: true });
  }
  const told = await elsewhere("repo apps");
  expect(told).toMatchObject({ code: 10, stderr: expect.stringMatching(/^note: .*repo check/) });
  expect(told.stdout).toMatch(/^other\t[^\n]*\n$/);
  expect(await done(elsewhere("repo ls other"))).toContain("files");
  expect((await elsewhere("repo ls shop")).code).toBe(3);
});

test("keys are added, listed and taken away, and the one in use stays", async () => {
  await backedUp();
  const second = path.join(folder, "second.key");
  await done(elsewhere(["repo", "key", "add", "--new-key-file", second]));
  const variables = { TIDEMARK_NEW_PASSPHRASE: "correct horse" };
  const added = JSON.parse(await done(elsewhere("repo key add --new-passphrase --json", { variables })));
  expect(added).toMatchObject({ kind: "passphrase" });
  const passphrase = { TIDEMARK_KEY_FILE: "", TIDEMARK_PASSPHRASE: "correct horse" };
  expect(await done(elsewhere("repo apps", { variables: passphrase }))).toMatch(/^shop\t/);
  // The first, the service's own, and the two that were added.
  expect((await done(elsewhere("repo key list"))).trim().split("\n")).toHaveLength(4);
  expect((await elsewhere(`repo key remove ${added.key} --yes`, { variables: passphrase })).code).toBe(5);
  await done(elsewhere(["repo", "key", "remove", added.key, "--yes"], { variables: { TIDEMARK_KEY_FILE: second } }));
  expect((await elsewhere("repo apps", { variables: passphrase })).code).toBe(6);
  expect((await elsewhere("repo key remove ffff --yes")).code).toBe(3);
  expect((await elsewhere("repo key add")).code).toBe(2);
});
