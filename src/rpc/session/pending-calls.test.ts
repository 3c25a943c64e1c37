import { expect, test } from "vitest";
import { ManualClock } from "../../../test/model/manual-clock.ts";
import { FsError } from "../../domain/errors.ts";
import type { InodeId } from "../../domain/ids.ts";
import type { Request } from "../../domain/metadata-api.ts";
import { toCall } from "./call-codec.ts";
import { type NewCall, PendingCalls } from "./pending-calls.ts";
import type { SessionRequestShape } from "./session-streams.ts";

const INO = 70 as InodeId;
const WHOLE = { start: 0n, end: 2n ** 63n - 1n, pid: 1 } as const;

function callOf(request: Request): NewCall {
  return { op: request.op, unique: 2, again: false, uid: 0, gid: 0, pid: 1, request: toCall(request) };
}

const lock = (type: "write" | "unlock"): NewCall =>
  callOf({ op: "setlk", ino: INO, owner: 7n, flock: false, lock: { ...WHOLE, type }, wait: type === "write" });

test("a lock whose caller gave up is called off directly after it is asked for again, before anything later", async () => {
  const calls = new PendingCalls({ clock: new ManualClock() });
  const sent: string[] = [];
  const send = ({ message }: SessionRequestShape): void => {
    const value = message?.value as { readonly number?: bigint } | undefined;
    sent.push(`${message?.case} ${value?.number}`);
  };
  const waiting = calls.add(lock("write"), send);
  const kept = calls.add(lock("write"), send);
  calls.fail(waiting.number, FsError.of("EINTR"));
  await expect(waiting.promise).rejects.toMatchObject({ code: "EINTR" });
  const unlocked = calls.add(lock("unlock"), send);
  sent.length = 0;
  const again = ["call 1", "cancel 1", "call 2", "call 3"];
  for (let connection = 0; connection < 2; connection++) calls.sendAgain(send);
  expect(sent).toEqual([...again, ...again]);
  expect(calls.take(waiting.number)).toBe(undefined);
  expect([calls.take(kept.number)?.number, calls.take(unlocked.number)?.number]).toEqual([2, 3]);
});

test("other calls whose callers gave up are sent again as they were", async () => {
  const calls = new PendingCalls({ clock: new ManualClock() });
  const cases: (string | undefined)[] = [];
  const send = ({ message }: SessionRequestShape): void => void cases.push(message?.case);
  const { number, promise } = calls.add(callOf({ op: "fsync", ino: INO }), send);
  calls.fail(number, FsError.of("EINTR"));
  await expect(promise).rejects.toMatchObject({ code: "EINTR" });
  calls.sendAgain(send);
  expect(cases).toEqual(["call", "call"]);
});
