import { setTimeout as delay } from "node:timers/promises";

/** How often a condition that nobody announces is looked at. */
const LOOK_EVERY_MS = 5;

/** Waits until `condition` holds. Throws with `what` after `timeoutMs`, or whatever the condition throws. */
export async function until(condition: () => boolean, what: string, timeoutMs = 60_000): Promise<void> {
  const endMs = performance.now() + timeoutMs;
  while (!condition()) {
    if (performance.now() > endMs) throw new Error(`waited in vain: ${what}`);
    await delay(LOOK_EVERY_MS);
  }
}
