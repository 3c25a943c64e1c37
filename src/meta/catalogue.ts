import { assert } from "../base/assert.ts";
import type { Timestamp } from "../base/clock.ts";
import { FsError, TidemarkError } from "../domain/errors.ts";
import type { AppId, Lsn, MountId } from "../domain/ids.ts";
import type { RequestContext } from "../domain/metadata-api.ts";
import { RECORD_OP, type RecordOp } from "../domain/record-op.ts";
import type { RetentionPolicy } from "../domain/retention.ts";
import { type AppRef, formatAppRef } from "../domain/share-path.ts";
import {
  type AppRow,
  appKey,
  type BackupRow,
  backupKey,
  type MountRow,
  mountKey,
  numberOfKey,
  type RetentionRow,
  retentionKey,
  type SessionRow,
  type ViewRow,
  viewKey,
} from "./catalogue-rows.ts";
import type { EngineCore } from "./core.ts";
import { plainKey, TABLE } from "./keys.ts";
import { decodeJson, encodeJson } from "./rows.ts";
import { rowsOfTable } from "./table-rows.ts";

/** View slots of a data folder: 23 bits of a node id, less 0 (live) and the last (`.tidemark` itself). */
const VIEW_SLOTS_MAX = 2 ** 23 - 2;

/** View slots told to a gateway: what its kernel still has of older ones is ESTALE after its process was restarted. */
const VIEW_SLOTS_TOLD_MAX = 10_000;

/**
 * What a data folder knows besides its apps' own journals: apps, mounts, view slots. Kept in memory; each change is a record of the system app's
 * journal first. Every method that changes something is one record.
 */
export class Catalogue {
  readonly #core: EngineCore;
  readonly #apps = new Map<AppId, AppRow>();
  readonly #mounts = new Map<MountId, MountRow>();
  readonly #views = new Map<number, ViewRow>();
  readonly #backups = new Map<AppId, BackupRow>();
  readonly #retentions = new Map<AppId, RetentionRow>();
  readonly #slots = new Map<string, number>();
  #nextAppSlot = 1;
  #nextMount = 1;
  #nextView = 1;

  constructor(core: EngineCore) {
    this.#core = core;
    for (const { value } of rowsOfTable(core, TABLE.APP)) {
      const app = decodeJson<AppRow>(value);
      this.#apps.set(app.id, app);
      this.#nextAppSlot = Math.max(this.#nextAppSlot, app.slot + 1);
    }
    for (const { value } of rowsOfTable(core, TABLE.MOUNT)) {
      const mount = decodeJson<MountRow>(value);
      this.#mounts.set(mount.id, mount);
    }
    for (const { key, value } of rowsOfTable(core, TABLE.VIEW)) {
      const slot = numberOfKey(key);
      const view = decodeJson<ViewRow>(value);
      this.#views.set(slot, view);
      this.#slots.set(`${view.appId}:${view.lsn}`, slot);
      this.#nextView = Math.max(this.#nextView, slot + 1);
    }
    for (const { value } of rowsOfTable(core, TABLE.BACKUP)) {
      const backup = decodeJson<BackupRow>(value);
      this.#backups.set(backup.appId, backup);
    }
    for (const { value } of rowsOfTable(core, TABLE.RETENTION)) {
      const retention = decodeJson<RetentionRow>(value);
      this.#retentions.set(retention.appId, retention);
    }
    // Mount numbers are in records for ever: the counter survives the rows.
    const counter = core.store.get(NEXT_MOUNT);
    if (counter !== undefined) this.#nextMount = decodeJson<number>(counter);
  }

