/** Raised when one of our own invariants does not hold. Never caused by the world outside: those are errors, not assertions. */
export class AssertionError extends Error {
  override name = "AssertionError";
}

/** Throws `AssertionError` unless `condition` holds. For our bugs only. */
export function assert(condition: boolean, message = "assertion failed"): asserts condition {
  if (!condition) throw new AssertionError(message);
}

/** Marks a switch as exhaustive: the compiler rejects a case that was forgotten, and the process says so if one slips through. */
export function unreachable(value: never): never {
  throw new AssertionError(`unreachable: ${String(value)}`);
}

/** Returns `value`, which an invariant says is there. `what` names it in the error. */
export function present<T>(value: T | undefined | null, what: string): T {
  if (value === undefined || value === null) throw new AssertionError(`missing: ${what}`);
  return value;
}
