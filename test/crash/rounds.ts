/** Rounds of a crash test: few in `npm test`, as many as CRASH_ROUNDS says in a long run. */
export function crashRounds(short: number): number {
  return Number(process.env["CRASH_ROUNDS"] ?? short);
}

/** What a long run may take beyond a short one. */
export function roundsTimeoutMs(shortMs: number, perRoundMs: number, rounds: number): number {
  return shortMs + perRoundMs * rounds;
}
