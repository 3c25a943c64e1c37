import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { CountingBlobs } from "../blob/counting-blobs.ts";
import { FaultyBlobs } from "../blob/testing/faulty-blobs.ts";
import { MemoryBlobs } from "../blob/testing/memory-blobs.ts";
import { randomBytesOf, seededRandom, testSeed } from "../journal/journal-fixture.ts";
import { segmentName } from "../journal/segment-file.ts";
import { KvError } from "../kv/kv-error.ts";
import { MemoryKv } from "../kv/memory-kv.ts";
import type { SealShipped } from "./ship-backend.ts";
import { DESCRIBED, ShipFixture, SMALL_SEALS, verifyShipped } from "./ship-fixture.ts";
import { verifyMaterialised } from "./ship-verify-fixture.ts";

test("everything up to the target comes into the repository, and can be read back byte for byte", async () => {
  await using fixture = await ShipFixture.open({ limits: SMALL_SEALS, journalLimits: { segmentBytesMax: 300_000 } });
  const random = seededRandom(testSeed("ship"));
  const { test: app, root } = fixture;
  const engine = fixture.engine();
  const target = await fixture.target();
  expect(await engine.start(target)).toMatchObject({ epoch: 1, protected: undefined });
  for (let round = 0; round < 5; round++) {
    for (let file = 0; file < 20; file++) {
      const name = `files-${round}-${file}`;
      app.create(root, name);
      let offset = 0n;
      for (let writes = Math.floor(random() * 4); writes >= 0; writes--) {
        const bytes = randomBytesOf(random, Math.floor(random() * 90_000) + 1);
        app.write(root, name, bytes, random() < 0.8 ? offset : 5_000_000n);
        offset += BigInt(bytes.length);
      }
      await app.settle();
    }
    const seals: SealShipped[] = [];
    const next = await fixture.target();
    await engine.ship(next, (shipped) => seals.push(shipped));
    expect(seals.length).toBeGreaterThan(1);
    expect(seals.at(-1)?.protected.lsn).toBe(next.to);
    expect(await verifyShipped(fixture.repository(), fixture.app)).toBe(next.to);
  }
});

test("a change costs a pack and a seal, and nothing to ship costs nothing", async () => {
  const store = new CountingBlobs(new MemoryBlobs());
  await using fixture = await ShipFixture.open({ store });
  const { test: app, root } = fixture;
  app.put(root, "a", "first");
  const engine = fixture.engine();
  await fixture.shipAll(engine);
  app.put(root, "b", "second");
  app.put(root, "c", "second, too");
  const target = await fixture.target();
  const before = { ...store.counters };
  await engine.ship(target, () => {});
  expect(store.counters.puts - before.puts).toBe(2);
  expect(store.counters.gets - before.gets).toBe(0);
  const idle = { ...store.counters };
  await engine.ship(target, () => {});
  await engine.checkpoint({ force: false, app: DESCRIBED });
  expect(store.counters).toEqual(idle);
});

test("what the repository has is not stored again, also after a restart without the local index", async () => {
  await using fixture = await ShipFixture.open();
  const { test: app, root } = fixture;
  const random = seededRandom(testSeed("deduplication"));
  const bytes = randomBytesOf(random, 800_000);
  const put = (name: string): void => {
    app.create(root, name);
    for (let at = 0; at < bytes.length; at += 100_000)
      app.write(root, name, bytes.subarray(at, at + 100_000), BigInt(at));
  };
  put("one");
  await fixture.shipAll(fixture.engine());
  put("two");
  let uploaded = 0;
  for (const index of [fixture.index, new MemoryKv()]) {
    const engine = fixture.engine({ index });
    await engine.start(await fixture.target());
    put(`again-${uploaded}`);
    await engine.ship(await fixture.target(), (shipped) => {
      uploaded += shipped.uploadedBytes;
    });
  }
  expect(uploaded).toBeLessThan(20_000);
  expect(await verifyShipped(fixture.repository(), fixture.app)).toBe(fixture.app.core.lastLsn);
});

