import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { silentLog } from "../base/log.ts";
import { ManualTimers } from "../base/timers.ts";
import { BlobError } from "../blob/blob-error.ts";
import type { BlobStore } from "../blob/blob-store.ts";
import { DirectoryBlobs } from "../blob/directory-blobs.ts";
import { RetryingBlobs } from "../blob/retrying-blobs.ts";
import { FaultyBlobs, flippedAt, replacedBy, withheld } from "../blob/testing/faulty-blobs.ts";
import { MemoryBlobs } from "../blob/testing/memory-blobs.ts";
import { TidemarkError } from "../domain/errors.ts";
import type { Lsn } from "../domain/ids.ts";
import { CHAIN_START } from "../journal/chain.ts";
import { seededRandom, testSeed } from "../journal/journal-fixture.ts";
import { isFencedError } from "./fencing.ts";
import {
  appIn,
  checkpointOf,
  collect,
  headOf,
  memoryStore,
  namesIn,
  RecordSource,
  TestShipper,
} from "./seals-fixture.ts";

const damaged = (name: string) =>
  expect.objectContaining({ code: "REPOSITORY_DAMAGED", data: expect.objectContaining({ object: name }) });

const START = { verify: "chain", from: { lsn: 0 as Lsn, chain: CHAIN_START } } as const;

