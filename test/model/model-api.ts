import { present } from "../../src/base/assert.ts";
import type { Clock } from "../../src/base/clock.ts";
import type { InodeId, Lsn, MountId } from "../../src/domain/ids.ts";
import type {
  Invalidation,
  MetadataApi,
  ReplyMap,
  ReplyOf,
  Request,
  RequestContext,
  WriteRequest,
} from "../../src/domain/metadata-api.ts";
import type { OpenHarness } from "./harness.ts";
import { contextFactory } from "./harness-context.ts";
import { HeldInodes } from "./held-inodes.ts";
import { invalidationsOf } from "./model-invalidation.ts";
import { ModelLocks } from "./model-locks.ts";
import { rootNode } from "./model-namespace.ts";
import { ModelState, type Snapshot } from "./model-state.ts";
import { changeTree, isRead, readTree } from "./model-tree.ts";

type Reply = ReplyMap[Request["op"]];

/** The model behind the port that the engine has: what the suites are tried on. Keeps every moment; for short runs. */
export class ModelApi implements MetadataApi {
  readonly root = 1 as InodeId;
  readonly #clock: Clock;
  readonly #state: ModelState;
  /** The tree after each LSN. */
  readonly #moments: Snapshot[];
  /** Results of mutations by (mount, unique), for re-sent requests. */
  readonly #results = new Map<string, Reply>();
  readonly #listeners = new Set<(invalidation: Invalidation) => void>();
  readonly #held = new HeldInodes();
  readonly #locks = new ModelLocks(() => this.#moments.push(this.#state.snapshot()));
  #mountCount = 1;
  #nextIno = 2;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#state = new ModelState();
    this.#state.add(rootNode(this.root, { lsn: 1 as Lsn, now: clock.now() }));
    this.#moments = [new Map(), this.#state.snapshot()];
  }

  lastLsn(): Lsn {
    return (this.#moments.length - 1) as Lsn;
  }

  attachMount(): MountId {
    this.#mountCount++;
    return this.#mountCount as MountId;
  }

  execute<R extends Request>(request: R, context: RequestContext): ReplyOf<R> | Promise<ReplyOf<R>> {
    const reply = this.#execute(request, context);
    if (reply instanceof Promise) return reply as Promise<ReplyOf<R>>;
    this.#held.note(request, reply, context);
    return reply as ReplyOf<R>;
  }

  subscribe(listener: (invalidation: Invalidation) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async close(): Promise<void> {}

  #execute(request: Request, context: RequestContext): Reply | Promise<Reply> {
    if (request.op === "getlk" || request.op === "setlk") this.#state.node(request.ino);
    if (request.op === "getlk") return this.#locks.get(request, context);
    if (request.op === "setlk") return this.#locks.set(request, context);
    if (isRead(request)) {
      return request.op === "statfs" ? readTree(this.#state, request) : readTree(this.#at(request.at), request);
    }
    const key = `${context.actor.mountId}:${context.unique}`;
    if (context.resent && this.#results.has(key)) return this.#results.get(key);
    if (request.op === "forget") {
      this.#held.forget(context.actor.mountId, request.ino);
      if (this.#held.isHeld(request.ino)) return undefined;
    }
    return this.#change(request, { context, key });
  }

  #change(request: WriteRequest, { context, key }: { context: RequestContext; key: string }): Reply {
    const before = this.#state.snapshot();
    const { reply, effect } = changeTree(this.#state, request, {
      lsn: this.#moments.length as Lsn,
      now: this.#clock.now(),
      uid: context.actor.uid,
      gid: context.actor.gid,
      allocate: () => this.#nextIno++ as InodeId,
      past: (at) => this.#at(at),
    });
    if (effect !== "changed") {
      this.#state.restore(before);
      return reply;
    }
    // The kernel of a temporary file's mount learns of it by the reply, which is still to come.
    if (request.op !== "tmpfile") this.#endUnheld(before);
    for (const { ino } of before.values()) if (!this.#state.has(ino)) this.#locks.gone(ino);
    const after = this.#state.snapshot();
    this.#moments.push(after);
    this.#results.set(key, reply);
    for (const event of invalidationsOf(request, { before, after, mountId: context.actor.mountId })) {
      for (const listener of this.#listeners) listener(event);
    }
    return reply;
  }

  /** An inode that lost its last name ends at once when no kernel knows it. */
  #endUnheld(before: Snapshot): void {
    for (const node of [...this.#state.nodes()]) {
      const orphaned = node.nlink === 0 && before.get(node.ino)?.nlink !== 0;
      if (orphaned && !this.#held.isHeld(node.ino)) this.#state.remove(node.ino);
    }
  }

  #at(at: Lsn): ModelState {
    if (at >= this.lastLsn()) return this.#state;
    return new ModelState(present(this.#moments[at], "a moment"));
  }
}

/** Opens the model as if it were an engine. A crash loses nothing, since it keeps everything in one object. */
export const openModel: OpenHarness = async ({ clock }) => {
  const api = new ModelApi(clock);
  const harness = {
    api,
    root: api.root,
    context: contextFactory(1 as MountId),
    attachMount: () => api.attachMount(),
    lastLsn: () => api.lastLsn(),
    settle: async () => {},
    reopen: async () => harness,
    close: () => api.close(),
  };
  return harness;
};
