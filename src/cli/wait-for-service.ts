import { connect } from "node:net";
import type { Clock } from "../base/clock.ts";
import type { Timers } from "../base/timers.ts";
import { socketAddress } from "../rpc/socket-address.ts";

/** A restart by the supervisor takes about a second, with much of the journal to apply a few. */
const WAIT_MS_MAX = 5_000;
const RETRY_MS = 50;
/** From then on a person wants to know why nothing happens. */
const SAY_AFTER_MS = 500;

export type WaitOptions = {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly signal: AbortSignal;
  /** Hears, at most once, that it takes long. */
  readonly onWait: (waitMsMax: number) => void;
};

/**
 * Resolves when something listens on the socket. A socket without a listener is what a service that has just died leaves until it is started again: that is
 * waited for, for a few seconds. No socket at all means that none is to come. Never rejects: what is wrong, the first call will say.
 */
export async function waitForService(socketPath: string, options: WaitOptions): Promise<void> {
  const { clock, timers, signal, onWait } = options;
  const startMs = clock.monotonicMs();
  let said = false;
  let died = false;
  while (!signal.aborted) {
    const found = await probe(socketPath);
    // While its successor takes the place of a dead socket, there is none for a moment.
    died ||= found === "refused";
    const waitedMs = clock.monotonicMs() - startMs;
    if (found === "listening" || !died || waitedMs >= WAIT_MS_MAX) return;
    if (!said && waitedMs >= SAY_AFTER_MS) {
      said = true;
      onWait(WAIT_MS_MAX);
    }
    await timers.wait(RETRY_MS);
  }
}

type Found = "listening" | "refused" | "other";

function probe(socketPath: string): Promise<Found> {
  return new Promise((resolve) => {
    try {
      const address = socketAddress(socketPath);
      const socket = connect(address.path);
      const end = (found: Found): void => {
        socket.destroy();
        address.close();
        resolve(found);
      };
      socket.on("connect", () => end("listening"));
      socket.on("error", (error: NodeJS.ErrnoException) => end(error.code === "ECONNREFUSED" ? "refused" : "other"));
    } catch {
      resolve("other");
    }
  });
}
