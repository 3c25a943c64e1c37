import { assert } from "../base/assert.ts";

/** Keys of one run. A longer run is cut in two: inserting moves at most this many pointers. */
const RUN_KEYS_MAX = 512;

/**
 * An ordered set of strings in sorted runs: O(log n) to find, O(run) to change. Strings compare by code unit, so byte strings decoded as
 * latin1 are in the order of their unsigned bytes.
 */
export class SortedKeys {
  // No run is empty, except that an empty set has one empty run.
  #runs: string[][] = [[]];
  #count = 0;

  get count(): number {
    return this.#count;
  }

  /** Adds `key`, which must be absent. */
  add(key: string): void {
    const { run, index } = this.#find(key, true);
    const keys = this.#run(run);
    assert(keys[index] !== key, "key is already in the set");
    keys.splice(index, 0, key);
    this.#count += 1;
    if (keys.length > RUN_KEYS_MAX) this.#runs.splice(run + 1, 0, keys.splice(keys.length >> 1));
  }

  /** Removes `key`, which must be there. */
  remove(key: string): void {
    const { run, index } = this.#find(key, true);
    const keys = this.#run(run);
    assert(keys[index] === key, "key is not in the set");
    keys.splice(index, 1);
    this.#count -= 1;
    if (keys.length === 0 && this.#runs.length > 1) this.#runs.splice(run, 1);
  }

  /** The keys from `start` upward; `inclusive` says whether `start` itself is among them. The set must not change meanwhile. */
  *ascending(start: string, inclusive: boolean): Generator<string, void> {
    const from = this.#find(start, inclusive);
    let index = from.index;
    for (let run = from.run; run < this.#runs.length; run += 1) {
      const keys = this.#run(run);
      for (; index < keys.length; index += 1) yield keys[index] as string;
      index = 0;
    }
  }

  /** The keys from `start` (undefined: the last) downward; `inclusive` says whether `start` itself is among them. The set must not change meanwhile. */
  *descending(start: string | undefined, inclusive: boolean): Generator<string, void> {
    const last = this.#runs.length - 1;
    const from = start === undefined ? { run: last, index: this.#run(last).length } : this.#find(start, !inclusive);
    let index = from.index - 1;
    for (let run = from.run; ; ) {
      const keys = this.#run(run);
      for (; index >= 0; index -= 1) yield keys[index] as string;
      if (run === 0) return;
      run -= 1;
      index = this.#run(run).length - 1;
    }
  }

  /** Where the first key ≥ `key` is or would be; with `atKey` false, the first key > `key`. `index` may be the end of the run. */
  #find(key: string, atKey: boolean): { run: number; index: number } {
    let run = 0;
    for (let high = this.#runs.length - 1; run < high; ) {
      const middle = (run + high + 1) >> 1;
      if ((this.#run(middle)[0] as string) <= key) run = middle;
      else high = middle - 1;
    }
    const keys = this.#run(run);
    let low = 0;
    for (let high = keys.length; low < high; ) {
      const middle = (low + high) >> 1;
      const at = keys[middle] as string;
      if (at < key || (!atKey && at === key)) low = middle + 1;
      else high = middle;
    }
    return { run, index: low };
  }

  #run(index: number): string[] {
    const keys = this.#runs[index];
    assert(keys !== undefined, "run is out of bounds");
    return keys;
  }
}
