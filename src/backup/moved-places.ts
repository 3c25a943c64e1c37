import type { Timers } from "../base/timers.ts";
import type { AppRepository } from "../repository/app-repository.ts";
import type { RunReader } from "../repository/runs/run-reader.ts";
import { type ArchivedData, decodeArchivedData, runDataKey } from "./archive-rows.ts";

/** How long a checkpoint that was looked up is used again: many data are asked for when packs were written anew. */
const KEPT_MS = 60_000;

/** Looks up where data are now, by the repository's latest checkpoint: pruning may have written packs anew since the local rows about them were laid down. */
export class MovedPlaces {
  readonly #app: AppRepository;
  readonly #timers: Timers;
  #runs: Promise<readonly RunReader[]> | undefined;

  constructor(app: AppRepository, timers: Timers) {
    this.#app = app;
    this.#timers = timers;
  }

  /** Undefined: the checkpoint says nothing of them. Throws as reading the repository does, RangeError for a row that makes no sense. */
  async find(segment: number, dataStart: number): Promise<ArchivedData | undefined> {
    const key = runDataKey(segment, dataStart);
    for (const run of await this.#newestFirst()) {
      const value = await run.get(key);
      if (value === null) return undefined;
      if (value !== undefined) return decodeArchivedData(value);
    }
    return undefined;
  }

  #newestFirst(): Promise<readonly RunReader[]> {
    if (this.#runs !== undefined) return this.#runs;
    const runs = this.#app
      .latestCheckpoint()
      .then((latest) => (latest?.checkpoint.runs ?? []).map((run) => this.#app.openRun(run)));
    this.#runs = runs;
    const forget = (): void => {
      if (this.#runs === runs) this.#runs = undefined;
    };
    runs.then(() => this.#timers.after(KEPT_MS, forget), forget);
    return runs;
  }
}
