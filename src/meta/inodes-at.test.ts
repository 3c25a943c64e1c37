import { expect, test } from "vitest";
import { Random } from "../../test/model/random.ts";
import type { InodeId, Lsn } from "../domain/ids.ts";
import { inodesAt } from "./inodes-at.ts";
import { TestApps } from "./reading/test-app.ts";

const SEED = Number(process.env["SEED"] ?? Math.floor(Math.random() * 2 ** 32));

test("many inodes are found at a moment as each of them is by itself", async () => {
  console.log(`SEED=${SEED}`);
  const random = new Random(SEED);
  const apps = await TestApps.open();
  const app = await apps.app("shop");
  const root = app.share("files").root;
  const { core } = app.app;
  const names: string[] = [];
  for (let step = 0; step < 3000; step++) {
    const kind = names.length < 5 ? 0 : random.below(3);
    if (kind === 0) {
      names.push(`name-${step}`);
      app.create(root, `name-${step}`);
    } else if (kind === 1) app.unlink(root, names.splice(random.below(names.length), 1)[0] ?? "");
    // Some have very many past states.
    else app.setattr(root, names[random.oneIn(2) ? 0 : random.below(names.length)] ?? "", { mode: random.below(512) });
    if (random.oneIn(200)) await app.settle();
  }
  for (let look = 0; look < 300; look++) {
    const at = random.below(core.lastLsn + 1) as Lsn;
    const inos = Array.from({ length: random.pick([0, 1, 5, 64, 500]) }, () => random.below(core.nextInode) as InodeId);
    const wanted = new Map(inos.map((ino) => [ino, core.findInodeAt(ino, at)] as const));
    const found = inodesAt(core, inos, at);
    for (const [ino, row] of wanted) expect(found.get(ino), `inode ${ino} at ${at}`).toEqual(row);
    expect(found.size).toBe([...wanted.values()].filter((row) => row !== undefined).length);
  }
  await apps.close();
});