describe.each(["memory", "directory"])("in a %s", (kind) => {
  let folder: string;
  let store: BlobStore;
  let faulty: FaultyBlobs;

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), "tidemark-seals-"));
    store = kind === "memory" ? new MemoryBlobs() : await DirectoryBlobs.open(folder, { create: true });
    faulty = new FaultyBlobs(store);
  });

  afterEach(async () => {
    await store.close();
    rmSync(folder, { recursive: true });
  });

  const shipper = (source: RecordSource) => new TestShipper(appIn(faulty), source);

  test("what was shipped over several starts is read back in order, with the chain", async () => {
    const source = new RecordSource(1);
    for (const seals of [2, 1, 3]) {
      const service = await shipper(source).start();
      for (let count = 0; count < seals; count++) expect(await service.ship(4)).toBe(true);
    }
    const app = appIn(store);
    const seals = await collect(app.seals(START));
    expect(seals.map(({ head }) => [head.epoch, head.sequence, head.from, head.to])).toEqual([
      [1, 1, 1, 4],
      [1, 2, 5, 8],
      [2, 1, 9, 12],
      [3, 1, 13, 16],
      [3, 2, 17, 20],
      [3, 3, 21, 24],
    ]);
    expect(seals.flatMap((seal) => [...seal.records()])).toEqual(source.records);
    expect((await app.head()).seal).toMatchObject({
      epoch: 3,
      sequence: 3,
      hash: seals.at(-1)?.hash,
      head: { to: 24 },
    });
    const { head, hash } = seals[2] ?? expect.fail();
    const after = { epoch: 2, sequence: 1, hash: hash.toString("hex") };
    const from = { lsn: head.to, chain: Buffer.from(head.chain, "hex") };
    expect((await collect(app.seals({ after, verify: "chain", from }))).length).toBe(3);
    expect((await app.line({ after })).head).toEqual({ epoch: 3, sequence: 3 });
  });

  test("an app without seals has no head", async () => {
    expect(await appIn(store).head()).toEqual({ seal: null, anomalies: [] });
    expect(await collect(appIn(store).seals(START))).toEqual([]);
  });

  test("every seal that is withheld is noticed by who reads, and told of", async () => {
    const source = new RecordSource(2);
    for (const _ of [1, 2]) {
      const service = await shipper(source).start();
      for (let count = 0; count < 3; count++) await service.ship();
    }
    const app = appIn(faulty);
    const names = await namesIn(store, `${app.prefix}seals/`);
    for (const [index, name] of names.slice(0, -1).entries()) {
      faulty.heal();
      faulty.alter(name, withheld());
      await expect(collect(app.seals(START)), name).rejects.toMatchObject({ code: "REPOSITORY_DAMAGED" });
      const { anomalies } = await app.line();
      // That the very first one is missing only who knows that nothing was pruned can tell: the walk above.
      if (index > 0) expect(anomalies.length, name).toBeGreaterThan(0);
    }
  });

  test("that the newest seals are withheld is noticed by who knows one of them", async () => {
    const source = new RecordSource(3);
    const service = await shipper(source).start();
    for (let count = 0; count < 3; count++) await service.ship();
    const app = appIn(faulty);
    faulty.alter(app.sealName({ epoch: 1, sequence: 3 }), withheld());
    expect((await app.line()).contains({ epoch: 1, sequence: 3 })).toBe(false);
  });

  test("a seal in another's place, an older one under its name and a damaged one are refused", async () => {
    const source = new RecordSource(4);
    const service = await shipper(source).start();
    for (let count = 0; count < 4; count++) await service.ship();
    const app = appIn(faulty);
    const names = await namesIn(store, `${app.prefix}seals/`);
    const [second = "", third = ""] = names.slice(1);
    faulty.alter(second, replacedBy(await store.get(third)));
    await expect(collect(app.seals(START))).rejects.toThrow(damaged(second));
    faulty.heal();
    faulty.alter(third, flippedAt(-30));
    await expect(collect(app.seals(START))).rejects.toThrow(damaged(third));
    faulty.heal();
    expect((await collect(app.seals(START))).length).toBe(4);
  });

  test("a seal written again under its name by somebody with the key breaks the line", async () => {
    const source = new RecordSource(5);
    const service = await shipper(source).start();
    await service.ship();
    await service.ship();
    const app = appIn(faulty);
    const name = app.sealName({ epoch: 1, sequence: 1 });
    const head = headOf(source, { epoch: 1, sequence: 1, previous: null, from: 1, to: 3 });
    const other = appIn(new MemoryBlobs());
    await other.publishSeal(head, source.records.slice(0, 3));
    faulty.alter(name, replacedBy(await other.store.get(name)));
    await expect(collect(app.seals(START))).rejects.toThrow(damaged(app.sealName({ epoch: 1, sequence: 2 })));
  });

  test("the head passes over a newest seal that is damaged, and says so", async () => {
    const source = new RecordSource(6);
    for (const _ of [1, 2]) await (await shipper(source).start()).ship();
    const app = appIn(faulty);
    faulty.alter(app.sealName({ epoch: 2, sequence: 1 }), flippedAt(100));
    const { seal, anomalies } = await app.head();
    expect(seal).toMatchObject({ epoch: 1, sequence: 1 });
    expect(anomalies.map(({ code }) => code)).toContain("SEAL_DAMAGED");
  });

  test("a line never begins anew beside seals that are there, only because none of them opens", async () => {
    const source = new RecordSource(60);
    await (await shipper(source).start()).ship();
    const app = appIn(faulty);
    faulty.alter(app.sealName({ epoch: 1, sequence: 1 }), flippedAt(100));
    const blind = await shipper(new RecordSource(61)).start();
    expect(blind.previous).toBeNull();
    await expect(blind.ship()).rejects.toMatchObject({ code: "FAILED_PRECONDITION", data: { reason: "seals-there" } });
    faulty.heal();
    expect((await app.head()).seal?.head.to).toBe(3);
    // With a base it is meant.
    blind.source.growTo(5);
    await app.publishCheckpoint(checkpointOf(blind.source, { epoch: 2, sequence: 0, to: 2 }));
    const head = headOf(blind.source, { epoch: 2, sequence: 1, previous: null, from: 3, to: 5 });
    await app.publishSeal(head, blind.source.records.slice(2, 5));
    expect((await app.line()).anomalies.map(({ code }) => code)).toEqual(["LINE_RESTARTED"]);
  });

  test("a store that can't be reached is not taken for damage", async () => {
    await (await shipper(new RecordSource(7)).start()).ship();
    for (const operation of ["get", "list", "list-page"] as const) {
      faulty.inject({ operation, effect: { kind: "fail" } });
      await expect(appIn(faulty).head()).rejects.toMatchObject({ code: "BLOB_UNREACHABLE" });
    }
  });

  test("an older epoch's service that goes on is fenced: its seals are never called protected, and readers ignore them", async () => {
    const source = new RecordSource(8);
    const old = await shipper(source).start();
    expect(await old.ship()).toBe(true);
    const other = await shipper(new RecordSource(80)).start();
    await other.adopt();
    expect(await other.ship()).toBe(true);
    expect(await old.ship()).toBe(false);
    expect(await old.ship()).toBe(false);
    const app = appIn(store);
    const seals = await collect(app.seals(START));
    expect(seals.map(({ head }) => head.epoch)).toEqual([1, 2]);
    expect((await app.line()).anomalies.map(({ code }) => code)).toEqual(["SEAL_FENCED_LATE"]);
    expect([old.protectedLsn, other.protectedLsn]).toEqual([3, 6]);
  });

  test("epochs taken at once are different ones", async () => {
    const app = appIn(store);
    const writers = Array.from({ length: 10 }, (_, index) => app.claimEpoch({ host: `h${index}`, service: "s" }));
    const epochs = (await Promise.all(writers)).sort((left, right) => left - right);
    expect(epochs).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    expect([await app.isFenced(9), await app.isFenced(10)]).toEqual([true, false]);
  });

  test("an epoch is taken above seals whose epoch object was lost", async () => {
    const service = await shipper(new RecordSource(9)).start();
    await service.ship();
    await store.delete(await namesIn(store, `${service.app.prefix}epochs/`));
    expect(await service.app.claimEpoch({ host: "h", service: "s" })).toBe(2);
  });

  test("a name that is taken by another seal means that somebody else ships", async () => {
    const source = new RecordSource(10);
    const service = await shipper(source).start();
    await service.ship();
    const head = headOf(source, { epoch: 1, sequence: 1, previous: null, from: 1, to: 3 });
    const error = await service.app.publishSeal(head, source.records.slice(0, 3)).catch((failure: unknown) => failure);
    expect(isFencedError(error)).toBe(true);
  });

  test("foreign names among the seals are told of and passed over", async () => {
    await (await shipper(new RecordSource(11)).start()).ship();
    const app = appIn(store);
    await store.put(`${app.prefix}seals/README`, [Buffer.from("hello")]);
    const { anomalies, head } = await app.line();
    expect([anomalies.map(({ code }) => code), head]).toEqual([["NAME_FOREIGN"], { epoch: 1, sequence: 1 }]);
  });
});

