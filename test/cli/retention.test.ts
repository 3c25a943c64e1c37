import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { FakeAdminApi } from "../contract/fake-admin-api.ts";
import { BackupService } from "./backup-service.ts";
import { type CliResult, cli } from "./harness.ts";

const POLICY = { continuousMs: 7 * 86_400_000, hourly: 48, daily: 30, weekly: 12, monthly: 24, yearly: 5 };
const WRITTEN = "--continuous 7d --hourly 48 --daily 30 --weekly 12 --monthly 24 --yearly 5";

describe("tidemark retention", () => {
  const lastMethod = (api: FakeAdminApi): string | undefined => api.calls.at(-1)?.method;

  test("set shows what would go and asks before it does anything", async () => {
    const api = new FakeAdminApi();
    const asked = await cli(`retention set prod:shop ${WRITTEN}`.split(" "), { api });
    expect(asked).toMatchObject({ code: 9, stderr: expect.stringContaining("Moments that go: 2") });
    expect(lastMethod(api)).toBe("planRetention");
    const done = await cli(`retention set prod:shop ${WRITTEN} --yes`.split(" "), { api });
    expect(done).toMatchObject({ code: 0, stdout: expect.stringContaining("every moment of 7 d, then 48 hourly") });
    expect(api.calls.at(-1)).toMatchObject({ method: "setRetention", request: { policy: POLICY } });
    await cli(`retention set prod:shop ${WRITTEN} --dry-run`.split(" "), { api });
    expect(lastMethod(api)).toBe("planRetention");
  });

  test("show lists policies, and with --plan the moments", async () => {
    const api = new FakeAdminApi();
    expect((await cli(["retention", "show"], { api })).stdout).toContain("every moment of 7 d");
    expect((await cli("retention show prod:shop --plan".split(" "), { api })).stdout).toContain("LSN 8");
    expect((await cli("retention show --plan".split(" "), { api })).code).toBe(2);
  });

  test("refuses what is no policy", async () => {
    const api = new FakeAdminApi();
    for (const line of [
      "",
      "--hourly 3",
      "--continuous 7",
      "--continuous 7d --daily x",
      "--continuous 7d --daily 10001",
    ])
      expect((await cli(`retention set shop ${line}`.trim().split(" "), { api })).code, line).toBe(2);
    expect(api.calls).toEqual([]);
  });
});

describe("tidemark repo prune", () => {
  let folder: string;
  let repository: string;
  let service: BackupService;

  beforeEach(async () => {
    folder = await mkdtemp(path.join(tmpdir(), "tidemark-cli-prune-"));
    repository = path.join(folder, "repository");
    service = await BackupService.open(path.join(folder, "data"));
  });

  afterEach(async () => {
    await service.close();
    await rm(folder, { recursive: true });
  });

  async function run(line: string): Promise<CliResult> {
    const variables = { TIDEMARK_DATA: path.join(folder, "data"), XDG_CACHE_HOME: path.join(folder, "cache") };
    const result = await cli(line.split(" "), { api: service.api, variables });
    return { ...result, code: result.code };
  }

  test("plans and prunes, with the policy given or the service's, and leaves no scratch behind", async () => {
    for (const line of ["app create shop", "share create shop/files"]) expect((await run(line)).code).toBe(0);
    await service.put("shop", "note", "one");
    const made = await run(`repo init ${repository} --key-file ${path.join(folder, "main.key")}`);
    expect(made.code).toBe(0);
    expect((await run("backup enable shop --repo main --every 1m")).code).toBe(0);
    expect((await run("backup now shop")).code).toBe(0);
    const plan = await run("repo prune --dry-run --continuous 7d --daily 3");
    expect(plan).toMatchObject({ code: 0, stdout: expect.stringContaining("every moment of 7 d, then 3 daily") });
    expect((await run("repo prune --yes")).stdout).toContain("0 objects");
    expect((await run("repo prune --app nothing")).code).toBe(3);
    expect((await run("repo prune --grace 1m")).code).toBe(2);
    expect((await run("repo cat shop/files/note")).stdout).toBe("one");
    const { readdir } = await import("node:fs/promises");
    const caches = await readdir(path.join(folder, "cache", "tidemark"), { recursive: true });
    expect(caches.filter((name) => name.includes("prune-"))).toEqual([]);
  });
});
