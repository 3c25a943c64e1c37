import { TidemarkError } from "../../domain/errors.ts";
import { RECORD_OP } from "../../domain/record-op.ts";
import { CHAIN_START } from "../../journal/chain.ts";
import type { RowOp } from "../../journal/record.ts";
import { TABLE } from "../../meta/keys.ts";
import type { AppRepository } from "../../repository/app-repository.ts";
import { type Checkpoint, readCheckpoint } from "../../repository/checkpoint.ts";
import { type PackId, packIdOfName, packName } from "../../repository/chunk-place.ts";
import type { SealId } from "../../repository/names.ts";
import { compareSealIds, parseSeal } from "../../repository/names.ts";
import { checkPack } from "../../repository/pack-codec.ts";
import { prefixOf } from "../../repository/record-fields.ts";
import { mergeRows } from "../../repository/runs/merge.ts";
import type { Seal } from "../../repository/seal-codec.ts";
import type { SealLine } from "../../repository/seal-line.ts";
import { journalRecordOf } from "../../repository/seal-record.ts";
import { type ArchivedData, decodeArchivedData, RUN_DATA, RUN_ROW } from "../archive-rows.ts";
import { type CheckCounts, type Finding, isObjectDamage } from "./finding.ts";
import { LostPlaces } from "./lost-places.ts";

export type CheckAppOptions = {
  readonly app: AppRepository;
  /** Which part of the packs is read and verified whole, 0 to 1. */
  readonly readPart: number;
  /** In [0, 1): chooses the packs. */
  readonly random: () => number;
  /** Hears of everything that is wrong, as soon as it is found. */
  readonly onFinding: (finding: Finding) => void;
  readonly onProgress?: (step: string) => void;
  readonly signal?: AbortSignal;
};

/** Most a pack may be: what one read of it may take of memory. Packs end at 32 MiB and one more block. */
const PACK_READ_BYTES_MAX = 256 * 1024 * 1024;

/** Data whose place is lost that are remembered, to tell which files they are of. */
const LOST_DATA_MAX = 100_000;

/** What is wrong with an app's objects, and which data are lost with it. */
export type CheckedApp = {
  readonly counts: CheckCounts;
  /** Data, as slices name them (`dataName`), that can't be read whole. At most LOST_DATA_MAX are listed. */
  readonly lostData: ReadonlySet<string>;
  /** Of data in places that are lost. */
  readonly lostBytes: number;
  /** The packs there are, and their lengths. */
  readonly packs: ReadonlyMap<PackId, number>;
  /** Stored bytes that can't be read. */
  readonly lost: LostPlaces;
  /** The rows can't be read up to the end: of the newest checkpoint, or what seals after it say. */
  readonly areRowsDamaged: boolean;
};

/** Damaged blocks of one pack that are told one by one. */
const FAULTS_TOLD_MAX = 100;

/** What a check says of objects that are damaged, and that nothing needs any more. */
const SUPERSEDED = "nothing that is kept needs it";

/** How slices name the data of a record. */
export function dataName(segment: number, dataStart: number): string {
  return `${segment}:${dataStart}`;
}

/**
 * Verifies one app of a repository. Structure always: every seal (opens, follows the one before by hash and by chain), every checkpoint and its runs, all rows of the newest, and that each piece of data lies in
 * a pack that is there. With `readPart` also contents. Changes nothing. What is damaged is told by `onFinding`; a store that can't be read now throws (BlobError), since then nothing is known.
 */
export async function checkApp(options: CheckAppOptions): Promise<CheckedApp> {
  return await new AppCheck(options).run();
}

