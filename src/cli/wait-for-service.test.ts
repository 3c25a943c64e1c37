import { linkSync, mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Clock } from "../base/clock.ts";
import { waitForService } from "./wait-for-service.ts";

let folder: string;
let socketPath: string;
let server: Server | undefined;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tidemark-wait-"));
  socketPath = join(folder, "admin.sock");
});

afterEach(async () => {
  await close();
  rmSync(folder, { recursive: true });
});

async function listen(path: string): Promise<void> {
  server = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve) => server?.listen(path, resolve));
}

async function close(): Promise<void> {
  const closing = server;
  server = undefined;
  if (closing !== undefined) await new Promise((resolve) => closing.close(resolve));
}

/** A socket as a killed process leaves it: its name is there, nobody listens. */
async function leaveDeadSocket(): Promise<void> {
  const first = join(folder, "first.sock");
  await listen(first);
  linkSync(first, socketPath);
  await close();
}

/** Time that passes only while somebody waits; each wait calls `onWait` with how many there were. */
function machine(onWait: (count: number) => Promise<void> | void) {
  let nowMs = 0;
  let count = 0;
  const clock: Clock = { now: () => ({ sec: 0, nsec: 0 }), monotonicMs: () => nowMs };
  const wait = async (delayMs: number): Promise<void> => {
    nowMs += delayMs;
    count += 1;
    await onWait(count);
  };
  return { clock, timers: { wait, after: () => () => {} }, waits: () => count };
}

function optionsOf({ clock, timers }: ReturnType<typeof machine>, signal = new AbortController().signal) {
  const said: number[] = [];
  return { clock, timers, signal, said, onWait: (waitMsMax: number) => void said.push(waitMsMax) };
}

test("a service that listens is not waited for", async () => {
  await listen(socketPath);
  const time = machine(() => {});
  await waitForService(socketPath, optionsOf(time));
  expect(time.waits()).toBe(0);
});

test("without a socket nothing is to come", async () => {
  const time = machine(() => {});
  await waitForService(socketPath, optionsOf(time));
  await waitForService(join(folder, "no", "folder"), optionsOf(time));
  expect(time.waits()).toBe(0);
});

test("a service that has died is waited for until its successor listens, also while the name is gone", async () => {
  await leaveDeadSocket();
  const time = machine(async (count) => {
    if (count === 2) rmSync(socketPath);
    if (count === 4) await listen(socketPath);
  });
  const options = optionsOf(time);
  await waitForService(socketPath, options);
  expect(time.waits()).toBe(4);
  expect(options.said).toEqual([]);
});

test("when none comes the wait ends, and says once that it goes on", async () => {
  await leaveDeadSocket();
  const time = machine(() => {});
  const options = optionsOf(time);
  await waitForService(socketPath, options);
  expect(time.waits()).toBe(100);
  expect(options.said).toEqual([5_000]);
});

test("an interruption ends it", async () => {
  await leaveDeadSocket();
  const controller = new AbortController();
  const time = machine((count) => {
    if (count === 3) controller.abort();
  });
  await waitForService(socketPath, optionsOf(time, controller.signal));
  expect(time.waits()).toBe(3);
});
