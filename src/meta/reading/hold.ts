import type { Lsn } from "../../domain/ids.ts";
import type { EngineCore } from "../core.ts";

/** An app as of a moment. */
export type Moment = { readonly core: EngineCore; readonly at: Lsn };

/** Keeps moments readable while they are being read, whatever is dropped meanwhile, until the answer is called. Throws OUT_OF_HISTORY. */
export function holdMoments(moments: readonly Moment[]): () => void {
  const releases: (() => void)[] = [];
  const release = (): void => {
    for (const end of releases) end();
  };
  try {
    for (const { core, at } of moments) releases.push(core.moments.hold(at));
  } catch (error) {
    release();
    throw error;
  }
  return release;
}

/** The same for a stream: from its first item to its end. */
export async function* holding<T>(moments: readonly Moment[], items: () => AsyncIterable<T>): AsyncGenerator<T> {
  const release = holdMoments(moments);
  try {
    yield* items();
  } finally {
    release();
  }
}
