import type { CallOptions, Pages } from "../domain/admin-call.ts";
import { PAGE_ITEMS_MAX } from "../domain/admin-call.ts";
import type {
  AppInfo,
  CatalogueApi,
  DeletedFilter,
  Labels,
  ShareInfo,
  ShareOfApp,
  ViewsOption,
} from "../domain/admin-catalogue.ts";
import { TidemarkError } from "../domain/errors.ts";
import type { AppId, ShareId } from "../domain/ids.ts";
import type { RequestContext } from "../domain/metadata-api.ts";
import { checkObjectName } from "../domain/names.ts";
import { type AppRef, formatAppRef, type ShareRef } from "../domain/share-path.ts";
import type { AppRow } from "./catalogue-rows.ts";
import { type OpenApp, SERVICE_CONTEXT } from "./open-app.ts";
import { findShareIn } from "./reading/find-share.ts";
import type { MetadataService } from "./service.ts";
import { createShare, type ShareRow, sharesAt, updateShare } from "./shares.ts";

/** Labels of one app, and characters of a key or value: what Kubernetes allows, and room for as many as anybody sets. */
const LABELS_MAX = 64;
const LABEL_CHARS_MAX = 316;

/** Which shares and apps are in use by mounts: they can't be deleted. And who is told that an app was renamed, labelled, deleted or undeleted. */
export type InUse = {
  readonly shareMounted: (appId: AppId, shareId: ShareId) => string | undefined;
  readonly appChanged?: (appId: AppId) => void;
};

/** Apps and shares for the administration. */
export class CatalogueAdmin implements CatalogueApi {
  readonly #service: MetadataService;
  readonly #inUse: InUse;

  constructor(service: MetadataService, inUse: InUse) {
    this.#service = service;
    this.#inUse = inUse;
  }

