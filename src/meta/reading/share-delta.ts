import { compareTimestamps } from "../../base/clock.ts";
import type { DeltaChange, DeltaEntry, DeltaExtent, DeltaName } from "../../domain/admin-changes.ts";
import type { InodeId } from "../../domain/ids.ts";
import { isRegular } from "../../domain/inode.ts";
import type { EngineCore } from "../core.ts";
import { inodesAt } from "../inodes-at.ts";
import type { InodeRow } from "../rows.ts";
import { attributesOf, xattrsAt } from "./attributes.ts";
import { changedExtents } from "./changed-extents.ts";
import { DeltaCandidates, type DeltaSpan } from "./delta-candidates.ts";
import { DeltaNames } from "./delta-names.ts";
import { hasSameXattrs } from "./row-changes.ts";

/** Inodes whose rows are read together. */
const BATCH_INODES = 64;

/** Extents of one entry: 32 KiB. */
const EXTENTS_MAX = 1000;

/** Names of one entry, and bytes of their paths: so that a page has room for it. */
const NAMES_MAX = 256;
const NAME_BYTES_MAX = 256 * 1024;

/** Fixed parts of an entry, an extent and a name in a page, about. */
const ENTRY_BYTES = 300;
const EXTENT_BYTES = 24;
const NAME_BYTES = 24;

type Sides = { readonly ino: InodeId; readonly before: InodeRow | undefined; readonly after: InodeRow | undefined };

/** What differs between two moments of a share: the inodes that may, from the journal; what does, from their rows. Costs what changed. */
export class ShareDelta {
  readonly #core: EngineCore;
  readonly #span: DeltaSpan;
  readonly #candidates: DeltaCandidates;
  readonly #names: DeltaNames;

  /** Both moments must stay held until the last entry was taken. */
  constructor(core: EngineCore, span: DeltaSpan) {
    this.#core = core;
    this.#span = span;
    this.#candidates = new DeltaCandidates(core, span);
    this.#names = new DeltaNames(core, span);
  }

  /** Looks for what may have changed; before `entries`. Answers where it was found. Throws FAILED_PRECONDITION when that is too much. */
  find(): Promise<"journal" | "rows"> {
    return this.#candidates.find();
  }

  /** The entries, by inode number. */
  async *entries(): AsyncGenerator<DeltaEntry> {
    let batch: InodeId[] = [];
    for (const ino of this.#candidates.inodes()) {
      if (batch.push(ino) < BATCH_INODES) continue;
      yield* this.#compareAll(batch);
      batch = [];
    }
    yield* this.#compareAll(batch);
  }

  async *#compareAll(inodes: readonly InodeId[]): AsyncGenerator<DeltaEntry> {
    const { work, from, to } = this.#span;
    const before = inodesAt(this.#core, inodes, from);
    const after = inodesAt(this.#core, inodes, to);
    for (const ino of inodes) {
      if (work.due) await work.pause();
      yield* this.#compare({ ino, before: before.get(ino), after: after.get(ino) });
    }
  }

  async *#compare({ ino, before, after }: Sides): AsyncGenerator<DeltaEntry> {
    const namesBefore = this.#names.at(before, this.#span.from);
    const namesAfter = this.#names.at(after, this.#span.to);
    // An inode without a name is nowhere, though somebody may have it open.
    const left = namesBefore.length === 0 ? undefined : before;
    const right = namesAfter.length === 0 ? undefined : after;
    if (left === undefined && right === undefined) return;
    const names = this.#names.compare(namesBefore, namesAfter);
    const kind = left === undefined ? "created" : right === undefined ? "deleted" : "changed";
    const changes = left === undefined || right === undefined ? NONE : this.#changes(left, right);
    const extents = this.#extents({ before: left, after: right });
    const first = (await extents.next()).value;
    if (kind === "changed" && first === undefined && changes.length === 0 && names.every(isKept)) return;
    const whole = {
      ino,
      kind,
      changes: kind === "changed" ? withContent(changes, first !== undefined) : NONE,
      ...(left === undefined ? {} : { before: attributesOf(left) }),
      ...(right === undefined ? {} : { after: attributesOf(right) }),
      target: right?.target ?? NO_BYTES,
    } as const;
    yield* inParts(whole, { names, first: first ?? NONE, rest: extents });
  }

