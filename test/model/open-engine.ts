import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import type { Clock } from "../../src/base/clock.ts";
import { silentLog } from "../../src/base/log.ts";
import type { AppId, InodeId, MountId, ShareId } from "../../src/domain/ids.ts";
import { MemoryKv } from "../../src/kv/memory-kv.ts";
import { OpenApp, SERVICE_CONTEXT } from "../../src/meta/open-app.ts";
import { createShare } from "../../src/meta/shares.ts";
import type { Harness, OpenHarness } from "./harness.ts";
import { contextFactory } from "./harness-context.ts";

const APP_ID = "0123456789abcdef0123456789abcdef" as AppId;
const SHARE_ID = "fedcba9876543210fedcba9876543210" as ShareId;
const FIRST_MOUNT = 1 as MountId;

type Folder = { readonly path: string; readonly kv: MemoryKv; readonly clock: Clock };

/** Opens the metadata engine for the suites: a real journal in a scratch folder, rows in the memory KV. */
export const openEngine: OpenHarness | undefined = ({ clock }) => openWith(clock, { coherent: false });

/** The same as mounts have it that share it with others: behind Coherence, with a cache for each mount, and one that is told of everything and acknowledges late. */
export const openCoherent: OpenHarness = ({ clock }) => openWith(clock, { coherent: true });

const LATE_MOUNT = 1000 as MountId;

async function openWith(clock: Clock, { coherent }: { readonly coherent: boolean }): Promise<Harness> {
  const folder = { path: mkdtempSync(path.join(tmpdir(), "tidemark-model-")), kv: new MemoryKv(), clock };
  const app = await open(folder);
  const share = createShare(app.core, { id: SHARE_ID, name: "files", views: "root" }, SERVICE_CONTEXT);
  app.engine.attachMount(FIRST_MOUNT, { resumed: false });
  const mounts = [FIRST_MOUNT];
  return harness(folder, app, { root: share.root, mounts, context: contextFactory(FIRST_MOUNT), coherent });
}

function open(folder: Folder): Promise<OpenApp> {
  return OpenApp.open({
    appId: APP_ID,
    slot: 1,
    folder: path.join(folder.path, "journal"),
    kv: folder.kv,
    clock: folder.clock,
    log: silentLog,
    diskSpace: () => ({ totalBytes: 2n ** 40n, freeBytes: 2n ** 39n }),
    // Small segments, so that short runs cross many borders.
    journalLimits: { segmentBytesMax: 256 * 1024 },
  });
}

type State = {
  readonly root: InodeId;
  readonly mounts: MountId[];
  readonly context: Harness["context"];
  readonly coherent: boolean;
};

function attachCaches(app: OpenApp, { root, mounts, coherent }: State): void {
  if (!coherent) return;
  for (const mount of mounts) app.coherent.attach(mount, { tell: () => {} }, { root });
  app.coherent.attach(LATE_MOUNT, { tell: () => new Promise((resolve) => setImmediate(resolve)) }, { root });
}

function harness(folder: Folder, app: OpenApp, state: State): Harness {
  attachCaches(app, state);
  const settle = async (): Promise<void> => {
    await app.journal.sync(app.core.lastLsn);
    await app.applier.reached(app.core.lastLsn);
    app.core.appendFailed();
  };
  return {
    api: state.coherent ? app.coherent : app.engine,
    root: state.root,
    context: state.context,
    attachMount: () => {
      const mount = (state.mounts.length + 1) as MountId;
      state.mounts.push(mount);
      app.engine.attachMount(mount, { resumed: false });
      if (state.coherent) app.coherent.attach(mount, { tell: () => {} }, { root: state.root });
      return mount;
    },
    lastLsn: () => app.core.lastLsn,
    settle,
    reopen: async () => {
      // The process is gone: nothing more reaches the KV. What the journal has not synced is in the page cache, as after kill -9.
      await app.applier.close();
      const next = await open(folder);
      for (const mount of state.mounts) next.engine.attachMount(mount, { resumed: true });
      return harness(folder, next, state);
    },
    close: async () => {
      await app.close();
      rmSync(folder.path, { recursive: true, force: true });
    },
  };
}
