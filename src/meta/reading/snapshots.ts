import type { CallOptions, Pages } from "../../domain/admin-call.ts";
import type { SnapshotApi, SnapshotInfo } from "../../domain/admin-catalogue.ts";
import { TidemarkError } from "../../domain/errors.ts";
import { checkObjectName } from "../../domain/names.ts";
import type { AppRef } from "../../domain/share-path.ts";
import type { OpenApp } from "../open-app.ts";
import type { ReadingParts } from "./apps.ts";
import { contextOf } from "./context.ts";
import { toTidemarkError } from "./failures.ts";
import { paged } from "./pages.ts";
import { addSnapshot, removeSnapshot, snapshots } from "./snapshot-rows.ts";

export type SnapshotParts = ReadingParts & {
  /** Writes back dirty pages of the app's mounts. Absent: there are no mounts. */
  readonly syncMounts?: (app: OpenApp) => Promise<void>;
};

/** Bytes a snapshot may take in a page, about. */
const ITEM_BYTES = 400;

/** Snapshots of an app to which no token adds any: each is a row that is read with all others. */
const SNAPSHOTS_UNDER_TOKENS_MAX = 10_000;

/** Named moments: rows in the app's own journal. */
export class Snapshots implements SnapshotApi {
  readonly #parts: SnapshotParts;

  constructor(parts: SnapshotParts) {
    this.#parts = parts;
  }

  async createSnapshot(
    request: { app: AppRef; name: string; syncMounts: boolean },
    options?: CallOptions,
  ): Promise<SnapshotInfo> {
    const name = checkObjectName("snapshot", request.name);
    const app = await this.#parts.apps.find(request.app);
    if (options?.underToken === true && [...snapshots(app.core)].length >= SNAPSHOTS_UNDER_TOKENS_MAX) {
      const message = `the app has ${SNAPSHOTS_UNDER_TOKENS_MAX} snapshots: root makes more, or deletes some`;
      throw new TidemarkError("FAILED_PRECONDITION", message);
    }
    if (request.syncMounts) await this.#parts.syncMounts?.(app);
    return change(app, "creating a snapshot", () =>
      addSnapshot(app.core, { name, automatic: false }, contextOf(options)),
    );
  }

  async *listSnapshots(request: { app: AppRef }): Pages<SnapshotInfo> {
    const app = await this.#parts.apps.find(request.app);
    const all = [...snapshots(app.core)].sort((left, right) => left.lsn - right.lsn);
    yield* paged(one(all), () => ITEM_BYTES);
  }

  async deleteSnapshot(request: { app: AppRef; name: string }, options?: CallOptions): Promise<SnapshotInfo> {
    const app = await this.#parts.apps.find(request.app);
    return change(app, "deleting a snapshot", () => removeSnapshot(app.core, request.name, contextOf(options)));
  }
}

async function change(app: OpenApp, what: string, mutate: () => SnapshotInfo): Promise<SnapshotInfo> {
  try {
    const snapshot = mutate();
    await app.journal.sync(app.core.lastLsn);
    return snapshot;
  } catch (error) {
    throw toTidemarkError(error, what);
  }
}

async function* one<T>(batch: readonly T[]): AsyncGenerator<readonly T[]> {
  yield batch;
}
