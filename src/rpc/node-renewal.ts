import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { Timers } from "../base/timers.ts";
import { nodeCertificate, renewCertificate } from "./node-client.ts";
import type { NodeFolder } from "./tls/node-folder.ts";

/** How often a certificate that holds for a year is looked at. */
const LOOK_MS = 3_600_000;

/** All the gateways of a node look at about the same time; what one has renewed the others find renewed. */
const SPREAD_MS = 600_000;

const SAY_AGAIN_MS = 24 * 3_600_000;

/**
 * Has the certificate of this machine renewed when a third of its time is left, for as long as a process runs: looks soon and then every hour. That it can't be renewed is an alarm, once a day.
 * A connection that is there goes on with the certificate it was made with; one that is made later takes the new one. Answers how to stop.
 */
export function keepRenewed(
  folder: NodeFolder,
  options: { clock: Clock; timers: Timers; log: Log; randomFraction: () => number },
): () => void {
  const { clock, timers, log } = options;
  const stopping = new AbortController();
  let cancel = (): void => {};
  let saidMs = Number.NEGATIVE_INFINITY;
  const look = async (): Promise<void> => {
    try {
      const { isDue } = await nodeCertificate(folder, clock);
      if (!isDue) return;
      const until = await renewCertificate(folder, { clock, timers, signal: stopping.signal });
      log.info("the certificate of this node was renewed", { until: new Date(until.sec * 1000).toISOString() });
    } catch (error) {
      const nowMs = clock.monotonicMs();
      if (stopping.signal.aborted || nowMs - saidMs < SAY_AGAIN_MS) return;
      saidMs = nowMs;
      log.alarm("the certificate of this node can't be renewed: it is tried again", { error: String(error) });
    }
  };
  const later = (delayMs: number): void => {
    cancel = timers.after(delayMs, () => {
      void look().finally(() => {
        if (!stopping.signal.aborted) later(LOOK_MS);
      });
    });
  };
  later(Math.floor(options.randomFraction() * SPREAD_MS));
  return () => {
    stopping.abort();
    cancel();
  };
}
