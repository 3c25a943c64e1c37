import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { readU64Be } from "../../src/base/bytes.ts";
import type { Clock } from "../../src/base/clock.ts";
import { MemoryLog } from "../../src/base/log.ts";
import { ManualTimers } from "../../src/base/timers.ts";
import type { AppId, InodeId, Lsn, MountId, ShareId } from "../../src/domain/ids.ts";
import { plainKey, prefixEnd, TABLE } from "../../src/meta/keys.ts";
import { OpenApp, SERVICE_CONTEXT } from "../../src/meta/open-app.ts";
import { addSnapshot, removeSnapshot, snapshots } from "../../src/meta/reading/snapshot-rows.ts";
import { SystemTurns } from "../../src/meta/reading/turns.ts";
import { createShare } from "../../src/meta/shares.ts";
import { SpaceKeeper } from "../../src/meta/space/space-keeper.ts";
import { decodeUse } from "../../src/meta/space/space-rows.ts";
import type { Harness, OpenHarness } from "../model/harness.ts";
import { contextFactory } from "../model/harness-context.ts";
import { Random } from "../model/random.ts";
import { audit } from "./audit.ts";
import { LosingKv } from "./losing-kv.ts";

const APP_ID = "0123456789abcdef0123456789abcdef" as AppId;
const SHARE_ID = "fedcba9876543210fedcba9876543210" as ShareId;
const FIRST_MOUNT = 1 as MountId;

/** As in the model run: older moments than the last 64 are kept only at multiples of this. */
const MOMENTS_THINNED = 16;

/** What a run showed besides agreeing with the model. */
export type BoundedRun = {
  collections: number;
  interruptions: number;
  removed: number;
  relocations: number;
  journalBytesMax: number;
};

export type BoundedOptions = {
  readonly seed: number;
  readonly segmentBytesMax: number;
  readonly historyBytesMax: number;
  /** Interrupt a third of the runs of the keeper at a step. */
  readonly interrupts: boolean;
  readonly run: BoundedRun;
};

/** Thrown at a step of the keeper, as a crash would end it. */
class Interruption extends Error {}

/** Opens an engine whose history is tiny, and kept so whenever the model test lets things settle; there snapshots come and go, too. */
export function openBoundedEngine(options: BoundedOptions): OpenHarness {
  return async ({ clock }) => {
    const folder = mkdtempSync(path.join(tmpdir(), "tidemark-space-"));
    const engine = new BoundedEngine(folder, clock, options);
    await engine.open();
    return engine;
  };
}

class BoundedEngine implements Harness {
  readonly #folder: string;
  readonly #clock: Clock;
  readonly #kv: LosingKv;
  readonly #options: BoundedOptions;
  readonly #random: Random;
  readonly log = new MemoryLog();
  readonly #mounts: MountId[] = [];
  #app: OpenApp | undefined;
  #nextSnapshot = 1;
  #lastKept = 0 as Lsn;
  #retiredAt = 0 as Lsn;
  root = 0 as InodeId;
  readonly context = contextFactory(FIRST_MOUNT);

  constructor(folder: string, clock: Clock, options: BoundedOptions, kv = new LosingKv()) {
    this.#folder = folder;
    this.#clock = clock;
    this.#options = options;
    this.#random = new Random(options.seed);
    this.#kv = kv;
  }

