import { ERRNO } from "../../domain/errors.ts";
import { buildRoutes, type Route } from "./dispatch.ts";
import type { RequestFrame, RequestHeader } from "./frame.ts";
import { hasInitFlag, type NegotiatedInit } from "./init.ts";
import { decodeBatchForget, decodeForget, decodeInterrupt } from "./misc-codec.ts";
import { OPCODE } from "./opcodes.ts";
import type { FuseOperations } from "./operations.ts";
import { Reply, type ReplyOwner, type ReplyWriter } from "./reply.ts";

/** Something that should not happen on a connection. It goes on; who runs it should log. */
export type ConnectionProblem =
  /** An operation failed with something that is no errno, or did not answer. The caller got EIO. */
  | { readonly kind: "defect"; readonly header: RequestHeader; readonly error: unknown }
  /** The kernel sent bytes that are no request. */
  | { readonly kind: "malformed"; readonly error: unknown }
  /** The kernel refused an answer: ours was malformed. Its caller would wait for ever, so it is answered EIO where possible. */
  | { readonly kind: "refused"; readonly header: RequestHeader; readonly errno: number };

/** Told which requests are being worked on, so that a supervisor can see what killed a process. Called for every request: must be cheap. */
export interface InFlightMarks {
  /** The operation of request `unique` is called. */
  started(unique: number): void;
  /** It has returned. */
  returned(): void;
  /** It has returned a promise. */
  waiting(unique: number): void;
  /** That promise is settled. */
  settled(unique: number): void;
}

/** A mount that a former process served: its requests that are not answered yet are asked for again. */
export type Resume = {
  /** Requests that killed their process again and again: answered EIO. */
  readonly poisoned: readonly number[];
};

export type ConnectionOptions = {
  /** A mounted and initialised FUSE descriptor. The connection uses it; who opened it closes it. */
  readonly fd: number;
  readonly negotiated: NegotiatedInit;
  readonly operations: FuseOperations;
  /** The connection has ended: unmounted or aborted. Called once, never from within `add`. */
  readonly onEnd?: () => void;
  readonly onProblem?: (problem: ConnectionProblem) => void;
  readonly marks?: InFlightMarks | undefined;
  /** The descriptor was served by a former process. */
  readonly resume?: Resume | undefined;
};

/**
 * Requests waiting on promises at once. Far above what the kernel has in flight by itself (max_background); foreground requests are bounded by
 * the threads of applications. Beyond it: ENOMEM.
 */
const PENDING_MAX = 16_384;

/** One mount's conversation with the kernel: takes frames, answers what is the protocol's own business, hands the rest to the operations. */
export class FuseConnection implements ReplyOwner {
  readonly fd: number;
  readonly negotiated: NegotiatedInit;
  /** Requests received, by opcode: how many round trips an application call costs. */
  readonly requestCounts = new Float64Array(OPCODE.COPY_FILE_RANGE_64 + 1);
  readonly #operations: FuseOperations;
  readonly #routes: readonly (Route | undefined)[];
  readonly #pending = new Map<number, Reply>();
  readonly #writer: ReplyWriter;
  readonly #onEnd: () => void;
  readonly #onProblem: (problem: ConnectionProblem) => void;
  readonly #marks: InFlightMarks | undefined;
  readonly #poisoned: ReadonlySet<number>;
  #idleWaiters: (() => void)[] = [];
  #ended = false;

