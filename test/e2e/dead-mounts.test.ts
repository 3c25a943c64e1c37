import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { TestService } from "./fixture.ts";
import { skipWithout } from "./requirements.ts";
import { run } from "./run.ts";

/** How many mounts of Tidemark's are at a directory. */
const mountsAt = (target: string): number =>
  readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .filter((line) => line.includes(` ${target} `)).length;

describe.skipIf(skipWithout())("mounts that were left dead", () => {
  let service: TestService | undefined;
  afterEach(async () => {
    await service?.dispose();
  });

  test("persistent ones are made again at the next start, also when the kernel still answers from its cache", async () => {
    service = new TestService();
    await service.start();
    await service.cli("app", "create", "shop");
    await service.cli("share", "create", "shop/files");
    const target = await service.mount("shop/files", "mnt", "--persist");
    const other = await service.mount("shop/files", "other");
    writeFileSync(path.join(target, "file"), "kept");
    for (const mount of [target, other]) {
      await run("ls", ["-la", mount]);
      expect(statSync(mount).isDirectory()).toBe(true);
    }
    await service.killAll();
    await service.start();
    expect(readFileSync(path.join(target, "file"), "utf8")).toBe("kept");
    expect([mountsAt(target), mountsAt(other)]).toEqual([1, 0]);
    expect(existsSync(path.join(other, "file"))).toBe(false);
    await service.umount(target);
    expect(mountsAt(target)).toBe(0);
  }, 120_000);
});
