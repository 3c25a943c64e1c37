/** Where long work in the loop that serves mounts lets others in. Injected, so that tests decide what comes between. */
export interface Turns {
  /** Resolves in a later turn of the event loop, after I/O that is ready was served. */
  next(): Promise<void>;
}

/** The machine's event loop. */
export class SystemTurns implements Turns {
  next(): Promise<void> {
    return new Promise((resolve) => setImmediate(resolve));
  }
}
