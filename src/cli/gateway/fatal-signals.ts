import { readFileSync } from "node:fs";
import type { Timers } from "../../base/timers.ts";
import type { Reply } from "../../gateway/fuse/reply.ts";

/** The kernel tells of the first signal of a waiting caller only: whether a later one kills it has to be looked up. */
const LOOK_AGAIN_MS = 1_000;

/** Bit of SIGKILL (9) in the signal sets of proc(5). */
const SIGKILL_BIT = 1n << 8n;

/**
 * Which callers of waiting requests are being killed. As with NFS, only that ends a wait for the service: any other signal is for later, since few programs expect EINTR of a file.
 */
export class FatalSignals {
  readonly #timers: Timers;
  readonly #isDying: (pid: number) => boolean;
  readonly #waiting = new Set<AbortController>();
  #over = false;

  constructor({
    timers,
    isDying = hasKillPending,
  }: { readonly timers: Timers; readonly isDying?: (pid: number) => boolean }) {
    this.#timers = timers;
    this.#isDying = isDying;
  }

  /** Fires when the caller of `reply` is being killed, or the mount has ended. */
  of(reply: Reply): AbortSignal {
    const controller = new AbortController();
    const { signal } = reply;
    const look = (): void => {
      if (this.#over || this.#isDying(reply.header.pid)) controller.abort();
      if (controller.signal.aborted || reply.answered) this.#waiting.delete(controller);
      else this.#timers.after(LOOK_AGAIN_MS, look);
    };
    const interrupted = (): void => {
      this.#waiting.add(controller);
      look();
    };
    if (signal.aborted) interrupted();
    else signal.addEventListener("abort", interrupted, { once: true });
    return controller.signal;
  }

  /** The mount has ended: nobody waits for anything any more. */
  end(): void {
    this.#over = true;
    for (const controller of this.#waiting) controller.abort();
    this.#waiting.clear();
  }
}

/** Whether SIGKILL is on its way to a process or thread: the kernel makes every signal that ends a process into one. Not when it can't be seen (another pid namespace). */
function hasKillPending(pid: number): boolean {
  if (pid === 0) return false;
  try {
    return statusHasKillPending(readFileSync(`/proc/${pid}/status`, "latin1"));
  } catch (error) {
    // Gone: nobody waits.
    return (error as NodeJS.ErrnoException).code === "ENOENT";
  }
}

/** As hasKillPending, of the text of /proc/PID/status. */
export function statusHasKillPending(status: string): boolean {
  const pending = [...status.matchAll(/^(?:SigPnd|ShdPnd):\s*([0-9a-f]+)$/gm)];
  return pending.some(([, mask]) => (BigInt(`0x${mask ?? "0"}`) & SIGKILL_BIT) !== 0n);
}
