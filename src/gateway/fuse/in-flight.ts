import { readSync } from "node:fs";
import type { InFlightMarks } from "./connection.ts";
import type { Libc } from "./libc.ts";

/**
 * Which requests a process was working on when it died: a table in memory shared with its supervisor (a file that both have open, mapped by
 * the process, read by the supervisor afterwards). Marking costs two stores.
 *
 * Words of 64-bit floats (all values are safe integers), 0 = free:
 *   0 mount and 1 number of the request whose operation is running (there is one at most: one thread);
 *   then pairs of mount and number, one for each request that waits on a promise.
 * A mount is named by `deviceMinor + 1`, which stays the same from process to process. The number is written before the mount and the
 * mount is cleared first, so a pair with a mount is whole.
 */

/** Waiting requests that are marked; more go unmarked. */
const WAITING_MAX = 511;
export const IN_FLIGHT_BYTES = (1 + WAITING_MAX) * 16;

const PROT_READ_WRITE = 3;
const MAP_SHARED = 1;

/** A request on one of the mounts. */
export type InFlightRequest = { readonly deviceMinor: number; readonly unique: number };

/** The process's side of the table. */
export class InFlightTable {
  readonly #words: Float64Array;
  readonly #slots = new Map<string, number>();
  readonly #free: number[] = [];

  /** Maps the table that the supervisor opened as `fd`, and empties it. */
  constructor(fd: number, libc: Libc) {
    const address = libc.mmap(null, IN_FLIGHT_BYTES, PROT_READ_WRITE, MAP_SHARED, fd, 0);
    this.#words = new Float64Array(libc.view(address, IN_FLIGHT_BYTES));
    this.#words.fill(0);
    for (let slot = WAITING_MAX; slot >= 1; slot--) this.#free.push(slot);
  }

  /** The marks of one mount, for its connection. */
  marksOf(deviceMinor: number): InFlightMarks {
    const words = this.#words;
    const mount = deviceMinor + 1;
    return {
      started: (unique) => {
        words[1] = unique;
        words[0] = mount;
      },
      returned: () => {
        words[0] = 0;
      },
      waiting: (unique) => this.#wait(mount, unique),
      settled: (unique) => this.#settle(mount, unique),
    };
  }

  #wait(mount: number, unique: number): void {
    const slot = this.#free.pop();
    if (slot === undefined) return;
    this.#slots.set(`${mount}:${unique}`, slot);
    this.#words[slot * 2 + 1] = unique;
    this.#words[slot * 2] = mount;
  }

  #settle(mount: number, unique: number): void {
    const slot = this.#slots.get(`${mount}:${unique}`);
    if (slot === undefined) return;
    this.#slots.delete(`${mount}:${unique}`);
    this.#words[slot * 2] = 0;
    this.#free.push(slot);
  }
}

/** What the dead process left in the table that is open as `fd`. */
export function readInFlight(fd: number): { running: InFlightRequest | undefined; waiting: InFlightRequest[] } {
  const bytes = Buffer.alloc(IN_FLIGHT_BYTES);
  readSync(fd, bytes, 0, bytes.length, 0);
  const at = (slot: number): InFlightRequest | undefined => {
    const mount = bytes.readDoubleLE(slot * 16);
    return mount === 0 ? undefined : { deviceMinor: mount - 1, unique: bytes.readDoubleLE(slot * 16 + 8) };
  };
  const waiting: InFlightRequest[] = [];
  for (let slot = 1; slot <= WAITING_MAX; slot++) {
    const request = at(slot);
    if (request !== undefined) waiting.push(request);
  }
  return { running: at(0), waiting };
}

/** Deaths with the same request in flight after which it is no longer tried: one may be chance, two a coincidence. */
export const DEATHS_MAX = 3;

/**
 * Finds requests that kill the process. A request that was running counts for every death; one that merely waited counts only when the process
 * was not killed from outside, since waiting lockers are there whatever happens.
 */
export class CulpritFinder {
  #deaths = new Map<string, { request: InFlightRequest; count: number }>();

  /** Notes a death; answers the requests that have now been there DEATHS_MAX times in a row. */
  died(table: ReturnType<typeof readInFlight>, options: { killed: boolean }): InFlightRequest[] {
    const suspects = options.killed ? [] : [...table.waiting];
    if (table.running !== undefined) suspects.push(table.running);
    const before = this.#deaths;
    this.#deaths = new Map();
    const guilty: InFlightRequest[] = [];
    for (const request of suspects) {
      const key = `${request.deviceMinor}:${request.unique}`;
      const count = (before.get(key)?.count ?? 0) + 1;
      this.#deaths.set(key, { request, count });
      if (count === DEATHS_MAX) guilty.push(request);
    }
    return guilty;
  }
}