class AppCheck {
  readonly #options: CheckAppOptions;
  readonly #packs = new Map<PackId, number>();
  readonly #named = new Set<PackId>();
  readonly #lost = new LostPlaces();
  readonly #lostData = new Set<string>();
  readonly #missingTold = new Set<PackId>();
  /** What is wrong with packs that were read: how bad it is shows when all places are known. */
  readonly #packFaults = new Map<PackId, string[]>();
  /** Packs of which something is lost that is needed. */
  readonly #missed = new Set<PackId>();
  #areRowsDamaged = false;
  #lostBytes = 0;
  /** Writes of which data were erased by order, by the newest checkpoint and the seals after it. */
  #erasedCount = 0;
  #sealCount = 0;
  #checkpointCount = 0;
  #runCount = 0;
  #packsRead = 0;
  #bytesRead = 0;

  constructor(options: CheckAppOptions) {
    this.#options = options;
  }

  async run(): Promise<CheckedApp> {
    await this.#listPacks();
    const latest = await this.#checkpoints();
    // Packs first, so that the one walk over all data knows which places are lost.
    await this.#readPacks();
    if (latest !== undefined) await this.#rows(latest);
    await this.#seals(latest);
    this.#tellPacks();
    if (this.#erasedCount > 0)
      this.#find(
        "note",
        this.#options.app.prefix,
        `data of ${this.#erasedCount} writes were erased by order: nobody is given them, and pruning takes them out of the packs`,
      );
    return {
      counts: this.#counts(),
      lostData: this.#lostData,
      lostBytes: this.#lostBytes,
      packs: this.#packs,
      lost: this.#lost,
      areRowsDamaged: this.#areRowsDamaged,
    };
  }

  #counts(): CheckCounts {
    const all = [...this.#packs];
    const unnamed = all.filter(([pack]) => !this.#named.has(pack));
    const sum = (packs: readonly (readonly [PackId, number])[]): number =>
      packs.reduce((bytes, [, each]) => bytes + each, 0);
    return {
      sealCount: this.#sealCount,
      checkpointCount: this.#checkpointCount,
      runCount: this.#runCount,
      packCount: all.length,
      packBytes: sum(all),
      packsRead: this.#packsRead,
      bytesRead: this.#bytesRead,
      unnamedPackCount: unnamed.length,
      unnamedPackBytes: sum(unnamed),
    };
  }

  async #listPacks(): Promise<void> {
    const { app } = this.#options;
    this.#step("listing packs");
    for await (const page of app.store.list(`${app.prefix}packs/`)) {
      for (const { name, bytes } of page) {
        const pack = packIdOfName(name);
        if (pack === undefined) this.#find("warning", name, "this is no name of a pack: somebody else wrote it");
        else this.#packs.set(pack, bytes);
      }
    }
  }