test("files that are written in turns are cut as if they had been written one after the other", async () => {
  await using fixture = await ShipFixture.open();
  const { test: app, root } = fixture;
  const random = seededRandom(testSeed("interleaved"));
  const contents = Array.from({ length: 8 }, () => randomBytesOf(random, 400_000));
  for (const [index] of contents.entries()) app.create(root, `f${index}`);
  for (let at = 0; at < 400_000; at += 10_000) {
    for (const [index, bytes] of contents.entries())
      app.write(root, `f${index}`, bytes.subarray(at, at + 10_000), BigInt(at));
  }
  const engine = fixture.engine();
  await fixture.shipAll(engine);
  for (const [index, bytes] of contents.entries()) {
    app.create(root, `copy${index}`);
    app.write(root, `copy${index}`, bytes);
  }
  let uploaded = 0;
  await engine.ship(await fixture.target(), (shipped) => {
    uploaded += shipped.uploadedBytes;
  });
  expect(uploaded).toBeLessThan(100_000);
  expect(await verifyShipped(fixture.repository(), fixture.app)).toBe(fixture.app.core.lastLsn);
});

test("a put that fails or whose answer is lost, wherever it is, leaves nothing out and nothing twice", async () => {
  for (const kind of ["fail", "lose-answer"] as const) {
    for (let nth = 1; nth <= 12; nth++) {
      const store = new FaultyBlobs(new MemoryBlobs());
      await using fixture = await ShipFixture.open({ store, limits: SMALL_SEALS });
      const { test: app, root } = fixture;
      for (let file = 0; file < 30; file++) app.put(root, `f${file}`, `contents ${file}`);
      store.inject({ operation: "put", nth, effect: { kind } });
      const engine = fixture.engine();
      let failures = 0;
      for (;;) {
        try {
          await fixture.shipAll(engine);
          break;
        } catch (error) {
          expect(error).toMatchObject({ name: "ShipError", code: "STORE", causeCode: "BLOB_UNREACHABLE" });
          failures++;
        }
      }
      expect(failures).toBeLessThan(2);
      expect(await verifyShipped(fixture.repository(), fixture.app)).toBe(fixture.app.core.lastLsn);
    }
  }
});

test("of two services that ship one app, the first is fenced by the second before it calls anything protected", async () => {
  await using fixture = await ShipFixture.open();
  const { test: app, root } = fixture;
  app.put(root, "a", "1");
  const first = fixture.engine();
  await fixture.shipAll(first);
  const second = fixture.engine({ index: new MemoryKv() });
  app.put(root, "b", "2");
  const target = await fixture.target();
  expect(await second.start(target)).toMatchObject({ epoch: 2 });
  const called: SealShipped[] = [];
  await expect(first.ship(target, (shipped) => called.push(shipped))).rejects.toMatchObject({ code: "FENCED" });
  expect(called).toEqual([]);
  await second.ship(target, () => {});
  expect(await verifyShipped(fixture.repository(), fixture.app)).toBe(target.to);
  expect(await first.start(target)).toMatchObject({ epoch: 3, protected: { lsn: target.to } });
});

test("an older or another copy of the journal is refused, and takes nothing over", async () => {
  await using fixture = await ShipFixture.open();
  await using other = await ShipFixture.open({ store: fixture.store });
  fixture.test.put(fixture.root, "a", "1");
  const engine = fixture.engine();
  await fixture.shipAll(engine);
  const target = await fixture.target();
  const older = fixture.engine();
  await expect(older.start({ ...target, to: (target.to - 1) as never })).rejects.toMatchObject({
    code: "OTHER_HISTORY",
  });
  other.test.put(other.root, "a", "2");
  other.test.put(other.root, "b", "2");
  Object.assign(other, { keys: fixture.keys });
  await expect(other.engine().start(await other.target())).rejects.toMatchObject({ code: "OTHER_HISTORY" });
  fixture.test.put(fixture.root, "b", "still ours");
  await engine.ship(await fixture.target(), () => {});
});

