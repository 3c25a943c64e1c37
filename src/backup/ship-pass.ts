import { TidemarkError } from "../domain/errors.ts";
import type { AppId, Lsn } from "../domain/ids.ts";
import { RECORD_OP } from "../domain/record-op.ts";
import { ChainLinker } from "../journal/chain.ts";
import { type VerifiedRecord, VerifiedStream } from "../journal/verified-stream.ts";
import { type DraftPiece, ShipChunks } from "./ship-chunks.ts";
import type { ShipPacks, ShippedPack } from "./ship-packs.ts";
import { SealDraft, type SealLimits } from "./ship-seal.ts";
import { slicesLeft, slicesOf } from "./ship-slices.ts";

export type ShipPassOptions = {
  readonly folder: string;
  readonly appId: AppId;
  readonly gear: Uint32Array;
  readonly packs: ShipPacks;
  readonly limits: SealLimits;
  /** h of the record before `from`. */
  readonly chain: Buffer;
  readonly from: Lsn;
  /** Publishes a seal whose packs are in the store. One at a time. */
  readonly publish: (draft: SealDraft, packs: readonly ShippedPack[]) => Promise<void>;
  /** Throws when it is time to stop. */
  readonly check: () => void;
};

/**
 * Goes over the journal once, from record to record, and makes seals of it: reading ahead, cutting and storing chunks, putting packs and publishing run beside each other. While one seal is being
 * published the next is made, no more. After an error it is of no use.
 */
export class ShipPass {
  readonly #options: ShipPassOptions;
  readonly #stream: VerifiedStream;
  readonly #chunks: ShipChunks;
  readonly #linker = new ChainLinker();
  #draft: SealDraft;
  #publishing: Promise<void> = Promise.resolve();

  constructor(options: ShipPassOptions) {
    const { folder, appId, from, chain, limits, gear, packs } = options;
    this.#options = options;
    this.#stream = new VerifiedStream({ folder, appId, from });
    this.#chunks = new ShipChunks(gear, packs);
    this.#draft = new SealDraft(from, { chain, limits });
  }

  /**
   * Ships up to `to`. Where the journal is damaged, everything before is shipped, then it throws DATA_DAMAGED.
   */
  async run(to: Lsn): Promise<void> {
    await this.#stream.refresh(to);
    let damage: TidemarkError | undefined;
    try {
      while (!this.#stream.isDone) {
        const record = this.#stream.take();
        if (record !== undefined) await this.#take(record);
        else {
          this.#options.check();
          await this.#stream.fill();
        }
      }
    } catch (error) {
      if (!(error instanceof TidemarkError) || error.code !== "DATA_DAMAGED") throw error;
      damage = error;
    }
    await this.#seal();
    await this.#publishing;
    this.#chunks.release();
    await this.#stream.close();
    if (damage !== undefined) throw damage;
  }

  /** Lets go of files. What was under way ends first. */
  async close(): Promise<void> {
    await this.#publishing.catch(() => {});
    await this.#stream.close();
  }

  async #take(record: VerifiedRecord): Promise<void> {
    if (this.#draft.isFullFor(record)) await this.#seal();
    const chain = this.#linker.begin(this.#draft.chain, record.prefix, record.body).finish(record.inner);
    const pieces: DraftPiece[] | null = record.data.length === 0 ? null : [];
    this.#draft.add(record, chain, pieces);
    // Data of RELOCATE records are copies of data that were shipped before.
    if (pieces === null || record.fields.op === RECORD_OP.RELOCATE) return;
    for (const whole of slicesOf(record)) {
      // What was erased by order before it was shipped has no pieces, so that reading it finds nothing, and not zeros.
      for (const slice of slicesLeft(whole, record.erased))
        await this.#chunks.add(slice, record.data.subarray(slice.skip, slice.skip + slice.length), pieces);
    }
  }

  /** Ends the seal being made, if there is something in it, and starts publishing it when the one before is published. */
  async #seal(): Promise<void> {
    const draft = this.#draft;
    if (draft.recordCount === 0) return;
    const { packs, limits, publish, check } = this.#options;
    check();
    await this.#chunks.end();
    packs.rotate();
    const settled = packs.settled();
    settled.catch(() => {});
    await this.#publishing;
    this.#publishing = settled.then((written) => publish(draft, written));
    this.#publishing.catch(() => {});
    this.#draft = new SealDraft((draft.to + 1) as Lsn, { chain: draft.chain, limits });
  }
}
