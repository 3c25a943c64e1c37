import { assert } from "../base/assert.ts";
import { isBlobError } from "../blob/blob-error.ts";
import { BLOB_DELETE_NAMES_MAX } from "../blob/blob-store.ts";
import { TidemarkError } from "../domain/errors.ts";
import type { AppObjects } from "./app-objects.ts";
import { asDamage } from "./as-damage.ts";
import { type PackId, packIdOfName } from "./chunk-place.ts";
import { JsonFields } from "./json-fields.ts";
import { mapBounded } from "./map-bounded.ts";
import { type AppFolder, epochText, sealText } from "./names.ts";
import { listLine } from "./seal-listing.ts";

// FORMAT.md, "Pruning".

/** What is going to be deleted, and since when that is known. */
export type Tomb = {
  /** By the store's clock, in milliseconds since 1970 UTC. */
  readonly since: number;
  /** Why, for people. */
  readonly reason: string;
  /** Full names of objects of the app. */
  readonly names: readonly string[];
};

export type TombEntry = {
  readonly name: string;
  readonly tomb: Tomb;
  /** When its grace began: the later of what it says and of when the store took it, so that no client's word can shorten it. */
  readonly sinceMs: number;
};

export type ExecuteTombsOptions = {
  /** How long what is named stays. Longer than any shipper's run. */
  readonly graceMs: number;
  /**
   * Which of these names something that counts names now: seals that were published since the tomb was written. Asked for each tomb right before it is executed; they are spared.
   */
  readonly stillNeeded: (names: readonly string[]) => Promise<ReadonlySet<string>>;
};

export type ExecutedTombs = {
  readonly deleted: number;
  /** Needed again, so left where they are. */
  readonly spared: number;
  /** Tombs that wait: for their grace, or for locks to end. */
  readonly waiting: number;
};

/** Names in one tomb: 8 MiB of JSON at most. */
export const TOMB_NAMES_MAX = 32_768;

const FOLDERS: readonly AppFolder[] = ["seals", "packs", "runs", "checkpoints"];

/** Tombs of an app: each pruning, once a day at most, writes one or a few, and they go after a day. All are held in memory. */
export const TOMBS_MAX = 1024;

/** Tombs read at a time. */
const READS_AT_ONCE = 8;

const REASON_CHARS_MAX = 4096;

/** Says that `names` are going to be deleted; the tombs' names. Nothing is deleted before `executeTombs` finds the grace over. Errors: those of `BlobStore.put` and `timeMs`. */
export async function writeTombs(
  objects: AppObjects,
  epoch: number,
  { names, reason }: { readonly names: readonly string[]; readonly reason: string },
): Promise<string[]> {
  for (const name of names) assert(isTombable(objects, name), "a tomb names objects of its app");
  assert(reason.length <= REASON_CHARS_MAX, "the reason of a tomb is too long");
  const written: string[] = [];
  for (let from = 0; from < names.length; from += TOMB_NAMES_MAX) {
    const tomb: Tomb = { since: await objects.store.timeMs(), reason, names: names.slice(from, from + TOMB_NAMES_MAX) };
    const name = objects.name("tombs", `${epochText(epoch)}-${objects.randomText()}`);
    await objects.put("tomb", name, [Buffer.from(JSON.stringify(tomb))]);
    written.push(name);
  }
  return written;
}

/** All tombs. Throws BlobError, and REPOSITORY_DAMAGED for one that does not open: what it names is not known, so nobody may go on as if it named nothing. */
export async function readTombs(objects: AppObjects): Promise<TombEntry[]> {
  const listed: { name: string; modifiedMs: number }[] = [];
  for await (const page of objects.list("tombs")) {
    listed.push(...page);
    if (listed.length > TOMBS_MAX)
      throw new TidemarkError(
        "FAILED_PRECONDITION",
        `${objects.name("tombs")} has more than ${TOMBS_MAX} tombs: let pruning finish`,
      );
  }
  return await mapBounded(listed, READS_AT_ONCE, async ({ name, modifiedMs }) => {
    const plain = await objects.readJson("tomb", name);
    const tomb = asDamage(name, () => decodeTomb(objects, plain));
    return { name, tomb, sinceMs: Math.max(tomb.since, modifiedMs) };
  });
}

/** The packs that tombs name: their chunks are to be written again. */
export function tombedPacks(tombs: readonly TombEntry[]): Set<PackId> {
  const packs = new Set<PackId>();
  for (const { tomb } of tombs) {
    for (const name of tomb.names) {
      const id = packIdOfName(name);
      if (id !== undefined) packs.add(id);
    }
  }
  return packs;
}

/**
 * Deletes what tombs name whose grace is over by the store's clock, each tomb last: so a crash at any point leaves tombs, and the next call does the rest. Everything is listed and read before the
 * first deletion; any error until then changes nothing. The newest seal of the line is spared in any case. What a lock keeps is tried again by the next call.
 */
export async function executeTombs(objects: AppObjects, options: ExecuteTombsOptions): Promise<ExecutedTombs> {
  const tombs = await readTombs(objects);
  const nowMs = await objects.store.timeMs();
  const due = tombs.filter(({ sinceMs }) => sinceMs + options.graceMs <= nowMs);
  const done = { deleted: 0, spared: 0, waiting: tombs.length - due.length };
  const newestSeal = due.length === 0 ? undefined : await newestSealName(objects);
  for (const { name, tomb } of due) {
    const needed = await options.stillNeeded(tomb.names);
    const names = tomb.names.filter((each) => !needed.has(each) && each !== newestSeal);
    if (!(await deleteAll(objects, names)) || !(await deleteAll(objects, [name]))) {
      done.waiting++;
      continue;
    }
    done.deleted += names.length;
    done.spared += tomb.names.length - names.length;
  }
  return done;
}

// The newest seal stays, though a checkpoint may stand for it: the next one names it.
async function newestSealName(objects: AppObjects): Promise<string | undefined> {
  const { head } = await listLine(objects, { after: undefined, epochsMax: undefined });
  return head === null ? undefined : objects.name("seals", sealText(head));
}

/** Whether all are gone; false if locks keep some. */
async function deleteAll(objects: AppObjects, names: readonly string[]): Promise<boolean> {
  let gone = true;
  for (let from = 0; from < names.length; from += BLOB_DELETE_NAMES_MAX) {
    try {
      await objects.store.delete(names.slice(from, from + BLOB_DELETE_NAMES_MAX));
    } catch (error) {
      if (!isBlobError(error, "BLOB_LOCKED")) throw error;
      gone = false;
    }
  }
  return gone;
}

function decodeTomb(objects: AppObjects, plain: Buffer): Tomb {
  const fields = JsonFields.parse(plain);
  const names = fields.list("names", TOMB_NAMES_MAX).map((name) => {
    if (typeof name !== "string" || !isTombable(objects, name)) throw new RangeError("it names what is not the app's");
    return name;
  });
  return { since: fields.count("since"), reason: fields.text("reason"), names };
}

function isTombable(objects: AppObjects, name: string): boolean {
  return FOLDERS.some((folder) => name.startsWith(objects.name(folder)) && name.length > objects.name(folder).length);
}