  async createApp(
    request: { namespace: string; name: string; labels: Labels },
    options?: CallOptions,
  ): Promise<AppInfo> {
    const namespace = checkObjectName("namespace", request.namespace);
    const name = checkObjectName("app", request.name);
    const labels = checkLabels(request.labels);
    const { catalogue } = this.#service;
    const row = catalogue.createApp(
      { id: this.#service.newId() as AppId, namespace, name, labels },
      contextOf(options),
    );
    await this.#service.open(row);
    await this.#service.syncCatalogue();
    return this.#appInfo(row);
  }

  listApps(request: { namespace?: string; labels?: Labels; deleted: DeletedFilter }): Pages<AppInfo> {
    const wanted = Object.entries(request.labels ?? {});
    const rows = this.#service.catalogue
      .apps()
      .filter((app) => request.namespace === undefined || app.namespace === request.namespace)
      .filter((app) => wanted.every(([key, value]) => app.labels[key] === value))
      .filter((app) => isListed(app.deletedAt !== undefined, request.deleted))
      .sort(byNamespaceNameId);
    return pages(rows.map((row) => this.#appInfo(row)));
  }

  async updateApp(request: { app: AppRef; name?: string; labels?: Labels }, options?: CallOptions): Promise<AppInfo> {
    const { catalogue } = this.#service;
    const row = catalogue.find(request.app);
    const name = request.name === undefined ? row.name : checkObjectName("app", request.name);
    const labels = request.labels === undefined ? row.labels : checkLabels(request.labels);
    return this.#appChanged(catalogue.updateApp(row, { name, labels }, contextOf(options)));
  }

  async deleteApp(request: { app: AppRef }, options?: CallOptions): Promise<AppInfo> {
    const { catalogue } = this.#service;
    const row = catalogue.find(request.app);
    if (row.deletedAt !== undefined)
      throw new TidemarkError("FAILED_PRECONDITION", `app "${row.name}" is deleted already`);
    for (const share of this.#shares(row)) this.#refuseMounted(row, share);
    return this.#appChanged(catalogue.updateApp(row, { deleted: true }, contextOf(options)));
  }

  async undeleteApp(request: { app: AppRef; name?: string }, options?: CallOptions): Promise<AppInfo> {
    const { catalogue } = this.#service;
    const row = request.app.id === undefined ? this.#onlyDeleted(request.app) : catalogue.find(request.app);
    if (row.deletedAt === undefined)
      throw new TidemarkError("FAILED_PRECONDITION", `app "${formatAppRef(request.app)}" is not deleted`);
    const name = request.name === undefined ? row.name : checkObjectName("app", request.name);
    return this.#appChanged(catalogue.updateApp(row, { deleted: false, name }, contextOf(options)));
  }

  async createShare(
    request: { app: AppRef; name: string; views: ViewsOption },
    options?: CallOptions,
  ): Promise<ShareInfo> {
    const name = checkObjectName("share", request.name);
    const { row, app } = this.#liveApp(request.app);
    const id = this.#service.newId() as ShareId;
    const share = createShare(app.core, { id, name, views: request.views }, contextOf(options));
    return this.#shareChanged(row, app, share);
  }

  listShares(request: { app?: AppRef; deleted: DeletedFilter }): Pages<ShareInfo> {
    const { catalogue } = this.#service;
    const apps =
      request.app === undefined
        ? catalogue.apps().filter((app) => app.deletedAt === undefined)
        : [catalogue.find(request.app)];
    const shares = apps.sort(byNamespaceNameId).flatMap((row) =>
      this.#shares(row)
        .filter((share) => isListed(share.deletedAt !== undefined, request.deleted))
        .sort(byNameId)
        .map((share) => shareInfo(row, share)),
    );
    return pages(shares);
  }

  async updateShare(
    request: ShareOfApp & { name?: string; views?: ViewsOption },
    options?: CallOptions,
  ): Promise<ShareInfo> {
    const { row, app, share } = this.#share(request);
    const name = request.name === undefined ? share.name : checkObjectName("share", request.name);
    const change = { name, views: request.views ?? share.views };
    return this.#shareChanged(row, app, updateShare(app.core, share, change, contextOf(options)));
  }

  async deleteShare(request: ShareOfApp, options?: CallOptions): Promise<ShareInfo> {
    const { row, app, share } = this.#share(request);
    if (share.deletedAt !== undefined)
      throw new TidemarkError("FAILED_PRECONDITION", `share "${share.name}" is deleted already`);
    this.#refuseMounted(row, share);
    return this.#shareChanged(row, app, updateShare(app.core, share, { deleted: true }, contextOf(options)));
  }

  async undeleteShare(request: ShareOfApp & { name?: string }, options?: CallOptions): Promise<ShareInfo> {
    const { row, app } = this.#liveApp(request.app);
    const share = this.#deletedShare(row, request.share);
    const name = request.name === undefined ? share.name : checkObjectName("share", request.name);
    return this.#shareChanged(row, app, updateShare(app.core, share, { deleted: false, name }, contextOf(options)));
  }

  /** What an app is, for lists and answers. */
  #appInfo(row: AppRow): AppInfo {
    const { slot: _slot, ...info } = row;
    return { ...info, shareCount: this.#shares(row).filter((share) => share.deletedAt === undefined).length };
  }

  #shares(row: AppRow): ShareRow[] {
    const app = this.#service.get(row.id);
    return app === undefined ? [] : sharesAt(app.core, app.core.lastLsn);
  }

  #liveApp(ref: AppRef): { row: AppRow; app: OpenApp } {
    const row = this.#service.catalogue.find(ref);
    if (row.deletedAt !== undefined) {
      throw new TidemarkError(
        "NOT_FOUND",
        `app "${formatAppRef(ref)}" is deleted: undelete it first (tidemark app undelete)`,
      );
    }
    return { row, app: this.#service.find(ref) };
  }

  #share(request: ShareOfApp): { row: AppRow; app: OpenApp; share: ShareRow } {
    const { row, app } = this.#liveApp(request.app);
    return { row, app, share: findShareIn(this.#shares(row), request.share) };
  }

  #deletedShare(row: AppRow, ref: ShareRef): ShareRow {
    const deleted = this.#shares(row).filter((share) => share.name === ref.name && share.deletedAt !== undefined);
    const matching = deleted.filter((share) => share.id.startsWith(ref.id ?? ""));
    return only(matching, `share "${ref.name}"`);
  }

  #onlyDeleted(ref: AppRef): AppRow {
    const named = this.#service.catalogue
      .apps()
      .filter((app) => app.namespace === ref.namespace && app.name === ref.name);
    return only(
      named.filter((app) => app.deletedAt !== undefined),
      `app "${formatAppRef(ref)}"`,
    );
  }

  #refuseMounted(row: AppRow, share: ShareRow): void {
    const target = this.#inUse.shareMounted(row.id, share.id);
    if (target === undefined) return;
    throw new TidemarkError(
      "FAILED_PRECONDITION",
      `share "${formatAppRef({ namespace: row.namespace, name: row.name })}/${share.name}" is mounted at ${target}: unmount it first`,
    );
  }

  async #appChanged(row: AppRow): Promise<AppInfo> {
    await this.#service.syncCatalogue();
    this.#inUse.appChanged?.(row.id);
    return this.#appInfo(row);
  }

