import { beforeEach, describe, expect, test } from "vitest";
import type { AppInfo } from "../../src/domain/admin-catalogue.ts";
import { TidemarkError } from "../../src/domain/errors.ts";
import type { AppId } from "../../src/domain/ids.ts";
import type { AppRef } from "../../src/domain/share-path.ts";
import * as sample from "../contract/admin-samples.ts";
import { FakeAdminApi } from "../contract/fake-admin-api.ts";
import { cli } from "./harness.ts";

/** A name without a namespace means the default one, else the only namespace that has an app of that name. */

let api: FakeAdminApi;
let apps: AppInfo[];
let shared: AppRef[];

beforeEach(() => {
  api = new FakeAdminApi();
  apps = [];
  shared = [];
  api.catalogue.listApps = async function* () {
    yield apps;
  };
  api.catalogue.createShare = async ({ app }) => {
    shared.push(app);
    if (
      !apps.some((each) => each.deletedAt === undefined && each.namespace === app.namespace && each.name === app.name)
    )
      throw new TidemarkError("NOT_FOUND", "there is no such app", { data: { missing: "app" } });
    const [share] = sample.SHARES;
    if (share === undefined) throw new Error("sample");
    return share;
  };
});

function has(namespace: string, name: string, options: { deleted?: boolean } = {}): void {
  const [first] = sample.APPS;
  if (first === undefined) throw new Error("sample");
  const { deletedAt: _deletedAt, ...live } = first;
  const made = { ...live, id: `${apps.length}`.padStart(32, "0") as AppId, namespace, name };
  apps.push(options.deleted === true ? { ...made, deletedAt: { sec: 1, nsec: 0 } } : made);
}

const create = () => cli(["share", "create", "shop/uploads"], { api });

describe("a name without a namespace", () => {
  test("is the default one's when it has it, whoever else does", async () => {
    has("default", "shop");
    has("prod", "shop");
    expect(await create()).toMatchObject({ code: 0, stderr: "" });
    expect(shared).toEqual([{ namespace: "default", name: "shop" }]);
  });

  test("is that of the only namespace that has it, and that is said", async () => {
    has("prod", "shop");
    has("test", "shop", { deleted: true });
    has("test", "other");
    const { code, stderr } = await create();
    expect(code).toBe(0);
    expect(stderr).toContain("prod:shop");
    expect(shared.at(-1)).toEqual({ namespace: "prod", name: "shop" });
  });

  test("names the choices when there are several", async () => {
    has("prod", "shop");
    has("test", "shop");
    const { code, stderr } = await create();
    expect(code).toBe(3);
    expect(stderr).toContain("did you mean prod:shop or test:shop?");
    expect(shared).toHaveLength(1);
  });

  test("is not found when nobody has it, or the default one had", async () => {
    expect(await create()).toMatchObject({ code: 3, stderr: expect.stringContaining("there is no such app") });
    has("default", "shop", { deleted: true });
    has("prod", "shop");
    expect(await create()).toMatchObject({ code: 3, stderr: expect.stringContaining("there is no such app") });
  });
});

test("a namespace that was given is not searched beyond", async () => {
  has("prod", "shop");
  const { code } = await cli(["share", "create", "test:shop/uploads"], { api });
  expect(code).toBe(3);
  expect(shared).toHaveLength(1);
});

test("a missing share is not looked for elsewhere", async () => {
  has("prod", "shop");
  api.catalogue.createShare = async () => {
    throw new TidemarkError("NOT_FOUND", "there is no such share");
  };
  expect(await create()).toMatchObject({ code: 3, stderr: "tidemark: there is no such share\n" });
});
