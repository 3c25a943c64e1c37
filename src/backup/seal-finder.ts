import { TidemarkError } from "../domain/errors.ts";
import type { Lsn } from "../domain/ids.ts";
import type { AppRepository } from "../repository/app-repository.ts";
import type { SealId } from "../repository/names.ts";
import type { Seal } from "../repository/seal-codec.ts";

/** Seals kept after they were read: neighbours are asked for one after the other, forwards or backwards. Bounded by their stored bytes too, of which a seal has several in memory. */
const SEALS_KEPT_MAX = 8;
const SEALS_KEPT_BYTES = 8 * 1024 * 1024;

/** Ranges remembered of seals that were read: 16 bytes and a map's slot each. */
const RANGES_REMEMBERED_MAX = 100_000;

/** More looks than any bisection takes. */
const LOOKS_MAX = 100;

type Line = Awaited<ReturnType<AppRepository["line"]>>;

/** Finds the seal that has a record: by bisection of the line, whose seals' ranges rise, reading the heads it has not seen yet. */
export class SealFinder {
  readonly #app: AppRepository;
  readonly #seals = new Map<number, Seal>();
  readonly #ranges = new Map<number, { readonly from: Lsn; readonly to: Lsn }>();
  #line: Line | undefined;
  #keptBytes = 0;

  constructor(app: AppRepository) {
    this.#app = app;
  }

  /** The seal with record `lsn`. Throws OUT_OF_HISTORY when none has it, and what reading the repository throws. */
  async find(lsn: Lsn): Promise<Seal> {
    const isKnown = this.#line !== undefined;
    try {
      return await this.#find(lsn);
    } catch (error) {
      // Pruning may have taken the oldest away since the line was listed.
      if (!isKnown || !(error instanceof TidemarkError) || error.code !== "REPOSITORY_DAMAGED") throw error;
      this.#forget();
      return this.#find(lsn);
    }
  }

  #forget(): void {
    this.#line = undefined;
    this.#ranges.clear();
    this.#seals.clear();
    this.#keptBytes = 0;
  }

  async #find(lsn: Lsn): Promise<Seal> {
    const line = await this.#currentLine();
    let low = 0;
    let high = line.ranges.reduce((sum, { first, last }) => sum + last - first + 1, 0) - 1;
    for (let looks = 0; low <= high && looks < LOOKS_MAX; looks++) {
      const middle = this.#guess(lsn, low, high);
      const range = this.#ranges.get(middle) ?? rangeOf(await this.#read(line, middle));
      if (lsn < range.from) high = middle - 1;
      else if (lsn > range.to) low = middle + 1;
      else return this.#read(line, middle);
    }
    throw new TidemarkError("OUT_OF_HISTORY", `record ${lsn} is not kept in the repository any more`, {
      data: { lsn },
    });
  }

  /** The neighbour of a seal that was read is likely next; else the middle. */
  #guess(lsn: Lsn, low: number, high: number): number {
    for (const [index, seal] of this.#seals) {
      const { from, to } = seal.head;
      if (lsn >= from && lsn <= to) return clamp(index, low, high);
      if (lsn === to + 1) return clamp(index + 1, low, high);
      if (lsn === from - 1) return clamp(index - 1, low, high);
    }
    return Math.floor((low + high) / 2);
  }

  async #read(line: Line, index: number): Promise<Seal> {
    const known = this.#seals.get(index);
    if (known !== undefined) {
      this.#seals.delete(index);
      this.#seals.set(index, known);
      return known;
    }
    const seal = await this.#app.readSeal(idAt(line, index));
    if (this.#ranges.size >= RANGES_REMEMBERED_MAX) this.#ranges.clear();
    this.#ranges.set(index, rangeOf(seal));
    this.#seals.set(index, seal);
    this.#keptBytes += seal.bytes;
    for (const [oldest, old] of this.#seals) {
      if (oldest === index || (this.#seals.size <= SEALS_KEPT_MAX && this.#keptBytes <= SEALS_KEPT_BYTES)) break;
      this.#seals.delete(oldest);
      this.#keptBytes -= old.bytes;
    }
    return seal;
  }

  async #currentLine(): Promise<Line> {
    this.#line ??= await this.#app.line();
    return this.#line;
  }
}

function rangeOf({ head }: Seal): { readonly from: Lsn; readonly to: Lsn } {
  return { from: head.from, to: head.to };
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(high, Math.max(low, value));
}

/** The seal at `index` of the line. */
function idAt(line: Line, index: number): SealId {
  let left = index;
  for (const { epoch, first, last } of line.ranges) {
    const count = last - first + 1;
    if (left < count) return { epoch, sequence: first + left };
    left -= count;
  }
  throw new RangeError(`there is no seal ${index} in the line`);
}