  get app(): OpenApp {
    if (this.#app === undefined) throw new Error("not open");
    return this.#app;
  }

  /** Notes moments that the model test keeps for long: those are worth a snapshot. */
  get api(): Harness["api"] {
    const { engine } = this.app;
    return {
      execute: (request, context) => {
        const before = this.lastLsn();
        try {
          return engine.execute(request, context);
        } finally {
          if (this.lastLsn() > before && this.lastLsn() % MOMENTS_THINNED === 0) this.#lastKept = this.lastLsn();
        }
      },
      subscribe: (listener) => engine.subscribe(listener),
      close: () => engine.close(),
    };
  }

  async open(): Promise<void> {
    this.#app = await OpenApp.open({
      appId: APP_ID,
      slot: 1,
      folder: path.join(this.#folder, "journal"),
      kv: this.#kv,
      clock: this.#clock,
      log: this.log,
      diskSpace: () => ({ totalBytes: 2n ** 40n, freeBytes: 2n ** 39n }),
      journalLimits: { segmentBytesMax: this.#options.segmentBytesMax },
    });
    if (this.#mounts.length > 0) {
      for (const mount of this.#mounts) this.app.engine.attachMount(mount, { resumed: true });
      return;
    }
    this.root = createShare(this.app.core, { id: SHARE_ID, name: "files", views: "root" }, SERVICE_CONTEXT).root;
    this.app.engine.attachMount(FIRST_MOUNT, { resumed: false });
    this.#mounts.push(FIRST_MOUNT);
  }

  attachMount(): MountId {
    const mount = (this.#mounts.length + 1) as MountId;
    this.#mounts.push(mount);
    this.app.engine.attachMount(mount, { resumed: false });
    return mount;
  }

  lastLsn(): Lsn {
    return this.app.core.lastLsn;
  }

  isReadable(lsn: Lsn): boolean {
    return this.app.core.moments.isReadable(lsn);
  }

  async settle(): Promise<void> {
    this.#changeSnapshots();
    const interruptAfter = this.#options.interrupts && this.#random.oneIn(2) ? 1 + this.#random.below(8) : undefined;
    await this.#collect(interruptAfter);
    await this.app.journal.sync(this.app.core.lastLsn);
    await this.app.applier.reached(this.app.core.lastLsn);
    this.app.core.appendFailed();
    const alarm = this.log.lines.find(({ level }) => level === "alarm");
    if (alarm !== undefined) throw new Error(`alarm: ${alarm.message} ${JSON.stringify(alarm.fields)}`);
  }

  #changeSnapshots(): void {
    const { core } = this.app;
    const names = [...snapshots(core)].map(({ name }) => name);
    if (names.length > 0 && (names.length > 5 || this.#random.oneIn(4)))
      removeSnapshot(core, this.#random.pick(names), SERVICE_CONTEXT);
    if (this.#random.oneIn(3) || core.lastTime === undefined || !this.isReadable(this.#lastKept)) return;
    const of = { lsn: this.#lastKept, time: core.lastTime };
    addSnapshot(core, { name: `s${this.#nextSnapshot++}`, automatic: false, of }, SERVICE_CONTEXT);
  }

  async #collect(interruptAfter: number | undefined): Promise<void> {
    const { run, historyBytesMax } = this.#options;
    let steps = 0;
    const keeper = new SpaceKeeper({
      apps: () => [this.app],
      diskSpace: () => ({ totalBytes: 2n ** 40n, freeBytes: 2n ** 39n }),
      clock: this.#clock,
      timers: new ManualTimers(),
      turns: new SystemTurns(),
      log: this.log,
      historyBytesMax: BigInt(historyBytesMax),
      onStep: (step) => {
        if (step === "retired") this.#retiredAt = this.lastLsn();
        if (step === "synced") this.#checkDurable();
        if (step === "removed") run.removed++;
        if (step === "copied") run.relocations++;
        if (++steps === interruptAfter) throw new Interruption(step);
      },
    });
    try {
      await keeper.runOnce();
      run.collections++;
      const wrong = audit(this.app);
      if (wrong.length > 0)
        throw new Error(`after a collection: ${wrong.length} faults, ${wrong.slice(0, 5).join("; ")}`);
      const { journal } = this.app;
      run.journalBytesMax = Math.max(
        run.journalBytesMax,
        journal.segments().reduce((sum, { bytes }) => sum + bytes, 0),
      );
    } catch (error) {
      if (!(error instanceof Interruption)) throw error;
      run.interruptions++;
    }
  }

  /** What a segment's removal counts on: nothing of it is only in memory. */
  #checkDurable(): void {
    const { journal, store } = this.app;
    const gte = plainKey(TABLE.SEGMENT_USE);
    for (const { key, value } of store.range({ gte, lt: prefixEnd(gte), limit: 10_000 })) {
      const { state } = decodeUse(value);
      const summary = journal.segments().find(({ segment }) => segment === readU64Be(key, 1));
      if (state === "kept" || state === "damaged" || summary === undefined) continue;
      if (summary.lastLsn > this.#kv.syncedLsn())
        throw new Error(`segment ${summary.segment} is to go, but the KV could fall back behind it`);
    }
    if (journal.durableLsn < this.#retiredAt)
      throw new Error("a segment is to go that a power loss would ask for again");
  }

  async reopen(): Promise<Harness> {
    // The process is gone: nothing more reaches the KV. What the journal has not synced is in the page cache, as after kill -9.
    await this.app.applier.close();
    if (this.#random.oneIn(2)) {
      await this.app.journal.sync(this.app.core.lastLsn);
      await this.#kv.lose(this.#random.below(101) / 100);
    }
    const next = new BoundedEngine(this.#folder, this.#clock, { ...this.#options, seed: this.#random.u32() }, this.#kv);
    next.root = this.root;
    next.#nextSnapshot = this.#nextSnapshot;
    next.#mounts.push(...this.#mounts);
    await next.open();
    return next;
  }

  async close(): Promise<void> {
    await this.app.close();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
