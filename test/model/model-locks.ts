import { FsError } from "../../src/domain/errors.ts";
import type { InodeId } from "../../src/domain/ids.ts";
import type { FileLock, ReadRequest, RequestContext, WriteRequest } from "../../src/domain/metadata-api.ts";

type GetRequest = ReadRequest & { op: "getlk" };
type SetRequest = WriteRequest & { op: "setlk" };

/** One piece that somebody holds. */
type Held = {
  readonly ino: InodeId;
  readonly who: string;
  readonly flock: boolean;
  readonly start: bigint;
  readonly end: bigint;
  readonly type: "read" | "write";
  readonly pid: number;
};

type Wait = {
  readonly request: SetRequest;
  readonly who: string;
  readonly granted: () => void;
  readonly failed: (error: FsError) => void;
};

const WHOLE = { start: 0n, end: 2n ** 63n - 1n };

/** Locks as a plain list of pieces, for the model. `recorded` is called for each change that the engine makes a record of. */
export class ModelLocks {
  #held: Held[] = [];
  #waits: Wait[] = [];
  readonly #recorded: () => void;

  constructor(recorded: () => void) {
    this.#recorded = recorded;
  }

  get(request: GetRequest, context: RequestContext): FileLock | undefined {
    return this.inTheWay(request, context)[0];
  }

  /** All locks that are in the way, by their starts. */
  inTheWay(request: GetRequest, context: RequestContext): FileLock[] {
    checkRange(request);
    const found = this.#inTheWay(request, whoIs(request, context));
    return found
      .sort((left, right) => (left.start < right.start ? -1 : 1))
      .map(({ start, end, type, pid }) => ({ start, end, type, pid }));
  }

  set(request: SetRequest, context: RequestContext): undefined | Promise<undefined> {
    checkRange(request);
    const who = whoIs(request, context);
    if (request.lock.type === "unlock" || this.#inTheWay(request, who).length === 0) {
      this.#take(request, who);
      this.#settle();
      return undefined;
    }
    if (request.flock) {
      this.#take({ ...request, lock: { ...request.lock, ...WHOLE, type: "unlock" } }, who);
      this.#settle();
    }
    if (!request.wait) throw FsError.of("EAGAIN");
    if (!request.flock && this.#reaches(request, who, who, new Set())) throw FsError.of("EDEADLK");
    const { signal } = context;
    if (signal?.aborted === true) throw FsError.of("EINTR");
    return new Promise((resolve, reject) => {
      const wait: Wait = { request, who, granted: () => resolve(undefined), failed: reject };
      this.#waits.push(wait);
      signal?.addEventListener("abort", () => this.#end(wait, FsError.of("EINTR")));
    });
  }

  gone(ino: InodeId): void {
    this.#held = this.#held.filter((held) => held.ino !== ino);
    for (const wait of this.#waits.filter(({ request }) => request.ino === ino)) this.#end(wait, FsError.of("ESTALE"));
  }

  /** As when the process ends: whoever waited is not answered any more. */
  forgetWaits(): void {
    this.#waits = [];
  }

  #end(wait: Wait, error: FsError): void {
    if (!this.#waits.includes(wait)) return;
    this.#waits = this.#waits.filter((each) => each !== wait);
    wait.failed(error);
  }

  #inTheWay({ ino, flock, lock }: GetRequest | SetRequest, who: string): Held[] {
    const { start, end } = flock ? WHOLE : lock;
    const others = this.#held.filter((held) => held.ino === ino && held.flock === flock && held.who !== who);
    return others.filter(
      (held) => held.start <= end && start <= held.end && (held.type === "write" || lock.type === "write"),
    );
  }

  #take({ ino, flock, lock }: SetRequest, who: string): void {
    const { start, end } = flock ? WHOLE : lock;
    const isOwn = (held: Held): boolean => held.ino === ino && held.flock === flock && held.who === who;
    const own = this.#held.filter(isOwn);
    const pieces = own.flatMap((held) => [
      { ...held, end: held.end < start ? held.end : start - 1n },
      { ...held, start: held.start > end ? held.start : end + 1n },
    ]);
    if (lock.type !== "unlock") pieces.push({ ino, who, flock, start, end, type: lock.type, pid: lock.pid });
    const after = joined(pieces.filter((piece) => piece.start <= piece.end));
    if (textOf(after) !== textOf(own)) this.#recorded();
    this.#held = [...this.#held.filter((held) => !isOwn(held)), ...after];
  }

  #settle(): void {
    for (let before = -1; before !== this.#waits.length; ) {
      before = this.#waits.length;
      for (const wait of [...this.#waits]) {
        if (this.#inTheWay(wait.request, wait.who).length > 0) continue;
        this.#waits = this.#waits.filter((each) => each !== wait);
        this.#take(wait.request, wait.who);
        wait.granted();
      }
    }
  }

  #reaches(request: SetRequest, from: string, target: string, seen: Set<string>): boolean {
    return this.#inTheWay(request, from).some(({ who }) => {
      if (who === target) return true;
      if (seen.has(who)) return false;
      seen.add(who);
      return this.#waits.some((wait) => wait.who === who && this.#reaches(wait.request, who, target, seen));
    });
  }
}

function joined(pieces: Held[]): Held[] {
  const after: Held[] = [];
  for (const piece of pieces.sort((left, right) => (left.start < right.start ? -1 : 1))) {
    const last = after.at(-1);
    if (last?.type === piece.type && last.end + 1n === piece.start)
      after[after.length - 1] = { ...last, end: piece.end };
    else after.push(piece);
  }
  return after;
}

function textOf(pieces: readonly Held[]): string {
  return pieces.map(({ start, end, type }) => `${type}${start}-${end}`).join();
}

function whoIs({ owner, flock }: GetRequest | SetRequest, { actor }: RequestContext): string {
  return `${actor.mountId} ${flock} ${owner}`;
}

function checkRange({ lock, flock }: GetRequest | SetRequest): void {
  if (flock) return;
  if (lock.start < 0n || lock.end < lock.start || lock.end > WHOLE.end) throw FsError.of("EINVAL");
}
