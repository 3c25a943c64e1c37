import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { BlobStore } from "../../src/blob/blob-store.ts";
import type { Lsn } from "../../src/domain/ids.ts";
import { CHAIN_START } from "../../src/journal/chain.ts";
import { APP } from "../../src/repository/packs-fixture.ts";
import { Repository } from "../../src/repository/repository.ts";
import { checkpointOf, collect, namesIn, RecordSource, TestShipper } from "../../src/repository/seals-fixture.ts";
import { openTestBlobs } from "../support/open-test-blobs.ts";
import { S3Server } from "../support/s3-server.ts";
import { lacksTools } from "../support/test-tool.ts";

const secret = { kind: "key-file", key: Buffer.alloc(32, 9) } as const;
const START = { verify: "chain", from: { lsn: 0 as Lsn, chain: CHAIN_START } } as const;
const DAY_MS = 86_400_000;

describe.skipIf(lacksTools("versitygw"))("a repository in a bucket", () => {
  let server: S3Server;
  let bucketCount = 0;
  let place: string;
  let store: BlobStore;

  beforeAll(async () => {
    server = await S3Server.start();
  });
  afterAll(async () => server?.stop());
  beforeEach(async () => {
    bucketCount += 1;
    place = `${await server.createBucket(`bucket-${bucketCount}`, "locks")}/prefix`;
    store = await openTestBlobs(server, place);
    return () => store.close();
  });

  test("made by several at once is made once", async () => {
    const secrets = [1, 2, 3].map((byte) => ({ kind: "key-file", key: Buffer.alloc(32, byte) }) as const);
    const made = await Promise.allSettled(secrets.map((each) => Repository.init({ store, secret: each })));
    expect(made.filter(({ status }) => status === "fulfilled").length).toBe(1);
    for (const each of made)
      if (each.status === "rejected") expect(each.reason).toMatchObject({ code: "ALREADY_EXISTS" });
  });

  test("takes several services at once without losing what it called protected", async () => {
    const app = await (await Repository.init({ store, secret })).createApp(APP);
    const source = new RecordSource(1);
    const shippers = Array.from({ length: 4 }, () => new TestShipper(app, source));
    await Promise.all(shippers.map((shipper) => shipper.claim()));
    expect(shippers.map(({ epoch }) => epoch).sort()).toEqual([1, 2, 3, 4]);
    // Each looks at what is there; the newest goes on, the others are fenced after their next seal.
    for (const shipper of shippers) await shipper.look();
    const newest = shippers.find(({ epoch }) => epoch === 4) ?? expect.fail();
    expect([await newest.ship(), await newest.ship()]).toEqual([true, true]);
    for (const shipper of shippers.filter((each) => each !== newest))
      await expect(shipper.ship()).rejects.toMatchObject({ data: { reason: "fenced" } });
    const seals = await collect(app.seals(START));
    expect(seals.at(-1)?.head.to).toBe(newest.protectedLsn);
  });

  test("is read through checkpoints and runs, and pruned", async () => {
    const repository = await Repository.init({ store, secret });
    const app = await repository.createApp(APP);
    const source = new RecordSource(2);
    const shipper = await new TestShipper(app, source).start();
    for (let count = 0; count < 3; count++) await shipper.ship();
    const rows = Array.from({ length: 5000 }, (_, index) => ({
      key: Buffer.from(`R${String(index).padStart(6, "0")}`),
      value: Buffer.from(`value ${index * 7919}`),
    }));
    const runs = [await app.writeRun([rows], { partBytesTarget: 20_000, blockBytesTarget: 2000 })];
    await app.publishCheckpoint(checkpointOf(source, { epoch: 1, sequence: 2, to: 6, runs }));

    const again = await (await Repository.open({ store, secret })).openApp(APP);
    const latest = (await again.latestCheckpoint()) ?? expect.fail();
    const reader = again.openRun(latest.checkpoint.runs[0] ?? expect.fail());
    expect((await collect(reader.rows())).flat()).toEqual(rows);
    expect(await reader.get(Buffer.from("R001234"))).toEqual(rows[1234]?.value);
    const { epoch, sequence, to, chain } = latest.checkpoint;
    const from = { lsn: to, chain: Buffer.from(chain, "hex") };
    const behind = await collect(again.seals({ after: { epoch, sequence }, verify: "chain", from }));
    expect(behind.map(({ head }) => head.to)).toEqual([9]);

    const old = app.sealName({ epoch: 1, sequence: 1 });
    await app.writeTombs(1, { names: [old], reason: "retention" });
    const stillNeeded = async () => new Set<string>();
    expect(await app.executeTombs({ graceMs: DAY_MS, stillNeeded })).toMatchObject({ deleted: 0, waiting: 1 });
    expect(await app.executeTombs({ graceMs: -DAY_MS, stillNeeded })).toMatchObject({ deleted: 1, waiting: 0 });
    expect((await namesIn(store, app.prefix)).filter((name) => name === old)).toEqual([]);
    expect((await again.latestCheckpoint())?.name).toBe(latest.name);
  });

  test("under locks survives somebody who deletes everything: it is read as it was", { timeout: 60_000 }, async () => {
    const app = await (await Repository.init({ store, secret, lockDays: 3 })).createApp(APP);
    const source = new RecordSource(3);
    const shipper = await new TestShipper(app, source).start();
    await shipper.ship();
    const names = await namesIn(store);
    for (const name of names)
      expect((await store.stat(name))?.lockedUntilMs, name).toBeGreaterThan((await store.timeMs()) + 2 * DAY_MS);
    const nowMs = await store.timeMs();
    // Versions have a resolution of a second, and the server's Date is up to a second old.
    await expect.poll(() => store.timeMs(), { interval: 100, timeout: 10_000 }).toBeGreaterThanOrEqual(nowMs + 3000);
    await store.delete(names).catch(() => {});
    const view = await openTestBlobs(server, place, { s3: { atVersionTimeMs: nowMs + 2000 } });
    const seen = await (await Repository.open({ store: view, secret })).openApp(APP);
    expect((await collect(seen.seals(START))).at(-1)?.head.to).toBe(3);
    await view.close();
  });
});