test("services in any interleaving: what one of them called protected is what readers see in the end", async () => {
  const random = seededRandom(testSeed("fencing"));
  let claimCount = 0;
  for (let round = 0; round < 25; round++) {
    const app = appIn(memoryStore().store);
    const services: { shipper: TestShipper; state: "claimed" | "ready" | "published" | "fenced" }[] = [];
    const claims = new Map<number, string | undefined>();
    for (let step = 0; step < 60; step++) {
      const service = services[Math.floor(random() * services.length)];
      if (service === undefined || random() < 0.1) {
        const shipper = new TestShipper(app, new RecordSource(round * 100 + step, 500));
        await shipper.claim();
        services.push({ shipper, state: "claimed" });
      } else if (service.state === "claimed") {
        await service.shipper.adopt();
        await service.shipper.look();
        service.state = "ready";
      } else if (service.state === "ready") {
        service.state = "published";
        await service.shipper.publish(1 + Math.floor(random() * 3)).catch((error: unknown) => {
          const isBeaten = error instanceof TidemarkError && error.data["reason"] === "seals-there";
          if (!isFencedError(error) && !isBeaten) throw error;
          service.state = "fenced";
        });
      } else if (service.state === "published") {
        service.state = (await service.shipper.confirm()) ? "ready" : "fenced";
        const { protectedLsn, source } = service.shipper;
        if (service.state === "ready") claims.set(protectedLsn, source.chain[protectedLsn]?.toString("hex"));
      }
    }
    claimCount += claims.size;
    const seals = await collect(app.seals(START));
    const chains = new Map<number, string>(seals.map(({ head }) => [head.to, head.chain]));
    for (const [lsn, chain] of claims) expect(chains.get(lsn), `round ${round}, LSN ${lsn}`).toBe(chain);
  }
  expect(claimCount).toBeGreaterThan(30);
});

