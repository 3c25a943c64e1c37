import { describe, expect, test } from "vitest";
import { ERRNO, FsError } from "../../domain/errors.ts";
import { type ConnectionProblem, FuseConnection } from "./connection.ts";
import type { FuseOperations } from "./operations.ts";
import { type Reply, ReplyWriter } from "./reply.ts";
import { frameOf, goldenRequests, NEGOTIATED, RecordingIo } from "./testing/frames.ts";

const golden = goldenRequests();
const TIME = { sec: -1, nsec: 5 };
const ATTRIBUTES = {
  ...{ ino: 2 ** 40 - 1, generation: 7, mode: 0o100644, uid: 1, gid: 2, nlink: 3, rdev: 0x12345678 },
  ...{
    size: 2n ** 63n - 1n,
    allocatedBytes: 513n,
    atime: TIME,
    mtime: { sec: 2 ** 33, nsec: 6 },
    ctime: TIME,
    btime: TIME,
  },
};
const VALIDITY = { slot: 5, attributesSec: 1.5, entrySec: Number.POSITIVE_INFINITY };

function connect(operations: FuseOperations) {
  const io = new RecordingIo();
  const problems: ConnectionProblem[] = [];
  const connection = new FuseConnection(
    { fd: 9, negotiated: NEGOTIATED, operations, onProblem: (problem) => problems.push(problem) },
    new ReplyWriter(io),
  );
  let held = 0;
  const send = (name: string, change?: (bytes: Buffer) => void): boolean => {
    const bytes = Buffer.from(golden.get(name) ?? Buffer.alloc(0));
    change?.(bytes);
    return connection.handle(frameOf(bytes), () => {
      held++;
      return () => held--;
    });
  };
  return { io, problems, connection, send, held: () => held };
}

/** The single message written, checked to be well-formed. */
function message(io: RecordingIo): { errno: number; unique: bigint; body: Buffer } {
  expect(io.messages).toHaveLength(1);
  const [bytes = Buffer.alloc(16)] = io.messages;
  expect(bytes.readUInt32LE(0)).toBe(bytes.length);
  return { errno: 0 - bytes.readInt32LE(4), unique: bytes.readBigUInt64LE(8), body: bytes.subarray(16) };
}

function replyTo(name: string, answer: (reply: Reply) => void): Buffer {
  const { io, send, problems } = connect(
    new Proxy({}, { get: () => (_: unknown, reply: Reply) => answer(reply) }) as FuseOperations,
  );
  expect(send(name)).toBe(true);
  expect(problems).toEqual([]);
  const { errno, unique, body } = message(io);
  expect(errno).toBe(0);
  expect(unique).toBe((golden.get(name) ?? Buffer.alloc(16)).readBigUInt64LE(8));
  return body;
}

