import { expect, test } from "vitest";
import { present } from "../../src/base/assert.ts";
import { FsError } from "../../src/domain/errors.ts";
import type { InodeId, MountId } from "../../src/domain/ids.ts";
import { S_IFREG } from "../../src/domain/inode.ts";
import type { FileLock, RequestContext, WriteRequest } from "../../src/domain/metadata-api.ts";
import type { Harness } from "./harness.ts";
import { ManualClock } from "./manual-clock.ts";
import { ModelLocks } from "./model-locks.ts";
import { openEngine } from "./open-engine.ts";
import { Random } from "./random.ts";

const SEED = Number(process.env["SEED"] ?? Math.floor(Math.random() * 2 ** 32));
const STEPS = Number(process.env["MODEL_OPS"] ?? 3000);
const END = 2n ** 63n - 1n;
const MOUNT = 1 as MountId;

type LockRequest = WriteRequest & { op: "setlk" };
type Asked = { readonly request: LockRequest; readonly context: RequestContext; readonly abort: AbortController };

/** What became of the requests that one side was asked, by their numbers. */
class Outcomes {
  readonly states = new Map<number, string>();

  ask({ context }: Asked, execute: () => undefined | Promise<undefined>): void {
    const end = (state: string): void => void this.states.set(context.unique, state);
    const failed = (error: unknown): void => end(error instanceof FsError ? error.code : String(error));
    end("waits");
    try {
      const reply = execute();
      if (reply instanceof Promise) reply.then(() => end("granted"), failed);
      else end("granted");
    } catch (error) {
      failed(error);
    }
  }
}

/** The engine and the model, asked the same things. */
class Pair {
  readonly engine = new Outcomes();
  readonly model = new Outcomes();
  readonly #random: Random;
  readonly #inos: readonly InodeId[];
  readonly #mounts: readonly MountId[];
  #harness: Harness;
  #asked: Asked[] = [];
  #records = 0;
  readonly #locks = new ModelLocks(() => this.#records++);
  readonly #lsn: number;

  constructor(harness: Harness, random: Random, inos: readonly InodeId[]) {
    this.#harness = harness;
    this.#random = random;
    this.#inos = inos;
    this.#mounts = [MOUNT, harness.attachMount()];
    this.#lsn = harness.lastLsn();
  }

  get harness(): Harness {
    return this.#harness;
  }

  async step(): Promise<void> {
    const kind = this.#random.weighted({ lock: 30, look: 5, interrupt: 3, crash: 1 });
    if (kind === "lock") this.#lock();
    else if (kind === "look") this.#look();
    else if (kind === "interrupt") this.#interrupt();
    else await this.#crash();
    // Promises that are settled now have said so by then.
    await new Promise((resolve) => setImmediate(resolve));
    expect(this.engine.states).toEqual(this.model.states);
    expect(this.#harness.lastLsn() - this.#lsn).toBe(this.#records);
    this.#asked = this.#asked.filter(({ context }) => this.engine.states.get(context.unique) === "waits");
    for (const side of [this.engine, this.model])
      for (const [unique, state] of side.states) if (state !== "waits") side.states.delete(unique);
  }

  #randomLock(): { ino: InodeId; owner: bigint; flock: boolean; lock: FileLock } {
    const random = this.#random;
    const start = BigInt(random.below(12));
    const end = random.oneIn(6) ? END : start + BigInt(random.below(5));
    const type = random.pick(["read", "write", "unlock"] as const);
    const ino = random.pick(this.#inos);
    return { ino, owner: BigInt(random.below(3)), flock: random.oneIn(3), lock: { start, end, type, pid: 5 } };
  }

  #context(): RequestContext {
    const base = this.#harness.context();
    return { ...base, actor: { ...base.actor, mountId: this.#random.pick(this.#mounts) } };
  }

  #lock(): void {
    const request = { op: "setlk", ...this.#randomLock(), wait: this.#random.oneIn(2) } as const;
    const asked = { request, context: this.#context(), abort: new AbortController() };
    this.#asked.push(asked);
    this.#ask(asked);
  }

  #ask(asked: Asked): void {
    const context = { ...asked.context, signal: asked.abort.signal };
    this.engine.ask(asked, () => this.#harness.api.execute(asked.request, context));
    this.model.ask(asked, () => this.#locks.set(asked.request, context));
  }

  #look(): void {
    const request = { op: "getlk", ...this.#randomLock() } as const;
    const wanted = { ...request, lock: { ...request.lock, type: "write" } } as const;
    const context = this.#context();
    const [first, ...others] = this.#locks.inTheWay(wanted, context);
    // Any of those that begin together.
    const right = [first, ...others.filter(({ start }) => start === first?.start)];
    expect(right).toContainEqual(this.#harness.api.execute(wanted, context));
  }

  #interrupt(): void {
    if (this.#asked.length > 0) this.#random.pick(this.#asked).abort.abort();
  }

  /** Ends as by kill -9. Whoever waited asks again, in the same order. */
  async #crash(): Promise<void> {
    if (this.#random.oneIn(2)) await this.#harness.settle();
    this.#harness = await this.#harness.reopen();
    this.#locks.forgetWaits();
    this.#asked = this.#asked.map((asked) => ({ ...asked, context: { ...asked.context, resent: true } }));
    for (const asked of this.#asked) this.#ask(asked);
  }
}

test("locks, waits, interruptions and crashes agree with a plain list of pieces", async () => {
  console.log(`SEED=${SEED} MODEL_OPS=${STEPS}`);
  const clock = new ManualClock();
  const harness = await present(openEngine, "an engine")({ clock });
  const inos: InodeId[] = [];
  for (const name of ["one", "other"]) {
    const at = { parent: harness.root, name: Buffer.from(name), mode: S_IFREG | 0o644 };
    const made = await harness.api.execute({ op: "mknod", ...at, umask: 0, rdev: 0 }, harness.context());
    inos.push(made.ino);
  }
  const pair = new Pair(harness, new Random(SEED), inos);
  for (let step = 0; step < STEPS; step++) {
    try {
      await pair.step();
    } catch (cause) {
      throw new Error(`SEED=${SEED}, step ${step}`, { cause });
    }
  }
  await pair.harness.close();
}, 120_000);
