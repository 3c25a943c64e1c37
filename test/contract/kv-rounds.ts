import assert from "node:assert/strict";
import type { KvOperation, KvStore } from "../../src/kv/kv-store.ts";

/** Bytes that don't compress, so that a few hundred rounds fill some write buffers. */
const NOISE = Buffer.alloc(64 * 1024);
for (let offset = 0, state = 1; offset < NOISE.length; offset += 4) {
  state = Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + offset;
  NOISE.writeInt32LE(state | 0, offset);
}

/** What the applier does, in small: a row of its own for each round, rows that are overwritten, and the number it has reached. */
export function roundAt(round: number): KvOperation[] {
  const number = Buffer.from(`${round}`);
  const noise = NOISE.subarray((round * 977) % 32_768, ((round * 977) % 32_768) + 20_000);
  return [
    { type: "put", key: Buffer.from(`round/${String(round).padStart(8, "0")}`), value: number },
    { type: "put", key: Buffer.from(`row/${round % 300}`), value: noise },
    { type: "put", key: Buffer.from("applied"), value: number },
  ];
}

/** Checks that the store holds the rounds up to the one it says it has reached, and nothing of a later one. Returns that round, -1 for none. */
export function checkRounds(kv: KvStore): number {
  const applied = Number(kv.getSync(Buffer.from("applied"))?.toString() ?? -1);
  let next = 0;
  for (let gt: Uint8Array = Buffer.from("round/"); ; ) {
    const page = kv.rangeSync({ gt, lt: Buffer.from("round0"), limit: 1000 });
    for (const entry of page) {
      assert.equal(entry.value.toString(), `${next}`);
      next += 1;
    }
    const last = page[page.length - 1];
    if (last === undefined) break;
    gt = last.key;
  }
  assert.equal(next - 1, applied, "rounds found against the round reached");
  for (let round = Math.max(0, applied - 299); round <= applied; round += 1) {
    const [, row] = roundAt(round);
    assert(row?.type === "put");
    assert(kv.getSync(row.key)?.equals(row.value), `the row of round ${round} is an older one`);
  }
  return applied;
}
