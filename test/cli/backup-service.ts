import { randomBytes } from "node:crypto";
import { mkdir } from "node:fs/promises";
import path from "node:path";
import { SystemClock } from "../../src/base/clock.ts";
import { silentLog } from "../../src/base/log.ts";
import { archives, type ComposedBackups, composeBackups } from "../../src/cli/service/compose-backups.ts";
import type { AdminApi } from "../../src/domain/admin-api.ts";
import type { InodeId } from "../../src/domain/ids.ts";
import type { Inode } from "../../src/domain/inode.ts";
import { DataFolder } from "../../src/journal/data-folder.ts";
import { RocksKv } from "../../src/kv/rocks-kv.ts";
import { CatalogueAdmin } from "../../src/meta/catalogue-api.ts";
import { type OpenApp, SERVICE_CONTEXT } from "../../src/meta/open-app.ts";
import { History } from "../../src/meta/reading/history.ts";
import { Reading } from "../../src/meta/reading/reading.ts";
import { SystemTurns } from "../../src/meta/reading/turns.ts";
import { MetadataService } from "../../src/meta/service.ts";
import { sharesAt } from "../../src/meta/shares.ts";
import { FakeAdminApi } from "../contract/fake-admin-api.ts";

const SMALL_RESERVE_BYTES = 1024;

/** A service without mounts and without a socket, for tests of what the commands do with backups: everything else is real. */
export class BackupService {
  readonly api: AdminApi;
  readonly service: MetadataService;
  readonly #folder: DataFolder;
  readonly #kv: RocksKv;
  readonly #shipping: ComposedBackups;

  private constructor(parts: {
    api: AdminApi;
    service: MetadataService;
    folder: DataFolder;
    kv: RocksKv;
    shipping: ComposedBackups;
  }) {
    this.api = parts.api;
    this.service = parts.service;
    this.#folder = parts.folder;
    this.#kv = parts.kv;
    this.#shipping = parts.shipping;
  }

  static async open(dataFolder: string): Promise<BackupService> {
    const clock = new SystemClock();
    const log = silentLog;
    await mkdir(dataFolder, { recursive: true });
    const folder = await DataFolder.open({ path: dataFolder, clock, log });
    const kv = await RocksKv.open({ directory: path.join(dataFolder, "kv"), missing: "create" });
    const shared = { folder, kv, clock, log, environment: {} };
    const service = await MetadataService.open({
      folder: dataFolder,
      kv,
      clock,
      log,
      newId: () => randomBytes(16).toString("hex"),
      archiveOf: archives(shared),
    });
    const shipping = await composeBackups({ ...shared, service, reserveBytes: SMALL_RESERVE_BYTES });
    shipping.start();
    const { backups } = shipping;
    const floor = (app: OpenApp) => app.core.moments.floor;
    const parts = { apps: service, clock, log, turns: new SystemTurns(), floor };
    const api: AdminApi = Object.assign(new FakeAdminApi(), {
      catalogue: new CatalogueAdmin(service, {
        shareMounted: () => undefined,
        appChanged: (id) => backups.renamed(id),
      }),
      reading: new Reading(parts),
      history: new History(parts),
      backups,
    });
    return new BackupService({ api, service, folder, kv, shipping });
  }

  /** Writes a file as a shell's `>` does. */
  async put(app: string, file: string, text: string | Buffer): Promise<void> {
    const { engine, root, parent, name } = await this.#place(app, file);
    const inode = (await engine.execute(
      { op: "create", parent: parent ?? root, name, mode: 0o644, umask: 0, exclusive: false, truncate: true },
      SERVICE_CONTEXT,
    )) as Inode;
    const data = Buffer.from(text);
    await engine.execute({ op: "write", ino: inode.ino, offset: 0n, data, killPrivileges: false }, SERVICE_CONTEXT);
  }

  async unlink(app: string, file: string): Promise<void> {
    const { engine, parent, name } = await this.#place(app, file);
    await engine.execute({ op: "unlink", parent, name }, SERVICE_CONTEXT);
  }

  async #place(
    name: string,
    file: string,
  ): Promise<{ engine: OpenApp["engine"]; root: InodeId; parent: InodeId; name: Buffer }> {
    const app = this.service.find({ namespace: "default", name });
    const share = sharesAt(app.core, app.core.lastLsn)[0];
    if (share === undefined) throw new Error("no share");
    return { engine: app.engine, root: share.root, parent: share.root, name: Buffer.from(file) };
  }

  async close(): Promise<void> {
    await this.#shipping.stop();
    await this.service.close();
    await this.#kv.close();
    this.#folder.close();
  }
}
