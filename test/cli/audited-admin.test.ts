import { beforeEach, describe, expect, test } from "vitest";
import { ADMIN_ACTS, auditedAdmin } from "../../src/cli/service/audited-admin.ts";
import type { AdminApi } from "../../src/domain/admin-api.ts";
import { TidemarkError } from "../../src/domain/errors.ts";
import type { AppId, MountId } from "../../src/domain/ids.ts";
import type { AuditRecord } from "../../src/meta/audit.ts";
import { FakeAdminApi } from "../contract/fake-admin-api.ts";
import { TOKEN_REQUESTS } from "../contract/token-samples.ts";

let fake: FakeAdminApi;
let api: AdminApi;
let acts: Omit<AuditRecord, "kind">[];
let apps: Map<string, AppId>;

const options = { actor: { mountId: 0 as MountId, uid: 1000, gid: 0, pid: 1, label: "cli app create" } };
const shop = { namespace: "prod", name: "shop" };

beforeEach(() => {
  fake = new FakeAdminApi();
  acts = [];
  apps = new Map();
  const audit = { act: (record: Omit<AuditRecord, "kind">) => acts.push(record) } as never;
  api = auditedAdmin(fake, { audit, appIdOf: ({ name }) => apps.get(name) });
});

/** Calls that only look: their names say so. Whatever else the API has is an act. */
const LOOKS =
  /^(list|plan|inspect|resolve|stat$|read$|exportTree|log$|history$|diff$|find|changes$|shareDelta|serviceStatus|appStatus|backupStatus|backupNow)/;

test("every call of the API that changes something is an act", () => {
  for (const [role, known] of Object.entries(ADMIN_ACTS)) {
    const methods = Object.keys(fake[role as keyof AdminApi]);
    expect([role, [...known].sort()]).toEqual([role, methods.filter((name) => !LOOKS.test(name)).sort()]);
  }
  expect(Object.keys(ADMIN_ACTS).sort()).toEqual(Object.keys(api).sort());
});

describe("an act", () => {
  test("is noted with who, what, on what, and the app that it is about", async () => {
    apps.set("shop", "ab".repeat(16) as AppId);
    const share = { app: shop, share: { name: "uploads" } };
    await api.catalogue.deleteShare(share, options);
    expect(acts).toEqual([
      {
        who: "cli app create (uid 1000)",
        what: "catalogue.deleteShare",
        on: "prod:shop/uploads",
        why: "",
        appId: "ab".repeat(16),
      },
    ]);
  });

  test("that failed is noted with its code", async () => {
    fake.fail = new TidemarkError("FAILED_PRECONDITION", "it is mounted");
    await expect(api.catalogue.deleteApp({ app: shop })).rejects.toThrow("it is mounted");
    expect(acts).toEqual([
      { who: "service", what: "catalogue.deleteApp", on: "prod:shop", why: "FAILED_PRECONDITION" },
    ]);
  });

  test("of a restore is noted with what was put back, and where", async () => {
    apps.set("shop", "ab".repeat(16) as AppId);
    const source = { app: shop, share: { name: "uploads" }, path: Buffer.from("a") };
    const target = { ...source, path: Buffer.from("b") };
    const request = { kind: "restore", source, target, at: { kind: "now" }, mode: "mirror" } as const;
    for await (const _ of api.restores.execute(request, options));
    expect(acts[0]).toMatchObject({
      what: "restores.execute",
      on: "prod:shop/uploads/a, to prod:shop/uploads/b",
      appId: "ab".repeat(16),
    });
  });

  test("of an app that is made by it is one of that app", async () => {
    const made = api.catalogue.createApp({ ...shop, labels: {} }, options);
    apps.set("shop", "cd".repeat(16) as AppId);
    await made;
    expect(acts[0]).toMatchObject({ on: "prod:shop", appId: "cd".repeat(16) });
  });

  test("that is a stream is noted when it ends, when it fails, and when its reader leaves", async () => {
    const task = { kind: "undo", app: shop } as const;
    for await (const _ of api.restores.execute(task)) expect(acts).toHaveLength(0);
    expect(acts.at(-1)).toMatchObject({ what: "restores.execute", on: "prod:shop", why: "" });
    for await (const _ of api.restores.execute(task)) break;
    expect(acts.at(-1)).toMatchObject({ why: "CANCELLED" });
    fake.fail = new TidemarkError("NOT_FOUND", "no");
    await expect(api.restores.execute(task)[Symbol.asyncIterator]().next()).rejects.toThrow("no");
    expect(acts.at(-1)).toMatchObject({ why: "NOT_FOUND" });
    expect(acts).toHaveLength(3);
  });

  test("is noted without the secrets in it", async () => {
    const secret = "0123456789abcdef";
    const location = { url: "s3://bucket" };
    const credentials = { accessKeyId: secret, secretAccessKey: secret };
    await api.backups.addRepository({ name: "main", location, keyFile: Buffer.from(secret), credentials });
    const at = { kind: "now" } as const;
    const mount = {
      app: shop,
      share: { name: "uploads" },
      target: "/srv",
      at,
      readOnly: false,
      persist: false,
      allowSuid: false,
      allowDevices: false,
    } as const;
    await api.mounts.mount({ ...mount, locks: "kernel", token: secret });
    for (const request of TOKEN_REQUESTS) await api.tokens.createToken(request);
    expect(acts.map(({ what, on }) => `${what}: ${on}`)).toEqual([
      "backups.addRepository: name main",
      "mounts.mount: prod:shop/uploads, target /srv",
      "tokens.createToken: prod:shop@abcdef12/uploads/public/\\xff",
      "tokens.createToken: shop",
      "tokens.createToken: shop/uploads",
    ]);
    expect(JSON.stringify(acts)).not.toContain(secret);
  });
});

test("what only looks is not noted, and is passed on as it is", async () => {
  for await (const page of api.catalogue.listApps({ deleted: "with" })) expect(page.length).toBeGreaterThan(0);
  await api.status.serviceStatus();
  await api.tokens.inspectToken({ token: "a.b.c" });
  expect(acts).toEqual([]);
  expect(fake.calls.map(({ method }) => method)).toEqual(["listApps", "serviceStatus", "inspectToken"]);
});
