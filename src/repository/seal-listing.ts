import { type Anomaly, anomaly } from "./anomaly.ts";
import type { AppObjects } from "./app-objects.ts";
import { isDamage } from "./as-damage.ts";
import { mapBounded } from "./map-bounded.ts";
import { parseSeal, type SealId, sealText } from "./names.ts";
import { damagedObject } from "./object-errors.ts";
import { openSealHead } from "./seal-codec.ts";
import type { SealHead } from "./seal-head.ts";
import { SealLine, type SealRange } from "./seal-line.ts";

/** Heads read at a time, one for each epoch: a bucket answers in some 50 ms. */
const HEADS_AT_ONCE = 8;

/** How much of a seal is read first for its head: head and label of a small app fit. */
const HEAD_CHUNK_BYTES = 64 * 1024;

/** Reads on in steps of this size: one frame. */
const NEXT_CHUNK_BYTES = 1024 * 1024;

/** Names told of: a person needs no more to see what happened. */
const FOREIGN_NAMES_MAX = 100;

/** Ranges without a gap: epochs in the main, one for each start of a service. What more a store shows is held in no memory. */
const RANGES_MAX = 1_000_000;

type ListedRange = { readonly epoch: number; readonly first: number; last: number; readonly firstBytes: number };

export type ListLineOptions = {
  /** Only the seals behind this one are listed. */
  readonly after: SealId | undefined;
  /** Of how many of the newest epochs it is found out what they go on from; undefined: of all. Older ones are taken as they are. */
  readonly epochsMax: number | undefined;
};

/** Lists an app's seals and finds their line. Damaged first seals of epochs are told of as anomalies. Throws BlobError. */
export async function listLine(objects: AppObjects, { after, epochsMax }: ListLineOptions): Promise<SealLine> {
  const { ranges, foreign } = await listRanges(objects, after);
  const damaged: Anomaly[] = [];
  const firstRead = epochsMax === undefined ? 0 : Math.max(0, ranges.length - epochsMax);
  const listed = await mapBounded([...ranges.entries()], HEADS_AT_ONCE, async ([index, range]): Promise<SealRange> => {
    const { epoch, first, last, firstBytes } = range;
    if (first !== 1 || index < firstRead) return { epoch, first, last, previous: undefined };
    try {
      const head = await readHead(objects, { epoch, sequence: 1 }, firstBytes);
      return { epoch, first, last, previous: head.previous };
    } catch (error) {
      if (!isDamage(error)) throw error;
      damaged.push(anomaly("SEAL_DAMAGED", objects.name("seals", sealText({ epoch, sequence: 1 })), error.message));
      return { epoch, first, last, previous: undefined };
    }
  });
  return new SealLine(listed, { prefix: objects.name("seals"), after, anomalies: [...foreign, ...damaged] });
}

async function listRanges(
  objects: AppObjects,
  after: SealId | undefined,
): Promise<{ ranges: ListedRange[]; foreign: Anomaly[] }> {
  const folder = objects.name("seals");
  const ranges: ListedRange[] = [];
  const foreign: Anomaly[] = [];
  for await (const page of objects.list("seals", after === undefined ? {} : { after: sealText(after) })) {
    for (const { name, bytes } of page) {
      const id = parseSeal(name.slice(folder.length));
      if (id === undefined || id.sequence === 0) {
        if (foreign.length < FOREIGN_NAMES_MAX) foreign.push(anomaly("NAME_FOREIGN", name, "among the seals"));
        continue;
      }
      const range = ranges.at(-1);
      if (range?.epoch === id.epoch && range.last + 1 === id.sequence) range.last = id.sequence;
      else ranges.push({ epoch: id.epoch, first: id.sequence, last: id.sequence, firstBytes: bytes });
      if (ranges.length > RANGES_MAX) throw damagedObject(folder, `its seals are in more than ${RANGES_MAX} pieces`);
    }
  }
  return { ranges, foreign };
}

/** Reads the head of a seal, `bytes` long, and as little of the rest as it can. Throws as `openSealHead` and `AppObjects.readRange`. */
export async function readHead(objects: AppObjects, id: SealId, bytes: number): Promise<SealHead> {
  const name = objects.name("seals", sealText(id));
  return await openSealHead(objects.keys, { name, id, chunks: chunksOf(objects, name, bytes) });
}

async function* chunksOf(objects: AppObjects, name: string, bytes: number): AsyncGenerator<Buffer> {
  for (let from = 0; from < bytes; ) {
    const length = Math.min(from === 0 ? HEAD_CHUNK_BYTES : NEXT_CHUNK_BYTES, bytes - from);
    yield await objects.readRange(name, { from, length });
    from += length;
  }
}
