import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import type { Timers } from "../../base/timers.ts";
import type { AppId } from "../../domain/ids.ts";
import type { KvStore } from "../../kv/kv-store.ts";
import { KEY_LOCK_DAYS_MAX } from "../../repository/repository.ts";

/** How often it is looked whether something is due: costs nothing on the way to a store. */
const CHECK_MS = 3_600_000;
/** After the start a service has other things to do. */
const FIRST_MS = 60_000;

const DAY_MS = 86_400_000;

/** Locks are made to last again so often in each span of theirs: a pass may fail twice in a row, and costs one request for each object. */
const PASSES_PER_SPAN = 3;

/** The part of a repository that has locks. */
export type LockedRepository = {
  readonly id: string;
  /** undefined: nothing is locked. */
  readonly lockDays: number | undefined;
  /** Of keys and settings. */
  extendLocks(): Promise<unknown>;
  openApp(appId: AppId): Promise<{ extendLocks(options: { signal: AbortSignal }): Promise<unknown> }>;
};

export type LockKeeperParts = {
  /** What is shipped where now. */
  readonly shipped: () => Promise<
    readonly { readonly repository: LockedRepository; readonly apps: readonly AppId[] }[]
  >;
  /** Remembers when passes were. What is lost costs another pass. */
  readonly memory: () => Promise<KvStore>;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
};

/** Keeps what is shipped under Object Lock, for as long as it is: a repository without locks, and one that was looked after lately, is not asked anything. */
export class LockKeeper {
  readonly #parts: LockKeeperParts;
  readonly #abort = new AbortController();
  #cancel: (() => void) | undefined;
  /** Never rejects. */
  #running: Promise<void> = Promise.resolve();

  constructor(parts: LockKeeperParts) {
    this.#parts = parts;
  }

  start(): void {
    this.#arm(FIRST_MS);
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    this.#cancel?.();
    await this.#running;
  }

  #arm(delayMs: number): void {
    if (this.#abort.signal.aborted) return;
    this.#cancel = this.#parts.timers.after(delayMs, () => {
      this.#running = this.check().then(() => this.#arm(CHECK_MS));
    });
  }

  /** Extends what is due. Never rejects: what fails is tried again at the next check, and is an alarm. */
  async check(): Promise<void> {
    const { shipped, log } = this.#parts;
    try {
      for (const { repository, apps } of await shipped()) {
        const { id, lockDays } = repository;
        if (lockDays === undefined) continue;
        await this.#pass(id, Math.min(lockDays, KEY_LOCK_DAYS_MAX), () => repository.extendLocks());
        for (const appId of apps)
          await this.#pass(`${id}/${appId}`, lockDays, async () =>
            (await repository.openApp(appId)).extendLocks({ signal: this.#abort.signal }),
          );
      }
    } catch (error) {
      if (!this.#abort.signal.aborted)
        log.alarm("locks of a repository could not be extended", { code: "LOCKS_NOT_EXTENDED", cause: error });
    }
  }

  async #pass(part: string, lockDays: number, extend: () => Promise<unknown>): Promise<void> {
    const { memory, clock, log } = this.#parts;
    this.#abort.signal.throwIfAborted();
    const index = await memory();
    const key = Buffer.from(`locks/${part}`);
    const lastSec = Number(index.getSync(key)?.toString() ?? Number.NaN);
    const nowSec = clock.now().sec;
    // A clock that went back says nothing: then it is done once too often.
    const isLate = !(nowSec >= lastSec && nowSec - lastSec < (lockDays * DAY_MS) / 1000 / PASSES_PER_SPAN);
    if (!isLate) return;
    await extend();
    await index.batch([{ type: "put", key, value: Buffer.from(String(nowSec)) }]);
    log.info("the locks of a repository last again", { part, lockDays });
  }
}
