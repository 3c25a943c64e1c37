import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { gatewayId, MountFiles } from "./mount-files.ts";
import { forgetMount, listMountStates, type MountState, readMountState, writeMountState } from "./mount-state.ts";
import { isAlive, processOf } from "./process-identity.ts";

let folder: string;
let files: MountFiles;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tidemark-mount-state-"));
  files = new MountFiles(folder);
  files.make();
});
afterEach(() => rmSync(folder, { recursive: true }));

function state(target: string): MountState {
  return {
    version: 1,
    id: gatewayId(target),
    mount: {
      service: "10.0.0.1:7400",
      tls: { kind: "node", nodeFolder: files.nodeFolder },
      tokenFile: "/t",
      shareText: "shop/files",
      app: { namespace: "default", name: "shop" },
      share: { name: "files" },
      target,
      at: { kind: "now" },
      readOnly: false,
      suid: false,
      dev: false,
      locks: "kernel",
      patience: { kind: "soft", timeoutMs: 30_000 },
      cacheBytes: 0,
    },
    sinceSec: 1,
    processes: [processOf(process.pid)],
  };
}

test("is kept for its owner alone, found by its directory, and forgotten whole", async () => {
  const kept = state("/srv/a b");
  await writeMountState(files, kept);
  await writeMountState(files, state("/srv/other"));
  expect(readMountState(files, gatewayId("/srv/a b"))).toEqual(kept);
  expect(statSync(files.stateOf(kept.id)).mode & 0o777).toBe(0o600);
  expect(statSync(files.folder).mode & 0o777).toBe(0o700);
  expect(listMountStates(files, () => {}).map(({ mount }) => mount.target)).toEqual(["/srv/a b", "/srv/other"]);
  forgetMount(files, kept.id);
  expect(readMountState(files, kept.id)).toBeUndefined();
  expect(existsSync(files.stateOf(kept.id))).toBe(false);
});

test("mounts of directories that look alike are different ones", () => {
  const ids = ["/a/b", "/c/b", "/a/b ", "/a/..", "/"].map(gatewayId);
  expect(new Set(ids).size).toBe(ids.length);
  for (const id of ids) expect(id).toMatch(/^[A-Za-z0-9_-]+$/);
});

test("a damaged or newer file is told of by name, and hides no other", async () => {
  await writeMountState(files, state("/srv/good"));
  const bad = [gatewayId("/srv/bad"), gatewayId("/srv/newer")] as const;
  writeFileSync(files.stateOf(bad[0]), "{");
  writeFileSync(files.stateOf(bad[1]), JSON.stringify({ ...state("/srv/newer"), version: 2 }));
  for (const id of bad)
    expect(() => readMountState(files, id)).toThrow(expect.objectContaining({ code: "DATA_DAMAGED" }));
  const told: string[] = [];
  expect(listMountStates(files, (error) => told.push(error.message)).map(({ mount }) => mount.target)).toEqual([
    "/srv/good",
  ]);
  expect(told).toHaveLength(2);
});

test("a process is told from another with its number", () => {
  const own = processOf(process.pid);
  expect(isAlive(own)).toBe(true);
  expect(isAlive({ ...own, startTicks: "1" })).toBe(false);
  expect(isAlive(processOf(2 ** 22 + 1))).toBe(false);
});
