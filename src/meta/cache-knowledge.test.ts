import { expect, test } from "vitest";
import type { InodeId } from "../domain/ids.ts";
import { ATTRIBUTES, CacheKnowledge, DATA } from "./cache-knowledge.ts";

const [OLD, NEW] = [5 as InodeId, 50 as InodeId];

function open(): CacheKnowledge {
  return new CacheKnowledge({ below: 10, anyAbsentUntilMs: 100 });
}

test("what was told before is in doubt until it is forgotten, what came later is known exactly", () => {
  const knowledge = open();
  expect([knowledge.mayHold(OLD, DATA), knowledge.mayHold(NEW, ATTRIBUTES | DATA)]).toEqual([true, false]);
  knowledge.forget(OLD, ATTRIBUTES);
  expect([knowledge.mayHold(OLD, ATTRIBUTES), knowledge.mayHold(OLD, DATA)]).toEqual([false, true]);
  knowledge.learn(NEW, DATA);
  expect([knowledge.mayHold(NEW, ATTRIBUTES), knowledge.mayHold(NEW, DATA)]).toEqual([false, true]);
  knowledge.forget(NEW, ATTRIBUTES | DATA);
  expect(knowledge.mayHold(NEW, DATA)).toBe(false);
});

test("an absent name is remembered for its time; any may be while nobody kept account", () => {
  const knowledge = open();
  expect([knowledge.mayHoldAbsent("a", 99), knowledge.mayHoldAbsent("a", 100)]).toEqual([true, false]);
  knowledge.learnAbsent("a", { untilMs: 300, nowMs: 200 });
  expect([knowledge.mayHoldAbsent("a", 299), knowledge.mayHoldAbsent("a", 300)]).toEqual([true, false]);
  knowledge.forgetAbsent("a");
  expect(knowledge.mayHoldAbsent("a", 250)).toBe(false);
});

test("too many absent names, or inodes far apart, put everything in doubt instead of taking more memory", () => {
  const knowledge = open();
  for (let index = 0; index < 70_000; index++) knowledge.learnAbsent(`n${index}`, { untilMs: 300, nowMs: 200 });
  expect([knowledge.mayHoldAbsent("n0", 299), knowledge.mayHoldAbsent("n0", 300)]).toEqual([true, false]);
  knowledge.forget(OLD, DATA);
  for (let page = 1; page <= 40_000; page++) knowledge.forget((page * 2048) as InodeId, DATA);
  expect(knowledge.mayHold(OLD, DATA)).toBe(true);
});
