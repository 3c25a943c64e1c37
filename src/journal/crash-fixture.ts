import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { expect } from "vitest";
import type { Journal } from "./journal.ts";
import { APP, contentOf } from "./journal-fixture.ts";
import type { JournalRecord } from "./record.ts";
import { draftOf } from "./writer-fixture.ts";

const WRITER = fileURLToPath(new URL("./writer-fixture.ts", import.meta.url));

/** A process that appends to a journal until it is killed, and what it said so far. */
export class WriterProcess {
  appended = 0;
  synced = 0;
  failure: string | undefined;
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown>;
  readonly #lines: AsyncIterableIterator<string>;

  constructor(folder: string, segmentBytesMax: number) {
    this.#child = spawn(process.execPath, [WRITER, folder, APP, String(segmentBytesMax)], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    this.#ended = once(this.#child, "close");
    if (this.#child.stdout === null) throw new Error("no standard output");
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  /** Waits until it has appended `count` records since it began, or failed. */
  async run(count: number): Promise<void> {
    for (let seen = 0; seen < count && this.failure === undefined; ) {
      const { value, done } = await this.#lines.next();
      if (done === true) break;
      this.#hear(value);
      if (value.startsWith("A")) seen += 1;
    }
  }

  /** `kill -9`; what it had said before counts. */
  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    for await (const line of this.#lines) this.#hear(line);
    await this.#ended;
  }

  #hear(line: string): void {
    const lsn = Number(line.slice(2));
    if (line.startsWith("A")) this.appended = lsn;
    else if (line.startsWith("S")) this.synced = lsn;
    else this.failure = line;
  }
}

/** Every recovered record, from the first on, is the one that was written, data included. */
export async function expectWritten(journal: Journal, recovered: readonly JournalRecord[]): Promise<void> {
  expect(recovered.length).toBe(journal.lastLsn);
  for (const [index, record] of recovered.entries()) {
    const wanted = draftOf(index + 1);
    expect(record.lsn).toBe(index + 1);
    expect(contentOf(record)).toEqual(contentOf(wanted));
    const { segment, dataStart, dataLength } = record;
    const data = await journal.readData({ segment, dataStart, dataLength, skip: 0, length: dataLength });
    expect(data.equals(wanted.data ?? Buffer.alloc(0))).toBe(true);
  }
}
