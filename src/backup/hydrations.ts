import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { Timers } from "../base/timers.ts";
import type { ArchiveStatus } from "../domain/admin-status.ts";
import type { AppId } from "../domain/ids.ts";
import type { OpenApp } from "../meta/open-app.ts";
import type { Turns } from "../meta/reading/turns.ts";
import { readArchiveFile, writeArchiveFile } from "./archive-file.ts";
import { Hydrator } from "./hydrate.ts";
import { RepositoryArchive } from "./repository-archive.ts";

/** A third of a slow disk, and of a usual line to a store: the mounts have the rest. */
const BYTES_PER_SECOND_MAX = 32 * 1024 * 1024;

/** Waits between attempts while the store can't be reached or the disk is full. */
const RETRY_MS_MIN = 10_000;
const RETRY_MS_MAX = 10 * 60_000;

export type HydrationsParts = {
  readonly dataFolder: string;
  readonly apps: () => readonly OpenApp[];
  readonly clock: Clock;
  readonly timers: Timers;
  readonly turns: Turns;
  readonly log: Log;
  readonly bytesPerSecondMax?: number;
};

/** Brings the data of lazily recovered apps in, in the background: one app after the other, slowly, and again when the store could not be reached. */
export class Hydrations {
  readonly #parts: HydrationsParts;
  readonly #abort = new AbortController();
  readonly #status = new Map<AppId, ArchiveStatus>();
  #running: Promise<void> | undefined;
  #endWait: (() => void) | undefined;

  constructor(parts: HydrationsParts) {
    this.#parts = parts;
  }

  /** Once, when the apps are open. */
  start(): void {
    this.#running = this.#run().catch((error: unknown) => {
      if (!this.#abort.signal.aborted)
        this.#parts.log.error("bringing recovered apps' data in failed", { cause: error });
    });
  }

  /** Ends within seconds; before the apps are closed. What is left goes on at the next start. */
  async stop(): Promise<void> {
    this.#abort.abort();
    this.#endWait?.();
    await this.#running;
  }

  /** Undefined: all of the app is here. */
  status(id: AppId): ArchiveStatus | undefined {
    return this.#status.get(id);
  }

  async #run(): Promise<void> {
    const open: OpenApp[] = [];
    for (const app of this.#parts.apps()) if (await this.#note(app)) open.push(app);
    let delayMs = RETRY_MS_MIN;
    while (open.length > 0 && !this.#abort.signal.aborted) {
      const app = open[0] as OpenApp;
      if (await this.#hydrate(app)) {
        open.shift();
        delayMs = RETRY_MS_MIN;
        continue;
      }
      await this.#wait(delayMs);
      delayMs = Math.min(2 * delayMs, RETRY_MS_MAX);
    }
  }

  /** Answers whether there is something to bring in. */
  async #note(app: OpenApp): Promise<boolean> {
    const { archive } = app.core;
    const file = await readArchiveFile(this.#parts.dataFolder, app.id);
    if (archive === undefined || file === undefined) return false;
    const { description, lastLsn } = archive;
    this.#status.set(app.id, { description, lastLsn, isHydrated: file.isHydrated, bytesDone: 0n, damagedBytes: 0n });
    return !file.isHydrated;
  }

  /** Answers whether there is nothing left to do for the app. */
  async #hydrate(app: OpenApp): Promise<boolean> {
    const { log, clock, turns, timers, dataFolder, bytesPerSecondMax } = this.#parts;
    const source = app.core.archive;
    const known = this.#status.get(app.id);
    if (known === undefined || !(source instanceof RepositoryArchive)) return true;
    const { waitsFor: _, ...status } = known;
    const tell = (more: Partial<ArchiveStatus>): void => void this.#status.set(app.id, { ...status, ...more });
    const hydrator = new Hydrator({
      app,
      source,
      clock,
      timers,
      turns,
      log,
      bytesPerSecondMax: bytesPerSecondMax ?? BYTES_PER_SECOND_MAX,
      onProgress: (bytes) => tell({ bytesDone: status.bytesDone + BigInt(bytes) }),
    });
    try {
      const { bytes, damagedBytes } = await hydrator.run(this.#abort.signal);
      const isHydrated = damagedBytes === 0;
      if (isHydrated) await source.hydrated();
      const file = await readArchiveFile(dataFolder, app.id);
      if (file !== undefined) await writeArchiveFile(dataFolder, app.id, { ...file, isHydrated });
      tell({ bytesDone: status.bytesDone + BigInt(bytes), damagedBytes: BigInt(damagedBytes), isHydrated });
      log.info("an app's data are all in the data folder now", { appId: app.id, bytes, damagedBytes });
      return true;
    } catch (error) {
      if (this.#abort.signal.aborted) return false;
      const bytesDone = status.bytesDone + BigInt(hydrator.bytesDone);
      tell({ bytesDone, waitsFor: (error as Error).message });
      log.warn("bringing an app's data in is interrupted; it is tried again", { appId: app.id, cause: error });
      return false;
    }
  }

  async #wait(delayMs: number): Promise<void> {
    if (this.#abort.signal.aborted) return;
    await new Promise<void>((resolve) => {
      const cancel = this.#parts.timers.after(delayMs, resolve);
      this.#endWait = () => {
        cancel();
        resolve();
      };
    });
    this.#endWait = undefined;
  }
}