  async #shareChanged(row: AppRow, app: OpenApp, share: ShareRow): Promise<ShareInfo> {
    await app.journal.sync(app.core.lastLsn);
    return shareInfo(row, share);
  }
}

function only<T extends { readonly id: string; readonly name: string }>(found: readonly T[], what: string): T {
  const [first, second] = found;
  if (first === undefined) {
    throw new TidemarkError("NOT_FOUND", `there is no deleted ${what}`, {
      data: { missing: what.split(" ")[0] ?? "" },
    });
  }
  if (second === undefined) return first;
  const names = found.map((item) => `${item.name}@${item.id.slice(0, 8)}`).join(", ");
  throw new TidemarkError("FAILED_PRECONDITION", `several deleted ones are called ${what}: name one of ${names}`);
}

function shareInfo(row: AppRow, share: ShareRow): ShareInfo {
  const { since: _since, root: _root, ...info } = share;
  return { ...info, app: { id: row.id, namespace: row.namespace, name: row.name } };
}

/** Who asks, for the journal. */
export function contextOf(options: CallOptions | undefined): RequestContext {
  return options?.actor === undefined ? SERVICE_CONTEXT : { ...SERVICE_CONTEXT, actor: options.actor };
}

function isListed(deleted: boolean, filter: DeletedFilter): boolean {
  return filter === "with" || deleted === (filter === "only");
}

function byNameId(left: { name: string; id: string }, right: { name: string; id: string }): number {
  return compare(left.name, right.name) || compare(left.id, right.id);
}

function byNamespaceNameId(left: AppRow, right: AppRow): number {
  return compare(left.namespace, right.namespace) || byNameId(left, right);
}

function compare(left: string, right: string): number {
  return left < right ? -1 : left > right ? 1 : 0;
}

async function* pages<T>(items: readonly T[]): AsyncGenerator<readonly T[]> {
  for (let at = 0; at < items.length; at += PAGE_ITEMS_MAX) yield items.slice(at, at + PAGE_ITEMS_MAX);
}

function checkLabels(labels: Labels): Labels {
  const entries = Object.entries(labels);
  if (entries.length > LABELS_MAX)
    throw new TidemarkError("INVALID_ARGUMENT", `an app has at most ${LABELS_MAX} labels`);
  for (const [key, value] of entries) {
    if (key === "" || key.length > LABEL_CHARS_MAX || value.length > LABEL_CHARS_MAX) {
      throw new TidemarkError(
        "INVALID_ARGUMENT",
        `label "${key}": keys and values have at most ${LABEL_CHARS_MAX} characters, keys at least one`,
      );
    }
  }
  return Object.fromEntries(entries);
}
