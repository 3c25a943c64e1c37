import type { AdminApi } from "../../src/domain/admin-api.ts";
import type { CallOptions } from "../../src/domain/admin-call.ts";
import { TidemarkError } from "../../src/domain/errors.ts";
import * as sample from "./admin-samples.ts";
import { CHANGES_PAGES, DELTA_PAGES } from "./changes-samples.ts";
import { AUDIT_ENTRIES, TOKENS } from "./token-samples.ts";

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

  readonly catalogue: AdminApi["catalogue"] = {
    createApp: this.#one("createApp", at(sample.APPS)),
    listApps: this.#many("listApps", [sample.APPS]),
    updateApp: this.#one("updateApp", at(sample.APPS)),
    deleteApp: this.#one("deleteApp", at(sample.APPS)),
    undeleteApp: this.#one("undeleteApp", at(sample.APPS)),
    createShare: this.#one("createShare", at(sample.SHARES)),
    listShares: this.#many("listShares", [sample.SHARES]),
    updateShare: this.#one("updateShare", at(sample.SHARES)),
    deleteShare: this.#one("deleteShare", at(sample.SHARES)),
    undeleteShare: this.#one("undeleteShare", at(sample.SHARES)),
  };
  readonly snapshots: AdminApi["snapshots"] = {
    createSnapshot: this.#one("createSnapshot", at(sample.SNAPSHOTS)),
    listSnapshots: this.#many("listSnapshots", [sample.SNAPSHOTS]),
    deleteSnapshot: this.#one("deleteSnapshot", at(sample.SNAPSHOTS)),
  };
  readonly mounts: AdminApi["mounts"] = {
    mount: this.#one("mount", at(sample.MOUNTS)),
    umount: this.#one("umount", at(sample.MOUNTS)),
    listMounts: (options) => this.#stream("listMounts", undefined, options, [sample.MOUNTS]),
  };
  readonly reading: AdminApi["reading"] = {
    resolveMoment: this.#one("resolveMoment", sample.RESOLVED),
    resolve: this.#one("resolve", sample.RESOLVED_PATH),
    stat: this.#one("stat", sample.STAT),
    list: this.#many("list", [[sample.ENTRY], [sample.ENTRY, sample.ENTRY]]),
    read: this.#many("read", [Buffer.from([0, 255]), Buffer.from("text")]),
    exportTree: this.#many("exportTree", sample.EXPORT_PAGES),
  };
  readonly history: AdminApi["history"] = {
    log: this.#many("log", [sample.LOG_RECORDS]),
    history: this.#many("history", [sample.VERSIONS]),
    diff: this.#many("diff", [sample.DIFF_ENTRIES]),
    find: this.#many("find", [sample.FOUND_NAMES]),
  };
  readonly changes: AdminApi["changes"] = {
    changes: this.#many("changes", CHANGES_PAGES),
    shareDelta: this.#many("shareDelta", DELTA_PAGES),
  };
  readonly restores: AdminApi["restores"] = {
    plan: this.#many("plan", sample.PLAN),
    execute: this.#many("execute", sample.PROGRESS),
    listRestores: this.#one("listRestores", sample.RESTORES),
  };
  readonly backups: AdminApi["backups"] = {
    addRepository: this.#one("addRepository", at(sample.REPOSITORIES)),
    removeRepository: this.#one("removeRepository", at(sample.REPOSITORIES)),
    listRepositories: (options) => this.#stream("listRepositories", undefined, options, [sample.REPOSITORIES]),
    enableBackup: this.#one("enableBackup", at(sample.BACKUPS)),
    disableBackup: this.#one("disableBackup", at(sample.BACKUPS)),
    backupNow: this.#many("backupNow", sample.BACKUP_PROGRESS),
    repairBackup: this.#one("repairBackup", sample.REPAIR),
    backupStatus: this.#many("backupStatus", [sample.BACKUPS]),
  };
  readonly retention: AdminApi["retention"] = {
    setRetention: this.#one("setRetention", at(sample.RETENTIONS)),
    clearRetention: this.#one("clearRetention", at(sample.RETENTIONS)),
    planRetention: this.#one("planRetention", sample.FORECAST),
    listRetention: this.#many("listRetention", [sample.RETENTIONS]),
  };
  readonly purges: AdminApi["purges"] = {
    planPurge: this.#one("planPurge", sample.PURGE_PLAN),
    purge: this.#one("purge", sample.PURGED),
  };
  readonly nodes: AdminApi["nodes"] = {
    inviteNode: this.#one("inviteNode", sample.INVITE),
    listNodes: (options) => this.#stream("listNodes", undefined, options, [sample.NODES]),
    removeNode: this.#one("removeNode", at(sample.NODES)),
    allowNode: this.#one("allowNode", at(sample.NODES)),
  };
  readonly tokens: AdminApi["tokens"] = {
    createToken: this.#one("createToken", { token: "a.b.c", info: at(TOKENS) }),
    listTokens: this.#many("listTokens", [TOKENS]),
    inspectToken: this.#one("inspectToken", at(TOKENS)),
    revokeTokens: this.#one("revokeTokens", { revoked: 2, ended: 1 }),
    rotateTokenKeys: this.#one("rotateTokenKeys", { keyId: "key", revoked: 2, ended: 1 }),
  };
  readonly audit: AdminApi["audit"] = { listAudit: this.#many("listAudit", [AUDIT_ENTRIES]) };
  readonly status: AdminApi["status"] = {
    serviceStatus: async (options) => this.#answer("serviceStatus", undefined, options, sample.SERVICE_STATUS),
    appStatus: this.#many("appStatus", [sample.APP_STATUS]),
  };

  #one<R, T>(method: string, answer: T): (request: R, options?: CallOptions) => Promise<T> {
    return async (request, options) => this.#answer(method, request, options, answer);
  }

  #many<R, T>(method: string, items: readonly T[]): (request: R, options?: CallOptions) => AsyncIterable<T> {
    return (request, options) => this.#stream(method, request, options, items);
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
