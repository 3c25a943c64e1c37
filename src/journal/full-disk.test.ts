import { spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { expect, test } from "vitest";
import { memoryLog } from "../base/log.ts";
import type { Lsn } from "../domain/ids.ts";
import {
  appendPlaced,
  contentOf,
  draft,
  FaultyFileOps,
  JournalFixture,
  ManualClock,
  randomDraft,
  seededRandom,
  testSeed,
} from "./journal-fixture.ts";
import { SpaceReserve } from "./space-reserve.ts";

test("a full disk is ENOSPC and changes nothing, at whatever byte of the record it shows", async () => {
  await using fixture = new JournalFixture();
  const ops = new FaultyFileOps();
  const journal = await fixture.open({ ops });
  journal.append(draft());
  const end = fs.statSync(fixture.pathOf(0)).size;
  const record = draft({ data: Buffer.from("data") });
  for (let space = 0; ; space += 1) {
    ops.spaceBytes = space;
    try {
      appendPlaced(journal, record);
      break;
    } catch (error) {
      expect(error).toMatchObject({ code: "ENOSPC" });
    }
    expect([journal.lastLsn, fs.statSync(fixture.pathOf(0)).size]).toEqual([1, end]);
  }
  expect(journal.lastLsn).toBe(2);
  await journal.close();
  fixture.ops = new FaultyFileOps();
  await fixture.open();
  expect(fixture.recovered.map(contentOf)).toEqual([draft(), record].map(contentOf));
});

test("a full disk when a segment starts is ENOSPC, and the journal goes on when there is space", async () => {
  await using fixture = new JournalFixture();
  const ops = new FaultyFileOps();
  const journal = await fixture.open({ ops, limits: { segmentBytesMax: 1000 } });
  for (let index = 0; index < 5; index += 1) journal.append(draft());
  for (const space of [0, 1, 63]) {
    ops.spaceBytes = space;
    expect(() => journal.place(1000, 10)).toThrow(expect.objectContaining({ code: "ENOSPC" }));
    expect(fixture.files()).toHaveLength(1);
  }
  ops.spaceBytes = 1e9;
  appendPlaced(journal, draft({ data: Buffer.alloc(1000) }));
  expect([journal.lastLsn, fixture.files().length]).toEqual([6, 2]);
});

test("another error of writing is EIO and changes nothing; the next change is taken", async () => {
  await using fixture = new JournalFixture();
  const ops = new FaultyFileOps();
  const journal = await fixture.open({ ops });
  journal.append(draft());
  ops.failNext.write = "EIO";
  expect(() => journal.append(draft())).toThrow(expect.objectContaining({ code: "EIO" }));
  expect(journal.append(draft())).toBe(2);
});

test("a file that can't be cut back takes no further records", async () => {
  await using fixture = new JournalFixture();
  const ops = new FaultyFileOps();
  const journal = await fixture.open({ ops });
  journal.append(draft());
  ops.spaceBytes = 10;
  ops.failNext.truncate = "EIO";
  expect(() => journal.append(draft())).toThrow(expect.objectContaining({ code: "EIO" }));
  ops.spaceBytes = 1e9;
  expect(() => journal.append(draft())).toThrow(expect.objectContaining({ code: "EIO" }));
  expect([journal.failed, fixture.log.at("alarm").length]).toEqual([true, 1]);
  fixture.ops = new FaultyFileOps();
  expect((await fixture.open()).lastLsn).toBe(1);
});

test("the reserve is there after a restart, is given up once, and is taken again when the disk has room", () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "reserve-"));
  const clock = new ManualClock();
  const log = memoryLog();
  const options = { folder, bytes: 1024 * 1024, clock, log };
  const first = new SpaceReserve(options);
  expect(first.held).toBe(true);
  expect(fs.statSync(path.join(folder, "reserve")).blocks * 512).toBeGreaterThanOrEqual(1024 * 1024);
  const restarted = new SpaceReserve(options);
  restarted.release();
  restarted.release();
  expect([restarted.held, fs.readdirSync(folder), log.at("alarm").length]).toEqual([false, [], 1]);
  clock.ms += 1000;
  expect(restarted.held).toBe(true);
  const tooLarge = new SpaceReserve({ ...options, bytes: 2 ** 50 });
  expect([tooLarge.held, tooLarge.take()]).toEqual([false, false]);
  fs.rmSync(folder, { recursive: true });
});

/** A tmpfs of 8 MiB, or undefined where it can't be had. */
function mountSmallDisk(): { path: string; unmount: () => void } | undefined {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "small-disk-"));
  const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", "size=8m,mode=0700", "tmpfs", folder]);
  if (mounted.status === 0) {
    return {
      path: folder,
      unmount: () => {
        spawnSync("umount", [folder]);
        fs.rmdirSync(folder);
      },
    };
  }
  fs.rmdirSync(folder);
  return undefined;
}

const disk = mountSmallDisk();
disk?.unmount();
const needsMount = disk === undefined && process.env["CI"] === undefined ? test.skip : test;
if (disk === undefined) console.log("full-disk: the tests on a small tmpfs need to mount one (root)");

needsMount(
  "on a disk that really is full: ENOSPC, then deletions through the reserve, then everything again",
  async () => {
    const small = mountSmallDisk();
    if (small === undefined) throw new Error("a tmpfs can't be mounted: root is needed");
    try {
      const random = seededRandom(testSeed("full disk"));
      await using fixture = new JournalFixture();
      const folder = path.join(small.path, "journal");
      const { clock, log } = fixture;
      const reserve = new SpaceReserve({ folder: small.path, bytes: 1024 * 1024, clock, log });
      expect(reserve.take()).toBe(true);
      const journal = await fixture.open({ folder, reserve, limits: { segmentBytesMax: 1024 * 1024 } });
      const originals: unknown[] = [];
      const fill = () => {
        for (;;) {
          const next = randomDraft(random, 300_000);
          appendPlaced(journal, next);
          originals.push(contentOf(next));
        }
      };
      expect(fill).toThrow(expect.objectContaining({ code: "ENOSPC" }));
      // What frees space is taken, and nothing else: the reserve is for that.
      const unlink = draft({ op: 7, data: null, rows: [{ key: Buffer.alloc(20), value: Buffer.alloc(2000) }] });
      for (let index = 0; index < 100; index += 1) {
        journal.append(unlink, { useReserve: true });
        originals.push(contentOf(unlink));
      }
      expect(reserve.held).toBe(false);
      expect(() => journal.append(draft())).toThrow(expect.objectContaining({ code: "ENOSPC" }));
      await journal.sync(journal.lastLsn);
      // Space comes back.
      const oldest = journal.segments().slice(0, 4);
      for (const { segment } of oldest) await journal.removeSegment(segment);
      clock.ms += 1001;
      expect(reserve.held).toBe(true);
      appendPlaced(journal, draft());
      originals.push(contentOf(draft()));
      await journal.close();
      const removedUpTo = oldest.at(-1)?.lastLsn ?? (0 as Lsn);
      const reopened = await fixture.open({ folder, appliedLsn: removedUpTo });
      expect(fixture.recovered.map(contentOf)).toEqual(originals.slice(removedUpTo));
      await reopened.close();
    } finally {
      small.unmount();
    }
  },
);