describe("answers", () => {
  test("an entry has node id, generation, validities and attributes where fuse_entry_out has them", () => {
    const body = replyTo("LOOKUP", (reply) => reply.entry(ATTRIBUTES, VALIDITY));
    expect(body.length).toBe(128);
    const node = (5n << 40n) | BigInt(2 ** 40 - 1);
    expect(body.readBigUInt64LE(0)).toBe(node);
    expect(body.readBigUInt64LE(8)).toBe(7n);
    expect(body.readBigUInt64LE(16)).toBeGreaterThan(1_000_000_000n);
    expect([body.readBigUInt64LE(24), body.readUInt32LE(36)]).toEqual([1n, 500_000_000]);
    expect(body.readBigUInt64LE(40)).toBe(node);
    expect(body.readBigUInt64LE(48)).toBe(2n ** 63n - 1n);
    expect(body.readBigUInt64LE(56)).toBe(2n);
    expect([body.readBigInt64LE(64), body.readBigInt64LE(72)]).toEqual([-1n, 2n ** 33n]);
    expect([body.readUInt32LE(88), body.readUInt32LE(92)]).toEqual([5, 6]);
    expect([body.readUInt32LE(100), body.readUInt32LE(104), body.readUInt32LE(108)]).toEqual([0o100644, 3, 1]);
    expect([body.readUInt32LE(112), body.readUInt32LE(116)]).toEqual([2, 0x12345678]);
  });

  test("an absent name is an entry with node id 0 and a validity", () => {
    const body = replyTo("LOOKUP", (reply) => reply.noEntry(2));
    expect(body.readBigUInt64LE(16)).toBe(2n);
    body.writeBigUInt64LE(0n, 16);
    expect(body.equals(Buffer.alloc(128))).toBe(true);
  });

  test("attributes, statx, open, create and statfs have the sizes the kernel demands", () => {
    expect(replyTo("GETATTR", (reply) => reply.attributes(ATTRIBUTES, VALIDITY)).length).toBe(104);
    const statx = replyTo("STATX", (reply) => reply.statx(ATTRIBUTES, VALIDITY));
    expect(statx.length).toBe(288);
    expect([statx.readUInt32LE(32 + 128), statx.readUInt32LE(32 + 132)]).toEqual([0x456, 0x12378]);
    expect(replyTo("OPEN", (reply) => reply.opened(2 ** 53 - 1, 3)).readBigUInt64LE(0)).toBe(2n ** 53n - 1n);
    const created = replyTo("CREATE", (reply) =>
      reply.created(ATTRIBUTES, { validity: VALIDITY, handle: 4, flags: 2 }),
    );
    expect([created.length, created.readUInt32LE(128), created.readUInt32LE(136)]).toEqual([144, 4, 2]);
    const space = {
      blockBytes: 4096,
      blocksTotal: 3n,
      blocksFree: 2n,
      blocksAvailable: 1n,
      inodesTotal: 9n,
      inodesFree: 8n,
    };
    expect(replyTo("STATFS", (reply) => reply.space({ ...space, nameBytesMax: 255 })).length).toBe(80);
  });

  test("data of any size and number of pieces arrives whole", () => {
    const pieces = [Buffer.alloc(3000, 1), Buffer.alloc(0), Buffer.alloc(5000, 2)];
    expect(replyTo("READ", (reply) => reply.data(pieces)).equals(Buffer.concat(pieces))).toBe(true);
    expect(replyTo("READ", (reply) => reply.data(Buffer.from("small"))).toString()).toBe("small");
    const many = Array.from({ length: 3000 }, (_, index) => Buffer.alloc(3, index));
    expect(replyTo("READ", (reply) => reply.data(many)).equals(Buffer.concat(many))).toBe(true);
    expect(replyTo("READ", (reply) => reply.data([])).length).toBe(0);
  });

  test("a listing is cut at the size asked for and padded to 8 bytes", () => {
    const added: boolean[] = [];
    const body = replyTo("READDIR", (reply) => {
      const out = reply.directory(80);
      for (let index = 1; index <= 3; index++) {
        added.push(out.add({ name: Buffer.from("name"), slot: 0, ino: index, type: 8, cookie: BigInt(index) }));
      }
      reply.directoryDone();
    });
    expect(added).toEqual([true, true, false]);
    expect(body.length).toBe(64);
    expect([body.readUInt32LE(16), body.readUInt32LE(20), body.toString("latin1", 24, 32)]).toEqual([
      4,
      8,
      "name\0\0\0\0",
    ]);
  });

  test("copied bytes above 32 bits are cut for the old opcode and exact for the new", () => {
    expect(replyTo("COPY_FILE_RANGE", (reply) => reply.copied(2n ** 40n)).readUInt32LE(0)).toBe(0xffff_f000);
    expect(replyTo("COPY_FILE_RANGE_64", (reply) => reply.copied(2n ** 40n)).readBigUInt64LE(0)).toBe(2n ** 40n);
  });

  test("a re-sent request is answered under the number it came with", () => {
    const { io, send } = connect({ getattr: (_, reply) => reply.ok() });
    send("GETATTR", (bytes) => bytes.writeBigUInt64LE((1n << 63n) | 44n, 8));
    expect(message(io).unique).toBe((1n << 63n) | 44n);
  });
});

