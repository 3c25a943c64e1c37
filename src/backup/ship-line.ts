import type { Clock, Timestamp } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { Lsn } from "../domain/ids.ts";
import { CHAIN_START } from "../journal/chain.ts";
import type { AppRepository } from "../repository/app-repository.ts";
import type { ChunkIndex } from "../repository/chunk-index.ts";
import type { PackId } from "../repository/chunk-place.ts";
import type { AppDescription, SealReference } from "../repository/seal-head.ts";
import { ShipError } from "./ship-error.ts";
import { type LocalJournal, localChain } from "./ship-local-chain.ts";
import type { ShippedPack } from "./ship-packs.ts";
import type { SealDraft } from "./ship-seal.ts";

/** Where the repository's copy of the app's journal ends. */
export type LineEnd = {
  readonly lsn: Lsn;
  readonly chain: Buffer;
  readonly time: Timestamp | undefined;
  /** The newest seal; null: none goes before, only a base if `lsn` > 0. */
  readonly previous: SealReference | null;
};

export type ShipLineOptions = {
  readonly repository: AppRepository;
  readonly journal: LocalJournal;
  readonly index: ChunkIndex;
  readonly writer: { readonly host: string; readonly service: string };
  readonly clock: Clock;
  readonly log: Log;
};

/** A pack that a seal was about to name is going to be deleted: the seal must be made again, without it. */
export class TombedPackError extends Error {
  override name = "TombedPackError";
}

/**
 * The end of an app's line of seals under one epoch of ours.
 *
 * Invariants
 * L1  Nothing is written before it is sure that the repository's journal is the beginning of ours.
 * L2  A seal is protected when it is there and the next epoch, after it, is not (FORMAT.md, "Fencing").
 * L3  No seal names a pack that a tomb named when it was published.
 */
export class ShipLine {
  readonly epoch: number;
  readonly #options: ShipLineOptions;
  #sequence = 0;
  #end: LineEnd;

  private constructor(options: ShipLineOptions, line: { readonly epoch: number; readonly end: LineEnd }) {
    this.#options = options;
    this.epoch = line.epoch;
    this.#end = line.end;
  }

  /**
   * Takes the next epoch and begins where the line ends. `durable`: how far our journal is durable. Throws ShipError OTHER_HISTORY, with nothing written (unless somebody else shipped in the
   * same moment), and errors of the repository.
   */
  static async begin(options: ShipLineOptions, durable: Lsn): Promise<ShipLine> {
    const { repository, writer } = options;
    const before = await findEnd(options, durable);
    const epoch = await repository.claimEpoch(writer);
    // Somebody may have shipped between the two: what counts is what is there after the claim.
    const end = await findEnd(options, durable, before);
    return new ShipLine(options, { epoch, end });
  }

  get end(): LineEnd {
    return this.#end;
  }

  /** Whether something was published under this epoch: a base must come before. */
  get hasSeals(): boolean {
    return this.#sequence > 0;
  }

  /** A base was written under this epoch: the line begins anew behind it. */
  rebase(end: { readonly lsn: Lsn; readonly chain: Buffer; readonly time: Timestamp }): void {
    this.#end = { ...end, previous: null };
  }

  /**
   * Publishes the next seal, whose packs are all in the store. When it resolves, everything up to its end is protected. Answers the bytes of its object. Throws TombedPackError with nothing written,
   * ShipError FENCED, or errors of the store, after which it isn't known whether the seal is there: begin anew.
   */
  async publish(
    draft: SealDraft,
    about: { readonly app: AppDescription; readonly packs: readonly ShippedPack[] },
  ): Promise<number> {
    const { repository, writer } = this.#options;
    await this.#passOverTombs(draft);
    const head = {
      appId: repository.appId,
      epoch: this.epoch,
      sequence: this.#sequence + 1,
      previous: this.#end.previous,
      from: draft.from,
      to: draft.to,
      firstTime: draft.firstTime,
      lastTime: draft.lastTime,
      chain: draft.chain.toString("hex"),
      app: about.app,
      writer,
      packs: about.packs.map(({ id, bytes }) => ({ id: id as PackId, bytes })),
      journalBytes: draft.journalBytes,
    };
    const link = await repository.publishSeal(head, draft.sealRecords());
    if (await repository.isFenced(this.epoch)) throw fenced(this.epoch, draft);
    this.#sequence = head.sequence;
    const previous = { epoch: link.epoch, sequence: link.sequence, hash: link.hash.toString("hex") };
    this.#end = { lsn: draft.to, chain: draft.chain, time: draft.lastTime, previous };
    return link.bytes;
  }

