import { chmodSync, mkdirSync, mkdtempSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { SystemClock } from "../../src/base/clock.ts";
import type { AdminApi } from "../../src/domain/admin-api.ts";
import { ERROR_CODES, type ErrorCode, TidemarkError } from "../../src/domain/errors.ts";
import { AdminClient } from "../../src/rpc/admin-client.ts";
import { AdminServer } from "../../src/rpc/admin-server.ts";
import * as sample from "./admin-samples.ts";
import { CHANGES_REQUESTS, DELTA_REQUESTS } from "./changes-samples.ts";
import { FakeAdminApi } from "./fake-admin-api.ts";
import { TOKEN_REQUESTS } from "./token-samples.ts";

let folder: string;
let fake: FakeAdminApi;
let server: AdminServer;
let client: AdminClient;
let defects: string[];

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "tidemark-rpc-"));
  fake = new FakeAdminApi();
  defects = [];
  const onDefect = (error: TidemarkError, method: string): number => defects.push(`${method}: ${error.message}`);
  server = await AdminServer.listen({ api: fake, socketPath: join(folder, "admin.sock"), onDefect });
  client = new AdminClient({ socketPath: server.socketPath, clock: new SystemClock() });
});

afterEach(async () => {
  client.close();
  await server.close({ graceMs: 100 });
  rmSync(folder, { recursive: true });
});

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

const app = sample.PATH.app;
const share = { name: "uploads" };
const at = sample.MOMENTS.map((moment) => ({ path: sample.PATH, at: moment }));

