import { assert } from "../base/assert.ts";

// FORMAT.md, "Names".

/** Which seal of an app: sequences are dense from 1 in each epoch. Sequence 0 is no seal: where an epoch begins. */
export type SealId = { readonly epoch: number; readonly sequence: number };

/** Folders of an app's objects. */
export type AppFolder = "epochs" | "seals" | "packs" | "runs" | "checkpoints" | "tombs";

export const REPOSITORY_FILE = "repository.json";
export const KEYS_PREFIX = "keys/";
export const APP_KEYS_PREFIX = "keys/apps/";
export const SETTINGS_PREFIX = "settings/";
export const APPS_PREFIX = "apps/";

const EPOCH_MAX = 0xffff_ffff;
const SEQUENCE_MAX = 2 ** 40 - 1;
const EPOCH = /^[0-9a-f]{8}$/;
const SEAL = /^([0-9a-f]{8})-([0-9a-f]{10})$/;

/** What all names of an app's objects begin with. */
export function appPrefix(tag: string): string {
  return `${APPS_PREFIX}${tag}/`;
}

/** An epoch as it stands in names: they sort by it. */
export function epochText(epoch: number): string {
  assert(Number.isSafeInteger(epoch) && epoch >= 0 && epoch <= EPOCH_MAX, `epoch out of range: ${epoch}`);
  return epoch.toString(16).padStart(8, "0");
}

/** The epoch in a name, or undefined if this is none. */
export function parseEpoch(text: string): number | undefined {
  return EPOCH.test(text) ? Number.parseInt(text, 16) : undefined;
}

/** A seal's name in its folder: names sort by epoch, then sequence. */
export function sealText({ epoch, sequence }: SealId): string {
  assert(Number.isSafeInteger(sequence) && sequence >= 0 && sequence <= SEQUENCE_MAX, "sequence out of range");
  return `${epochText(epoch)}-${sequence.toString(16).padStart(10, "0")}`;
}

/** The seal of a name, or undefined if this is none. */
export function parseSeal(text: string): SealId | undefined {
  const [, epoch, sequence] = SEAL.exec(text) ?? [];
  if (epoch === undefined || sequence === undefined) return undefined;
  return { epoch: Number.parseInt(epoch, 16), sequence: Number.parseInt(sequence, 16) };
}

/** Negative, zero or positive as `left` comes before, is or comes after `right`. */
export function compareSealIds(left: SealId, right: SealId): number {
  return left.epoch - right.epoch || left.sequence - right.sequence;
}