  /** Live and deleted. */
  apps(): AppRow[] {
    return [...this.#apps.values()];
  }

  app(id: AppId): AppRow | undefined {
    return this.#apps.get(id);
  }

  /**
   * The app a reference means: the live one of that name, or with an id that one, live or deleted. Throws NOT_FOUND, naming
   * deleted ones of that name.
   */
  find(ref: AppRef): AppRow {
    const named = this.apps().filter((app) => app.namespace === ref.namespace && app.name === ref.name);
    const { id } = ref;
    const found =
      id === undefined
        ? named.filter((app) => app.deletedAt === undefined)
        : named.filter((app) => app.id.startsWith(id));
    const [first, second] = found;
    if (second !== undefined)
      throw new TidemarkError(
        "INVALID_ARGUMENT",
        `"${formatAppRef(ref)}" means several apps: give more digits of the id`,
      );
    if (first !== undefined) return first;
    const deleted = named
      .filter((app) => app.deletedAt !== undefined)
      .map((app) => formatAppRef({ ...ref, id: app.id.slice(0, 8) }));
    const hint = deleted.length === 0 ? "see `tidemark app list`" : `deleted ones of that name: ${deleted.join(", ")}`;
    throw new TidemarkError("NOT_FOUND", `there is no app "${formatAppRef(ref)}": ${hint}`, {
      data: { missing: "app" },
    });
  }

  /** The number that the next app gets. */
  get nextAppSlot(): number {
    return this.#nextAppSlot;
  }

  /** Takes in an app that was made elsewhere, as it was there, under the next number. */
  adoptApp(app: Omit<AppRow, "slot">, context: RequestContext): AppRow {
    if (app.deletedAt === undefined) this.refuseTakenName(app.namespace, app.name);
    const adopted = this.#putApp({ ...app, slot: this.#nextAppSlot }, RECORD_OP.APP_CREATE, context);
    this.#nextAppSlot++;
    return adopted;
  }

  createApp(app: Omit<AppRow, "slot" | "createdAt">, context: RequestContext): AppRow {
    this.refuseTakenName(app.namespace, app.name);
    const row = { ...app, slot: this.#nextAppSlot, createdAt: this.#core.clock.now() };
    const made = this.#putApp(row, RECORD_OP.APP_CREATE, context);
    this.#nextAppSlot++;
    return made;
  }

  /** Replaces an app's row. `deleted` true or false deletes or undeletes it. */
  updateApp(
    app: AppRow,
    change: { readonly name?: string; readonly labels?: AppRow["labels"]; readonly deleted?: boolean },
    context: RequestContext,
  ): AppRow {
    const name = change.name ?? app.name;
    const live = !(change.deleted ?? app.deletedAt !== undefined);
    if (live && (name !== app.name || app.deletedAt !== undefined)) this.refuseTakenName(app.namespace, name);
    const { deletedAt, ...rest } = app;
    const deleted = change.deleted === undefined ? deletedAt : change.deleted ? this.#core.clock.now() : undefined;
    const row = {
      ...rest,
      name,
      labels: change.labels ?? app.labels,
      ...(deleted === undefined ? {} : { deletedAt: deleted }),
    };
    const op =
      change.deleted === undefined
        ? RECORD_OP.APP_UPDATE
        : change.deleted
          ? RECORD_OP.APP_DELETE
          : RECORD_OP.APP_UNDELETE;
    return this.#putApp(row, op, context);
  }

  refuseTakenName(namespace: string, name: string): void {
    const taken = this.apps().some(
      (app) => app.namespace === namespace && app.name === name && app.deletedAt === undefined,
    );
    if (!taken) return;
    const written = formatAppRef({ namespace, name });
    throw new TidemarkError(
      "ALREADY_EXISTS",
      `there is already an app "${written}": choose another name, or delete or rename that one`,
    );
  }

  #putApp(row: AppRow, op: RecordOp, context: RequestContext): AppRow {
    const tx = this.#core.begin(context);
    tx.row(appKey(row.id), encodeJson(row));
    tx.commit(op, encodeJson(row), { useReserve: op === RECORD_OP.APP_DELETE });
    this.#apps.set(row.id, row);
    return row;
  }

  mounts(): MountRow[] {
    return [...this.#mounts.values()];
  }

  /** Records a mount under a number that is never given again. */
  addMount(mount: Omit<MountRow, "id" | "since">, context: RequestContext): MountRow {
    const id = this.#nextMount as MountId;
    assert(id < 2 ** 32, "mount numbers are used up");
    const tx = this.#core.begin(context);
    const row = { ...mount, id, since: tx.time };
    tx.row(mountKey(id), encodeJson(row));
    tx.row(NEXT_MOUNT, encodeJson(id + 1));
    // On a full disk it must be possible to mount, to remove what is not needed.
    tx.commit(RECORD_OP.MOUNT, encodeJson(row), { useReserve: true });
    this.#nextMount = id + 1;
    this.#mounts.set(id, row);
    return row;
  }

  /** What is known of a mount on another node is something else now. */
  setSession(id: MountId, session: SessionRow, context: RequestContext): MountRow | undefined {
    const row = this.#mounts.get(id);
    if (row === undefined) return undefined;
    const changed = { ...row, session };
    const tx = this.#core.begin(context);
    tx.row(mountKey(id), encodeJson(changed));
    tx.commit(RECORD_OP.MOUNT, encodeJson(changed), { useReserve: true });
    this.#mounts.set(id, changed);
    return changed;
  }

  /** A mount that has left its place but is still used: it stays until it ends, also across a restart, and is never made again. */
  detachMount(id: MountId, context: RequestContext): void {
    const row = this.#mounts.get(id);
    if (row === undefined) return;
    const detached = { ...row, persist: false, detached: true };
    const tx = this.#core.begin(context);
    tx.row(mountKey(id), encodeJson(detached));
    tx.commit(RECORD_OP.UMOUNT, encodeJson(detached), { useReserve: true });
    this.#mounts.set(id, detached);
  }

  removeMount(id: MountId, context: RequestContext): void {
    const row = this.#mounts.get(id);
    if (row === undefined) return;
    const tx = this.#core.begin(context);
    tx.row(mountKey(id), null);
    tx.commit(RECORD_OP.UMOUNT, encodeJson(row), { useReserve: true });
    this.#mounts.delete(id);
  }

  /** Apps that are backed up. */
  backups(): BackupRow[] {
    return [...this.#backups.values()];
  }

  /** Backs an app up from now on, or changes how. */
  setBackup(backup: Omit<BackupRow, "since">, context: RequestContext): BackupRow {
    const tx = this.#core.begin(context);
    const row = { ...backup, since: this.#backups.get(backup.appId)?.since ?? tx.time };
    tx.row(backupKey(row.appId), encodeJson(row));
    tx.commit(RECORD_OP.BACKUP_SET, encodeJson(row));
    this.#backups.set(row.appId, row);
    return row;
  }

  clearBackup(appId: AppId, context: RequestContext): void {
    const row = this.#backups.get(appId);
    if (row === undefined) return;
    const tx = this.#core.begin(context);
    tx.row(backupKey(appId), null);
    // On a full disk it must be possible to let go of history that waits for a repository that is gone.
    tx.commit(RECORD_OP.BACKUP_CLEAR, encodeJson(row), { useReserve: true });
    this.#backups.delete(appId);
  }

  /** Policies of apps that have one. */
  retentions(): RetentionRow[] {
    return [...this.#retentions.values()];
  }

  retention(appId: AppId): RetentionRow | undefined {
    return this.#retentions.get(appId);
  }

  setRetention(appId: AppId, policy: RetentionPolicy, context: RequestContext): RetentionRow {
    const tx = this.#core.begin(context);
    const row = { appId, policy, since: tx.time };
    tx.row(retentionKey(appId), encodeJson(row));
    // On a full disk it must be possible to let go of history.
    tx.commit(RECORD_OP.RETENTION_SET, encodeJson(row), { useReserve: true });
    this.#retentions.set(appId, row);
    return row;
  }

  clearRetention(appId: AppId, context: RequestContext): void {
    const row = this.#retentions.get(appId);
    if (row === undefined) return;
    const tx = this.#core.begin(context);
    tx.row(retentionKey(appId), null);
    tx.commit(RECORD_OP.RETENTION_CLEAR, encodeJson(row), { useReserve: true });
    this.#retentions.delete(appId);
  }

  /** How late it was when that was last noted; undefined: never. */
  retentionClock(): Timestamp | undefined {
    const row = this.#core.store.get(RETENTION_CLOCK);
    return row === undefined ? undefined : decodeJson<Timestamp>(row);
  }

  noteRetentionClock(time: Timestamp, context: RequestContext): void {
    const tx = this.#core.begin(context);
    tx.row(RETENTION_CLOCK, encodeJson(time));
    // On a full disk, what goes by age is what makes room.
    tx.commit(RECORD_OP.RETENTION_CLOCK, encodeJson({ time }), { useReserve: true });
  }

  /** The moment of a view slot, if it is one of this app. */
  lsnOf(appId: AppId, slot: number): Lsn | undefined {
    const view = this.#views.get(slot);
    return view?.appId === appId ? view.lsn : undefined;
  }

  /** The slots of an app's moments, with the moment of each. */
  *slotsOf(appId: AppId): Generator<{ readonly slot: number; readonly lsn: Lsn }> {
    for (const [slot, view] of this.#views) if (view.appId === appId) yield { slot, lsn: view.lsn };
  }

  /** The newest view slots of an app, with their moments: as many as are told at once. */
  viewSlots(appId: AppId): { readonly slot: number; readonly lsn: Lsn }[] {
    const slots = [...this.#views].filter(([, view]) => view.appId === appId).slice(-VIEW_SLOTS_TOLD_MAX);
    return slots.map(([slot, { lsn }]) => ({ slot, lsn }));
  }

  /** The slot of a moment, made if there is none. Throws FsError ENOSPC when all are taken. */
  slotOf(appId: AppId, lsn: Lsn, context: RequestContext): number {
    const known = this.#slots.get(`${appId}:${lsn}`);
    if (known !== undefined) return known;
    const slot = this.#nextView;
    if (slot > VIEW_SLOTS_MAX) throw new FsError("ENOSPC", "all view slots of this data folder are used");
    const view = { appId, lsn };
    const tx = this.#core.begin(context);
    tx.row(viewKey(slot), encodeJson(view));
    tx.commit(RECORD_OP.VIEW_SLOT, encodeJson({ slot, ...view }));
    this.#nextView = slot + 1;
    this.#views.set(slot, view);
    this.#slots.set(`${appId}:${lsn}`, slot);
    return slot;
  }
}

const NEXT_MOUNT = plainKey(TABLE.COUNTER, Buffer.from("next-mount"));
const RETENTION_CLOCK = plainKey(TABLE.COUNTER, Buffer.from("retention-clock"));