/** Every method of the port with requests that use every field. A call gets the request it is to be seen with. */
const calls: Record<string, { requests: readonly unknown[]; call: (api: AdminApi, request: never) => unknown }> = {
  createToken: { requests: TOKEN_REQUESTS, call: (api, r) => api.tokens.createToken(r) },
  listTokens: { requests: [{ all: false }, { app, all: true }], call: (api, r) => api.tokens.listTokens(r) },
  inspectToken: { requests: [{ token: "a.b.c" }], call: (api, r) => api.tokens.inspectToken(r) },
  revokeTokens: {
    requests: [{ kind: "id", id: "abcdef" }, { kind: "app", app }, { kind: "all" }],
    call: (api, r) => api.tokens.revokeTokens(r),
  },
  rotateTokenKeys: {
    requests: [{ revokeOld: false }, { revokeOld: true }],
    call: (api, r) => api.tokens.rotateTokenKeys(r),
  },
  listAudit: {
    requests: [{ refusedOnly: true }, { since: { sec: -1, nsec: 5 }, app, refusedOnly: false }],
    call: (api, r) => api.audit.listAudit(r),
  },
  createApp: { requests: [{ ...app, labels: { tier: "web" } }], call: (api, r) => api.catalogue.createApp(r) },
  listApps: {
    requests: [
      { labels: {}, deleted: "with" },
      { namespace: "prod", labels: { a: "b" }, deleted: "only" },
    ],
    call: (api, r) => api.catalogue.listApps(r),
  },
  updateApp: {
    requests: [
      { app, name: "new" },
      { app, labels: {} },
    ],
    call: (api, r) => api.catalogue.updateApp(r),
  },
  deleteApp: { requests: [{ app }], call: (api, r) => api.catalogue.deleteApp(r) },
  undeleteApp: {
    requests: [{ app: sample.DELETED_PATH.app }, { app, name: "new" }],
    call: (api, r) => api.catalogue.undeleteApp(r),
  },
  createShare: { requests: [{ app, name: "uploads", views: "off" }], call: (api, r) => api.catalogue.createShare(r) },
  listShares: {
    requests: [{ deleted: "without" }, { app, deleted: "with" }],
    call: (api, r) => api.catalogue.listShares(r),
  },
  updateShare: {
    requests: [
      { app, share, name: "new" },
      { app, share, views: "users" },
    ],
    call: (api, r) => api.catalogue.updateShare(r),
  },
  deleteShare: { requests: [{ app, share }], call: (api, r) => api.catalogue.deleteShare(r) },
  undeleteShare: {
    requests: [
      { app, share: sample.DELETED_PATH.share },
      { app, share, name: "new" },
    ],
    call: (api, r) => api.catalogue.undeleteShare(r),
  },
  createSnapshot: {
    requests: [{ app, name: "a", syncMounts: true }],
    call: (api, r) => api.snapshots.createSnapshot(r),
  },
  listSnapshots: { requests: [{ app }], call: (api, r) => api.snapshots.listSnapshots(r) },
  deleteSnapshot: { requests: [{ app, name: "a" }], call: (api, r) => api.snapshots.deleteSnapshot(r) },
  mount: {
    requests: [sample.MOUNT_REQUEST, { ...sample.MOUNT_REQUEST, token: "a.b.c" }],
    call: (api, r) => api.mounts.mount(r),
  },
  umount: { requests: [{ target: "/srv/ü", lazy: true }], call: (api, r) => api.mounts.umount(r) },
  listMounts: { requests: [undefined], call: (api) => api.mounts.listMounts() },
  resolveMoment: {
    requests: sample.MOMENTS.map((moment) => ({ app, at: moment })),
    call: (api, r) => api.reading.resolveMoment(r),
  },
  resolve: { requests: at, call: (api, r) => api.reading.resolve(r) },
  stat: { requests: [{ path: sample.DELETED_PATH, at: { kind: "now" } }], call: (api, r) => api.reading.stat(r) },
  list: { requests: [{ path: sample.APP_PATH, at: { kind: "now" } }], call: (api, r) => api.reading.list(r) },
  read: {
    requests: [
      { ...at[0], offset: 0n },
      { ...at[0], offset: 2n ** 63n - 1n, length: 0n },
    ],
    call: (api, r) => api.reading.read(r),
  },
  exportTree: {
    requests: at.map((request, index) => ({ ...request, content: index > 0, ranges: index > 1 })),
    call: (api, r) => api.reading.exportTree(r),
  },
  log: { requests: sample.LOG_REQUESTS, call: (api, r) => api.history.log(r) },
  history: {
    requests: [{ path: sample.PATH }, { path: sample.PATH, from: at[1]?.at, to: at[2]?.at, countMax: 4 }],
    call: (api, r) => api.history.history(r),
  },
  diff: { requests: [{ path: sample.PATH, from: at[1]?.at, to: at[0]?.at }], call: (api, r) => api.history.diff(r) },
  find: {
    requests: [
      { path: sample.APP_PATH, pattern: Buffer.from("*.env"), deletedOnly: false },
      { path: sample.DELETED_PATH, pattern: Buffer.from([0xff]), deletedOnly: true },
    ],
    call: (api, r) => api.history.find(r),
  },
  changes: { requests: CHANGES_REQUESTS, call: (api, r) => api.changes.changes(r) },
  shareDelta: { requests: DELTA_REQUESTS, call: (api, r) => api.changes.shareDelta(r) },
  addRepository: {
    requests: [
      { name: "main", location: { url: "/backup" }, keyFile: Buffer.from("key") },
      {
        name: "main",
        location: { url: "s3://b/p", endpoint: "http://x", region: "r" },
        keyFile: Buffer.from([0, 255]),
        credentials: { accessKeyId: "a", secretAccessKey: "s", sessionToken: "t" },
      },
    ],
    call: (api, r) => api.backups.addRepository(r),
  },
  removeRepository: { requests: [{ name: "main" }], call: (api, r) => api.backups.removeRepository(r) },
  listRepositories: { requests: [undefined], call: (api) => api.backups.listRepositories() },
  enableBackup: {
    requests: [{ app, repository: "main", everyMs: 5000, onBacklog: "stop" }],
    call: (api, r) => api.backups.enableBackup(r),
  },
  disableBackup: { requests: [{ app }], call: (api, r) => api.backups.disableBackup(r) },
  backupNow: { requests: [{ app }], call: (api, r) => api.backups.backupNow(r) },
  repairBackup: {
    requests: [
      { app, readPart: 0.1, dryRun: true },
      { app, readPart: 1, dryRun: false },
    ],
    call: (api, r) => api.backups.repairBackup(r),
  },
  backupStatus: { requests: [{}, { app }], call: (api, r) => api.backups.backupStatus(r) },
  setRetention: {
    requests: [{ app, policy: sample.FORECAST.policy }],
    call: (api, r) => api.retention.setRetention(r),
  },
  clearRetention: { requests: [{ app }], call: (api, r) => api.retention.clearRetention(r) },
  planRetention: {
    requests: [{ app }, { app, policy: sample.FORECAST.policy }],
    call: (api, r) => api.retention.planRetention(r),
  },
  listRetention: { requests: [{}, { app }], call: (api, r) => api.retention.listRetention(r) },
  planPurge: { requests: [sample.PURGE_ORDER], call: (api, r) => api.purges.planPurge(r) },
  purge: { requests: [{ ...sample.PURGE_ORDER, reason: "order 4711" }], call: (api, r) => api.purges.purge(r) },
  plan: { requests: sample.TASKS, call: (api, r) => api.restores.plan(r) },
  execute: { requests: sample.TASKS, call: (api, r) => api.restores.execute(r) },
  listRestores: { requests: [{ app, countMax: 5 }], call: (api, r) => api.restores.listRestores(r) },
  inviteNode: { requests: [{ name: "web1", expiresMs: 3_600_000 }], call: (api, r) => api.nodes.inviteNode(r) },
  listNodes: { requests: [undefined], call: (api) => api.nodes.listNodes() },
  removeNode: { requests: [{ name: "web1" }], call: (api, r) => api.nodes.removeNode(r) },
  allowNode: { requests: [{ name: "web1", oldCertificates: true }], call: (api, r) => api.nodes.allowNode(r) },
  serviceStatus: { requests: [undefined], call: (api) => api.status.serviceStatus() },
  appStatus: { requests: [{ withDeleted: true }], call: (api, r) => api.status.appStatus(r) },
};

