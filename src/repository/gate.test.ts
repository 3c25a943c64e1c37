import { expect, test } from "vitest";
import { Gate } from "./gate.ts";

test("lets in as many as it may, then one for each that leaves, in the order they came", async () => {
  const gate = new Gate(2);
  const inside: number[] = [];
  const entered = [1, 2, 3, 4].map(async (each) => {
    await gate.enter();
    inside.push(each);
  });
  await Promise.all(entered.slice(0, 2));
  expect(inside).toEqual([1, 2]);
  gate.leave();
  await entered[2];
  expect(inside).toEqual([1, 2, 3]);
  gate.leave();
  await entered[3];
  for (let left = 0; left < 2; left += 1) gate.leave();
  await Promise.all([gate.enter(), gate.enter()]);
  expect(inside).toEqual([1, 2, 3, 4]);
});
