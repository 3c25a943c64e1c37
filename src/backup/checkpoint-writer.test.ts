import { expect, test } from "vitest";
import { randomBytesOf, seededRandom, testSeed } from "../journal/journal-fixture.ts";
import { DESCRIBED, ShipFixture, SMALL_SEALS } from "./ship-fixture.ts";
import { verifyMaterialised } from "./ship-verify-fixture.ts";

test("checkpoints and the seals after them add up to the app's rows and data, whenever they were written and by whom", async () => {
  const random = seededRandom(testSeed("checkpoints"));
  await using fixture = await ShipFixture.open({ limits: SMALL_SEALS });
  const { test: app, root } = fixture;
  let engine = fixture.engine();
  await fixture.shipAll(engine);
  let written = 0;
  for (let round = 0; round < 24; round++) {
    for (let change = 0; change < 12; change++) {
      const name = `f${Math.floor(random() * 30)}`;
      if (random() < 0.3) app.put(root, name, "short");
      else {
        app.create(root, name);
        app.write(
          root,
          name,
          randomBytesOf(random, Math.floor(random() * 40_000) + 1),
          BigInt(Math.floor(random() * 1e5)),
        );
      }
      if (random() < 0.2) app.unlink(root, name);
      await app.settle();
    }
    if (random() < 0.3) engine = fixture.engine();
    await fixture.shipAll(engine);
    if (random() < 0.7 && (await engine.checkpoint({ force: true, app: DESCRIBED }))) written++;
    const lsn = await verifyMaterialised(fixture.repository(), fixture.app, { kv: fixture.apps.kv });
    expect(lsn).toBe(fixture.app.core.lastLsn);
  }
  expect(written).toBeGreaterThan(8);
  const latest = await fixture.repository().latestCheckpoint();
  expect(latest?.checkpoint.runs.length).toBeLessThan(written);
  expect(await engine.checkpoint({ force: false, app: DESCRIBED })).toBe(false);
});

test("a checkpoint comes by itself after so many seals", async () => {
  await using fixture = await ShipFixture.open({ limits: { ...SMALL_SEALS, recordsMax: 1 } });
  const { test: app, root } = fixture;
  const engine = fixture.engine();
  await fixture.shipAll(engine);
  for (let change = 0; change < 40; change++) app.put(root, `f${change}`, "contents");
  await engine.ship(await fixture.target(), () => {});
  expect(await engine.checkpoint({ force: false, app: DESCRIBED })).toBe(true);
  expect(await engine.checkpoint({ force: false, app: DESCRIBED })).toBe(false);
  expect((await fixture.repository().latestCheckpoint())?.checkpoint.to).toBe(fixture.app.core.lastLsn);
});