test("answers that are lost on the way are not taken for another service's writing", async () => {
  const faulty = new FaultyBlobs(memoryStore().store);
  const timers = new ManualTimers();
  const app = appIn(new RetryingBlobs(faulty, { timers, random: () => 0, log: silentLog }));
  const patient = async <T>(work: Promise<T>): Promise<T> => {
    let isDone = false;
    const done = work.finally(() => {
      isDone = true;
    });
    done.catch(() => {});
    while (!isDone) {
      await new Promise((resolve) => setImmediate(resolve));
      timers.advance(60_000);
    }
    return await done;
  };
  const lose = () => faulty.inject({ operation: "put", effect: { kind: "lose-answer" } });
  const shipper = new TestShipper(app, new RecordSource(30));
  lose();
  await patient(shipper.claim());
  expect(shipper.epoch).toBe(1);
  await shipper.look();
  lose();
  expect(await patient(shipper.ship())).toBe(true);
  expect((await app.head()).seal).toMatchObject({ hash: shipper.previous?.hash });
});

test("where a store can't refuse what is there, the last one to take an epoch has it", async () => {
  const store = new OverwritingBlobs();
  const [one, two] = [appIn(store), appIn(store)];
  // Both looked when nothing was there; both write.
  const epochs = await Promise.all([one, two].map((app) => app.claimEpoch({ host: "h", service: "s" })));
  expect(new Set(epochs).size).toBe(2);
});

/** A store that looks before it writes, as one without conditional puts does at best. */
class OverwritingBlobs extends MemoryBlobs {
  override readonly capabilities = { createOnly: false, objectLock: false };

  override async put(name: string, body: readonly Uint8Array[]): Promise<void> {
    if ((await this.stat(name)) !== undefined) throw new BlobError("BLOB_EXISTS", `${name} is there`);
    await Promise.resolve();
    await this.delete([name]);
    await super.put(name, body);
  }
}