async function outcome(answer: unknown): Promise<unknown> {
  const value = answer as object;
  return Symbol.asyncIterator in value ? collect(value as AsyncIterable<unknown>) : value;
}

describe("each method", () => {
  test("of the port is in the table", () => {
    const roles = [
      fake.catalogue,
      fake.snapshots,
      fake.mounts,
      fake.reading,
      fake.history,
      fake.changes,
      fake.restores,
      fake.backups,
      fake.retention,
      fake.purges,
      fake.nodes,
      fake.tokens,
      fake.audit,
      fake.status,
    ];
    const methods = roles.flatMap((role) => Object.keys(role));
    expect(Object.keys(calls).sort()).toEqual(methods.sort());
  });

  test.each(Object.entries(calls))(
    "%s carries its request and its answer unchanged",
    async (method, { requests, call }) => {
      for (const request of requests) {
        const direct = await outcome(await call(fake, request as never));
        const carried = await outcome(await call(client, request as never));
        expect(carried).toStrictEqual(direct);
        expect(fake.calls.at(-1)?.method).toBe(method);
        expect(fake.calls.at(-1)?.request).toStrictEqual(request);
      }
    },
  );
});

describe("failures", () => {
  test.each(Object.keys(ERROR_CODES) as ErrorCode[])("%s arrives with its message and data", async (code) => {
    fake.fail = new TidemarkError(code, `größe ${code}`, { data: { count: 3, name: "ü", live: true } });
    const expected = { code, message: `größe ${code}`, data: { count: 3, name: "ü", live: true } };
    await expect(client.catalogue.deleteApp({ app })).rejects.toMatchObject(expected);
    await expect(collect(client.catalogue.listApps({ deleted: "with" }))).rejects.toMatchObject(expected);
  });

  test("a defect arrives as INTERNAL and is reported to the service", async () => {
    fake.fail = new TypeError("x is not a function");
    await expect(client.status.serviceStatus()).rejects.toMatchObject({ code: "INTERNAL" });
    expect(defects).toEqual(["/tidemark.v1.StatusService/ServiceStatus: a defect in Tidemark: x is not a function"]);
  });

  test("a very long message arrives, cut", async () => {
    fake.fail = new TidemarkError("NOT_FOUND", "ü".repeat(100_000));
    await expect(client.status.serviceStatus()).rejects.toMatchObject({ code: "NOT_FOUND", message: "ü".repeat(4096) });
  });

  test("after some pages a stream can still fail", async () => {
    fake.stream = async function* () {
      yield [sample.ENTRY];
      throw new TidemarkError("DATA_DAMAGED", "segment 3");
    };
    const seen: unknown[] = [];
    const reading = async (): Promise<void> => {
      for await (const page of client.reading.list({ path: sample.PATH, at: { kind: "now" } })) seen.push(page);
    };
    await expect(reading()).rejects.toMatchObject({ code: "DATA_DAMAGED" });
    expect(seen).toHaveLength(1);
  });

  test("no service is UNAVAILABLE, with what to do", async () => {
    const lonely = new AdminClient({ socketPath: join(folder, "none.sock"), clock: new SystemClock() });
    await expect(lonely.status.serviceStatus()).rejects.toMatchObject({ code: "UNAVAILABLE" });
    await expect(lonely.status.serviceStatus()).rejects.toThrow("tidemark serve");
    lonely.close();
  });
});

