import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SystemClock } from "../../../src/base/clock.ts";
import { silentLog } from "../../../src/base/log.ts";
import type { AppId, InodeId, MountId, ShareId } from "../../../src/domain/ids.ts";
import { RocksKv } from "../../../src/kv/rocks-kv.ts";
import { OpenApp, SERVICE_CONTEXT } from "../../../src/meta/open-app.ts";
import { createShare } from "../../../src/meta/shares.ts";

export const MOUNT = 1 as MountId;

/** An app with an empty share on a scratch folder, as a service has it. */
export async function openBenchApp(): Promise<{ app: OpenApp; root: InodeId; close(): Promise<void> }> {
  const folder = mkdtempSync(join(tmpdir(), "tidemark-bench-session-"));
  const kv = await RocksKv.open({ directory: join(folder, "kv"), missing: "create" });
  const app = await OpenApp.open({
    appId: "0123456789abcdef0123456789abcdef" as AppId,
    slot: 1,
    folder: join(folder, "journal"),
    kv,
    clock: new SystemClock(),
    log: silentLog,
    diskSpace: () => ({ totalBytes: 2n ** 40n, freeBytes: 2n ** 39n }),
  });
  const id = "fedcba9876543210fedcba9876543210" as ShareId;
  const { root } = createShare(app.core, { id, name: "files", views: "root" }, SERVICE_CONTEXT);
  app.engine.attachMount(MOUNT, { resumed: false });
  const close = async (): Promise<void> => {
    await app.close();
    await kv.close();
    rmSync(folder, { recursive: true, force: true });
  };
  return { app, root, close };
}
