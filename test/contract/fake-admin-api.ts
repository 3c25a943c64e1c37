import type { AdminApi } from "../../src/domain/admin-api.ts";
import type { CallOptions } from "../../src/domain/admin-call.ts";
import { TidemarkError } from "../../src/domain/errors.ts";
import * as sample from "./admin-samples.ts";

/** A call that reached the fake. */
export type SeenCall = {
  readonly method: string;
  readonly request: unknown;
  readonly options: CallOptions | undefined;
};

/**
 * AdminApi that answers samples and notes what it was asked: for tests of what carries or shows the API, not of what it does. `fail` makes
 * every call fail; `stream` replaces what all streams yield.
 */
export class FakeAdminApi implements AdminApi {
  readonly calls: SeenCall[] = [];
  fail: unknown;
  stream: ((options: CallOptions | undefined) => AsyncIterable<unknown>) | undefined;
  readonly catalogue: AdminApi["catalogue"];
  readonly snapshots: AdminApi["snapshots"];
  readonly mounts: AdminApi["mounts"];
  readonly reading: AdminApi["reading"];
  readonly history: AdminApi["history"];
  readonly restores: AdminApi["restores"];
  readonly status: AdminApi["status"];

  constructor() {
    const one = <R, T>(method: string, answer: T) => {
      return async (request: R, options?: CallOptions): Promise<T> => this.#answer(method, request, options, answer);
    };
    const many = <R, T>(method: string, items: readonly T[]) => {
      return (request: R, options?: CallOptions): AsyncIterable<T> => this.#stream(method, request, options, items);
    };
    const app = at(sample.APPS);
    const share = at(sample.SHARES);
    const snapshot = at(sample.SNAPSHOTS);
    const mount = at(sample.MOUNTS);
    this.catalogue = {
      createApp: one("createApp", app),
      listApps: many("listApps", [sample.APPS]),
      updateApp: one("updateApp", app),
      deleteApp: one("deleteApp", app),
      undeleteApp: one("undeleteApp", app),
      createShare: one("createShare", share),
      listShares: many("listShares", [sample.SHARES]),
      updateShare: one("updateShare", share),
      deleteShare: one("deleteShare", share),
      undeleteShare: one("undeleteShare", share),
    };
    this.snapshots = {
      createSnapshot: one("createSnapshot", snapshot),
      listSnapshots: many("listSnapshots", [sample.SNAPSHOTS]),
      deleteSnapshot: one("deleteSnapshot", snapshot),
    };
    this.mounts = {
      mount: one("mount", mount),
      umount: one("umount", mount),
      listMounts: (options) => this.#stream("listMounts", undefined, options, [sample.MOUNTS]),
    };
    this.reading = {
      resolveMoment: one("resolveMoment", sample.RESOLVED),
      resolve: one("resolve", sample.RESOLVED_PATH),
      stat: one("stat", sample.STAT),
      list: many("list", [[sample.ENTRY], [sample.ENTRY, sample.ENTRY]]),
      read: many("read", [Buffer.from([0, 255]), Buffer.from("text")]),
      exportTree: many("exportTree", sample.EXPORT_PAGES),
    };
    this.history = {
      log: many("log", [sample.LOG_RECORDS]),
      history: many("history", [sample.VERSIONS]),
      diff: many("diff", [sample.DIFF_ENTRIES]),
    };
    this.restores = {
      plan: many("plan", sample.PLAN),
      execute: many("execute", sample.PROGRESS),
      listRestores: one("listRestores", sample.RESTORES),
    };
    this.status = {
      serviceStatus: async (options) => this.#answer("serviceStatus", undefined, options, sample.SERVICE_STATUS),
      appStatus: many("appStatus", [sample.APP_STATUS]),
    };
  }

  #answer<T>(method: string, request: unknown, options: CallOptions | undefined, answer: T): T {
    this.calls.push({ method, request, options });
    if (this.fail !== undefined) throw this.fail;
    return answer;
  }

  async *#stream<T>(method: string, request: unknown, options: CallOptions | undefined, items: readonly T[]) {
    this.calls.push({ method, request, options });
    if (this.fail !== undefined) throw this.fail;
    if (this.stream !== undefined) {
      yield* this.stream(options) as AsyncIterable<T>;
      return;
    }
    yield* items;
  }
}

function at<T>(items: readonly T[]): T {
  const [first] = items;
  if (first === undefined) throw new TidemarkError("INTERNAL", "an empty sample");
  return first;
}