describe("a stream", () => {
  test("of 100,000 entries arrives whole and in order", async () => {
    const page = Array.from({ length: 1000 }, () => sample.ENTRY);
    fake.stream = async function* () {
      for (let index = 0; index < 100; index += 1) yield page;
    };
    let count = 0;
    for await (const entries of client.reading.list({ path: sample.PATH, at: { kind: "now" } }))
      count += entries.length;
    expect(count).toBe(100_000);
  });

  test("runs at the reader's pace: a reader that stops is not run ahead of", async () => {
    let made = 0;
    const piece = Buffer.alloc(1024 * 1024);
    fake.stream = async function* () {
      for (; made < 1000; made += 1) yield piece;
    };
    const stream = client.reading.read({ ...sampleAt(), offset: 0n })[Symbol.asyncIterator]();
    await stream.next();
    // A round trip on the same connection: what the transport would have sent by itself has been asked for by now.
    for (let index = 0; index < 20; index += 1) await client.status.serviceStatus();
    expect(made).toBeLessThan(100);
    await stream.return?.();
  });

  test("that the reader leaves is cancelled in the service", async () => {
    const cancelled = Promise.withResolvers<void>();
    fake.stream = async function* (options) {
      options?.signal?.addEventListener("abort", () => cancelled.resolve());
      yield [sample.ENTRY];
      await cancelled.promise;
    };
    for await (const _ of client.reading.list(sampleAt())) break;
    await cancelled.promise;
  });

  test("ends with CANCELLED when its signal fires", async () => {
    const controller = new AbortController();
    fake.stream = async function* (options) {
      yield [sample.ENTRY];
      await new Promise((resolve) => options?.signal?.addEventListener("abort", resolve));
    };
    const following = async (): Promise<void> => {
      for await (const _ of client.reading.list(sampleAt(), { signal: controller.signal })) controller.abort();
    };
    await expect(following()).rejects.toMatchObject({ code: "CANCELLED" });
  });

  test("that was cancelled before it began is not sent", async () => {
    await expect(collect(client.reading.list(sampleAt(), { signal: AbortSignal.abort() }))).rejects.toMatchObject({
      code: "CANCELLED",
    });
    expect(fake.calls).toEqual([]);
  });
});

function sampleAt() {
  return { path: sample.PATH, at: { kind: "now" } as const };
}

test("who asks is told to the service", async () => {
  await client.catalogue.deleteApp({ app }, { actor: sample.ACTOR });
  expect(fake.calls.at(-1)?.options?.actor).toEqual(sample.ACTOR);
  await client.catalogue.deleteApp({ app });
  expect(fake.calls.at(-1)?.options?.actor).toBeUndefined();
});

describe("the socket", () => {
  const listen = (socketPath: string) => AdminServer.listen({ api: fake, socketPath, onDefect: () => {} });

  test("is for its owner only", () => {
    expect(statSync(server.socketPath).mode & 0o777).toBe(0o600);
  });

  test("that a dead service left is replaced", async () => {
    const path = join(folder, "stale.sock");
    // Closing unlinks the name it was bound to; under another name the socket stays behind, as after kill -9.
    const bound = join(folder, "bound.sock");
    await new Promise<void>((resolve) => {
      const dead = createServer().listen(bound, () => {
        renameSync(bound, path);
        dead.close(() => resolve());
      });
    });
    const second = await listen(path);
    const other = new AdminClient({ socketPath: path, clock: new SystemClock() });
    expect((await other.status.serviceStatus()).version).toBe("0.1.0");
    other.close();
    await second.close({ graceMs: 100 });
  });

  test("of a living service is left alone", async () => {
    await expect(listen(server.socketPath)).rejects.toMatchObject({ code: "FAILED_PRECONDITION" });
    expect((await client.status.serviceStatus()).version).toBe("0.1.0");
  });

  test("does not replace what is no socket", async () => {
    const path = join(folder, "file.sock");
    writeFileSync(path, "precious");
    await expect(listen(path)).rejects.toThrow("in the way");
    expect(statSync(path).size).toBe(8);
  });

  test("works in a folder whose path is longer than the kernel takes", async () => {
    const deep = join(folder, "d".repeat(100), "e".repeat(100));
    mkdirSync(deep, { recursive: true });
    chmodSync(deep, 0o700);
    const second = await listen(join(deep, "admin.sock"));
    const other = new AdminClient({ socketPath: second.socketPath, clock: new SystemClock() });
    expect((await other.status.serviceStatus()).version).toBe("0.1.0");
    other.close();
    await second.close({ graceMs: 100 });
  });
});
