import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { TestService } from "./fixture.ts";
import { skipWithout } from "./requirements.ts";
import { run } from "./run.ts";

const skipped = skipWithout("python3", "setfacl", "getfacl", "rsync");

const SLOW_TEST_MS = 120_000;

type CheckResult = { readonly name: string; readonly failed?: string; readonly skipped?: string };

/** Runs the checks of test/e2e/posix/NAME.py in `directory`; `only`: words of the names of those wanted. */
async function checks(name: string, directory: string, ...only: readonly string[]): Promise<CheckResult[]> {
  const script = fileURLToPath(new URL(`./posix/${name}.py`, import.meta.url));
  const { stdout } = await run("python3", [script, directory, ...only], { env: { PYTHONDONTWRITEBYTECODE: "1" } });
  return stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as CheckResult);
}

function failures(results: readonly CheckResult[]): string[] {
  return results
    .filter(({ failed, skipped: why }) => failed !== undefined || why !== "")
    .map(({ name, failed, skipped: why }) => `${name}: ${failed ?? `skipped, ${why}`}`);
}

describe.skipIf(skipped)("POSIX through the kernel", { timeout: SLOW_TEST_MS }, () => {
  let service: TestService;
  let mount: string;

  beforeAll(async () => {
    ({ service, mount } = await TestService.withShare());
  });
  afterAll(async () => service.dispose());

  test.each([
    ["names", "names are made, linked and removed as on ext4", 9],
    ["renames", "names move as on ext4", 5],
    ["attributes", "attributes change as on ext4, and with them what they imply", 13],
    ["data", "content is written, copied, cut and punched as on ext4, and its space comes back", 8],
    ["mappings", "mappings, direct and cached access are one content", 5],
    ["extended", "extended attributes and access lists do as on ext4", 9],
    ["kernel", "locks, watches, handles, devices and busy directories do as on ext4", 10],
  ])("%s: %s", async (name, _behaviour, count) => {
    const results = await checks(name, mount);
    expect(failures(results)).toEqual([]);
    expect(results.length).toBeGreaterThanOrEqual(count);
    expect(service.log).not.toContain("by a defect");
  });

  test("with --dev and --suid device nodes and set-user-id programs work", async () => {
    const open = await service.mount("shop/files", "open", "--dev", "--suid");
    const results = await checks("kernel", open, "device", "set user id");
    expect(failures(results)).toEqual([]);
    expect(results).toHaveLength(2);
    await service.umount(open);
  });
});
