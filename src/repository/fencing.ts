import { isBlobError } from "../blob/blob-error.ts";
import { TidemarkError } from "../domain/errors.ts";
import type { AppObjects } from "./app-objects.ts";
import { epochText, parseEpoch, parseSeal } from "./names.ts";

// FORMAT.md, "Fencing".

/** Who takes an epoch. For people. */
export type EpochWriter = { readonly host: string; readonly service: string };

/** Epochs tried in a row. Each that is there already was taken by another service since the listing: more than a few at once is a store that makes no sense. */
const CLAIMS_MAX = 64;

/**
 * Takes the next epoch: of several services that do it at once each gets another one. The seals are to be listed after this resolved. Costs a listing of epochs, one of later seals and a
 * put. Throws BlobError; FAILED_PRECONDITION if the store goes on saying that epochs are there.
 */
export async function claimEpoch(objects: AppObjects, writer: EpochWriter): Promise<number> {
  let epoch = (await newestEpoch(objects)) + 1;
  for (let attempt = 0; attempt < CLAIMS_MAX; attempt++, epoch++) {
    if (await tryClaim(objects, epoch, writer)) return epoch;
  }
  throw new TidemarkError(
    "FAILED_PRECONDITION",
    `${CLAIMS_MAX} epochs up to ${epoch - 1} were taken by others while this service tried to take one: look for services that start again and again, or a store that shows an old state`,
    { data: { object: objects.name("epochs", epochText(epoch)) } },
  );
}

/** Whether another service took over from who ships under `epoch`. One request. */
export async function isFenced(objects: AppObjects, epoch: number): Promise<boolean> {
  return (await objects.store.stat(objects.name("epochs", epochText(epoch + 1)))) !== undefined;
}

/** That somebody else has taken over: FAILED_PRECONDITION with `data.reason` "fenced". */
export function fencedError(name: string): TidemarkError {
  return new TidemarkError(
    "FAILED_PRECONDITION",
    `another service backs up this app into the same repository (${name}): this one has stopped doing so. Let only one of them go on`,
    { data: { object: name, reason: "fenced" } },
  );
}

/** Whether `error` says that somebody else has taken over. */
export function isFencedError(error: unknown): boolean {
  return error instanceof TidemarkError && error.data["reason"] === "fenced";
}

async function tryClaim(objects: AppObjects, epoch: number, writer: EpochWriter): Promise<boolean> {
  const name = objects.name("epochs", epochText(epoch));
  // Encrypted under a random salt: nobody else's object has these bytes, so a store may take the same bytes for a put of ours that it had answered in vain.
  const mark = objects.randomText();
  try {
    await objects.put("epoch", name, [Buffer.from(JSON.stringify({ epoch, mark, writer }))]);
  } catch (error) {
    if (isBlobError(error, "BLOB_EXISTS")) return false;
    throw error;
  }
  if (objects.store.capabilities.createOnly) return true;
  // Without atomic creation another one may have written over it: what is there now counts. A rest of the risk stays, and README says so.
  const there = JSON.parse((await objects.readJson("epoch", name)).toString()) as { mark?: unknown };
  return there.mark === mark;
}

/** The newest epoch in use; 0 if there is none. Also one whose object got lost, if its seals are there: or two services might write under one number. */
async function newestEpoch(objects: AppObjects): Promise<number> {
  let newest = 0;
  const folder = objects.name("epochs");
  for await (const page of objects.list("epochs")) {
    for (const { name } of page) newest = Math.max(newest, parseEpoch(name.slice(folder.length)) ?? 0);
  }
  const seals = objects.name("seals");
  for await (const page of objects.list("seals", { after: epochText(newest + 1) })) {
    for (const { name } of page) newest = Math.max(newest, parseSeal(name.slice(seals.length))?.epoch ?? 0);
  }
  return newest;
}
