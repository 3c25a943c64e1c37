import { expect, test } from "vitest";
import { ManualTimers } from "../../base/timers.ts";
import { Reply, ReplyWriter } from "../../gateway/fuse/reply.ts";
import { RecordingIo } from "../../gateway/fuse/testing/frames.ts";
import { FatalSignals, statusHasKillPending } from "./fatal-signals.ts";

const PID = 4711;

function setUp() {
  const timers = new ManualTimers();
  const dying = new Set<number>();
  const signals = new FatalSignals({ timers, isDying: (pid) => dying.has(pid) });
  const reply = (): Reply => {
    const header = { opcode: 3, unique: 2, resent: false, slot: 0, ino: 1, uid: 0, gid: 0, pid: PID };
    return new Reply(header, { fd: 3, writer: new ReplyWriter(new RecordingIo()), owner: { replied: () => {} } });
  };
  return { timers, dying, signals, reply };
}

test("a signal that does not kill is no reason to give up", () => {
  const { timers, signals, reply } = setUp();
  const waiting = reply();
  const givenUp = signals.of(waiting);
  waiting.interrupted();
  timers.advance(10_000);
  expect(givenUp.aborted).toBe(false);
});

test("one that kills is, also when it comes after another, of which alone the kernel tells", () => {
  const { timers, dying, signals, reply } = setUp();
  const waiting = reply();
  const givenUp = signals.of(waiting);
  waiting.interrupted();
  dying.add(PID);
  expect(givenUp.aborted).toBe(false);
  timers.advance(1000);
  expect(givenUp.aborted).toBe(true);
  const killed = reply();
  killed.interrupted();
  expect(signals.of(killed).aborted).toBe(true);
});

test("nobody is looked after once he is answered", () => {
  const { timers, signals, reply } = setUp();
  const waiting = reply();
  signals.of(waiting);
  waiting.interrupted();
  waiting.ok();
  timers.advance(1000);
  expect(timers.pendingCount).toBe(0);
});

test("with the mount everybody gives up who was interrupted, and whoever is later", () => {
  const { signals, reply } = setUp();
  const [before, after] = [reply(), reply()];
  const [first, second] = [signals.of(before), signals.of(after)];
  before.interrupted();
  signals.end();
  expect([first.aborted, second.aborted]).toEqual([true, false]);
  after.interrupted();
  expect(second.aborted).toBe(true);
});

test("SIGKILL is found among a thread's signals and its process's", () => {
  const status = (thread: string, shared: string): string =>
    `Name:\tcat\nSigQ:\t1/96365\nSigPnd:\t${thread}\nShdPnd:\t${shared}\nSigBlk:\t0000000000000000\n`;
  expect(statusHasKillPending(status("0000000000000100", "0000000000000000"))).toBe(true);
  expect(statusHasKillPending(status("0000000000000000", "0000000000004100"))).toBe(true);
  expect(statusHasKillPending(status("0000000000000200", "0000000000004000"))).toBe(false);
  expect(statusHasKillPending("")).toBe(false);
});
