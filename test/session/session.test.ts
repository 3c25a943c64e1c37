import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { FsError, TidemarkError } from "../../src/domain/errors.ts";
import { type ContentId, type InodeId, LIVE, type Lsn } from "../../src/domain/ids.ts";
import type { Inode } from "../../src/domain/inode.ts";
import { CONTEXT, codeOf, ROOT, SessionFixture, write } from "./fixture.ts";

let fixture: SessionFixture;
beforeEach(async () => {
  fixture = await SessionFixture.open();
});
afterEach(() => fixture.close());

test("a request arrives with who asked, and its answer comes back", async () => {
  const client = await fixture.connect();
  expect(await client.execute(write("hello", 3n), CONTEXT)).toBe(5);
  const [seen] = fixture.files.seen;
  expect(seen?.request).toMatchObject({ op: "write", ino: ROOT, offset: 3n, data: Buffer.from("hello") });
  expect(seen?.context).toMatchObject({ actor: { mountId: 1, uid: 7, gid: 8, pid: 9, label: "test" }, resent: false });
  expect(await client.snapshotNames()).toEqual(["before", "after"]);
  expect(await client.findMoment("nothing")).toBeUndefined();
});

test("errno of a failure arrives as it was, and a defect is EIO and logged", async () => {
  const client = await fixture.connect();
  for (const code of ["ENOENT", "EEXIST", "ENOSPC", "ESTALE"] as const) {
    fixture.files.answer = () => {
      throw FsError.of(code);
    };
    expect(await codeOf(client.execute({ op: "getattr", ino: ROOT, at: LIVE }, CONTEXT))).toBe(code);
  }
  fixture.files.answer = () => {
    throw new TypeError("a defect");
  };
  expect(await codeOf(client.execute({ op: "getattr", ino: ROOT, at: LIVE }, CONTEXT))).toBe("EIO");
  expect(fixture.log.lines.some(({ level }) => level === "error")).toBe(true);
});

test("many calls at once are answered each with its own answer, in whatever order they are done", async () => {
  const client = await fixture.connect();
  const gates: (() => void)[] = [];
  fixture.files.answer = (request) =>
    request.op === "lseek" ? new Promise((resolve) => gates.push(() => resolve(request.offset))) : undefined;
  const asked = Array.from({ length: 300 }, (_, index) =>
    client.execute({ op: "lseek", ino: ROOT, offset: BigInt(index), whence: "data", at: LIVE }, CONTEXT),
  );
  await vi.waitFor(() => expect(gates.length).toBe(300));
  for (const gate of gates.reverse()) gate();
  expect(await Promise.all(asked)).toEqual(Array.from({ length: 300 }, (_, index) => BigInt(index)));
});

test("more calls than may be under way wait for their turn, and all are answered", async () => {
  const client = await fixture.connect();
  const asked = Array.from({ length: 10_000 }, (_, index) => client.execute(write("x", BigInt(index)), CONTEXT));
  expect(new Set(await Promise.all(asked))).toEqual(new Set([1]));
  expect(fixture.files.count("write")).toBe(10_000);
});

test("a call that waits for hours holds up no other, however many there are, and is there after a break", async () => {
  const client = await fixture.connect();
  const { promise, resolve } = Promise.withResolvers<undefined>();
  fixture.files.answer = (request) => (request.op === "setlk" ? promise : undefined);
  const lock = { start: 0n, end: 9n, type: "write", pid: 1 } as const;
  const waiting = client.execute({ op: "setlk", ino: ROOT, owner: 1n, flock: true, lock, wait: true }, CONTEXT);
  for (let batch = 0; batch < 10; batch++) {
    if (batch === 5) fixture.proxy.reset();
    await Promise.all(Array.from({ length: 1500 }, () => client.execute(write("x"), CONTEXT)));
  }
  expect(fixture.files.count("write")).toBe(15_000);
  resolve(undefined);
  expect([await waiting, fixture.files.count("setlk")]).toEqual([undefined, 1]);
});

test("a listing of thousands of long links arrives", async () => {
  const client = await fixture.connect();
  const target = Buffer.alloc(4095, "x");
  const entries = Array.from({ length: 4096 }, (_, index) => {
    const inode = { ...INODE, ino: (index + 3) as InodeId, target };
    return { name: Buffer.from(`link${index}`), ino: inode.ino, type: 10, cookie: BigInt(index + 16), inode };
  });
  fixture.files.answer = () => ({ entries, end: true });
  const request = { op: "readdir", ino: ROOT, cookie: 0n, entriesMax: 4096, plus: true, at: LIVE } as const;
  expect((await client.execute(request, CONTEXT)).entries.length).toBe(4096);
});

test("a change whose answer was lost with the stream is answered from memory, and was carried out once", async () => {
  const client = await fixture.connect();
  const { promise, resolve } = Promise.withResolvers<number>();
  fixture.files.answer = () => promise;
  const asked = client.execute(write("once"), CONTEXT);
  await vi.waitFor(() => expect(fixture.files.seen.length).toBe(1));
  fixture.proxy.shut();
  resolve(4);
  await promise;
  fixture.proxy.heal();
  expect(await asked).toBe(4);
  expect(fixture.files.seen.length).toBe(1);
});