  /** All of them; the newest that is whole. */
  async #checkpoints(): Promise<Checkpoint | undefined> {
    const { app } = this.#options;
    const found = await app.latestCheckpoint({
      onAnomaly: ({ object, message }) => this.#find("warning", object, message),
    });
    const latest = found?.checkpoint;
    for (const id of await app.checkpoints()) {
      this.#check();
      this.#checkpointCount++;
      this.#step(`checkpoint ${this.#checkpointCount}`);
      const isSuperseded = latest !== undefined && compareSealIds(id, latest) <= 0;
      const cost = isSuperseded ? SUPERSEDED : "older ones and the seals after them are used instead";
      const read = (): Promise<Checkpoint> => readCheckpoint(app.objects, id.name);
      await this.#guarded({ object: id.name, cost, severity: isSuperseded ? "warning" : "damage" }, read);
    }
    return latest;
  }

  async #rows(checkpoint: Checkpoint): Promise<void> {
    const { app } = this.#options;
    this.#runCount = checkpoint.runs.length;
    this.#step("rows");
    const runs = checkpoint.runs.map((ref) => app.openRun(ref).rows());
    const isRead = await this.#guarded(
      {
        object: `${app.prefix}runs/`,
        cost: "what changed up to this checkpoint is only to be had from an older one, if there is one",
        severity: "damage",
      },
      async () => {
        for await (const rows of mergeRows(runs, { dropDeleted: true })) {
          this.#check();
          for (const { key, value } of rows) {
            if (value === null) continue;
            if (key[0] === RUN_DATA) this.#dataRow(key, value);
            else if (key[0] === RUN_ROW && key[1] === TABLE.PURGED) this.#erasedCount++;
          }
        }
        return true;
      },
    );
    if (isRead !== true) this.#areRowsDamaged = true;
  }

  #dataRow(key: Buffer, value: Buffer): void {
    const segment = Number(key.readBigUInt64BE(1));
    const dataStart = key.readUInt32BE(9);
    let data: ArchivedData;
    try {
      data = decodeArchivedData(value);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      this.#find(
        "damage",
        this.#options.app.prefix,
        `the row of the data at ${segment}:${dataStart} makes no sense: ${error.message}`,
      );
      return;
    }
    this.#data(segment, dataStart, data.pieces);
  }

  #data(segment: number, dataStart: number, pieces: ArchivedData["pieces"]): void {
    for (const { place } of pieces) {
      const { pack } = place;
      this.#named.add(pack);
      const bytes = this.#packs.get(pack);
      const isThere = bytes !== undefined && place.offset + place.storedLength <= bytes;
      if (!isThere && !this.#missingTold.has(pack)) {
        this.#missingTold.add(pack);
        const what = bytes === undefined ? "this pack is missing" : `this pack has only ${bytes} bytes`;
        this.#find("damage", packName(this.#options.app.tag, pack), `${what}: the data in it can't be restored`);
        // Its end is gone, and the directory with it.
        this.#lost.addPack(pack);
      }
      if (isThere && !this.#lost.has(place)) continue;
      this.#missed.add(pack);
      this.#lostBytes += place.length;
      if (this.#lostData.size < LOST_DATA_MAX) this.#lostData.add(dataName(segment, dataStart));
    }
  }

  async #readPacks(): Promise<void> {
    const { readPart, random } = this.#options;
    for (const [pack, bytes] of this.#packs) {
      if (readPart === 0 || random() >= readPart) continue;
      this.#check();
      this.#step(`reading packs, ${this.#packsRead} of about ${Math.ceil(this.#packs.size * readPart)}`);
      await this.#readPack(pack, bytes);
    }
  }

  async #readPack(pack: PackId, bytes: number): Promise<void> {
    const { app } = this.#options;
    const name = packName(app.tag, pack);
    if (bytes > PACK_READ_BYTES_MAX) {
      this.#find("warning", name, `it has ${bytes} bytes, more than any pack: it was not read`);
      return;
    }
    const stored = await app.store.get(name, { bytesMax: PACK_READ_BYTES_MAX });
    this.#packsRead++;
    this.#bytesRead += stored.length;
    try {
      const { faults } = checkPack(app.keys, pack, stored);
      for (const { error, chunks } of faults) {
        for (const { place } of chunks) this.#lost.addBlock(pack, place.offset);
        this.#packFault(pack, error.message);
      }
    } catch (error) {
      if (!isObjectDamage(error)) throw error;
      // Without its directory a pack can't be verified; its chunks may be readable by their places, but nobody can say so.
      this.#lost.addPack(pack);
      this.#packFault(pack, error.message);
    }
  }

  #packFault(pack: PackId, message: string): void {
    const before = this.#packFaults.get(pack);
    if (before === undefined) this.#packFaults.set(pack, [message]);
    else if (before.length < FAULTS_TOLD_MAX) before.push(message);
  }

  /** What is lost and was written elsewhere since, by a repair, or is not kept any more, is worth a warning. Of rows that can't be read nobody knows what they need. */
  #tellPacks(): void {
    for (const [pack, messages] of this.#packFaults) {
      const isMissed = this.#missed.has(pack) || this.#areRowsDamaged;
      const name = packName(this.#options.app.tag, pack);
      for (const message of messages)
        this.#find(isMissed ? "damage" : "warning", name, isMissed ? message : `${message}: ${SUPERSEDED}`);
    }
  }

  /** Every seal by itself, so that one that is damaged doesn't hide the others. */
  async #seals(latest: Checkpoint | undefined): Promise<void> {
    const { app } = this.#options;
    const line = await app.line();
    for (const { code, object, message } of line.anomalies) {
      const isMissing = code === "SEAL_MISSING" || code === "SEAL_PREVIOUS_MISSING";
      const isDamage = isMissing && !isCovered(sealOfName(object), latest);
      if (isDamage) this.#areRowsDamaged = true;
      this.#find(isDamage ? "damage" : "warning", object, message);
    }
    await this.#ending(line, latest);
    this.#behind(line, latest);
    let before: Seal | undefined;
    for (const id of idsOf(line)) {
      this.#check();
      this.#sealCount++;
      this.#step(`seal ${this.#sealCount}`);
      const covered = isCovered(id, latest);
      if (before !== undefined && isGap(before.head, id)) before = undefined;
      const seal = await this.#seal(id, before, covered);
      if (this.#sealCount === 1 && latest === undefined && seal !== undefined) this.#beginning(seal);
      if (seal !== undefined && !covered) this.#pieces(seal);
      before = seal;
    }
  }

  async #seal(id: SealId, before: Seal | undefined, covered: boolean): Promise<Seal | undefined> {
    const { app } = this.#options;
    const cost = covered
      ? "files are not concerned, a later checkpoint has their rows; the journal's records in it are lost"
      : "what changed from here on can't be restored";
    const found = { object: app.sealName(id), cost, severity: covered ? "warning" : "damage" } as const;
    const seal = await this.#guarded(found, async () => {
      const seal = await app.readSeal(id);
      if (before !== undefined && seal.head.previous !== null) checkFollows(app.sealName(id), seal, before);
      const chain = chainBefore(seal, seal.head.previous === null ? undefined : before);
      if (chain !== undefined) seal.verifyChain(chain);
      return seal;
    });
    if (seal === undefined && !covered) this.#areRowsDamaged = true;
    return seal;
  }

  /** Without a checkpoint that can be used the seals must begin with the first record. */
  #beginning({ name, head }: Seal): void {
    if (head.from === 1) return;
    this.#areRowsDamaged = true;
    this.#find(
      "damage",
      name,
      `no checkpoint can be read, and seals begin with record ${head.from}: the app can't be restored`,
    );
  }

  /** Whether seals are there up to the newest checkpoint at least; and if there is neither, whether there was. */
  async #ending({ head }: SealLine, latest: Checkpoint | undefined): Promise<void> {
    const { app } = this.#options;
    if (latest === undefined) {
      if (head === null) await this.#nothing();
      return;
    }
    // A base, at sequence 0, comes before its first seal. The seal of any other checkpoint is never pruned, since it is the newest, or newer ones are there.
    if (latest.sequence === 0 || (head !== null && compareSealIds(head, latest) >= 0)) return;
    this.#areRowsDamaged = true;
    this.#find(
      "damage",
      app.sealName(latest),
      "this seal and those after it are missing, though a checkpoint was made of it: what changed after the checkpoint can't be restored",
    );
  }

  /** An app with a key and without anything that tells what it is. Packs and runs are made for a seal or a checkpoint, which follows within minutes. */
  async #nothing(): Promise<void> {
    const { app } = this.#options;
    const wasShipped = this.#packs.size > 0 || this.#checkpointCount > 0 || (await this.#hasRuns());
    if (!wasShipped) {
      this.#find("note", app.prefix, "nothing is in it: its first backup was not finished, or all of it is lost");
      return;
    }
    this.#areRowsDamaged = true;
    this.#find(
      "damage",
      app.objects.name("seals"),
      `no seal is there, though ${this.#packs.size} packs are: the app can't be restored. They were deleted, or this is an incomplete copy; only if its first backup is being made just now, wait for it`,
    );
  }

  async #hasRuns(): Promise<boolean> {
    for await (const page of this.#options.app.objects.list("runs")) if (page.length > 0) return true;
    return false;
  }

  /** Whether all seals behind the newest checkpoint are there: a gap that begins before it may reach beyond. */
  #behind(line: SealLine, latest: Checkpoint | undefined): void {
    try {
      let id = line.next(latest ?? null);
      while (id !== undefined) id = line.next(id);
    } catch (error) {
      if (!isObjectDamage(error)) throw error;
      this.#areRowsDamaged = true;
      const missing = error.data["object"];
      const isTold = line.anomalies.some(({ object }) => object === missing);
      if (!isTold) this.#find("damage", String(missing), error.message);
    }
  }

  #pieces(seal: Seal): void {
    for (const record of seal.records()) {
      const { data } = record;
      if (data !== null) this.#data(data.segment, data.dataStart, data.pieces);
      else if (prefixOf(record.prefix).op === RECORD_OP.PURGE)
        this.#erasedCount += erasedIn(journalRecordOf(record).rows);
    }
  }

  /** Runs what may find that an object is damaged. */
  async #guarded<T>(about: Guarded, act: () => Promise<T>): Promise<T | undefined> {
    try {
      return await act();
    } catch (error) {
      if (!isObjectDamage(error)) throw error;
      const named = error.data["object"];
      const { object, cost, severity } = about;
      this.#find(severity, typeof named === "string" ? named : object, `${error.message}: ${cost}`);
      return undefined;
    }
  }

  #find(severity: Finding["severity"], object: string, message: string): void {
    const named = message.startsWith(object) ? message : `${object}: ${message}`;
    this.#options.onFinding({ severity, object, message: named });
  }

  #step(step: string): void {
    this.#options.onProgress?.(step);
  }

  #check(): void {
    if (this.#options.signal?.aborted === true) throw new TidemarkError("CANCELLED", "the check was interrupted");
  }
}

