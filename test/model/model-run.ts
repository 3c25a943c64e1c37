import { present } from "../../src/base/assert.ts";
import { FsError } from "../../src/domain/errors.ts";
import { type InodeId, LIVE, type Lsn, type MountId } from "../../src/domain/ids.ts";
import { type Inode, isDirectory, isRegular } from "../../src/domain/inode.ts";
import {
  type Invalidation,
  RENAME_WHITEOUT,
  type ReadRequest,
  type ReplyOf,
  type Request,
  type RequestContext,
  type WriteRequest,
} from "../../src/domain/metadata-api.ts";
import { compareOutcomes, expectSame, InodeFacts, Mismatch, type Outcome } from "./compare.ts";
import { compareTree } from "./compare-tree.ts";
import type { Harness, OpenHarness } from "./harness.ts";
import { HeldInodes } from "./held-inodes.ts";
import { ManualClock } from "./manual-clock.ts";
import { invalidationsOf, missingInvalidations } from "./model-invalidation.ts";
import { type ModelNode, ModelState, type Snapshot } from "./model-state.ts";
import { changeTree, isRead, readTree } from "./model-tree.ts";
import { isUnspecified } from "./model-unspecified.ts";
import { DIRECTORY_SLOTS, type Event, type Operation, type Slot, SPECIAL_SLOTS, type Step } from "./operations.ts";
import { Random } from "./random.ts";
import { resolveOperation } from "./resolve-operation.ts";

/** Moments kept: every one of the last few, and one in some of the older. */
const MOMENTS_RECENT = 64;
const MOMENTS_THINNED = 16;
/** Mutations that may be re-sent. */
const RESENDABLE_MAX = 8;
/** Past moments compared when a run ends. */
const FINAL_MOMENTS = 4;

/** Where a run failed: the step of that index (the count of steps: the comparison at the end), and why. */
export type Failure = { readonly index: number; readonly message: string };

export type RunResult = {
  readonly failure?: Failure;
  readonly executed: number;
  readonly skipped: number;
  readonly records: number;
};

/** Runs `steps` on a fresh engine and on the model, and compares. Only a Mismatch or a defect of the engine is a failure. */
export async function runSteps(open: OpenHarness, steps: readonly Step[]): Promise<RunResult> {
  const clock = new ManualClock();
  const run = await ModelRun.begin(await open({ clock }), clock);
  let index = 0;
  try {
    for (; index < steps.length; index++) await run.step(present(steps[index], "a step"));
    await run.compareAtEnd();
    return run.result();
  } catch (error) {
    const message =
      error instanceof Mismatch ? error.message : `threw ${error instanceof Error ? error.stack : String(error)}`;
    return { ...run.result(), failure: { index, message } };
  } finally {
    await run.close();
  }
}

type Recorded = { readonly request: Request; readonly context: RequestContext; readonly reply: unknown };
type Moment = { readonly lsn: Lsn; readonly snapshot: Snapshot };
type Call = { readonly request: Request; readonly context: RequestContext };

class ModelRun {
  #harness: Harness;
  readonly #clock: ManualClock;
  readonly #model: ModelState;
  readonly #facts = new InodeFacts();
  readonly #slots = new Map<Slot, InodeId>();
  #moments: Moment[] = [];
  #recorded: Recorded[] = [];
  /** Every inode number the engine ever gave. */
  readonly #known = new Set<InodeId>();
  #highest = 0;
  readonly #mounts: readonly MountId[];
  readonly #held = new HeldInodes();
  /** After a crash an engine no longer knows which kernel knows what, and may keep orphans longer. */
  #crashed = false;
  /** What other caches were told since the last request. */
  #told: Invalidation[] = [];
  #executed = 0;
  #skipped = 0;

  private constructor(harness: Harness, clock: ManualClock, root: Inode) {
    this.#harness = harness;
    this.#clock = clock;
    this.#model = new ModelState();
    this.#model.add({ ...root, entries: new Map(), xattrs: new Map(), content: [], linkable: false });
    this.#slots.set(0, root.ino);
    this.#noteInode(root.ino);
    this.#moments.push({ lsn: harness.lastLsn(), snapshot: this.#model.snapshot() });
    this.#mounts = [harness.context().actor.mountId, harness.attachMount()];
    this.#subscribe();
  }

