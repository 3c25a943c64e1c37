import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { ManualClock } from "../../../test/model/manual-clock.ts";
import { silentLog } from "../../base/log.ts";
import type { RetentionStatus } from "../../domain/admin-retention.ts";
import type { AppId, Lsn } from "../../domain/ids.ts";
import type { RetentionPolicy } from "../../domain/retention.ts";
import { MemoryKv } from "../../kv/memory-kv.ts";
import { SERVICE_CONTEXT } from "../../meta/open-app.ts";
import { MetadataService } from "../../meta/service.ts";
import { Retentions } from "./retentions.ts";

const POLICY: RetentionPolicy = { continuousMs: 86_400_000, hourly: 24, daily: 7, weekly: 4, monthly: 12, yearly: 1 };
const SHOP = { namespace: "default", name: "shop" };
const HOUR_NS = 3_600_000_000_000;

let folder: string;
let kv: MemoryKv;
let clock: ManualClock;
let service: MetadataService;
let retentions: Retentions;
let changes: number;

beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "tidemark-retentions-"));
  kv = new MemoryKv();
  clock = new ManualClock();
  await open();
  const id = "1".repeat(32) as AppId;
  await service.open(service.catalogue.createApp({ id, ...SHOP, labels: {} }, SERVICE_CONTEXT));
});

afterEach(async () => {
  await service.close();
  await rm(folder, { recursive: true });
});

async function open(): Promise<void> {
  service = await MetadataService.open({ folder, kv, clock, log: silentLog, newId: () => "f".repeat(32) });
  changes = 0;
  const plan = { floor: 5 as Lsn, floorTime: clock.now(), added: [], removed: [], kept: [] };
  const keeper = { retentionChanged: () => void changes++, planRetention: async () => plan };
  retentions = new Retentions({ service, keeper: () => keeper, clock, log: silentLog });
}

async function list(): Promise<RetentionStatus[]> {
  const all: RetentionStatus[] = [];
  for await (const page of retentions.listRetention({})) all.push(...page);
  return all;
}

describe("policies of retention", () => {
  test("are there again after a restart, and applied at once", async () => {
    const app = service.find(SHOP);
    expect(retentions.policyOf(app)).toBeUndefined();
    expect(await retentions.setRetention({ app: SHOP, policy: POLICY })).toMatchObject({ policy: POLICY, floor: 0 });
    expect(changes).toBe(1);
    await service.close();
    await open();
    expect(retentions.policyOf(service.find(SHOP))).toEqual(POLICY);
    expect(await list()).toMatchObject([{ app: SHOP, policy: POLICY, momentCount: 0 }]);
    await retentions.clearRetention({ app: SHOP });
    expect(await list()).toEqual([{ app: { id: app.id, ...SHOP }, floor: 0, momentCount: 0 }]);
    await service.close();
    await open();
    expect(retentions.policyOf(service.find(SHOP))).toBeUndefined();
  });

  test("that make no sense are refused", async () => {
    for (const change of [{ hourly: -1 }, { daily: 1.5 }, { weekly: 10_001 }, { continuousMs: 59_999 }]) {
      const policy = { ...POLICY, ...change };
      await expect(retentions.setRetention({ app: SHOP, policy })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    }
    expect(changes).toBe(0);
  });

  test("can be planned before they are set; without any there is nothing to plan", async () => {
    await expect(retentions.planRetention({ app: SHOP })).rejects.toMatchObject({ code: "FAILED_PRECONDITION" });
    expect(await retentions.planRetention({ app: SHOP, policy: POLICY })).toMatchObject({
      before: { floor: 0 },
      after: { floor: 5 },
    });
    expect(changes).toBe(0);
  });

  test("go by a time that survives a restart: a clock that jumped ahead meanwhile is not believed", async () => {
    await retentions.setRetention({ app: SHOP, policy: POLICY });
    clock.step(2 * HOUR_NS);
    const then = retentions.now();
    expect(then).toEqual(clock.now());
    await service.close();
    clock.step(2000 * HOUR_NS);
    await open();
    expect(retentions.now().sec).toBe(then.sec);
    // Nor for an app's own admin: the time is that of all apps.
    await retentions.setRetention({ app: SHOP, policy: POLICY }, { underToken: true });
    expect(retentions.now().sec).toBe(then.sec);
    await retentions.setRetention({ app: SHOP, policy: POLICY });
    expect(retentions.now()).toEqual(clock.now());
  });
});
