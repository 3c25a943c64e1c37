import type { InodeId } from "../../src/domain/ids.ts";
import { isRegular } from "../../src/domain/inode.ts";
import type { Invalidation, WriteRequest } from "../../src/domain/metadata-api.ts";
import type { ModelNode, Snapshot } from "./model-state.ts";

type Result = { readonly before: Snapshot; readonly after: Snapshot; readonly mountId: number };

/** What of `wanted` is not among `told`: an event of an inode's data also covers its attributes. */
export function missingInvalidations(wanted: readonly Invalidation[], told: readonly Invalidation[]): Invalidation[] {
  const covers = (event: Invalidation, want: Invalidation): boolean => {
    if (event.excluding !== want.excluding) return false;
    if (event.kind === "inode") return want.kind === "inode" && event.ino === want.ino && (event.data || !want.data);
    if (event.kind === "snapshot") return false;
    return want.kind === "entry" && event.parent === want.parent && event.name.equals(want.name);
  };
  return wanted.filter((want) => !told.some((event) => covers(event, want)));
}

/** What caches of other mounts must forget after `request`: every inode and every name that is another than before. */
export function invalidationsOf(request: WriteRequest, { before, after, mountId }: Result): Invalidation[] {
  const events: Invalidation[] = [];
  for (const ino of new Set([...before.keys(), ...after.keys()])) {
    if (before.get(ino) === after.get(ino)) continue;
    const data = contentChanged(before.get(ino), after.get(ino));
    // Appended elsewhere than the asker thought: its own cache is wrong, too.
    const misplaced = request.op === "write" && request.append === true && before.get(ino)?.size !== request.offset;
    const excluding = misplaced ? 0 : mountId;
    if (request.op !== "forget" && before.has(ino)) events.push({ kind: "inode", ino, data, excluding });
    for (const name of changedNames(ino, { before, after })) {
      events.push({ kind: "entry", parent: ino, name: Buffer.from(name, "latin1"), excluding: mountId });
    }
  }
  return events;
}

function contentChanged(before: ModelNode | undefined, after: ModelNode | undefined): boolean {
  const file = isRegular(before?.mode ?? 0);
  return file && (before?.content !== after?.content || before?.size !== after?.size);
}

function changedNames(ino: InodeId, { before, after }: Pick<Result, "before" | "after">): string[] {
  const left = before.get(ino)?.entries ?? new Map<string, InodeId>();
  const right = after.get(ino)?.entries ?? new Map<string, InodeId>();
  return [...new Set([...left.keys(), ...right.keys()])].filter((name) => left.get(name) !== right.get(name));
}
