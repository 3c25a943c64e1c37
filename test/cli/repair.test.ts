import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { BackupService } from "./backup-service.ts";
import { type CliOptions, type CliResult, cli } from "./harness.ts";

let folder: string;
let data: string;
let repository: string;
let keyFile: string;
let service: BackupService;

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "tidemark-cli-repair-"));
  data = path.join(folder, "data");
  repository = path.join(folder, "repository");
  keyFile = path.join(folder, "main.key");
  service = await BackupService.open(data);
});

afterEach(async () => {
  await service.close();
  await rm(folder, { recursive: true });
});

function run(line: string, options: CliOptions = {}): Promise<CliResult> {
  const variables = { TIDEMARK_DATA: data, XDG_CACHE_HOME: path.join(folder, "cache"), ...options.variables };
  return cli(line.split(" "), { api: service.api, ...options, variables });
}

/** On another machine, which has the repository and the key file only. */
function elsewhere(line: string): Promise<CliResult> {
  const none = path.join(folder, "none");
  return run(line, {
    variables: { TIDEMARK_DATA: none, TIDEMARK_REPO: repository, TIDEMARK_KEY_FILE: keyFile },
  });
}

async function done(result: Promise<CliResult>): Promise<string> {
  const { code, stdout, stderr } = await result;
  expect({ code, stderr }).toEqual({ code: 0, stderr: expect.not.stringMatching(/tidemark:/) });
  return stdout;
}

async function objects(kind: string): Promise<string[]> {
  const all = await readdir(path.join(repository, "apps"), { recursive: true, withFileTypes: true });
  return all
    .filter((entry) => entry.isFile() && entry.parentPath.includes(`/${kind}`))
    .map((entry) => path.join(entry.parentPath, entry.name))
    .sort();
}

async function flip(file: string): Promise<void> {
  const bytes = await readFile(file);
  const at = Math.floor(bytes.length / 2);
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  await rm(file);
  await writeFile(file, bytes);
}

test("what is damaged in a repository is stored anew from the live app, and every moment is there again", async () => {
  await done(run("app create shop"));
  await done(run("share create shop/files"));
  await service.put("shop", "note", "one");
  await done(run(`repo init ${repository} --key-file ${keyFile}`));
  await done(run("backup enable shop --repo main --every 1m"));
  await done(run("backup now shop"));
  const { protected: first } = JSON.parse(await done(run("backup status shop --json"))) as {
    protected: { lsn: number };
  };
  await service.put("shop", "note", "two");
  await service.put("shop", "large", Buffer.alloc(300_000, "text "));
  await done(run("backup now shop"));
  expect(await done(elsewhere("repo cat shop/files/note"))).toBe("two");
  for (const pack of await objects("packs")) await flip(pack);
  expect((await elsewhere("repo check --read-data")).code).toBe(7);

  const plan = await run("backup repair shop --read-data");
  expect(plan).toMatchObject({ code: 9, stdout: expect.stringContaining("damaged or missing") });
  expect(plan.stdout).toContain("  files/large  from ");
  expect((await elsewhere("repo check --read-data")).code).toBe(7);

  const seals = await objects("seals");
  await rm(seals[1] ?? "");
  await flip(seals[0] ?? "");
  const repaired = await done(run("backup repair shop --read-data --yes"));
  expect(repaired).toContain("Repaired");
  const check = await done(elsewhere("repo check --read-data"));
  expect(check).toContain("Nothing is damaged");
  expect(await done(elsewhere("repo cat shop/files/note"))).toBe("two");
  expect(await done(elsewhere("repo cat shop/files/large"))).toBe("text ".repeat(60_000));
  expect(await done(run("backup repair shop --read-data --yes"))).toContain("nothing that is needed is damaged");

  const recovered = path.join(folder, "recovered");
  await done(elsewhere(`repo recover --into ${recovered}`));
  const other = await BackupService.open(recovered);
  try {
    const there = (line: string): Promise<CliResult> =>
      cli(line.split(" "), { api: other.api, variables: { TIDEMARK_DATA: recovered } });
    expect(await done(there("cat shop/files/note"))).toBe("two");
    expect(await done(there(`cat shop/files/note --at lsn:${first.lsn}`))).toBe("one");
    expect(await done(there("cat shop/files/large"))).toBe("text ".repeat(60_000));
  } finally {
    await other.close();
  }
});
