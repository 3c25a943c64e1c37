import { TidemarkError } from "../domain/errors.ts";
import { damagedObject } from "./object-errors.ts";

/** Calls `read`, whose RangeErrors say what is wrong with the object `name`: they become REPOSITORY_DAMAGED. */
export function asDamage<T>(name: string, read: () => T): T {
  try {
    return read();
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
    throw damagedObject(name, cause.message, { cause });
  }
}

/** Whether `error` says that an object is damaged or missing: not that the store can't be reached. */
export function isDamage(error: unknown): error is TidemarkError {
  return error instanceof TidemarkError && error.code === "REPOSITORY_DAMAGED";
}
