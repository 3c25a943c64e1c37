import type { KvEntry, KvOperation, KvRange } from "../../src/kv/kv-store.ts";

/** What a key-value store means, as plainly as it can be written: a list sorted with `Buffer.compare`, read from end to end. */
export class KvModel {
  #rows: KvEntry[] = [];

  get(key: Buffer): Buffer | undefined {
    return this.#rows.find((row) => row.key.equals(key))?.value;
  }

  batch(operations: readonly KvOperation[]): void {
    for (const operation of operations) {
      const key = Buffer.from(operation.key);
      this.#rows = this.#rows.filter((row) => !row.key.equals(key));
      if (operation.type === "put") this.#rows.push({ key, value: Buffer.from(operation.value) });
    }
    this.#rows.sort((left, right) => Buffer.compare(left.key, right.key));
  }

  deleteRange(range: { gte: Buffer; lt: Buffer }): void {
    this.#rows = this.#rows.filter(
      (row) => Buffer.compare(row.key, range.gte) < 0 || Buffer.compare(row.key, range.lt) >= 0,
    );
  }

  range(range: KvRange): KvEntry[] {
    const rows = this.#rows.filter(
      ({ key }) =>
        (range.gte === undefined || Buffer.compare(key, range.gte) >= 0) &&
        (range.gt === undefined || Buffer.compare(key, range.gt) > 0) &&
        (range.lte === undefined || Buffer.compare(key, range.lte) <= 0) &&
        (range.lt === undefined || Buffer.compare(key, range.lt) < 0),
    );
    if (range.reverse) rows.reverse();
    let bytes = 0;
    const end = rows.findIndex(({ key, value }) => {
      bytes += key.length + value.length;
      return bytes >= (range.bytesMax ?? Number.POSITIVE_INFINITY);
    });
    return rows.slice(0, Math.min(range.limit, end < 0 ? rows.length : end + 1));
  }
}
