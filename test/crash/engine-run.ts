import path from "node:path";
import type { Clock } from "../../src/base/clock.ts";
import type { Log } from "../../src/base/log.ts";
import { FsError } from "../../src/domain/errors.ts";
import type { AppId, InodeId, Lsn, MountId, ShareId } from "../../src/domain/ids.ts";
import type { Request, RequestContext } from "../../src/domain/metadata-api.ts";
import type { KvStore } from "../../src/kv/kv-store.ts";
import { OpenApp, type OpenAppOptions, SERVICE_CONTEXT } from "../../src/meta/open-app.ts";
import { createShare } from "../../src/meta/shares.ts";
import { generateSteps } from "../model/generate.ts";
import { contextFactory } from "../model/harness-context.ts";
import type { ManualClock } from "../model/manual-clock.ts";
import { DIRECTORY_SLOTS, type Operation, type Slot, type Step } from "../model/operations.ts";
import { Random } from "../model/random.ts";
import { resolveOperation } from "../model/resolve-operation.ts";

export const ENGINE_APP_ID = "0123456789abcdef0123456789abcdef" as AppId;
const SHARE_ID = "fedcba9876543210fedcba9876543210" as ShareId;
const MOUNT = 1 as MountId;

/** Small, so that every run crosses many borders. */
const SEGMENT_BYTES = 512 * 1024;

/** Opens the one app of an engine's folder. */
export function openEngineApp(options: {
  readonly folder: string;
  readonly kv: KvStore;
  readonly clock: Clock;
  readonly log: Log;
  readonly backend?: OpenAppOptions["backend"];
}): Promise<OpenApp> {
  const { folder, kv, clock, log, backend } = options;
  return OpenApp.open({
    appId: ENGINE_APP_ID,
    slot: 1,
    folder: engineJournal(folder),
    kv,
    clock,
    log,
    diskSpace: () => ({ totalBytes: 2n ** 40n, freeBytes: 2n ** 39n }),
    journalLimits: { segmentBytesMax: SEGMENT_BYTES },
    ...(backend === undefined ? {} : { backend }),
  });
}

export function engineJournal(folder: string): string {
  return path.join(folder, "journal");
}

/**
 * A run of random requests that is the same whenever its seed is: the engine is a function of rows, requests and clock. So what a crashed run must
 * have left at an LSN is what another run has at it.
 */
export class EngineRun {
  readonly app: OpenApp;
  readonly root: InodeId;
  readonly #clock: ManualClock;
  readonly #steps: readonly Step[];
  readonly #slots = new Map<Slot, InodeId>();
  readonly #context = contextFactory(MOUNT);
  #next = 0;

  private constructor(app: OpenApp, clock: ManualClock, steps: readonly Step[]) {
    this.app = app;
    this.#clock = clock;
    this.#steps = steps;
    const share = createShare(app.core, { id: SHARE_ID, name: "files", views: "root" }, SERVICE_CONTEXT);
    this.root = share.root;
    this.#slots.set(0, share.root);
    app.engine.attachMount(MOUNT, { resumed: false });
  }

  /** Begins on an empty app that has this clock. */
  static begin(app: OpenApp, clock: ManualClock, run: { readonly seed: number; readonly steps: number }): EngineRun {
    return new EngineRun(app, clock, generateSteps(new Random(run.seed), run.steps));
  }

  /** Makes the next request; answers it with its reply, or the promise of one, or undefined at the end. Failures that the engine answers are replies. */
  next(): { readonly request: Request; readonly reply: unknown } | undefined {
    for (;;) {
      const step = this.#steps[this.#next++];
      if (step === undefined) return undefined;
      this.#clock.step(step.clock);
      const request = this.#requestOf(step);
      if (request === undefined) continue;
      const context = this.#contextOf(step);
      const reply = outcome(() => this.app.engine.execute(request, context));
      if (typeof reply === "object" && reply !== null && "ino" in reply && "into" in step.do)
        this.#slots.set(step.do.into, reply.ino as InodeId);
      return { request, reply };
    }
  }

  #requestOf(step: Step): Request | undefined {
    const operation = step.do;
    if (operation.op === "settle" || operation.op === "reopen" || operation.op === "resend" || operation.op === "check")
      return undefined;
    return resolveOperation(operation as Operation, {
      inode: (slot) => this.#slots.get(slot) ?? this.#anotherSlot(slot),
      moment: (index) =>
        index < 0 ? (Number.MAX_SAFE_INTEGER as Lsn) : ((1 + (index % this.app.core.lastLsn)) as Lsn),
    });
  }

  #anotherSlot(slot: Slot): InodeId | undefined {
    const filled = [...this.#slots].filter(([other]) => other < DIRECTORY_SLOTS === slot < DIRECTORY_SLOTS);
    return filled[slot % filled.length]?.[1];
  }

  #contextOf(step: Step): RequestContext {
    const base = this.#context();
    return { ...base, actor: { ...base.actor, uid: step.uid, gid: step.gid } };
  }
}

function outcome(act: () => unknown): unknown {
  try {
    return act();
  } catch (error) {
    if (error instanceof FsError && error.code !== "EIO") return error.code;
    throw error;
  }
}
