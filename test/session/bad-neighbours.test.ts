import { randomBytes } from "node:crypto";
import { connect as dial } from "node:net";
import { create } from "@bufbuild/protobuf";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { CallSchema, type SessionResponse } from "../../src/rpc/gen/tidemark/v1/session_pb.ts";
import { CALLS_MAX } from "../../src/rpc/session/limits.ts";
import type { SessionStream } from "../../src/rpc/session/session-streams.ts";
import { CONTEXT, SessionFixture, write } from "./fixture.ts";

let fixture: SessionFixture;
beforeEach(async () => {
  fixture = await SessionFixture.open();
});
afterEach(() => fixture.close());

const HELLO = {
  versionMin: 1,
  versionMax: 1,
  app: { namespace: "default", name: "a" },
  share: { name: "s" },
  token: "t",
};
const ATTRIBUTES = { case: "getattr", value: { ino: 2n } } as const;

/** What a stream says until it ends: its messages, and with what it failed. */
function listen(stream: SessionStream): { messages: SessionResponse[]; failure: Promise<string> } {
  const messages: SessionResponse[] = [];
  stream.on("data", (message: SessionResponse) => messages.push(message));
  const failure = new Promise<string>((resolve) => {
    stream.on("error", (error) => resolve(error.message));
    stream.on("end", () => resolve("ended"));
  });
  return { messages, failure };
}

async function greeted(): Promise<{ stream: SessionStream; heard: ReturnType<typeof listen> }> {
  const stream = fixture.rawStream();
  const heard = listen(stream);
  stream.write({ message: { case: "hello", value: HELLO } });
  await vi.waitFor(() => expect(heard.messages[0]?.message.case).toBe("welcome"));
  return { stream, heard };
}

/** The service still serves others. */
async function stillServes(): Promise<void> {
  const client = await fixture.connect();
  expect(await client.execute(write("well"), CONTEXT)).toBe(4);
}

test("a call before a Hello is refused", async () => {
  const stream = fixture.rawStream();
  const { failure } = listen(stream);
  stream.write({ message: { case: "call", value: { number: 1n, request: ATTRIBUTES } } });
  expect(await failure).toContain("Hello");
  expect(fixture.files.seen).toEqual([]);
});

test("a second Hello, and a message without content, end the stream", async () => {
  for (const message of [{ case: "hello", value: HELLO } as const, undefined]) {
    const { stream, heard } = await greeted();
    stream.write(message === undefined ? {} : { message });
    expect(await heard.failure).toMatch(/second Hello|does not know/);
  }
  await stillServes();
});

test("versions that do not meet are told to both, naming who has to be upgraded", async () => {
  for (const [versions, words] of [
    [{ versionMin: 2, versionMax: 3 }, "upgrade the service"],
    [{ versionMin: 0, versionMax: 0 }, "upgrade the gateway"],
  ] as const) {
    const stream = fixture.rawStream();
    const { failure } = listen(stream);
    stream.write({ message: { case: "hello", value: { ...HELLO, ...versions } } });
    expect(await failure).toContain(words);
  }
});

test("a newer gateway that also speaks our version is welcome", async () => {
  const stream = fixture.rawStream();
  const { messages } = listen(stream);
  stream.write({ message: { case: "hello", value: { ...HELLO, versionMax: 9 } } });
  await vi.waitFor(() => expect(messages[0]?.message).toMatchObject({ case: "welcome", value: { version: 1 } }));
});

test("numbers out of turn end the stream: none, used up, and answers that nobody can have received", async () => {
  const call = (number: bigint, received = 0n) =>
    ({ message: { case: "call", value: { number, received, request: ATTRIBUTES } } }) as const;
  const range = (from: bigint, to: bigint) => ({
    message: { case: "receivedAnswers" as const, value: { received: 0n, beyond: [{ from, to }] } },
  });
  for (const bad of [
    [call(0n)],
    [call(1n), call(2n, 1n), call(1n, 1n)],
    [call(1n, 2n ** 60n)],
    [call(1n, 7n)],
    [range(3n, 5n), call(4n)],
    [range(5n, 3n)],
    [range(0n, 3n)],
  ]) {
    const { stream, heard } = await greeted();
    for (const message of bad) stream.write(message);
    expect(await heard.failure).toMatch(/out of turn|out of range|no range/);
  }
  await stillServes();
});

