import { mkdirSync, readdirSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { LineChild } from "./child.ts";
import { TestService } from "./fixture.ts";
import { skipWithout } from "./requirements.ts";

const skipped = skipWithout("python3");
const HOLDER = fileURLToPath(new URL("./posix/holder.py", import.meta.url));

describe.skipIf(skipped)("what a program holds while the service is killed", { timeout: 120_000 }, () => {
  let service: TestService;
  let mount: string;
  let holder: LineChild | undefined;

  beforeAll(async () => {
    ({ service, mount } = await TestService.withShare());
  });
  afterAll(async () => {
    await holder?.end();
    await service.dispose();
  });

  test("open files without names, handles, locks, mappings and a listing under way stay as they were", async () => {
    const directory = path.join(mount, "held");
    mkdirSync(directory);
    holder = new LineChild("python3", [HOLDER, directory]);
    expect(await holder.ask("prepare")).toBe("ok");
    for (let round = 0; round < 2; round++) {
      process.kill(service.servicePid, "SIGKILL");
      expect(await holder.ask("verify"), `after kill ${round + 1}`).toBe("ok");
    }
    expect(await holder.ask("finish")).toBe("ok");
    expect(readdirSync(directory).sort()).toEqual(["a", "kept", "locked", "many", "mapped", "replaced"]);
  });
});
