import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { ManualClock } from "../../test/model/manual-clock.ts";
import { silentLog } from "../base/log.ts";
import { FsError } from "../domain/errors.ts";
import type { AppId, ShareId } from "../domain/ids.ts";
import type { Inode } from "../domain/inode.ts";
import { MemoryKv } from "../kv/memory-kv.ts";
import { OpenApp, SERVICE_CONTEXT } from "./open-app.ts";
import { createShare } from "./shares.ts";

let folder: string;
let app: OpenApp;
let refusal: FsError | undefined;

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "tidemark-refusal-"));
  refusal = undefined;
  app = await OpenApp.open({
    appId: "1".repeat(32) as AppId,
    slot: 1,
    folder,
    kv: new MemoryKv(),
    clock: new ManualClock(),
    log: silentLog,
    diskSpace: () => ({ totalBytes: 0n, freeBytes: 0n }),
    makeRoom: async () => {
      throw new Error("a refusal is not a full disk");
    },
    refusal: () => refusal,
  });
});

afterEach(async () => {
  await app.close();
  await rm(folder, { recursive: true });
});

test("while changes are refused, nothing that takes space is made, and what gives it back is", () => {
  const root = createShare(
    app.core,
    { id: "2".repeat(32) as ShareId, name: "files", views: "root" },
    SERVICE_CONTEXT,
  ).root;
  const name = Buffer.from("file");
  const create = {
    op: "create",
    parent: root,
    name,
    mode: 0o644,
    umask: 0,
    exclusive: false,
    truncate: false,
  } as const;
  const made = app.engine.execute(create, SERVICE_CONTEXT) as Inode;
  const write = { op: "write", ino: made.ino, offset: 0n, data: Buffer.from("x"), killPrivileges: false } as const;
  refusal = new FsError("ENOSPC", "the backup is behind");
  const before = app.core.lastLsn;
  expect(() => app.engine.execute(write, SERVICE_CONTEXT)).toThrow(refusal);
  expect(() => app.engine.execute({ ...create, name: Buffer.from("other") }, SERVICE_CONTEXT)).toThrow(refusal);
  expect(app.core.lastLsn).toBe(before);
  app.engine.execute({ op: "unlink", parent: root, name }, SERVICE_CONTEXT);
  expect(app.core.lastLsn).toBe(before + 1);
  refusal = undefined;
  app.engine.execute({ ...create, name: Buffer.from("other") }, SERVICE_CONTEXT);
  expect(app.core.lastLsn).toBe(before + 2);
});