test("a call under way when the stream breaks is answered on the next one, carried out once", async () => {
  const client = await fixture.connect();
  const { promise, resolve } = Promise.withResolvers<number>();
  fixture.files.answer = () => promise;
  const asked = client.execute(write("once"), CONTEXT);
  await vi.waitFor(() => expect(fixture.files.seen.length).toBe(1));
  fixture.proxy.reset();
  await vi.waitFor(() => expect(fixture.proxy.connections).toBeGreaterThan(1));
  resolve(4);
  expect(await asked).toBe(4);
  expect(fixture.files.seen.length).toBe(1);
});

test("after the service was restarted a change is sent again, marked, so that the journal decides", async () => {
  const client = await fixture.connect();
  fixture.files.answer = () => new Promise(() => {});
  const asked = client.execute(write("once"), { ...CONTEXT, unique: 40 });
  await vi.waitFor(() => expect(fixture.files.seen.length).toBe(1));
  fixture.files.answer = undefined;
  await fixture.restart();
  expect(await asked).toBe(4);
  expect(fixture.files.seen.map(({ context }) => [context.unique, context.resent])).toEqual([
    [40, false],
    [40, true],
  ]);
});

test("answers that only the former process has given are not missed by the next", async () => {
  const client = await fixture.connect();
  fixture.files.answer = (request) => (request.op === "setattr" ? new Promise(() => {}) : undefined);
  const first = client.execute({ op: "setattr", ino: ROOT, set: { mode: 0 } }, CONTEXT);
  for (let count = 0; count < 5; count++) await client.execute(write("x"), CONTEXT);
  fixture.files.answer = undefined;
  await fixture.restart();
  await codeOf(first);
  for (let count = 0; count < 5; count++) expect(await client.execute(write("y"), CONTEXT)).toBe(1);
});

test("what was asked while the service was away is carried out when it is back, once each", async () => {
  const client = await fixture.connect();
  fixture.proxy.shut();
  await vi.waitFor(() => expect(client.state).toBe("reconnecting"));
  const asked = Array.from({ length: 50 }, (_, index) => client.execute(write(`${index}`), CONTEXT));
  fixture.proxy.heal();
  await Promise.all(asked);
  expect(fixture.files.count("write")).toBe(50);
});

test("a soft mount is told EIO when the service stays away, and goes on when it is back", async () => {
  const client = await fixture.connect({ patience: { kind: "soft", timeoutMs: 300 } });
  fixture.proxy.shut();
  expect(await codeOf(client.execute(write("x"), CONTEXT))).toBe("EIO");
  fixture.proxy.heal();
  await vi.waitFor(() => expect(client.state).toBe("connected"), { timeout: 10_000 });
  expect(await client.execute(write("xy"), CONTEXT)).toBe(2);
});

test("a caller that is interrupted while the service is away need not wait for it", async () => {
  const client = await fixture.connect();
  fixture.proxy.shut();
  await vi.waitFor(() => expect(client.state).toBe("reconnecting"));
  const controller = new AbortController();
  const asked = client.execute(write("x"), { ...CONTEXT, signal: controller.signal });
  controller.abort();
  expect(await codeOf(asked)).toBe("EINTR");
});

test("a caller that is interrupted while it waits for a lock ends the wait at the service", async () => {
  const client = await fixture.connect();
  fixture.files.answer = (_request, { signal }) =>
    new Promise((_resolve, reject) => signal?.addEventListener("abort", () => reject(FsError.of("EINTR"))));
  const controller = new AbortController();
  const lock = { start: 0n, end: 9n, type: "write", pid: 1 } as const;
  const request = { op: "setlk", ino: ROOT, owner: 2n ** 64n - 1n, flock: false, lock, wait: true } as const;
  const asked = client.execute(request, { ...CONTEXT, signal: controller.signal });
  await vi.waitFor(() => expect(fixture.files.seen.length).toBe(1));
  controller.abort();
  expect(await codeOf(asked)).toBe("EINTR");
  expect(fixture.files.seen[0]?.request).toMatchObject({ owner: 2n ** 64n - 1n, lock });
});

test("a caller that was interrupted does not wait for a connection that broke meanwhile", async () => {
  const client = await fixture.connect();
  fixture.files.answer = () => new Promise(() => {});
  const controller = new AbortController();
  const asked = client.execute(write("x"), { ...CONTEXT, signal: controller.signal });
  await vi.waitFor(() => expect(fixture.files.seen.length).toBe(1));
  controller.abort();
  fixture.proxy.shut();
  expect(await codeOf(asked)).toBe("EINTR");
});

