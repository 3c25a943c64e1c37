import type { CallOptions } from "../../domain/admin-call.ts";
import type { PlanItem, RestoreApi, RestoreInfo, RestoreProgress, RestoreRequest } from "../../domain/admin-restore.ts";
import type { AppRef } from "../../domain/share-path.ts";
import type { Mounts } from "./mounts.ts";

/** Restores that report `done` only when the kernels of all mounts know: who restores a file and opens it then sees it. */
export class SeenRestores implements RestoreApi {
  readonly #restores: RestoreApi;
  readonly #mounts: Mounts;

  constructor(restores: RestoreApi, mounts: Mounts) {
    this.#restores = restores;
    this.#mounts = mounts;
  }

  plan(request: RestoreRequest, options?: CallOptions): AsyncIterable<PlanItem> {
    return this.#restores.plan(request, options);
  }

  async *execute(request: RestoreRequest, options?: CallOptions): AsyncGenerator<RestoreProgress> {
    for await (const item of this.#restores.execute(request, options)) {
      if (item.kind === "done") await this.#mounts.settled();
      yield item;
    }
  }

  listRestores(request: { app: AppRef; countMax: number }, options?: CallOptions): Promise<readonly RestoreInfo[]> {
    return this.#restores.listRestores(request, options);
  }
}
