/** Random tests print and accept SEED (STYLE 19). */
export function crashSeed(name: string): number {
  const seed = Number(process.env["SEED"] ?? process.hrtime.bigint() % 1_000_000n);
  console.log(`${name}: SEED=${seed}`);
  return seed;
}

/** mulberry32: numbers in [0, 1) from a seed. */
export function randomNumbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Rounds of a crash test: few in `npm test`, as many as CRASH_ROUNDS says for a long run. */
export function crashRounds(short: number): number {
  return Number(process.env["CRASH_ROUNDS"] ?? short);
}