/** What damage to an object would mean. */
type Guarded = { readonly object: string; readonly cost: string; readonly severity: Finding["severity"] };

/** Whether a checkpoint has the rows of what this seal says. */
function isCovered(id: SealId | undefined, latest: Checkpoint | undefined): boolean {
  return id !== undefined && latest !== undefined && compareSealIds(id, latest) <= 0;
}

/** Of how many writes an order erases data. */
function erasedIn(rows: readonly RowOp[]): number {
  return rows.filter(({ key, value }) => key[0] === TABLE.PURGED && value !== null).length;
}

function sealOfName(name: string): SealId | undefined {
  return parseSeal(name.slice(name.lastIndexOf("/") + 1));
}

/** Throws REPOSITORY_DAMAGED where a seal does not go on from the one before. */
function checkFollows(name: string, { head }: Seal, before: Seal): void {
  if (head.previous?.hash === before.hash.toString("hex") && head.from === before.head.to + 1) return;
  const message = `${name} does not go on from the seal before it: one of the two was put in another's place`;
  throw new TidemarkError("REPOSITORY_DAMAGED", message, { data: { object: name } });
}

/** Whether seals are missing between two of one epoch: the line has told of them. */
function isGap(before: SealId, id: SealId): boolean {
  return before.epoch === id.epoch && before.sequence + 1 !== id.sequence;
}

/** The chain before a seal's first record; undefined where what came before is not kept, or did not open. */
function chainBefore({ head }: Seal, before: Seal | undefined): Buffer | undefined {
  if (before !== undefined) return Buffer.from(before.head.chain, "hex");
  return head.from === 1 ? CHAIN_START : undefined;
}

/** The seals of a line that are there, oldest first, gaps left out. */
function* idsOf(line: SealLine): Generator<SealId> {
  for (const { epoch, first, last } of line.ranges)
    for (let sequence = first; sequence <= last; sequence++) yield { epoch, sequence };
}
