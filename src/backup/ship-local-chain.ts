import { ByteReader, ByteWriter } from "../base/bytes.ts";
import { TidemarkError } from "../domain/errors.ts";
import type { AppId, Lsn } from "../domain/ids.ts";
import { CHAIN_HASH_BYTES, CHAIN_START, ChainLinker, type ChainState } from "../journal/chain.ts";
import { VerifiedStream } from "../journal/verified-stream.ts";
import type { KvStore } from "../kv/kv-store.ts";
import { plainKey, TABLE } from "../meta/keys.ts";
import { slotPrefix } from "../meta/row-store.ts";

/** A journal on this machine, and the rows that were made of it. */
export type LocalJournal = {
  readonly appId: AppId;
  /** The journal's folder. */
  readonly folder: string;
  readonly kv: KvStore;
  readonly slot: number;
};

/**
 * h(lsn) of the journal, from the end of the segment before (table `H`), reading and verifying what follows that. Undefined when the records it takes are not kept any more. Throws
 * DATA_DAMAGED.
 */
export async function localChain(journal: LocalJournal, lsn: Lsn): Promise<Buffer | undefined> {
  let state = knownState(journal, lsn);
  if (state.lsn === lsn) return state.hash;
  const { folder, appId } = journal;
  const stream = new VerifiedStream({ folder, appId, from: (state.lsn + 1) as Lsn });
  const linker = new ChainLinker();
  try {
    await stream.refresh(lsn);
    while (!stream.isDone) {
      const record = stream.take();
      if (record === undefined) await stream.fill();
      else {
        const hash = linker.begin(state.hash, record.prefix, record.body).finish(record.inner);
        state = { lsn: record.fields.lsn, hash };
      }
    }
    return state.hash;
  } catch (error) {
    if (error instanceof TidemarkError && error.code === "OUT_OF_HISTORY") return undefined;
    throw error;
  } finally {
    await stream.close();
  }
}

/** The newest state of the chain in the KV at or before `lsn`. */
function knownState({ kv, slot }: LocalJournal, lsn: Lsn): ChainState {
  const prefix = slotPrefix(slot);
  const gte = Buffer.concat([prefix, plainKey(TABLE.CHAIN)]);
  const lt = Buffer.concat([prefix, plainKey(TABLE.CHAIN, new ByteWriter(8).u64(lsn + 1).finish())]);
  // Rows are by a segment's first LSN: of the last two that begin before, one ends before.
  for (const { value } of kv.rangeSync({ gte, lt, reverse: true, limit: 2 })) {
    const reader = new ByteReader(value);
    const end = reader.u64() as Lsn;
    if (end <= lsn) return { lsn: end, hash: Buffer.from(reader.bytes(CHAIN_HASH_BYTES)) };
  }
  return { lsn: 0 as Lsn, hash: CHAIN_START };
}
