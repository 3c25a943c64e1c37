import { FsError } from "../../domain/errors.ts";
import type { Lsn } from "../../domain/ids.ts";
import type { JournalArchive } from "../../journal/archive.ts";
import type { DataPlace } from "../../journal/data-reader.ts";
import type { JournalRecord } from "../../journal/record.ts";
import type { OpenApp } from "../../meta/open-app.ts";
import type { HydrateSource } from "../hydrate.ts";

/** For tests: an app that is open elsewhere as the archive of a copy of it. */
export class JournalAsArchive implements JournalArchive, HydrateSource {
  readonly description = "another app";
  readonly firstLsn = 1 as Lsn;
  readonly lastLsn: Lsn;
  readonly lastTime: JournalArchive["lastTime"];
  readonly kept = [];
  /** What was read of its data, in order. */
  readonly reads: DataPlace[] = [];
  /** Nothing can be read. */
  fails: "not" | "damaged" | "unreachable" = "not";
  readonly #app: OpenApp;

  constructor(app: OpenApp) {
    this.#app = app;
    this.lastLsn = app.core.lastLsn;
    this.lastTime = app.core.lastTime;
  }

  async readData(place: DataPlace): Promise<Buffer> {
    if (this.fails !== "not") throw new FsError("EIO", this.fails);
    this.reads.push(place);
    return Buffer.from(await this.#app.core.data.read(place));
  }

  readMany(places: readonly DataPlace[]): Promise<Buffer[]> {
    return Promise.all(places.map((place) => this.readData(place)));
  }

  isUnreachable(error: unknown): boolean {
    return (error as Error).message === "unreachable";
  }

  readRecords(from: Lsn, to: Lsn): AsyncGenerator<JournalRecord> {
    return this.#app.core.records(from, to);
  }

  async close(): Promise<void> {
    this.fails = "unreachable";
  }
}
