import { spawnSync } from "node:child_process";
import fs from "node:fs";
import { createRequire } from "node:module";
import os from "node:os";
import path from "node:path";
import { expect, test } from "vitest";
import { expectWritten, WriterProcess } from "../../src/journal/crash-fixture.ts";
import { JournalFixture, seededRandom, testSeed } from "../../src/journal/journal-fixture.ts";

/** linux/fs.h and ext4: FS_IOC_SHUTDOWN. The file system stops at once, as at a power cut; the mode says whether its own journal is written first. */
const FS_IOC_SHUTDOWN = 0x8004587d;
const SHUTDOWN_MODES = [1 /* journal written */, 2 /* not even that */, 2, 2];

const ROUNDS = 20;

/** An ext4 in a file, mounted through a loop device, whose power can be cut. */
class LoopDisk {
  readonly #folder = fs.mkdtempSync(path.join(os.tmpdir(), "journal-power-"));
  readonly mountPoint = path.join(this.#folder, "mnt");
  readonly #image = path.join(this.#folder, "disk.ext4");
  #mounted = false;

  constructor() {
    fs.mkdirSync(this.mountPoint);
    fs.writeFileSync(this.#image, "");
    fs.truncateSync(this.#image, 512 * 1024 * 1024);
    try {
      run("mkfs.ext4", ["-q", "-F", this.#image]);
      this.mount();
    } catch (error) {
      this[Symbol.dispose]();
      throw error;
    }
  }

  mount(): void {
    run("mount", ["-o", "loop", this.#image, this.mountPoint]);
    this.#mounted = true;
  }

  cutPower(mode: number): void {
    const koffi = createRequire(import.meta.url)("koffi");
    const ioctl = koffi.load(null).func("int ioctl(int fd, ulong request, void *argument)");
    const fd = fs.openSync(this.mountPoint, "r");
    const argument = Buffer.alloc(4);
    argument.writeUInt32LE(mode);
    const result: number = ioctl(fd, FS_IOC_SHUTDOWN, argument);
    fs.closeSync(fd);
    if (result !== 0) throw new Error("the file system can't be shut down");
  }

  unmount(): void {
    run("umount", [this.mountPoint]);
    this.#mounted = false;
  }

  [Symbol.dispose](): void {
    if (this.#mounted) spawnSync("umount", ["-l", this.mountPoint]);
    fs.rmSync(this.#folder, { recursive: true, force: true });
  }
}

function run(command: string, args: string[]): void {
  const { status, stderr, error } = spawnSync(command, args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`${command} ${args.join(" ")}: ${stderr ?? String(error)}`);
}

function missingPart(): string | undefined {
  try {
    using disk = new LoopDisk();
    disk.unmount();
    return undefined;
  } catch (error) {
    return String(error);
  }
}

const missing = missingPart();
if (missing !== undefined) console.log(`journal-power: a loop mount is needed, and root: ${missing}`);
const needsLoop = missing === undefined || process.env["CI"] !== undefined ? test : test.skip;

needsLoop(
  "after a power cut everything synced is there, and the journal ends at a record that was written",
  async () => {
    const random = seededRandom(testSeed("journal-power"));
    using disk = new LoopDisk();
    await using fixture = new JournalFixture();
    const folder = path.join(disk.mountPoint, "app", "journal");
    let cutTails = 0;
    let lost = 0;
    for (let round = 1; round <= ROUNDS; round += 1) {
      const writer = new WriterProcess(folder, 2_000_000);
      await writer.run(1 + Math.floor(random() * 200));
      // What was told before the cut. An fdatasync that is under way when the file system is shut down may return success though its data are gone (ext4 asks for the shutdown only when it begins); where power
      // is really cut nobody is left to hear that.
      const promised = writer.synced;
      disk.cutPower(SHUTDOWN_MODES[Math.floor(random() * SHUTDOWN_MODES.length)] ?? 2);
      await writer.kill();
      disk.unmount();
      disk.mount();
      const journal = await fixture.open({ folder });
      expect(journal.lastLsn, `round ${round}`).toBeGreaterThanOrEqual(promised);
      await expectWritten(journal, fixture.recovered);
      lost += Math.max(0, writer.appended - journal.lastLsn);
      await journal.close();
    }
    cutTails = fixture.log.at("warn").length;
    console.log(`journal-power: ${ROUNDS} rounds, ${cutTails} torn tails cut, ${lost} unsynced records lost`);
    // A run in which the power never took anything would have shown nothing.
    expect(lost).toBeGreaterThan(0);
  },
  180_000,
);