  #subscribe(): void {
    this.#harness.api.subscribe((event) => this.#told.push(event));
  }

  static async begin(harness: Harness, clock: ManualClock): Promise<ModelRun> {
    const root = await harness.api.execute({ op: "getattr", ino: harness.root, at: LIVE }, harness.context());
    return new ModelRun(harness, clock, root);
  }

  result(): RunResult {
    return { executed: this.#executed, skipped: this.#skipped, records: this.#harness.lastLsn() };
  }

  async close(): Promise<void> {
    await this.#harness.close();
  }

  async step(step: Step): Promise<void> {
    this.#clock.step(step.clock);
    const action = step.do;
    switch (action.op) {
      case "settle":
      case "reopen":
      case "resend":
      case "check":
        return this.#event(action);
      default:
        return this.#operation(action, step);
    }
  }

  async compareAtEnd(): Promise<void> {
    const random = new Random(this.#harness.lastLsn());
    await this.#compareTree(-1, random);
    for (let count = 0; count < FINAL_MOMENTS; count++) await this.#compareTree(random.u32(), random);
  }

  async #event(event: Event): Promise<void> {
    switch (event.op) {
      case "settle":
        await this.#harness.settle();
        return this.#forgetUnreadable();
      case "reopen": {
        const before = this.#harness.lastLsn();
        this.#harness = await this.#harness.reopen();
        this.#crashed = true;
        this.#subscribe();
        expectSame("last LSN after reopen", this.#harness.lastLsn(), before);
        return this.#forgetUnreadable();
      }
      case "resend":
        return this.#resend(event.back);
      default:
        return this.#compareTree(event.moment, new Random(event.seed));
    }
  }

  /** Moments that a bounded history let go. Now is always one. */
  #forgetUnreadable(): void {
    const harness = this.#harness;
    if (harness.isReadable === undefined) return;
    this.#moments = this.#moments.filter(({ lsn }) => harness.isReadable?.(lsn));
    if (this.#moments.at(-1)?.lsn === harness.lastLsn()) return;
    this.#moments.push({ lsn: harness.lastLsn(), snapshot: this.#model.snapshot() });
  }

  async #operation(operation: Operation, step: Step): Promise<void> {
    const request = resolveOperation(operation, {
      inode: (slot) => this.#slots.get(slot) ?? this.#anotherSlot(slot),
      moment: (index) => (index < 0 ? LIVE : this.#moment(index).lsn),
    });
    const state = request === undefined ? undefined : this.#stateOf(request);
    if (request === undefined || state === undefined || isUnspecified(state, request)) {
      this.#skipped++;
      return;
    }
    this.#executed++;
    const base = this.#harness.context();
    const mountId = present(this.#mounts[step.mount], "a mount");
    const context = { ...base, actor: { ...base.actor, mountId, uid: step.uid, gid: step.gid } };
    if (request.op === "forget") return this.#forget(request, context);
    const reply = isRead(request)
      ? await this.#read(request, { state, context })
      : await this.#change({ request, context });
    if (reply !== undefined && "into" in operation) this.#fill(operation.into, reply, state);
  }

  #fill(slot: Slot, ino: InodeId, state: ModelState): void {
    const { mode } = state.node(ino);
    const kind = isDirectory(mode) ? "directory" : isRegular(mode) ? "file" : "special";
    if (kindOfSlot(slot) === kind) this.#slots.set(slot, ino);
  }

  /** An empty slot stands for another of its kind, so that few steps go to waste. */
  #anotherSlot(slot: Slot): InodeId | undefined {
    const filled = [...this.#slots].filter(([other]) => kindOfSlot(other) === kindOfSlot(slot));
    return filled[slot % filled.length]?.[1];
  }

  #moment(index: number): Moment {
    return present(this.#moments[index % this.#moments.length], "a moment");
  }

  /** The tree that a request reads, by which it is judged. */
  #stateOf(request: Request): ModelState {
    if (!("at" in request) || request.at === LIVE) return this.#model;
    return this.#past(request.at);
  }

  #past(at: Lsn): ModelState {
    return new ModelState(present(this.#moments.find((moment) => moment.lsn === at)?.snapshot, "a kept moment"));
  }

  async #read(
    request: ReadRequest,
    { state, context }: { state: ModelState; context: RequestContext },
  ): Promise<InodeId | undefined> {
    const before = this.#harness.lastLsn();
    const engine = await this.#execute({ request, context });
    const model = outcomeOf(() => readTree(state, request));
    const node = request.op === "lseek" && state.has(request.ino) ? state.node(request.ino) : undefined;
    const at = "at" in request && request.at !== LIVE ? request.at : before;
    compareOutcomes(engine, model, { request, facts: this.#facts, at, node });
    expectSame(`records made by ${request.op}`, this.#harness.lastLsn() - before, 0);
    return request.op === "lookup" && "reply" in engine ? (engine.reply as Inode).ino : undefined;
  }

  async #change(call: Call): Promise<InodeId | undefined> {
    const { request, context } = call;
    if (isRead(request)) throw new Error("a read is no change");
    const before = this.#harness.lastLsn();
    const kept = this.#model.snapshot();
    const engine = await this.#execute(call);
    const told = this.#told;
    const created = await this.#createdInode(call, engine);
    this.#told = told;
    let effect = "unchanged";
    const model = outcomeOf(() => {
      const applied = changeTree(this.#model, request, {
        lsn: (before + 1) as Lsn,
        now: this.#clock.now(),
        uid: context.actor.uid,
        gid: context.actor.gid,
        allocate: () => this.#allocate(created),
        past: (at) => this.#past(at),
        ...(request.op === "copyRange" && "reply" in engine ? { copiedBytes: engine.reply as bigint } : {}),
      });
      effect = applied.effect;
      return applied.reply;
    });
    const records = this.#harness.lastLsn() - before;
    const mayStay = effect === "maybe" && records === 0;
    if (mayStay) this.#model.restore(kept);
    compareOutcomes(engine, model, { request, facts: this.#facts, at: this.#harness.lastLsn() });
    if (!mayStay) expectSame(`records made by ${request.op}`, records, effect === "unchanged" ? 0 : 1);
    this.#checkTold(request, { before: kept, after: this.#model.snapshot(), mountId: context.actor.mountId });
    await this.#endUnheld(kept);
    if (records === 1) this.#noteRecord(call, "reply" in engine ? engine.reply : undefined);
    return created;
  }

  /** Other caches must be told of everything that changed, and of nothing by a request that changed nothing. */
  #checkTold(request: WriteRequest, change: { before: Snapshot; after: Snapshot; mountId: number }): void {
    const missing = missingInvalidations(invalidationsOf(request, change), this.#told);
    if (missing.length > 0) throw new Mismatch(`${request.op} did not tell other caches of ${describe(missing)}`);
    const changed = [...change.after].some(([ino, node]) => change.before.get(ino) !== node);
    if (!changed && this.#told.length > 0)
      throw new Mismatch(`${request.op} changed nothing, but told ${describe(this.#told)}`);
  }

  /** An inode that lost its last name must stay while a kernel knows it, and else end at once (later, after a crash). */
  async #endUnheld(before: Snapshot): Promise<void> {
    for (const node of [...this.#model.nodes()]) {
      if (node.nlink > 0 || before.get(node.ino)?.nlink === 0) continue;
      const ended = !(await this.#exists(node.ino));
      if (ended && this.#held.isHeld(node.ino))
        throw new Mismatch(`inode ${node.ino} ended, though a mount still holds it`);
      if (!ended && !this.#held.isHeld(node.ino) && !this.#crashed)
        throw new Mismatch(`inode ${node.ino} stays, though nobody holds it`);
      if (ended) this.#model.remove(node.ino);
    }
  }

  async #exists(ino: InodeId): Promise<boolean> {
    return (
      "reply" in (await this.#execute({ request: { op: "getattr", ino, at: LIVE }, context: this.#harness.context() }))
    );
  }

  async #forget(request: Extract<Request, { op: "forget" }>, context: RequestContext): Promise<void> {
    const { ino } = request;
    const before = this.#harness.lastLsn();
    const engine = await this.#execute({ request, context });
    compareOutcomes(engine, { reply: undefined }, { request, facts: this.#facts, at: before });
    this.#held.forget(context.actor.mountId, ino);
    const records = this.#harness.lastLsn() - before;
    const orphan = this.#model.has(ino) && this.#model.node(ino).nlink === 0;
    const mayEnd = orphan && !this.#held.isHeld(ino);
    if (records > 0 && !mayEnd)
      throw new Mismatch(`forget of inode ${ino} made a record, but it has a name or a holder, or is gone`);
    if (records === 0 && mayEnd && !this.#crashed)
      throw new Mismatch(`forget of inode ${ino} did not end it, though nobody holds it`);
    if (records === 0) return;
    expectSame("records made by forget", records, 1);
    this.#model.remove(ino);
    this.#noteRecord({ request, context }, undefined);
  }

  /** The inode that a reply names; a whiteout is in no reply and has to be looked up, as the kernel would. */
  async #createdInode({ request, context }: Call, outcome: Outcome): Promise<InodeId | undefined> {
    if (!("reply" in outcome)) return undefined;
    if (request.op === "rename" && (request.flags & RENAME_WHITEOUT) !== 0) {
      const { parent, name } = request;
      const found = await this.#execute({
        request: { op: "lookup", parent, name, at: LIVE },
        context: { ...context, unique: 0 },
      });
      return "reply" in found ? (found.reply as Inode).ino : undefined;
    }
    const { reply } = outcome;
    return typeof reply === "object" && reply !== null && "ino" in reply ? reply.ino : undefined;
  }

  #allocate(created: InodeId | undefined): InodeId {
    if (created === undefined) throw new Mismatch("the engine made no inode where the model did");
    if (this.#known.has(created) || created <= this.#highest) {
      throw new Mismatch(`inode number ${created} is given after ${this.#highest}`);
    }
    this.#noteInode(created);
    return created;
  }

  #noteInode(ino: InodeId): void {
    this.#known.add(ino);
    this.#highest = Math.max(this.#highest, ino);
  }

  #noteRecord(call: Call, reply: unknown): void {
    this.#recorded = [...this.#recorded, { ...call, reply }].slice(-RESENDABLE_MAX);
    this.#moments.push({ lsn: this.#harness.lastLsn(), snapshot: this.#model.snapshot() });
    const leaving = this.#moments[this.#moments.length - MOMENTS_RECENT];
    if (leaving !== undefined && leaving.lsn % MOMENTS_THINNED !== 0) {
      this.#moments.splice(this.#moments.length - MOMENTS_RECENT, 1);
    }
  }

  /** A record that is there must be answered from, whatever has happened since. */
  async #resend(back: number): Promise<void> {
    const recorded = this.#recorded.at(-1 - back);
    if (recorded?.request.op === "forget") return;
    if (recorded === undefined || this.#hasEnded(recorded.reply)) return;
    const before = this.#harness.lastLsn();
    const outcome = await this.#execute({ request: recorded.request, context: { ...recorded.context, resent: true } });
    if ("code" in outcome)
      throw new Mismatch(`${recorded.request.op} re-sent: got ${outcome.code}, want the first answer`);
    const identity = (reply: unknown): unknown =>
      typeof reply === "object" && reply !== null && "ino" in reply ? reply.ino : reply;
    expectSame(`${recorded.request.op} re-sent`, identity(outcome.reply), identity(recorded.reply));
    expectSame(`records made by ${recorded.request.op} re-sent`, this.#harness.lastLsn() - before, 0);
  }

  /** Whether a reply is of an inode that has been forgotten since: a kernel that waits for the answer does not forget it. */
  #hasEnded(reply: unknown): boolean {
    return typeof reply === "object" && reply !== null && "ino" in reply && !this.#model.has(reply.ino as InodeId);
  }

  async #compareTree(index: number, random: Random): Promise<void> {
    const live = index < 0;
    const moment = live ? { lsn: this.#harness.lastLsn(), snapshot: this.#model.snapshot() } : this.#moment(index);
    const outcome = (request: ReadRequest): Promise<Outcome> =>
      this.#execute({ request, context: this.#harness.context() });
    await compareTree({
      ask: async <R extends ReadRequest>(request: R): Promise<ReplyOf<R>> => {
        const answer = await outcome(request);
        if ("code" in answer)
          throw new Mismatch(`${request.op} at ${moment.lsn}: got ${answer.code} for ${describe(request)}`);
        return answer.reply as ReplyOf<R>;
      },
      refusal: async (request) => {
        const answer = await outcome(request);
        return "code" in answer ? answer.code : undefined;
      },
      expected: moment.snapshot,
      at: live ? LIVE : moment.lsn,
      lsn: moment.lsn,
      facts: this.#facts,
      random,
      known: this.#known,
    });
  }

  /** Runs a request on the engine. The data of a write is overwritten as soon as the call returns: it was only lent. */
  async #execute({ request, context }: Call): Promise<Outcome> {
    this.#told = [];
    const lent = request.op === "write" ? { ...request, data: Buffer.from(request.data) } : request;
    try {
      const answer = this.#harness.api.execute(lent, context);
      if (lent.op === "write") lent.data.fill(0xee);
      const reply = await answer;
      this.#held.note(request, reply, context);
      // Read pieces belong to us for this turn only.
      return { reply: request.op === "read" ? [Buffer.concat(reply as Uint8Array[])] : reply };
    } catch (error) {
      if (error instanceof FsError) return { code: error.code };
      throw error;
    }
  }
}

function kindOfSlot(slot: Slot): "directory" | "file" | "special" {
  if (slot < DIRECTORY_SLOTS) return "directory";
  return slot < SPECIAL_SLOTS ? "file" : "special";
}

function outcomeOf(act: () => unknown): Outcome {
  try {
    return { reply: act() as ModelNode };
  } catch (error) {
    if (error instanceof FsError) return { code: error.code };
    throw error;
  }
}

const describe = (value: unknown): string =>
  JSON.stringify(value, (_key, part: unknown) => (typeof part === "bigint" ? `${part}` : part));
