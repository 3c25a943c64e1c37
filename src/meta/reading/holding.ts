import type { Lsn } from "../../domain/ids.ts";
import type { EngineCore } from "../core.ts";

/** `items`, while they are read one by one with the moment kept readable, whatever becomes of the history around it. Throws OUT_OF_HISTORY. */
export async function* holding<T>(core: EngineCore, at: Lsn, items: AsyncIterable<T>): AsyncGenerator<T> {
  const release = core.moments.hold(at);
  try {
    yield* items;
  } finally {
    release();
  }
}
