import type { ChunkPlace, PackId } from "../../repository/chunk-place.ts";

/** Blocks of one pack kept one by one; with more of them damaged the pack counts as lost whole. */
const BLOCKS_MAX = 10_000;

/** Which stored bytes can't be read any more: whole packs, or blocks of packs. */
export class LostPlaces {
  readonly #lost = new Map<PackId, Set<number> | "all">();

  get isEmpty(): boolean {
    return this.#lost.size === 0;
  }

  /** Packs of which something is lost. */
  get packs(): PackId[] {
    return [...this.#lost.keys()];
  }

  addPack(pack: PackId): void {
    this.#lost.set(pack, "all");
  }

  /** `offset`: of the block in the pack. */
  addBlock(pack: PackId, offset: number): void {
    const blocks = this.#lost.get(pack) ?? new Set<number>();
    if (blocks === "all") return;
    blocks.add(offset);
    this.#lost.set(pack, blocks.size > BLOCKS_MAX ? "all" : blocks);
  }

  has({ pack, offset }: Pick<ChunkPlace, "pack" | "offset">): boolean {
    const blocks = this.#lost.get(pack);
    return blocks === "all" || blocks?.has(offset) === true;
  }
}
