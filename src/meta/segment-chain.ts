import { readdirSync } from "node:fs";
import { ByteReader, ByteWriter } from "../base/bytes.ts";
import { TidemarkError } from "../domain/errors.ts";
import type { AppId, Lsn } from "../domain/ids.ts";
import { CHAIN_HASH_BYTES, Chain, type ChainState } from "../journal/chain.ts";
import { parseSegmentName } from "../journal/segment-file.ts";
import type { KvOperation, KvStore } from "../kv/kv-store.ts";
import { plainKey, prefixEnd, TABLE } from "./keys.ts";

export type SegmentChainOptions = {
  readonly folder: string;
  readonly appId: AppId;
  readonly kv: KvStore;
  /** The app's prefix in the KV. */
  readonly prefix: Buffer;
};

/**
 * Keeps the hash chain of a journal (journal/FORMAT.md, "Chain") in `H` rows: the state at the end of each sealed segment, so that it costs one reading of a segment
 * when that is full, and nothing in between. What was not hashed when the process died is hashed by the next one.
 */
export class SegmentChain {
  readonly #options: SegmentChainOptions;
  #chain: Chain | undefined;
  #broken = false;

  constructor(options: SegmentChainOptions) {
    this.#options = options;
  }

  /** Rows for the segments that end at or before `lsn` and have none yet. A damaged segment ends the chain there: `verify` names it. */
  rows(lsn: Lsn): KvOperation[] {
    if (this.#broken) return [];
    const chain = this.#started();
    const sealedTo = this.#lastSealed(lsn);
    if (sealedTo <= chain.state.lsn) return [];
    const rows: KvOperation[] = [];
    try {
      // One record further would begin the next segment: the end of the last one is reported by hand.
      chain.advance(sealedTo, (segment, end) => rows.push(this.#row(segment, end)));
      rows.push(this.#row(this.#segmentOf(sealedTo), chain.state));
    } catch (error) {
      if (!(error instanceof TidemarkError)) throw error;
      this.#broken = true;
    }
    return rows;
  }

  close(): void {
    this.#chain?.close();
    this.#chain = undefined;
  }

  #started(): Chain {
    if (this.#chain !== undefined) return this.#chain;
    const { folder, appId, kv, prefix } = this.#options;
    const gte = Buffer.concat([prefix, plainKey(TABLE.CHAIN)]);
    const last = kv.rangeSync({ gte, lt: prefixEnd(gte), reverse: true, limit: 1 })[0];
    this.#chain = last === undefined ? new Chain(folder, appId) : new Chain(folder, appId, decodeState(last.value));
    return this.#chain;
  }

  #segments(): number[] {
    const numbers = readdirSync(this.#options.folder).map(parseSegmentName);
    return numbers.filter((number) => number !== undefined).sort((left, right) => left - right);
  }

  /** The end of the last segment that another one follows, at or before `lsn`. */
  #lastSealed(lsn: Lsn): Lsn {
    const starts = this.#segments().filter((start) => start <= lsn + 1);
    return ((starts.at(-1) ?? 1) - 1) as Lsn;
  }

  #segmentOf(lsn: Lsn): number {
    return this.#segments().findLast((start) => start <= lsn) ?? lsn;
  }

  #row(segment: number, end: ChainState): KvOperation {
    const key = Buffer.concat([this.#options.prefix, plainKey(TABLE.CHAIN, new ByteWriter(8).u64(segment).finish())]);
    return { type: "put", key, value: new ByteWriter(40).u64(end.lsn).bytes(end.hash).finish() };
  }
}

function decodeState(value: Buffer): ChainState {
  const reader = new ByteReader(value);
  return { lsn: reader.u64() as Lsn, hash: Buffer.from(reader.bytes(CHAIN_HASH_BYTES)) };
}
