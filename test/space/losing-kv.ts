import type { KvOperation } from "../../src/kv/kv-store.ts";
import { MemoryKv } from "../../src/kv/memory-kv.ts";
import { decodeApplied } from "../../src/meta/counters.ts";
import { plainKey, TABLE } from "../../src/meta/keys.ts";
import { slotPrefix } from "../../src/meta/row-store.ts";

const APPLIED_KEY = Buffer.concat([slotPrefix(1), plainKey(TABLE.APPLIED)]);

/** A KV in memory that forgets, as RocksDB may at a power loss, any number of its last batches since it was synced. */
export class LosingKv extends MemoryKv {
  /** For each batch since the last sync, what takes it back. */
  #undo: KvOperation[][] = [];
  #synced: Buffer | undefined;

  override async batch(operations: readonly KvOperation[]): Promise<void> {
    const before = operations.map(({ key }): KvOperation => {
      const value = this.getSync(key);
      const copy = Uint8Array.from(key);
      return value === undefined ? { type: "del", key: copy } : { type: "put", key: copy, value };
    });
    this.#undo.push(before);
    await super.batch(operations);
  }

  override async sync(): Promise<void> {
    await super.sync();
    this.#undo = [];
    this.#synced = this.getSync(APPLIED_KEY);
  }

  /** The applied LSN of app 1 that no power loss takes back. */
  syncedLsn(): number {
    return this.#synced === undefined ? 0 : decodeApplied(this.#synced).lsn;
  }

  /** Takes back the last batches, `share` (0 to 1) of those that may be lost. */
  async lose(share: number): Promise<void> {
    const count = Math.round(this.#undo.length * share);
    for (let lost = 0; lost < count; lost++) {
      const undo = this.#undo.pop();
      if (undo !== undefined) await super.batch(undo);
    }
  }
}