test("chunks of a pack that a tomb names are written again", async () => {
  await using fixture = await ShipFixture.open();
  const { test: app, root } = fixture;
  app.put(root, "a", "the same contents");
  const engine = fixture.engine();
  await fixture.shipAll(engine);
  const repository = fixture.repository();
  const packs: string[] = [];
  for await (const page of fixture.store.list(`${repository.prefix}packs/`))
    packs.push(...page.map(({ name }) => name));
  await repository.writeTombs(1, { names: packs, reason: "test" });
  app.put(root, "b", "the same contents");
  const target = await fixture.target();
  await engine.ship(target, () => {});
  let named: string[] = [];
  for await (const seal of repository.seals({ verify: "line" })) {
    named = [...seal.records()].flatMap(({ data }) => (data?.pieces ?? []).map(({ place }) => place.pack));
  }
  expect(named).toHaveLength(1);
  expect(packs.some((name) => name.endsWith(named[0] ?? ""))).toBe(false);
});

test("where the journal is damaged, everything before is shipped, and nothing after", async () => {
  await using fixture = await ShipFixture.open({ limits: SMALL_SEALS });
  const { test: app, root } = fixture;
  for (let file = 0; file < 30; file++) app.put(root, `f${file}`, `contents ${file}`);
  const target = await fixture.target();
  const file = path.join(fixture.journalFolder, segmentName(1));
  const bytes = readFileSync(file);
  const at = bytes.indexOf("contents 20");
  bytes[at] = 0;
  writeFileSync(file, bytes);
  const engine = fixture.engine();
  await engine.start(target);
  let reached = 0;
  const shipping = engine.ship(target, (shipped) => {
    reached = shipped.protected.lsn;
  });
  await expect(shipping).rejects.toMatchObject({ code: "DAMAGED", causeCode: "DATA_DAMAGED" });
  bytes[at] = 0x63;
  writeFileSync(file, bytes);
  expect(await verifyShipped(fixture.repository(), fixture.app)).toBe(reached);
  expect(reached).toBeGreaterThan(20);
  expect(reached).toBeLessThan(target.to);
  await fixture.shipAll(engine);
  expect(await verifyShipped(fixture.repository(), fixture.app)).toBe(target.to);
});

test("a local index that can't be written, as on a full disk, costs space in the repository and nothing else", async () => {
  await using fixture = await ShipFixture.open();
  const { test: app, root } = fixture;
  const index = new MemoryKv();
  const engine = fixture.engine({ index });
  await fixture.shipAll(engine);
  index.batch = async () => {
    throw new KvError("KV_NO_SPACE", "memory", "full");
  };
  for (let round = 0; round < 3; round++) {
    app.put(root, `f${round}`, "the same");
    await engine.ship(await fixture.target(), () => {});
  }
  expect(await verifyShipped(fixture.repository(), fixture.app)).toBe(fixture.app.core.lastLsn);
  expect(fixture.log.at("warn").length).toBeGreaterThan(0);
});

test("an index that was not compared with the store for long is, before it is used: packs may have been deleted", async () => {
  await using fixture = await ShipFixture.open();
  const { test: app, root } = fixture;
  const engine = fixture.engine();
  app.put(root, "a", "the same");
  await fixture.shipAll(engine);
  for await (const page of fixture.store.list(`${fixture.repository().prefix}packs/`))
    await fixture.store.delete(page.map(({ name }) => name));
  app.clock.step(7 * 3_600_000_000_000);
  app.put(root, "b", "the same");
  await engine.ship(await fixture.target(), () => {});
  const head = await fixture.repository().head();
  expect(head.seal?.head.packs).toHaveLength(1);
});

test("a repository that lost seals is noticed by who remembers them, and gets what it lacks again", async () => {
  for (const lost of [1, 3]) {
    await using fixture = await ShipFixture.open();
    const { test: app, root } = fixture;
    const engine = fixture.engine();
    for (let seal = 0; seal < 3; seal++) {
      app.put(root, `f${seal}`, `contents ${seal}`);
      await fixture.shipAll(engine);
    }
    const names: string[] = [];
    for await (const page of fixture.store.list(`${fixture.repository().prefix}seals/`))
      names.push(...page.map(({ name }) => name));
    await fixture.store.delete(names.slice(-lost));
    app.put(root, "after", "the loss");
    await fixture.shipAll(fixture.engine());
    expect(fixture.log.at("alarm").map(({ message }) => message)).toEqual([expect.stringContaining("lost seals")]);
    const { kv } = fixture.apps;
    expect(await verifyMaterialised(fixture.repository(), fixture.app, { kv })).toBe(fixture.app.core.lastLsn);
  }
});
