import { describe, expect, test } from "vitest";
import type { Lsn } from "../domain/ids.ts";
import type { RowOp } from "../journal/record.ts";
import { MemoryKv } from "../kv/memory-kv.ts";
import { LocalApplyBackend } from "./applier.ts";
import { emptyCounters } from "./counters.ts";
import { RowStore } from "./row-store.ts";

const SLOT = 7;
const TABLE = 0x44;

function numbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state * 48_271) % 2_147_483_647;
    return state % below;
  };
}

/** Keys of one table whose order in bytes differs from their order as signed numbers or UTF-8. */
function keyOf(number: number): Buffer {
  return Buffer.from([TABLE, (number * 37) % 256, number % 3 === 0 ? 0 : 255, number]);
}

describe("the row store", () => {
  test.each([11, 12, 13, 14])(
    "reads overlay and KV as one ordered table, while rows are applied (seed %i)",
    async (seed) => {
      const next = numbers(seed);
      const kv = new MemoryKv();
      const store = new RowStore({ kv, slot: SLOT, appliedLsn: 0 as Lsn });
      const backend = new LocalApplyBackend(kv, store, SLOT);
      const plain = new Map<string, string>();
      for (let lsn = 1; lsn <= 3000; lsn++) {
        store.add(lsn as Lsn, makeRows(next, plain));
        if (next(10) === 0) {
          const to = Math.min(lsn, store.appliedLsn + 1 + next(30)) as Lsn;
          if (to > store.appliedLsn) store.applied((await backend.apply(store.appliedLsn, to, emptyCounters())).lsn);
        }
        // Rows come and leave also while nobody looks.
        if (next(12) === 0) compare(store, plain, next);
      }
      store.applied((await backend.apply(store.appliedLsn, 3000 as Lsn, emptyCounters())).lsn);
      expect(store.pendingBytes).toBe(0);
      compare(store, plain, next);
    },
  );

  test("does not see rows of another app in the same KV", async () => {
    const kv = new MemoryKv();
    const one = new RowStore({ kv, slot: 1, appliedLsn: 0 as Lsn });
    one.add(1 as Lsn, [{ key: keyOf(1), value: Buffer.from("one") }]);
    one.applied((await new LocalApplyBackend(kv, one, 1).apply(0 as Lsn, 1 as Lsn, emptyCounters())).lsn);
    const two = new RowStore({ kv, slot: 2, appliedLsn: 0 as Lsn });
    expect(two.get(keyOf(1))).toBeUndefined();
    expect(two.range({ gte: Buffer.from([TABLE]), lt: Buffer.from([TABLE + 1]), limit: 10 })).toEqual([]);
    expect(one.get(keyOf(1))?.toString()).toBe("one");
  });
});

function makeRows(next: (below: number) => number, plain: Map<string, string>): RowOp[] {
  return Array.from({ length: 1 + next(4) }, () => {
    const key = keyOf(next(60));
    if (next(3) === 0) {
      plain.delete(key.toString("latin1"));
      return { key, value: null };
    }
    const value = String(next(1_000_000));
    plain.set(key.toString("latin1"), value);
    return { key, value: Buffer.from(value) };
  });
}

function compare(store: RowStore, plain: ReadonlyMap<string, string>, next: (below: number) => number): void {
  const wanted = [...plain].sort(([left], [right]) => (left < right ? -1 : 1));
  const key = keyOf(next(60));
  expect(store.get(key)?.toString()).toBe(plain.get(key.toString("latin1")));
  const [gte, lt] = [Buffer.from([TABLE, next(256)]), Buffer.from([TABLE, next(256), next(256)])];
  const limit = 1 + next(12);
  const inside = wanted.filter(([text]) => text >= gte.toString("latin1") && text < lt.toString("latin1"));
  for (const reverse of [false, true]) {
    const expected = (reverse ? inside.toReversed() : inside).slice(0, limit);
    const rows = store.range({ gte, lt, reverse, limit });
    expect(rows.map((row) => [row.key.toString("latin1"), row.value.toString()])).toEqual(expected);
  }
}