describe("checkpoints", () => {
  async function shipped(seals: number) {
    const { store } = memoryStore();
    const source = new RecordSource(20);
    const service = await new TestShipper(appIn(store), source).start();
    for (let count = 0; count < seals; count++) await service.ship();
    return { store, source, app: service.app, service };
  }

  test("the newest one is found, and those not after a seal or record", async () => {
    const { app, source } = await shipped(3);
    expect(await app.latestCheckpoint()).toBeNull();
    const names: string[] = [];
    for (const sequence of [1, 3, 2]) {
      const runs = [await app.writeRun([[{ key: Buffer.of(sequence), value: Buffer.from("x") }]])];
      names.push(await app.publishCheckpoint(checkpointOf(source, { epoch: 1, sequence, to: sequence * 3, runs })));
    }
    const latest = await app.latestCheckpoint({});
    expect(latest?.name).toBe(names[1]);
    expect(latest?.checkpoint).toEqual(
      checkpointOf(source, { epoch: 1, sequence: 3, to: 9, runs: latest?.checkpoint.runs ?? [] }),
    );
    expect((await app.latestCheckpoint({ notAfter: { epoch: 1, sequence: 2 } }))?.name).toBe(names[2]);
    expect((await app.latestCheckpoint({ lsnAtMost: 5 as Lsn }))?.name).toBe(names[0]);
    expect(await app.latestCheckpoint({ lsnAtMost: 2 as Lsn })).toBeNull();
    expect((await app.checkpoints()).map(({ sequence }) => sequence)).toEqual([1, 2, 3]);
  });

  test("one that is damaged, whose run is missing or cut, or that was written by a fenced service is passed over and told of", async () => {
    const { app, source, store, service } = await shipped(4);
    const put = async (sequence: number) => {
      const runs = [await app.writeRun([[{ key: Buffer.of(sequence), value: Buffer.from("x") }]])];
      return {
        runs,
        name: await app.publishCheckpoint(checkpointOf(source, { epoch: 1, sequence, to: sequence * 3, runs })),
      };
    };
    const good = await put(1);
    const cut = await put(2);
    const missing = await put(3);
    const flipped = await put(4);
    const partName = ({ runs }: typeof good) => `${app.prefix}runs/${runs[0]?.parts[0]?.id}`;
    store.damage(partName(cut), (bytes) => bytes.subarray(0, -1));
    await store.delete([partName(missing)]);
    store.damage(flipped.name, (bytes) => {
      bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
      return bytes;
    });
    const codes: string[] = [];
    const onAnomaly = ({ code }: { code: string }) => codes.push(code);
    expect((await app.latestCheckpoint({ onAnomaly }))?.name).toBe(good.name);
    expect(codes).toEqual(["CHECKPOINT_DAMAGED", "CHECKPOINT_RUN_MISSING", "CHECKPOINT_RUN_MISSING"]);
    // Another service goes on from seal 4, and this one goes on too.
    const other = await new TestShipper(app, source).start();
    await service.ship();
    const late = await put(5);
    await other.ship();
    codes.length = 0;
    expect((await app.latestCheckpoint({ onAnomaly }))?.name).toBe(good.name);
    expect(codes[0]).toBe("CHECKPOINT_OFF_LINE");
    expect(late.name > good.name).toBe(true);
  });

  test("are what a line can't begin anew beside, when all seals are withheld", async () => {
    const { app, source, store } = await shipped(1);
    await app.publishCheckpoint(checkpointOf(source, { epoch: 1, sequence: 1, to: 3 }));
    const faulty = new FaultyBlobs(store);
    faulty.alter(app.sealName({ epoch: 1, sequence: 1 }), withheld());
    const blind = await new TestShipper(appIn(faulty), new RecordSource(22)).start();
    await expect(blind.ship()).rejects.toMatchObject({ code: "FAILED_PRECONDITION", data: { reason: "seals-there" } });
  });

  test("a base stands before the first seal of a line", async () => {
    const { store } = memoryStore();
    const app = appIn(store);
    const source = new RecordSource(21);
    source.growTo(10);
    const epoch = await app.claimEpoch({ host: "h", service: "s" });
    const name = await app.publishCheckpoint(checkpointOf(source, { epoch, sequence: 0, to: 6 }));
    expect((await app.latestCheckpoint())?.name).toBe(name);
    const head = headOf(source, { epoch, sequence: 1, previous: null, from: 7, to: 10 });
    await app.publishSeal(head, source.records.slice(6, 10));
    expect((await app.latestCheckpoint())?.name).toBe(name);
    const from = { lsn: 6 as Lsn, chain: source.chain[6] ?? expect.fail() };
    const seals = await collect(app.seals({ after: { epoch, sequence: 0 }, verify: "chain", from }));
    expect(seals.map((seal) => seal.head.to)).toEqual([10]);
    await expect(collect(app.seals(START))).rejects.toMatchObject({ code: "REPOSITORY_DAMAGED" });
  });

  test("that can't be listed is not taken for absent", async () => {
    const { store } = await shipped(1);
    const faulty = new FaultyBlobs(store);
    faulty.inject({ operation: "list-page", nth: 1, effect: { kind: "fail" } });
    await expect(appIn(faulty).latestCheckpoint()).rejects.toMatchObject({ code: "BLOB_UNREACHABLE" });
  });
});