  #changes(left: InodeRow, right: InodeRow): DeltaChange[] {
    const changes: DeltaChange[] = [];
    if (left.since === right.since) return changes;
    if (left.size !== right.size) changes.push("size");
    if (left.mode !== right.mode) changes.push("mode");
    if (left.uid !== right.uid || left.gid !== right.gid) changes.push("owner");
    if (compareTimestamps(left.mtime, right.mtime) !== 0 || compareTimestamps(left.atime, right.atime) !== 0)
      changes.push("times");
    if (!hasSameXattrs(xattrsAt(this.#core, left, this.#span.from), xattrsAt(this.#core, right, this.#span.to)))
      changes.push("xattrs");
    if (!left.target.equals(right.target)) changes.push("target");
    if (left.rdev !== right.rdev) changes.push("device");
    if (left.nlink !== right.nlink) changes.push("links");
    if (changes.length === 0 && compareTimestamps(left.ctime, right.ctime) !== 0) changes.push("ctime");
    return changes;
  }

  async *#extents({ before, after }: Pick<Sides, "before" | "after">): AsyncGenerator<DeltaExtent[], undefined> {
    if (after === undefined || !isRegular(after.mode)) return;
    if (before !== undefined && before.since === after.since) return;
    const { from, to, work } = this.#span;
    const sides = { before: { row: before, at: from }, after: { row: after, at: to } };
    const touched = this.#candidates.touched.of(after.contentId);
    yield* changedExtents(this.#core, sides, { touched, countMax: EXTENTS_MAX, work });
  }
}

/** Bytes of an entry in a page, about. */
export function entryBytes({ names, extents, target }: DeltaEntry): number {
  let bytes = ENTRY_BYTES + extents.length * EXTENT_BYTES + target.length;
  for (const name of names) bytes += nameBytes(name);
  return bytes;
}

function nameBytes(name: DeltaName): number {
  const before = name.state === "removed" ? 0 : (name.pathBefore?.length ?? 0);
  return NAME_BYTES + name.path.length + before;
}

/** "ctime" is only said of what differs in nothing else. */
function withContent(changes: readonly DeltaChange[], content: boolean): readonly DeltaChange[] {
  return content ? ["content", ...changes.filter((change) => change !== "ctime")] : changes;
}

function isKept(name: DeltaName): boolean {
  return name.state === "kept" && name.pathBefore === undefined;
}

/** One entry, or several where there are many names or extents. */
async function* inParts(
  whole: Omit<DeltaEntry, "names" | "extents" | "continues">,
  content: {
    readonly names: readonly DeltaName[];
    readonly first: readonly DeltaExtent[];
    readonly rest: AsyncIterator<DeltaExtent[], undefined>;
  },
): AsyncGenerator<DeltaEntry> {
  const names = inPieces(content.names);
  let extents: readonly DeltaExtent[] | undefined = content.first;
  let isFirst = true;
  for (let piece = names.next(); ; piece = names.next()) {
    const next: readonly DeltaExtent[] | undefined =
      extents === undefined ? undefined : (await content.rest.next()).value;
    const isLast = names.isEmpty && next === undefined;
    const part = { names: piece, extents: extents ?? NONE, continues: !isLast };
    if (isFirst) yield { ...whole, ...part };
    else yield { ino: whole.ino, kind: whole.kind, changes: NONE, target: NO_BYTES, ...part };
    if (isLast) return;
    isFirst = false;
    extents = next;
  }
}

/** Takes a list in pieces that fit an entry. */
function inPieces(names: readonly DeltaName[]): { next(): readonly DeltaName[]; readonly isEmpty: boolean } {
  let start = 0;
  return {
    next: () => {
      let end = start;
      for (let bytes = 0; end < names.length && end - start < NAMES_MAX && bytes < NAME_BYTES_MAX; end++)
        bytes += nameBytes(names[end] as DeltaName);
      const piece = start === 0 && end === names.length ? names : names.slice(start, end);
      start = end;
      return piece;
    },
    get isEmpty() {
      return start >= names.length;
    },
  };
}

const NONE: readonly never[] = [];
const NO_BYTES = Buffer.alloc(0);
