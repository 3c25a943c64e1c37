import { TidemarkError } from "../domain/errors.ts";

/** Kept objects are never rewritten, so what a person can do is the same for all of them. */
const ADVICE =
  `Nothing was changed. "tidemark repo check" says which files at which times it touches; if the store keeps versions ` +
  "or there is a copy of the repository, put this object back under its name.";

/** An object that is not what was written: REPOSITORY_DAMAGED, with its name. `fault` says what is wrong, as a part of a sentence. */
export function damagedObject(name: string, fault: string, options?: { cause?: unknown }): TidemarkError {
  return new TidemarkError("REPOSITORY_DAMAGED", `${name} in the repository is damaged: ${fault}. ${ADVICE}`, {
    ...options,
    data: { object: name },
  });
}

/** An object that must be there and is not: REPOSITORY_DAMAGED, with its name. */
export function missingObject(name: string, options?: { cause?: unknown }): TidemarkError {
  const message = `${name} is missing in the repository, though other objects name it: it was deleted, or this is an incomplete copy. ${ADVICE}`;
  return new TidemarkError("REPOSITORY_DAMAGED", message, { ...options, data: { object: name, missing: true } });
}

/** Something that only a newer Tidemark can read: REPOSITORY_NEWER. */
export function newerObject(name: string, found: { readonly version: number; readonly known: number }): TidemarkError {
  const message =
    `${name} in the repository has version ${found.version}, and this Tidemark knows versions up to ${found.known}: ` +
    "use the Tidemark that wrote it, or a newer one. Nothing was changed.";
  return new TidemarkError("REPOSITORY_NEWER", message, { data: { object: name, version: found.version } });
}

/** A passphrase or key that does not open what it should: REPOSITORY_KEY_WRONG. */
export function wrongKey(name: string, detail: string): TidemarkError {
  return new TidemarkError("REPOSITORY_KEY_WRONG", `${name} in the repository does not open: ${detail}`, {
    data: { object: name },
  });
}

/** Whether `error` says that an object is missing or not what was written. */
export function isDamage(error: unknown): error is TidemarkError {
  return error instanceof TidemarkError && error.code === "REPOSITORY_DAMAGED";
}