describe("failures", () => {
  test("an FsError is answered with its errno", () => {
    const { io, send, problems } = connect({
      lookup: () => {
        throw FsError.of("EXDEV");
      },
    });
    send("LOOKUP");
    expect(message(io).errno).toBe(ERRNO.EXDEV);
    expect(problems).toEqual([]);
  });

  test("any other error is answered EIO and reported", () => {
    const { io, send, problems } = connect({
      lookup: () => {
        throw new TypeError("a bug");
      },
    });
    send("LOOKUP");
    expect(message(io).errno).toBe(ERRNO.EIO);
    expect(problems).toMatchObject([{ kind: "defect", header: { opcode: 1 } }]);
  });

  test("an operation that does not answer is answered EIO, also after a promise", async () => {
    const { io, send, connection } = connect({ lookup: () => {}, getattr: async () => {} });
    send("LOOKUP");
    expect(message(io).errno).toBe(ERRNO.EIO);
    io.messages.length = 0;
    expect(send("GETATTR")).toBe(false);
    await connection.drained();
    expect(message(io).errno).toBe(ERRNO.EIO);
  });

  test("a request left to the next process is not answered, and nobody waits for it", async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const { io, send, connection, problems } = connect({
      getattr: async (_, reply) => {
        await promise;
        reply.leaveUnanswered();
      },
    });
    expect(send("GETATTR")).toBe(false);
    resolve();
    await connection.drained();
    expect([io.messages, problems, connection.pendingCount]).toEqual([[], [], 0]);
  });

  test("a missing operation and an unknown opcode are ENOSYS", () => {
    const { io, send } = connect({});
    send("LOOKUP");
    expect(message(io).errno).toBe(ERRNO.ENOSYS);
    io.messages.length = 0;
    send("LOOKUP", (bytes) => bytes.writeUInt32LE(77_777, 4));
    expect(message(io).errno).toBe(ERRNO.ENOSYS);
  });

  test("an answer the kernel refuses is reported, and its caller gets EIO", () => {
    const { io, send, problems } = connect({ readlink: (_, reply) => reply.data(Buffer.alloc(10)) });
    io.results = [-ERRNO.EINVAL];
    send("READLINK");
    expect(problems).toMatchObject([{ kind: "refused", errno: ERRNO.EINVAL }]);
    expect(io.messages.map((bytes) => bytes.readInt32LE(4))).toEqual([0, -ERRNO.EIO]);
  });

  test("a caller that is gone is no problem", () => {
    const { io, send, problems } = connect({ readlink: (_, reply) => reply.data(Buffer.alloc(10)) });
    io.results = [-ERRNO.ENOENT];
    send("READLINK");
    expect(problems).toEqual([]);
    expect(io.messages).toHaveLength(1);
  });

  test("random bytes never throw", () => {
    const seed = Number(process.env.SEED ?? 20_261_121);
    let state = seed;
    const random = (limit: number): number => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      return Math.floor((state / 2 ** 32) * limit);
    };
    const anything = new Proxy({}, { get: () => (_: unknown, reply: Reply) => reply.ok() }) as FuseOperations;
    const { connection } = connect({
      ...anything,
      lookup: (_, reply) => reply.ok(),
      write: (_, reply) => reply.ok(),
      forget: () => {},
    });
    for (let round = 0; round < 3000; round++) {
      const bytes = Buffer.alloc(40 + random(200));
      for (let index = 0; index < bytes.length; index++) bytes[index] = random(256);
      if (random(4) > 0) bytes.writeUInt32LE(bytes.length, 0);
      bytes.writeUInt32LE(random(60), 4);
      expect(() => connection.handle(frameOf(bytes), () => () => {}), `SEED=${seed} round ${round}`).not.toThrow();
    }
  });
});

describe("waiting requests", () => {
  test("keep their frame until the promise is settled", async () => {
    const gate = Promise.withResolvers<void>();
    const { io, send, held, connection } = connect({
      lookup: async (request, reply) => {
        await gate.promise;
        reply.data(request.name);
      },
    });
    expect(send("LOOKUP")).toBe(false);
    expect([held(), connection.pendingCount, io.messages.length]).toEqual([1, 1, 0]);
    gate.resolve();
    await connection.drained();
    expect([held(), connection.pendingCount]).toEqual([0, 0]);
    expect(message(io).body.toString()).toBe("dir");
  });

  test("without names or data hold no memory", async () => {
    const { send, held, connection } = connect({ getattr: async (_, reply) => reply.ok() });
    send("GETATTR");
    expect(held()).toBe(0);
    await connection.drained();
  });

  test("hear of an interrupt", async () => {
    const { io, send, connection } = connect({
      setlkw: async (_, reply) => {
        await new Promise((done) => reply.signal.addEventListener("abort", done));
        reply.error(4);
      },
    });
    send("SETLKW");
    expect(io.messages).toEqual([]);
    send("INTERRUPT");
    await connection.drained();
    expect(message(io).errno).toBe(4);
  });

  test("an interrupt of a request that was answered already is ignored", () => {
    const { io, send, problems } = connect({});
    send("INTERRUPT");
    expect([io.messages, problems]).toEqual([[], []]);
  });

  test("hear of the end of the mount", async () => {
    const { send, connection } = connect({
      setlkw: async (_, reply) => {
        await new Promise((done) => reply.signal.addEventListener("abort", done));
        reply.error(4);
      },
    });
    send("SETLKW");
    connection.end();
    await connection.drained();
    expect(connection.ended).toBe(true);
  });
});

describe("messages without an answer", () => {
  test("FORGET and BATCH_FORGET reach the file system and nothing is written", () => {
    const forgotten: number[] = [];
    const { io, send } = connect({ forget: (list) => forgotten.push(...list.map(({ ino }) => ino)) });
    send("FORGET");
    send("BATCH_FORGET");
    expect(forgotten).toEqual([5, 3, 2, 6, 7]);
    expect(io.messages).toEqual([]);
  });
});