  async #passOverTombs(draft: SealDraft): Promise<void> {
    const { repository, index } = this.#options;
    const tombed = await repository.tombedPacks();
    for (const pack of tombed) if (index.covers(pack as PackId)) await index.dropPack(pack as PackId);
    if (draft.names(tombed)) throw new TombedPackError("a pack of the seal is going to be deleted");
  }
}

/** Where the line ends, if that is a point of our own journal. `known`: what was verified already. */
async function findEnd(options: ShipLineOptions, durable: Lsn, known?: LineEnd): Promise<LineEnd> {
  const { repository, journal } = options;
  const end = (await newestBase(options)) ?? (await newestSeal(repository));
  if (end === undefined) return { lsn: 0 as Lsn, chain: CHAIN_START, time: undefined, previous: null };
  if (known !== undefined && known.lsn === end.lsn && known.chain.equals(end.chain)) return end;
  const where = `LSN ${end.lsn}`;
  if (end.lsn > durable) {
    throw otherHistory(
      `it reaches to ${where}, but this data folder's journal ends with LSN ${durable}: this is an older copy`,
      repository,
    );
  }
  const chain = await localChain(journal, end.lsn);
  if (chain === undefined) {
    options.log.warn("what the repository has of this app can't be compared with the journal, which begins later", {
      appId: journal.appId,
      lsn: end.lsn,
    });
  } else if (!chain.equals(end.chain)) {
    throw otherHistory(`its records up to ${where} are not those of this data folder`, repository);
  }
  return end;
}

async function newestSeal(repository: AppRepository): Promise<LineEnd | undefined> {
  const { seal } = await repository.head();
  if (seal === null) return undefined;
  const { epoch, sequence, hash, head } = seal;
  const previous = { epoch, sequence, hash: hash.toString("hex") };
  return { lsn: head.to, chain: Buffer.from(head.chain, "hex"), time: head.lastTime, previous };
}

/** A base that no seal follows yet: the line goes on behind it. */
async function newestBase({ repository }: ShipLineOptions): Promise<LineEnd | undefined> {
  const latest = await repository.latestCheckpoint({});
  if (latest === null || latest.checkpoint.sequence !== 0) return undefined;
  const { head } = await repository.line();
  if (head !== null && head.epoch >= latest.checkpoint.epoch) return undefined;
  const { to, chain } = latest.checkpoint;
  return { lsn: to, chain: Buffer.from(chain, "hex"), time: undefined, previous: null };
}

function otherHistory(why: string, repository: AppRepository): ShipError {
  return new ShipError(
    "OTHER_HISTORY",
    `The repository has another history of this app: ${why}. Two copies of one data folder can't be backed up into one place: use the newer copy, or back this one up into a repository of its own. ` +
      `(${repository.store.description}, apps/${repository.tag})`,
  );
}

function fenced(epoch: number, draft: SealDraft): ShipError {
  return new ShipError(
    "FENCED",
    `Another service backs up this app into the same repository: it took over from epoch ${epoch}, before LSN ${draft.to} was protected. If that is a mistake, stop the other one, then \`tidemark backup enable APP\`; if the other one has shipped changes of its own by then, this one can only be backed up into a repository of its own`,
  );
}
