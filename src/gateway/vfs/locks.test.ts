import { expect, test } from "vitest";
import { FsError } from "../../domain/errors.ts";
import { type InodeId, LIVE, type Lsn, type MountId } from "../../domain/ids.ts";
import type { MetadataApi, Request, RequestContext } from "../../domain/metadata-api.ts";
import { FOPEN } from "../fuse/file-codec.ts";
import type { RequestHeader } from "../fuse/frame.ts";
import type { FuseOperations } from "../fuse/operations.ts";
import { Reply, ReplyWriter } from "../fuse/reply.ts";
import { RecordingIo } from "../fuse/testing/frames.ts";
import type { VfsOptions } from "./context.ts";
import { vfsOperations } from "./vfs.ts";

const INO = 70 as InodeId;
const WHOLE = { start: 0n, end: 2n ** 63n - 1n };
const [READ, WRITE, UNLOCK] = [0, 1, 2];

type SetRequest = Request & { op: "setlk" };

/** A mount with shared locks over an API that notes what it is asked, and answers as `answer` says. */
class Mount {
  readonly asked: { readonly request: SetRequest; readonly context: RequestContext }[] = [];
  readonly stopping = new AbortController();
  readonly operations: Required<FuseOperations>;
  answer: (request: Request, context: RequestContext) => unknown = () => undefined;
  #unique = 0;

  constructor(options: { readonly resumed?: boolean; readonly shared?: boolean; readonly at?: Lsn } = {}) {
    const execute = (request: Request, context: RequestContext): unknown => {
      if (request.op === "setlk") this.asked.push({ request, context });
      return this.answer(request, context);
    };
    const { stopping } = this;
    const sharedLocks = { resumed: options.resumed ?? false, stopping: stopping.signal };
    this.operations = vfsOperations({
      ...OPTIONS,
      api: { execute, subscribe: () => () => {}, close: async () => {} } as MetadataApi,
      at: options.at ?? LIVE,
      ...(options.shared === false ? {} : { sharedLocks }),
    }) as Required<FuseOperations>;
  }

  /** What was asked for, as text; forgets it. */
  taken(): string[] {
    return this.asked
      .splice(0)
      .map(
        ({ request: { owner, flock, lock, wait } }) =>
          `${lock.type} ${flock ? "flock" : "posix"} ${owner}${wait ? " wait" : ""}`,
      );
  }

  /** Runs an operation; answers the errno it was answered with, or "unanswered". */
  async run(call: (header: RequestHeader, reply: Reply) => void | Promise<void>, slot = 0): Promise<number | string> {
    const { reply, done } = this.start(call, slot);
    await done;
    return reply();
  }

