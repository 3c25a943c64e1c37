import { spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { expect, test } from "vitest";
import { appendPlaced, draft, JournalFixture, randomBytesOf, seededRandom } from "../../src/journal/journal-fixture.ts";

const MEBIBYTE = 1024 * 1024;

const DISK_BYTES = 64 * MEBIBYTE;

/** What the disk still takes, roughly. */
const GOOD_BYTES = 6 * MEBIBYTE;

/**
 * An ext4 whose disk has no room behind most of its free blocks: writing to a file succeeds, in memory, and writing back fails. Its metadata is all there. (The disk is a
 * file on a full tmpfs; the blocks of a file that took nearly all space are punched out of it.)
 */
class FailingDisk {
  readonly #folder = fs.mkdtempSync(path.join(os.tmpdir(), "journal-failing-"));
  readonly mountPoint = path.join(this.#folder, "mnt");
  readonly #backing = path.join(this.#folder, "backing");
  readonly #image = path.join(this.#backing, "disk.ext4");

  constructor() {
    try {
      this.#setUp();
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  #setUp(): void {
    for (const folder of [this.mountPoint, this.#backing]) fs.mkdirSync(folder);
    run("mount", ["-t", "tmpfs", "-o", `size=${2 * DISK_BYTES}`, "tmpfs", this.#backing]);
    fs.writeFileSync(this.#image, "");
    fs.truncateSync(this.#image, DISK_BYTES);
    run("mkfs.ext4", ["-q", "-F", "-b", "4096", "-m", "0", this.#image]);
    run("fallocate", ["-l", String(DISK_BYTES), this.#image]);
    this.mount();
    const filler = path.join(this.mountPoint, "filler");
    const { bavail, bsize } = fs.statfsSync(this.mountPoint);
    run("fallocate", ["-l", String(bavail * bsize - GOOD_BYTES), filler]);
    const extents = run("filefrag", ["-e", "-b4096", filler]);
    fs.rmSync(filler);
    this.unmount();
    for (const [, start, , length] of extents.matchAll(/:\s+(\d+)\.\.\s*(\d+):\s+(\d+):/g)) {
      run("fallocate", ["-p", "-o", String(Number(start) * 4096), "-l", String(Number(length) * 4096), this.#image]);
    }
    run("mount", ["-o", `remount,size=${fs.statSync(this.#image).blocks * 512}`, this.#backing]);
    this.mount();
  }

  mount(): void {
    run("mount", ["-o", "loop,errors=continue", this.#image, this.mountPoint]);
  }

  unmount(): void {
    run("umount", [this.mountPoint]);
  }

  /** From now on the disk takes everything. */
  repair(): void {
    run("mount", ["-o", `remount,size=${2 * DISK_BYTES}`, this.#backing]);
  }

  [Symbol.dispose](): void {
    spawnSync("umount", ["-l", this.mountPoint]);
    spawnSync("umount", ["-l", this.#backing]);
    fs.rmSync(this.#folder, { recursive: true, force: true });
  }
}

function run(command: string, args: string[]): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`${command} ${args.join(" ")}: ${stderr ?? String(error)}`);
  return stdout;
}

function missingPart(): string | undefined {
  try {
    using disk = new FailingDisk();
    disk.unmount();
    return undefined;
  } catch (error) {
    return String(error);
  }
}

const missing = missingPart();
if (missing !== undefined) console.log(`journal-failed-sync: loop and tmpfs mounts are needed, and root: ${missing}`);
const needsLoop = missing === undefined || process.env["CI"] !== undefined ? test : test.skip;

needsLoop(
  "after a disk failed an fdatasync, a restart finds what the disk has, not what memory pretends",
  async () => {
    const random = seededRandom(1);
    using disk = new FailingDisk();
    await using fixture = new JournalFixture();
    const folder = path.join(disk.mountPoint, "journal");
    const journal = await fixture.open({ folder });
    const data = randomBytesOf(random, 300_000);
    let failure: unknown;
    for (let index = 0; index < 100 && failure === undefined; index += 1) {
      appendPlaced(journal, draft({ data, unique: index }));
      if (index % 3 === 0) failure = await journal.sync(journal.lastLsn).catch((error: unknown) => error);
    }
    expect(failure).toMatchObject({ code: "EIO" });
    expect(() => journal.append(draft())).toThrow(expect.objectContaining({ code: "EIO" }));
    const { durableLsn, lastLsn } = journal;
    await journal.close();

    // The file system is still mounted: its memory holds the pages that never reached the disk.
    const restarted = await fixture.open({ folder });
    const found = restarted.lastLsn;
    expect(found).toBeGreaterThanOrEqual(durableLsn);
    expect(found).toBeLessThan(lastLsn);
    for (const { segment, dataStart, dataLength } of fixture.recovered) {
      const read = await restarted.readData({ segment, dataStart, dataLength, skip: 0, length: dataLength });
      expect(read.equals(data)).toBe(true);
    }
    await restarted.close();
    disk.unmount();
    disk.repair();
    disk.mount();
    expect((await fixture.open({ folder })).lastLsn).toBe(found);
    await fixture[Symbol.asyncDispose]();
  },
  60_000,
);
