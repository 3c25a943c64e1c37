import { expect, test } from "vitest";
import { Notifier } from "./notify.ts";
import type { Notification } from "./notify-codec.ts";
import type { NotificationCounts, NotificationOrder } from "./notify-worker.ts";
import type { NotificationWriter } from "./notify-writer.ts";

const FD = 7;

/** A writer that is done when the test says so. */
class SlowWriter implements NotificationWriter {
  readonly sizes: number[] = [];
  #answer: PromiseWithResolvers<NotificationCounts> | undefined;

  write(order: NotificationOrder): Promise<NotificationCounts> {
    expect(this.#answer, "one call at a time").toBeUndefined();
    this.sizes.push(order.length);
    this.#answer = Promise.withResolvers();
    return this.#answer.promise;
  }

  done(): void {
    const answer = this.#answer;
    this.#answer = undefined;
    answer?.resolve({ written: 1, unknown: 0, refused: 0 });
  }

  fail(): void {
    this.#answer?.reject(new Error("the thread is gone"));
  }

  async close(): Promise<void> {}
}

function entry(name: string, fd = FD): Notification {
  return { kind: "entry", fd, slot: 0, parentIno: 1, name: Buffer.from(name), expireOnly: false };
}

async function isDone(promise: Promise<unknown>): Promise<boolean> {
  let done = false;
  void promise.then(() => {
    done = true;
  });
  await new Promise((resolve) => setImmediate(resolve));
  return done;
}

test("a notification is written when its own batch is, together with equal ones that came meanwhile", async () => {
  const writer = new SlowWriter();
  const notifier = new Notifier(writer);
  const first = notifier.written(entry("a"));
  const second = notifier.written(entry("b"));
  const again = notifier.written(entry("b"));
  expect(await isDone(first)).toBe(false);
  writer.done();
  expect([await isDone(first), await isDone(second)]).toEqual([true, false]);
  writer.done();
  expect([await isDone(second), await isDone(again)]).toEqual([true, true]);
  expect([writer.sizes, notifier.batchCount]).toEqual([[1, 1], 2]);
});

test("what is dropped since its mount is gone keeps nobody waiting; neither does the end", async () => {
  const writer = new SlowWriter();
  const notifier = new Notifier(writer);
  const running = notifier.written(entry("a"));
  const dropped = notifier.written(entry("b"));
  const other = notifier.written(entry("c", 8));
  void notifier.abandon(FD);
  expect([await isDone(dropped), await isDone(running), await isDone(other)]).toEqual([true, false, false]);
  const closed = notifier.close();
  expect(await isDone(other)).toBe(true);
  writer.done();
  await Promise.all([closed, running]);
  await notifier.written(entry("late"));
});

test("a writer that fails keeps nobody waiting, and whoever comes later hears of it", async () => {
  const writer = new SlowWriter();
  const notifier = new Notifier(writer);
  const [running, queued] = [notifier.written(entry("a")), notifier.written(entry("b"))];
  writer.fail();
  await Promise.all([running, queued]);
  expect(() => notifier.written(entry("c"))).toThrow(/cannot be written/);
});

test("warming starts the writer before there is something to write, once at a time", async () => {
  const writer = new SlowWriter();
  const notifier = new Notifier(writer);
  const warm = notifier.warm();
  const first = notifier.written(entry("a"));
  await notifier.warm();
  expect(writer.sizes).toEqual([0]);
  writer.done();
  await warm;
  writer.done();
  await first;
  expect(writer.sizes).toEqual([0, 1]);
});