  start(
    call: (header: RequestHeader, reply: Reply) => void | Promise<void>,
    slot = 0,
  ): { reply: () => number | string; done: Promise<void>; interrupt: () => void; body: () => Buffer } {
    this.#unique += 2;
    const header = { opcode: 0, unique: this.#unique, resent: false, slot, ino: INO, uid: 0, gid: 0, pid: 9 };
    const io = new RecordingIo();
    const reply = new Reply(header, { fd: 0, writer: new ReplyWriter(io), owner: { replied: () => {} } });
    const run = async (): Promise<void> => {
      try {
        await call(header, reply);
      } catch (error) {
        if (!(error instanceof FsError)) throw error;
        reply.error(error.errno);
      }
    };
    const message = (): Buffer | undefined => io.messages[0];
    return {
      reply: () => (message() === undefined ? "unanswered" : -(message()?.readInt32LE(4) ?? 0) + 0),
      body: () => message()?.subarray(16) ?? Buffer.alloc(0),
      done: run(),
      interrupt: () => reply.interrupted(),
    };
  }

  lock(type: number, how: { owner?: bigint; flock?: boolean; handle?: number; wait?: boolean; slot?: number } = {}) {
    const { owner = 1n, flock = false, handle = 100, wait = false, slot = 0 } = how;
    return this.start((header, reply) => {
      const request = { header, handle, owner, flock, lock: { ...WHOLE, type, pid: 5 } };
      return wait ? this.operations.setlkw(request, reply) : this.operations.setlk(request, reply);
    }, slot);
  }

  flush(lockOwner: bigint, handle = 100, slot = 0): Promise<number | string> {
    return this.run((header, reply) => this.operations.flush({ header, handle, lockOwner }, reply), slot);
  }

  release(handle: number, flock?: bigint): Promise<number | string> {
    const flags = { flags: 0, flush: false, flockUnlock: flock !== undefined, lockOwner: flock ?? 0n };
    return this.run((header, reply) => this.operations.release({ header, handle, ...flags }, reply));
  }
}

const OPTIONS: Omit<VfsOptions, "api" | "at"> = {
  mountId: 3 as MountId,
  root: 2 as InodeId,
  readOnly: false,
  views: () => "off",
  asksOpens: false,
  groupsOf: () => [],
  appends: "any",
  slots: { slotOf: () => 1, lsnOf: (slot) => (slot === 1 ? (5 as Lsn) : undefined) },
  moments: { find: () => undefined, snapshotNames: () => [] },
};

test("with the kernel's own locks nothing is asked for: no opens, no closes, no locks", () => {
  const { operations } = new Mount({ shared: false });
  expect([operations.open, operations.flush, operations.setlk, operations.getlk]).toEqual(new Array(4).fill(undefined));
});

test("opens are answered with a number of their own, and so that closes are told", async () => {
  const mount = new Mount();
  const open = () =>
    mount.start((header, reply) => mount.operations.open({ header, flags: 0, killPrivileges: false }, reply));
  const [first, second] = [open(), open()];
  await Promise.all([first.done, second.done]);
  expect([first.reply(), first.body().readUInt32LE(8)]).toEqual([0, FOPEN.KEEP_CACHE]);
  expect(first.body().readBigUInt64LE(0)).not.toBe(second.body().readBigUInt64LE(0));
});

test("closing a file that nobody locked asks nothing; closing one asks once, for the owner that locked", async () => {
  const mount = new Mount();
  expect([await mount.flush(1n), await mount.release(100)]).toEqual([0, 0]);
  expect(mount.taken()).toEqual([]);
  mount.lock(WRITE, { owner: 1n });
  expect(await mount.flush(2n)).toBe(0);
  expect(mount.taken()).toEqual(["write posix 1"]);
  expect([await mount.flush(1n), await mount.flush(1n), await mount.release(100)]).toEqual([0, 0, 0]);
  expect(mount.taken()).toEqual(["unlock posix 1"]);
});

test("after a restart every close asks, since nobody remembers who locked", async () => {
  const mount = new Mount({ resumed: true });
  await mount.flush(1n);
  await mount.release(100);
  await mount.release(100, 4n);
  expect(mount.taken()).toEqual(["unlock posix 1", "unlock flock 4"]);
});

test("the last close gives back the flock lock and what the open file itself had locked, of its handle alone", async () => {
  const mount = new Mount();
  mount.lock(WRITE, { owner: 8n, flock: true, handle: 100 });
  mount.lock(READ, { owner: 9n, handle: 100 });
  mount.lock(READ, { owner: 10n, handle: 200 });
  expect(mount.taken()).toHaveLength(3);
  await mount.release(100, 8n);
  expect(mount.asked.map(({ context }) => context.unique)).toEqual([0, 0]);
  expect(mount.taken()).toEqual(["unlock posix 9", "unlock flock 8"]);
  await mount.release(100, 8n);
  expect(mount.taken()).toEqual([]);
  await mount.release(200);
  expect(mount.taken()).toEqual(["unlock posix 10"]);
});

test("an unlock that fails is asked for again at the next close; one of a file that is gone is done", async () => {
  const mount = new Mount();
  mount.lock(WRITE);
  mount.answer = () => {
    throw FsError.of("EIO");
  };
  expect(await mount.flush(1n)).toBe(5);
  mount.answer = () => Promise.reject(FsError.of("EIO"));
  expect(await mount.flush(1n)).toBe(5);
  mount.answer = () => Promise.reject(FsError.of("ESTALE"));
  expect(await mount.flush(1n)).toBe(0);
  expect(mount.taken()).toEqual(["write posix 1", ...new Array(3).fill("unlock posix 1")]);
  await mount.flush(1n);
  expect(mount.taken()).toEqual([]);
});

test("a lock that was refused may be held from before, so closing asks", async () => {
  const mount = new Mount();
  mount.answer = () => Promise.reject(FsError.of("EAGAIN"));
  const refused = mount.lock(WRITE);
  await refused.done;
  expect(refused.reply()).toBe(11);
  mount.answer = () => undefined;
  await mount.flush(1n);
  expect(mount.taken()).toEqual(["write posix 1", "unlock posix 1"]);
});

test("a lock that was waited for while another thread closed the file is given back at the next close", async () => {
  const mount = new Mount();
  const { promise, resolve } = Promise.withResolvers<undefined>();
  mount.answer = (request) => (request.op === "setlk" && request.wait ? promise : undefined);
  const waiting = mount.lock(WRITE, { wait: true });
  await mount.flush(1n);
  resolve(undefined);
  await waiting.done;
  expect(waiting.reply()).toBe(0);
  await mount.flush(1n);
  expect(mount.taken()).toEqual(["write posix 1 wait", "unlock posix 1", "unlock posix 1"]);
});

/** Answers waiting requests when they are interrupted. */
const untilInterrupted = (request: Request, { signal }: RequestContext): unknown => {
  if (request.op !== "setlk" || !request.wait) return undefined;
  return new Promise((_, reject) => signal?.addEventListener("abort", () => reject(FsError.of("EINTR"))));
};

test("a wait ends with EINTR when its caller is interrupted", async () => {
  const mount = new Mount();
  mount.answer = untilInterrupted;
  const waiting = mount.lock(WRITE, { wait: true });
  waiting.interrupt();
  await waiting.done;
  expect(waiting.reply()).toBe(4);
});

test("when the process stops, who waits for a lock is left to the next one, and everybody else is answered", async () => {
  const mount = new Mount();
  mount.answer = untilInterrupted;
  const waiting = mount.lock(WRITE, { wait: true });
  const other = mount.lock(READ, { owner: 2n });
  mount.stopping.abort();
  const late = mount.lock(WRITE, { wait: true, owner: 3n });
  await Promise.all([waiting.done, other.done, late.done]);
  expect([waiting.reply(), other.reply(), late.reply()]).toEqual(["unanswered", 0, "unanswered"]);
});

test("a file of the past is locked without asking anybody", async () => {
  const mount = new Mount();
  const taken = mount.lock(WRITE, { slot: 1 });
  await taken.done;
  expect([taken.reply(), await mount.flush(1n, 100, 1)]).toEqual([0, 0]);
  const probe = mount.start((header, reply) => {
    const lock = { ...WHOLE, type: WRITE as number, pid: 5 };
    return mount.operations.getlk({ header, handle: 100, owner: 1n, flock: false, lock }, reply);
  }, 1);
  await probe.done;
  expect([probe.reply(), probe.body().readUInt32LE(16), mount.taken()]).toEqual([0, UNLOCK, []]);
});

test("the lock in the way is answered with its range, kind and process; none as an unlock; a kind that is none is EINVAL", async () => {
  const mount = new Mount();
  const probe = async (type: number): Promise<[number | string, ...(number | bigint)[]]> => {
    const asking = mount.start((header, reply) =>
      mount.operations.getlk({ header, handle: 1, owner: 1n, flock: false, lock: { ...WHOLE, type, pid: 5 } }, reply),
    );
    await asking.done;
    if (asking.body().length === 0) return [asking.reply()];
    const body = asking.body();
    return [
      asking.reply(),
      body.readBigUInt64LE(0),
      body.readBigUInt64LE(8),
      body.readUInt32LE(16),
      body.readUInt32LE(20),
    ];
  };
  mount.answer = () => ({ start: 3n, end: 9n, type: "read", pid: 77 });
  expect(await probe(1)).toEqual([0, 3n, 9n, 0, 77]);
  mount.answer = () => Promise.resolve(undefined);
  expect((await probe(0))[3]).toBe(2);
  expect(await probe(3)).toEqual([22]);
});

test("beyond what is remembered every close asks", async () => {
  const mount = new Mount();
  for (let owner = 1n; owner <= 65_537n; owner++) mount.lock(READ, { owner });
  mount.taken();
  await mount.flush(70_000n);
  expect(mount.taken()).toEqual(["unlock posix 70000"]);
});
