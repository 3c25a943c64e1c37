import type { InodeId } from "../../src/domain/ids.ts";
import type { Invalidation, WriteRequest } from "../../src/domain/metadata-api.ts";
import type { Snapshot } from "./model-state.ts";

type Result = { readonly before: Snapshot; readonly after: Snapshot; readonly mountId: number };

/** What caches of other mounts must forget after `request`: every inode and every name that is another than before. */
export function invalidationsOf(request: WriteRequest, { before, after, mountId }: Result): Invalidation[] {
  const events: Invalidation[] = [];
  for (const ino of new Set([...before.keys(), ...after.keys()])) {
    if (before.get(ino) === after.get(ino)) continue;
    const data = before.get(ino)?.content !== after.get(ino)?.content || before.get(ino)?.size !== after.get(ino)?.size;
    if (request.op !== "forget" && before.has(ino)) events.push({ kind: "inode", ino, data, excluding: mountId });
    for (const name of changedNames(ino, { before, after })) {
      events.push({ kind: "entry", parent: ino, name: Buffer.from(name, "latin1"), excluding: mountId });
    }
  }
  return events;
}

function changedNames(ino: InodeId, { before, after }: Pick<Result, "before" | "after">): string[] {
  const left = before.get(ino)?.entries ?? new Map<string, InodeId>();
  const right = after.get(ino)?.entries ?? new Map<string, InodeId>();
  return [...new Set([...left.keys(), ...right.keys()])].filter((name) => left.get(name) !== right.get(name));
}