test("more calls at a time than may be are refused", async () => {
  fixture.files.answer = () => new Promise(() => {});
  const { stream, heard } = await greeted();
  for (let number = 1; number <= CALLS_MAX + 1; number++)
    stream.write({ message: { case: "call", value: { number: BigInt(number), request: ATTRIBUTES } } });
  expect(await heard.failure).toContain("under way");
  fixture.files.answer = undefined;
  await stillServes();
});

test("a replayed call is not carried out again", async () => {
  const { stream, heard } = await greeted();
  const setattr = { case: "setattr", value: { ino: 2n, mode: 0o600 } } as const;
  for (let count = 0; count < 5; count++)
    stream.write({ message: { case: "call", value: { number: 1n, request: setattr } } });
  await vi.waitFor(() => expect(heard.messages.length).toBe(6));
  expect(fixture.files.count("setattr")).toBe(1);
});

test("data whose checksum is another are refused with EIO and not written", async () => {
  const { stream, heard } = await greeted();
  const value = { ino: 2n, offset: 0n, data: Buffer.from("data"), crc32: 1 };
  stream.write({ message: { case: "call", value: { number: 1n, request: { case: "write", value } } } });
  await vi.waitFor(() => expect(heard.messages.length).toBe(2));
  const answer = heard.messages[1]?.message;
  expect(answer).toMatchObject({ case: "answer", value: { answer: { case: "failure", value: { errno: 5 } } } });
  expect(fixture.files.seen).toEqual([]);
});

test("numbers that no inode, offset or lock can have are EINVAL, and nothing is asked of the file system", async () => {
  const { stream, heard } = await greeted();
  const requests = [
    { case: "getattr", value: { ino: 0n } },
    { case: "getattr", value: { ino: 2n ** 40n } },
    { case: "read", value: { ino: 2n, offset: 2n ** 63n, length: 1 } },
    { case: "getattr", value: { ino: 2n, at: 2n ** 63n } },
    { case: "setlk", value: { ino: 2n, lock: { start: 0n, end: 0n, type: 9 as never } } },
    { case: "setlk", value: { ino: 2n } },
    { case: undefined },
  ] as const;
  requests.forEach((request, index) => {
    stream.write({ message: { case: "call", value: { number: BigInt(index + 1), request } } });
  });
  await vi.waitFor(() => expect(heard.messages.length).toBe(requests.length + 1));
  for (const { message } of heard.messages.slice(1))
    expect(message).toMatchObject({ case: "answer", value: { answer: { case: "failure", value: { errno: 22 } } } });
  expect(fixture.files.seen).toEqual([]);
});

test("random bytes in place of messages end only the stream they came on", async () => {
  await greeted();
  for (let count = 0; count < 60; count++) {
    const stream = fixture.byteStream();
    const ended = new Promise<void>((resolve) => {
      stream.on("error", () => resolve());
      stream.on("end", () => resolve());
    });
    stream.resume();
    stream.write(randomBytes(1 + (count % 40)));
    stream.end();
    await ended;
  }
  await stillServes();
});

test("a message that is too large is refused unread", async () => {
  const { stream, heard } = await greeted();
  const value = { ino: 2n, offset: 0n, data: Buffer.alloc(9 * 1024 * 1024), crc32: 0 };
  stream.write({ message: { case: "call", value: { number: 1n, request: { case: "write", value } } } });
  expect(await heard.failure).not.toBe("ended");
  expect(fixture.files.seen).toEqual([]);
  await stillServes();
});

test("garbage that is no HTTP/2 disturbs nobody", async () => {
  const [host, port] = fixture.proxy.address.split(":");
  for (const garbage of [Buffer.from("GET / HTTP/1.1\r\n\r\n"), randomBytes(4096), Buffer.alloc(0)]) {
    const socket = dial(Number(port), host);
    socket.on("error", () => {});
    await new Promise<void>((resolve) => socket.end(garbage, resolve));
    socket.destroy();
  }
  await stillServes();
});

test("a gateway that reads nothing is asked nothing more after a while, and others are served", async () => {
  const { stream } = await greeted();
  stream.pause();
  const mebibyte = Buffer.alloc(1024 * 1024);
  fixture.files.answer = (request) => (request.op === "read" ? [mebibyte] : undefined);
  for (let number = 1; number <= 1000; number++) {
    const request = create(CallSchema, {
      number: BigInt(number),
      request: { case: "read", value: { ino: 2n, offset: 0n, length: 1024 * 1024 } },
    });
    stream.write({ message: { case: "call", value: request } });
  }
  await stillServes();
  const asked = fixture.files.count("read");
  await stillServes();
  expect(asked).toBeLessThan(200);
  expect(fixture.files.count("read")).toBeLessThan(200);
});
