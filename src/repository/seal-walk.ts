import { TidemarkError } from "../domain/errors.ts";
import type { Lsn } from "../domain/ids.ts";
import { CHAIN_START } from "../journal/chain.ts";
import type { AppRepository } from "./app-repository.ts";
import type { SealId } from "./names.ts";
import { damagedObject } from "./object-errors.ts";
import type { Seal } from "./seal-codec.ts";
import type { SealLine } from "./seal-line.ts";

export type WalkOptions = {
  /** Begin behind this seal (or base); without it with the oldest from which all up to the head are there. With `hash` (hex) the first one must name it. */
  readonly after?: (SealId & { readonly hash?: string | undefined }) | undefined;
  /** "line": that each seal names the hash of the one before. "chain": also that the records are those of the journal's chain, which costs a SHA-256 over all. */
  readonly verify: "line" | "chain";
  /** The record that the first seal goes on from: LSN 0 and the chain's start for an app from its beginning. Needed for the chain unless the first seal begins with LSN 1. */
  readonly from?: { readonly lsn: Lsn; readonly chain: Buffer } | undefined;
};

type Reached = { readonly hash: string | undefined; readonly lsn: Lsn | undefined; readonly chain: Buffer | undefined };

/**
 * The seals of `app` in order. Each is verified when it is given: it opens, it follows the one before by its hash and by its records' numbers. Throws REPOSITORY_DAMAGED where that is not so or a
 * seal is missing; FAILED_PRECONDITION (`data.reason` "off-line") if `after` is not of the line any more. One seal is read ahead.
 */
export async function* walkSeals(app: AppRepository, options: WalkOptions): AsyncGenerator<Seal, void> {
  const { after, verify, from } = options;
  const line = await app.line({ after });
  let reached: Reached = { hash: after?.hash, lsn: from?.lsn, chain: from?.chain };
  let id = line.next(after ?? null);
  let ahead = id === undefined ? undefined : read(app, id);
  while (ahead !== undefined && id !== undefined) {
    const seal = await ahead;
    const following = followingOf(line, id);
    ahead = following instanceof Error || following === undefined ? undefined : read(app, following);
    checkFollows(seal, reached);
    if (verify === "chain") seal.verifyChain(chainBefore(seal, reached));
    yield seal;
    const { to, chain } = seal.head;
    reached = { hash: seal.hash.toString("hex"), lsn: to, chain: Buffer.from(chain, "hex") };
    if (following instanceof Error) throw following;
    id = following;
  }
}

// A gap is told of when all before it was given.
function followingOf(line: SealLine, id: SealId): SealId | Error | undefined {
  try {
    return line.next(id);
  } catch (error) {
    if (error instanceof TidemarkError) return error;
    throw error;
  }
}

function read(app: AppRepository, id: SealId): Promise<Seal> {
  const reading = app.readSeal(id);
  // The walk may be ended before it asks for this.
  reading.catch(() => {});
  return reading;
}

function checkFollows({ name, head }: Seal, reached: Reached): void {
  const { previous, from } = head;
  if (previous !== null && reached.hash !== undefined && previous.hash !== reached.hash)
    throw damagedObject(name, "the seal before it is not the one it names: one of them was put in another's place");
  if (reached.lsn !== undefined && from !== reached.lsn + 1)
    throw damagedObject(name, `it begins with record ${from}, and ${reached.lsn + 1} should follow`);
}

function chainBefore({ name, head }: Seal, reached: Reached): Buffer {
  if (reached.chain !== undefined) return reached.chain;
  if (head.from === 1) return CHAIN_START;
  throw damagedObject(name, `the chain up to record ${head.from - 1} is not known, so it can't be verified`);
}