test("another token is presented at once, and what is under way goes on", async () => {
  const client = await fixture.connect();
  const { promise, resolve } = Promise.withResolvers<number>();
  fixture.files.answer = () => promise;
  const asked = client.execute(write("x"), CONTEXT);
  await vi.waitFor(() => expect(fixture.files.seen.length).toBe(1));
  client.renewToken("another");
  await vi.waitFor(() => expect(fixture.tokens).toEqual(["token", "another"]));
  resolve(1);
  expect([await asked, fixture.files.seen.length]).toEqual([1, 1]);
});

test("a refusal at the first connection says why, and the client gives up", async () => {
  fixture.refusal = new TidemarkError("PERMISSION_DENIED", "the token expired at noon");
  await expect(fixture.connect()).rejects.toThrow("the token expired at noon");
});

test("a token that is refused when the gateway comes back ends the session with that reason", async () => {
  const client = await fixture.connect();
  const reasons: string[] = [];
  client.onEnded((reason) => reasons.push(reason));
  fixture.refusal = new TidemarkError("PERMISSION_DENIED", "the token was revoked");
  fixture.proxy.reset();
  expect(["EACCES", "EIO"]).toContain(await codeOf(client.execute(write("x"), CONTEXT)));
  await vi.waitFor(() => expect(reasons).toEqual(["the token was revoked"]));
});

test("a session that the service ends fails what is asked, and is not opened again", async () => {
  const client = await fixture.connect();
  fixture.files.answer = () => new Promise(() => {});
  const asked = codeOf(client.execute(write("x"), CONTEXT));
  await vi.waitFor(() => expect(fixture.files.seen.length).toBe(1));
  for (const end of fixture.ends) end("the token was revoked");
  expect(await asked).toBe("EACCES");
  const before = fixture.proxy.connections;
  expect(await codeOf(client.execute(write("x"), CONTEXT))).not.toBe("success");
  expect([client.state, fixture.proxy.connections]).toEqual(["ended", before]);
});

test("goodbye ends the mount; leaving without a word does not", async () => {
  const [first, second] = [await fixture.connect(), await fixture.connect()];
  second.detach();
  await first.close();
  expect(fixture.goodbyes).toEqual([1]);
  expect(fixture.sessions.counts().sessions).toBe(1);
});

test("another process of a gateway goes on with its session, and numbers its calls anew", async () => {
  const first = await fixture.connect();
  for (let index = 0; index < 20; index++) await first.execute(write("x", BigInt(index)), CONTEXT);
  const second = await fixture.connect({ resume: first.grant.id });
  expect(second.grant).toMatchObject({ id: first.grant.id, mountId: first.grant.mountId });
  for (let index = 0; index < 5; index++) expect(await second.execute(write("yy", BigInt(index)), CONTEXT)).toBe(2);
  expect(fixture.files.count("write")).toBe(25);
});

test("what a process before had asked ends before the next one's calls begin, and is answered to nobody", async () => {
  const first = await fixture.connect();
  const slow = Promise.withResolvers<number>();
  const order: string[] = [];
  fixture.files.answer = (request, { signal }) => {
    if (request.op === "setlk")
      return new Promise((_, reject) => signal?.addEventListener("abort", () => reject(FsError.of("EINTR"))));
    if (request.op !== "write" || request.offset > 0n) return undefined;
    order.push("begun");
    return slow.promise.then((bytes) => {
      order.push("done");
      return bytes;
    });
  };
  const lost = first.execute(write("slow"), CONTEXT) as Promise<number>;
  const lock = { start: 0n, end: 9n, type: "write", pid: 1 } as const;
  const waits = first.execute(
    { op: "setlk", ino: ROOT, owner: 1n, flock: false, lock, wait: true },
    CONTEXT,
  ) as Promise<undefined>;
  const outcomes = Promise.allSettled([lost, waits]);
  await vi.waitFor(() => expect(fixture.files.seen.length).toBe(2));
  first.detach();
  const second = await fixture.connect({ resume: first.grant.id });
  const next = (second.execute(write("next", 9n), { ...CONTEXT, resent: true }) as Promise<number>).then((bytes) => {
    order.push("next");
    return bytes;
  });
  // Somebody else's round trip: time enough for it to arrive.
  await (await fixture.connect()).snapshotNames();
  expect(fixture.files.count("write")).toBe(1);
  slow.resolve(4);
  expect(await next).toBe(4);
  expect(order).toEqual(["begun", "done", "next"]);
  expect((await outcomes).map(({ status }) => status)).toEqual(["rejected", "rejected"]);
});

const TIME = { sec: 1, nsec: 2 };
const INODE: Inode = {
  ino: ROOT,
  since: 1 as Lsn,
  generation: 1,
  mode: 0o120777,
  uid: 0,
  gid: 0,
  nlink: 1,
  rdev: 0,
  size: 4095n,
  allocatedBytes: 0n,
  atime: TIME,
  mtime: TIME,
  ctime: TIME,
  btime: TIME,
  contentId: 0 as ContentId,
  parent: 0,
  target: Buffer.alloc(0),
  restoredFrom: 0,
};
