import { Worker } from "node:worker_threads";
import { expect, test, vi } from "vitest";
import { OwnerGate } from "./share-gate.ts";

// Threads are started, on machines that do other things too.
vi.setConfig({ testTimeout: 30_000 });

/** Enters, tells so, and then does what the test says: waits for a signal and leaves, exits inside, or spins inside. */
const VISITOR = `
const { workerData, parentPort } = require("node:worker_threads");
import(workerData.module).then(({ VisitorGate }) => {
  const gate = new VisitorGate(workerData.ticket);
  parentPort.postMessage(gate.enter());
  if (workerData.then === "exit") process.exit(0);
  if (workerData.then === "spin") for (;;);
  if (workerData.then === "throw") throw new Error("thrown on purpose, inside the gate");
  Atomics.wait(workerData.signal, 0, 0);
  gate.leave();
  parentPort.postMessage(gate.enter());
  gate.close();
  gate.close();
  parentPort.postMessage(gate.enter());
});`;

function visit(gate: OwnerGate, then: "leave" | "exit" | "spin" | "throw") {
  const signal = new Int32Array(new SharedArrayBuffer(4));
  const module = new URL("./share-gate.ts", import.meta.url).href;
  const worker = new Worker(VISITOR, {
    eval: true,
    workerData: { module, ticket: gate.ticket, then, signal },
    transferList: [gate.ticket.port],
  });
  const exited = new Promise<void>((resolve) => worker.once("exit", () => resolve()));
  if (then === "throw") worker.once("error", () => {});
  const messages: unknown[] = [];
  const entered = new Promise<unknown>((resolve) => {
    worker.on("message", (message) => {
      messages.push(message);
      resolve(message);
    });
  });
  const letLeave = () => {
    Atomics.store(signal, 0, 1);
    Atomics.notify(signal, 0);
  };
  return { worker, entered, exited, messages, letLeave };
}

test("close waits for the visitor inside, lets nobody in after it, and then settles", async () => {
  let gone = 0;
  const gate = new OwnerGate(() => {
    gone += 1;
  });
  const visitor = visit(gate, "leave");
  expect(await visitor.entered).toBe(true);
  let settled = false;
  const closing = gate.close().then(() => {
    settled = true;
  });
  for (let turn = 0; turn < 100; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  expect(settled).toBe(false);
  visitor.letLeave();
  await closing;
  await visitor.exited;
  expect(visitor.messages).toEqual([true, false, false]);
  // The channel tells it in a turn of its own.
  await vi.waitFor(() => expect(gone).toBe(1));
});

for (const then of ["exit", "throw"] as const) {
  test(`close settles when the visitor's thread ends inside (${then})`, async () => {
    const gate = new OwnerGate(() => {});
    const visitor = visit(gate, then);
    await gate.close();
    await visitor.exited;
    // Either the thread came after the close began and was refused, or it died inside.
    expect(visitor.messages).toHaveLength(1);
  });
}

test("close settles when the visitor's thread is terminated inside", async () => {
  const gate = new OwnerGate(() => {});
  const visitor = visit(gate, "spin");
  expect(await visitor.entered).toBe(true);
  const closing = gate.close();
  await visitor.worker.terminate();
  await closing;
});

test("close settles when the ticket was never given away", async () => {
  const gate = new OwnerGate(() => {});
  await gate.close();
});

test("the owner is told when the visitor has closed its side", async () => {
  await new Promise<void>((resolve) => {
    const gate = new OwnerGate(resolve);
    visit(gate, "leave").letLeave();
  });
});