  constructor(options: ConnectionOptions, writer: ReplyWriter) {
    this.fd = options.fd;
    this.negotiated = options.negotiated;
    this.#operations = options.operations;
    this.#routes = buildRoutes(options.operations, {
      setxattrExtended: hasInitFlag(options.negotiated, "SETXATTR_EXT"),
    });
    this.#writer = writer;
    this.#onEnd = options.onEnd ?? (() => {});
    this.#onProblem = options.onProblem ?? (() => {});
    this.#marks = options.marks;
    this.#poisoned = new Set(options.resume?.poisoned);
  }

  /** Whether the mount is gone. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Requests that wait on a promise. */
  get pendingCount(): number {
    return this.#pending.size;
  }

  /** Resolves when no request waits (at once, if none does). */
  async drained(): Promise<void> {
    if (this.#pending.size > 0) await new Promise<void>((resolve) => this.#idleWaiters.push(resolve));
  }

  /**
   * Handles one request. Answers true when it was answered in this turn; else it waits on a promise, and `hold` was called if it still needs
   * the frame's memory.
   */
  handle(frame: RequestFrame, hold: () => () => void): boolean {
    const { header } = frame;
    const { opcode } = header;
    const route = this.#routes[opcode];
    if (opcode < this.requestCounts.length) this.requestCounts[opcode] = (this.requestCounts[opcode] as number) + 1;
    if (route === undefined) {
      this.#protocol(frame);
      return true;
    }
    if (header.resent && this.#poisoned.has(header.unique)) {
      this.#answer(header, ERRNO.EIO);
      this.#onProblem({
        kind: "defect",
        header,
        error: new Error("the request killed its process several times: given up"),
      });
      return true;
    }
    const reply = new Reply(header, { fd: this.fd, writer: this.#writer, owner: this });
    const result = this.#run(frame, { route, reply });
    if (result === undefined) return true;
    this.#wait(reply, result, route.borrows ? hold() : undefined);
    return false;
  }

  /** Calls the operation. Answers its promise, or nothing when the request is answered. */
  #run(frame: RequestFrame, { route, reply }: { route: Route; reply: Reply }): Promise<void> | undefined {
    this.#marks?.started(frame.header.unique);
    try {
      frame.requireBody(route.bodyBytes);
      const result = route.dispatch(frame, reply);
      if (result !== undefined) return result;
      if (!reply.answered) this.#fail(reply, new Error("the operation returned without an answer"));
    } catch (error) {
      this.#fail(reply, error);
    } finally {
      this.#marks?.returned();
    }
    return undefined;
  }

  /** A frame that could not be decoded at all. */
  malformed(error: unknown): void {
    this.#onProblem({ kind: "malformed", error });
  }

  /** The kernel ended the connection. Waiting requests are told, their answers go nowhere. */
  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    for (const reply of this.#pending.values()) reply.interrupted();
    this.#onEnd();
  }

  replied(reply: Reply, errno: number): void {
    if (errno === 0 || errno === ERRNO.ENODEV || this.#ended) return;
    this.#onProblem({ kind: "refused", header: reply.header, errno });
    // EINVAL: too long or of the wrong size for its opcode. The request is still unanswered in the kernel.
    new Reply(reply.header, { fd: this.fd, writer: this.#writer, owner: IGNORES }).error(ERRNO.EIO);
  }

  #wait(reply: Reply, result: Promise<void>, release: (() => void) | undefined): void {
    if (this.#pending.size >= PENDING_MAX && !reply.answered) reply.error(ERRNO.ENOMEM);
    const { unique } = reply.header;
    this.#pending.set(unique, reply);
    this.#marks?.waiting(unique);
    const settled = (): void => {
      release?.();
      this.#marks?.settled(unique);
      this.#pending.delete(unique);
      if (this.#pending.size > 0) return;
      const waiters = this.#idleWaiters;
      this.#idleWaiters = [];
      for (const waiter of waiters) waiter();
    };
    result.then(
      () => {
        if (!reply.answered) this.#fail(reply, new Error("the operation ended without an answer"));
        settled();
      },
      (error: unknown) => {
        this.#fail(reply, error);
        settled();
      },
    );
  }

  /** Answers what an operation threw. */
  #fail(reply: Reply, error: unknown): void {
    const errno = errnoOf(error);
    if (reply.answered || errno === undefined) this.#onProblem({ kind: "defect", header: reply.header, error });
    if (!reply.answered) reply.error(errno ?? ERRNO.EIO);
  }

  /** Requests that are not operations, or that the file system lacks. */
  #protocol(frame: RequestFrame): void {
    const { header } = frame;
    try {
      switch (header.opcode) {
        case OPCODE.FORGET:
          frame.requireBody(8);
          this.#operations.forget?.(decodeForget(frame));
          return;
        case OPCODE.BATCH_FORGET:
          frame.requireBody(8);
          this.#operations.forget?.(decodeBatchForget(frame));
          return;
        case OPCODE.INTERRUPT:
          frame.requireBody(8);
          // Not pending: answered already, the two crossed. We read in order, so it cannot be unknown to us.
          this.#pending.get(decodeInterrupt(frame))?.interrupted();
          return;
        case OPCODE.NOTIFY_REPLY:
          return;
        case OPCODE.DESTROY:
          this.#answer(header, 0);
          return;
        default:
          this.#answer(header, ERRNO.ENOSYS);
      }
    } catch (error) {
      this.#onProblem({ kind: "malformed", error });
    }
  }

  #answer(header: RequestHeader, errno: number): void {
    const reply = new Reply(header, { fd: this.fd, writer: this.#writer, owner: IGNORES });
    if (errno === 0) reply.ok();
    else reply.error(errno);
  }
}

const IGNORES: ReplyOwner = { replied: () => {} };

/** The errno an error carries, if it is one of the file system core's. */
function errnoOf(error: unknown): number | undefined {
  if (!(error instanceof Error) || !("errno" in error)) return undefined;
  const { errno } = error;
  return typeof errno === "number" && errno > 0 && errno < 4096 ? errno : undefined;
}
