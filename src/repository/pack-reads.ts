import type { ChunkPlace, PackId } from "./chunk-place.ts";
import type { BlockPlace } from "./pack-codec.ts";

/** Bytes between two blocks that are read along rather than ask again: what comes in the time of a request (some 10 ms at 50 MB/s). */
const GAP_BYTES_MAX = 512 * 1024;

/** Most bytes of one request: a request costs little beside them, and they are all in memory at once. */
export const READ_BYTES_MAX = 8 * 1024 * 1024;

/** Most bytes of one request's blocks when they are decompressed: a log may compress a hundred times. */
const RAW_BYTES_MAX = 32 * 1024 * 1024;

/** One request: `length` bytes of `pack` from `offset`, in which the blocks are. */
export type PackRead = {
  readonly pack: PackId;
  readonly offset: number;
  readonly length: number;
  readonly blocks: readonly BlockPlace[];
};

/** What to ask for to get the blocks of `places`, each once: in few requests, none of them long. */
export function planReads(places: Iterable<ChunkPlace>): PackRead[] {
  const packs = new Map<PackId, Map<number, BlockPlace>>();
  for (const place of places) {
    let blocks = packs.get(place.pack);
    if (blocks === undefined) {
      blocks = new Map();
      packs.set(place.pack, blocks);
    }
    blocks.set(place.offset, place);
  }
  return [...packs].flatMap(([pack, blocks]) => {
    const sorted = [...blocks.values()].sort((left, right) => left.offset - right.offset);
    return readsOfPack(pack, sorted);
  });
}

function readsOfPack(pack: PackId, blocks: readonly BlockPlace[]): PackRead[] {
  const groups: BlockPlace[][] = [];
  let group: BlockPlace[] = [];
  let rawBytes = 0;
  for (const block of blocks) {
    if (!fits(group, block) || rawBytes + block.rawLength > RAW_BYTES_MAX) {
      group = [];
      rawBytes = 0;
    }
    if (group.length === 0) groups.push(group);
    group.push(block);
    rawBytes += block.rawLength;
  }
  return groups.map((each) => readOf(pack, each));
}

/** Whether `block`, which is behind those of `group`, is read along with them. */
function fits(group: readonly BlockPlace[], block: BlockPlace): boolean {
  const first = group[0];
  const previous = group.at(-1);
  if (first === undefined || previous === undefined) return true;
  const gapBytes = block.offset - previous.offset - previous.storedLength;
  return gapBytes <= GAP_BYTES_MAX && block.offset + block.storedLength - first.offset <= READ_BYTES_MAX;
}

function readOf(pack: PackId, blocks: readonly BlockPlace[]): PackRead {
  const offset = blocks[0]?.offset ?? 0;
  const end = blocks.reduce((most, block) => Math.max(most, block.offset + block.storedLength), offset);
  return { pack, offset, length: end - offset, blocks };
}
