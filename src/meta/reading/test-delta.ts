import { expect } from "vitest";
import type { DeltaEntry, DeltaName, ShareDeltaPage } from "../../domain/admin-changes.ts";
import type { FileAttributes, Xattr } from "../../domain/admin-reading.ts";
import type { InodeId, Lsn } from "../../domain/ids.ts";
import { isDirectory, isRegular } from "../../domain/inode.ts";
import type { EngineCore } from "../core.ts";
import type { InodeRow } from "../rows.ts";
import { attributesOf, xattrsAt } from "./attributes.ts";
import { contentPieces } from "./content-stream.ts";
import { directoryNames } from "./directory-names.ts";
import { joinPath } from "./paths.ts";
import type { TestApps } from "./test-app.ts";
import { Work } from "./work.ts";

const BLOCK = 512n;

/** For tests: bytes of a file that may be huge and sparse, and which of them are stored. */
class SparseBytes {
  readonly #blocks = new Map<bigint, { bytes: Buffer; stored: Uint8Array }>();
  size = 0n;

  write(offset: bigint, bytes: Uint8Array): void {
    this.#each(offset, offset + BigInt(bytes.length), (block, from, to, done) => {
      block.bytes.set(bytes.subarray(done, done + to - from), from);
      block.stored.fill(1, from, to);
    });
  }

  punch(from: bigint, to: bigint): void {
    for (const [index, block] of this.#blocks) {
      const start = index * BLOCK;
      if (start + BLOCK <= from || start >= to) continue;
      const first = Number(from > start ? from - start : 0n);
      const last = Number(to < start + BLOCK ? to - start : BLOCK);
      block.bytes.fill(0, first, last);
      block.stored.fill(0, first, last);
      if (!block.stored.includes(1)) this.#blocks.delete(index);
    }
  }

  truncate(size: bigint): void {
    if (size < this.size) this.punch(size, this.size);
    this.size = size;
  }

  copy(): SparseBytes {
    const copy = new SparseBytes();
    copy.size = this.size;
    for (const [index, { bytes, stored }] of this.#blocks)
      copy.#blocks.set(index, { bytes: Buffer.from(bytes), stored: Uint8Array.from(stored) });
    return copy;
  }

  text(): string {
    const blocks = [...this.#blocks].sort(([left], [right]) => (left < right ? -1 : 1));
    return [
      String(this.size),
      ...blocks.map(
        ([index, { bytes, stored }]) => `${index}:${bytes.toString("hex")}/${Buffer.from(stored).toString("hex")}`,
      ),
    ].join(" ");
  }

  #each(
    from: bigint,
    to: bigint,
    visit: (block: { bytes: Buffer; stored: Uint8Array }, from: number, to: number, done: number) => void,
  ): void {
    for (let position = from; position < to; ) {
      const index = position / BLOCK;
      const block = this.#blocks.get(index) ?? {
        bytes: Buffer.alloc(Number(BLOCK)),
        stored: new Uint8Array(Number(BLOCK)),
      };
      this.#blocks.set(index, block);
      const end = to < (index + 1n) * BLOCK ? to : (index + 1n) * BLOCK;
      visit(block, Number(position - index * BLOCK), Number(end - index * BLOCK), Number(position - from));
      position = end;
    }
  }
}

type State = { attributes: FileAttributes; xattrs: readonly Xattr[]; target: Buffer; content: SparseBytes };

/** For tests: a whole tree as of a moment: names by path and by directory, and every inode. */
export class TreeCopy {
  readonly paths = new Map<string, InodeId>();
  readonly dentries = new Map<string, InodeId>();
  readonly inodes = new Map<InodeId, State>();

  /** What is at or below a directory, if that was there. */
  static async read(apps: TestApps, core: EngineCore, root: InodeId, at: Lsn): Promise<TreeCopy> {
    const tree = new TreeCopy();
    const work = new Work(apps.parts);
    const walk = async (path: Buffer, row: InodeRow): Promise<void> => {
      tree.paths.set(path.toString("latin1"), row.ino);
      if (!tree.inodes.has(row.ino)) tree.inodes.set(row.ino, await stateOf(core, row, at, work));
      if (!isDirectory(row.mode)) return;
      for await (const batch of directoryNames(core, row, at, work)) {
        for (const { name, ino } of batch) {
          tree.dentries.set(`${row.ino}/${name.toString("latin1")}`, ino);
          const child = core.findInodeAt(ino, at);
          if (child !== undefined) await walk(joinPath(path, name), child);
        }
      }
    };
    const row = core.findInodeAt(root, at);
    if (row !== undefined) await walk(Buffer.alloc(0), row);
    return tree;
  }

  /** Makes of this tree the one at `to`, by nothing but what a delta says, and what a view at `to` says of what the delta names. */
  async apply(
    entries: readonly DeltaEntry[],
    view: { apps: TestApps; core: EngineCore; to: Lsn; byPath: boolean },
  ): Promise<void> {
    const names = view.byPath ? this.paths : this.dentries;
    const key = (name: DeltaName): string => {
      const path = name.path.toString("latin1");
      return view.byPath ? path : `${name.parent}/${path.slice(path.lastIndexOf("/") + 1)}`;
    };
    const all = entries.flatMap((entry) => entry.names.map((name) => ({ ino: entry.ino, name, key: key(name) })));
    const isRoot = (name: DeltaName): boolean => !view.byPath && name.parent === 0;
    for (const { ino, name, key: at } of all) {
      if (name.state !== "removed" || isRoot(name)) continue;
      expect(names.get(at), `removed ${at}`).toBe(ino);
      names.delete(at);
    }
    for (const { ino, name, key: at } of all) {
      if (isRoot(name)) continue;
      if (name.state === "added") {
        expect(names.has(at), `added ${at}`).toBe(false);
        names.set(at, ino);
      } else if (name.state === "kept") expect(names.get(at), `kept ${at}`).toBe(ino);
    }
    for (const entry of entries) await this.#applyState(entry, view);
  }

  async #applyState(entry: DeltaEntry, view: { apps: TestApps; core: EngineCore; to: Lsn }): Promise<void> {
    const { ino, kind, changes, before, after, target, extents } = entry;
    const was = this.inodes.get(ino);
    const isPart = before === undefined && after === undefined;
    if (kind === "deleted") {
      if (!isPart) expect(before).toEqual(was?.attributes);
      this.inodes.delete(ino);
      return;
    }
    const row = view.core.findInodeAt(ino, view.to);
    if (row === undefined) throw new Error(`inode ${ino} is in the delta and not at ${view.to}`);
    if (isPart) {
      if (was !== undefined) await write(was.content, extents, { ...view, row });
      return;
    }
    if (after === undefined) throw new Error("an entry without attributes");
    expect(kind === "created", `inode ${ino} was created`).toBe(was === undefined);
    if (was !== undefined) {
      expect(before).toEqual(was.attributes);
      checkChanges(entry);
    }
    const content = was?.content ?? new SparseBytes();
    if (isRegular(after.mode)) content.truncate(after.size);
    await write(content, extents, { ...view, row });
    const xattrs = was === undefined || changes.includes("xattrs") ? xattrsAt(view.core, row, view.to) : was.xattrs;
    this.inodes.set(ino, { attributes: after, xattrs, target, content });
  }

  describe(): Map<string, string> {
    const described = new Map<string, string>();
    for (const [path, ino] of this.paths) described.set(`path ${path}`, String(ino));
    for (const [name, ino] of this.dentries) described.set(`name ${name}`, String(ino));
    for (const [ino, { attributes, xattrs, target, content }] of this.inodes) {
      const words = xattrs.map(({ name, value }) => `${name.toString("latin1")}=${value.toString("hex")}`).join(" ");
      described.set(`inode ${ino}`, `${text(attributes)} ${words} ${target.toString("hex")}`);
      described.set(`content ${ino}`, content.text());
    }
    return described;
  }
}

function checkChanges({ changes, before, after, ino }: DeltaEntry): void {
  if (before === undefined || after === undefined) return;
  const expected = {
    mode: before.mode !== after.mode,
    owner: before.uid !== after.uid || before.gid !== after.gid,
    size: before.size !== after.size,
    links: before.nlink !== after.nlink,
  };
  for (const [word, differs] of Object.entries(expected))
    expect(changes.includes(word as (typeof changes)[number]), `${word} of ${ino}`).toBe(differs);
}

async function write(
  content: SparseBytes,
  extents: DeltaEntry["extents"],
  { apps, core, row, to }: { apps: TestApps; core: EngineCore; row: InodeRow; to: Lsn },
): Promise<void> {
  let end = -1n;
  for (const { kind, offset, length } of extents) {
    expect(offset, "extents ascend, and neighbours of one kind are joined").toBeGreaterThanOrEqual(end);
    expect(length).toBeGreaterThan(0n);
    end = offset + length;
    expect(end).toBeLessThanOrEqual(row.size);
    content.punch(offset, end);
    if (kind === "hole") continue;
    for await (const piece of contentPieces(core, row, to, { from: offset, to: end, work: new Work(apps.parts) }))
      content.write(piece.offset, piece.bytes);
  }
}

async function stateOf(core: EngineCore, row: InodeRow, at: Lsn, work: Work): Promise<State> {
  const content = new SparseBytes();
  if (isRegular(row.mode)) {
    content.truncate(row.size);
    for await (const { offset, bytes } of contentPieces(core, row, at, { from: 0n, to: row.size, work }))
      content.write(offset, bytes);
  }
  return { attributes: attributesOf(row), xattrs: xattrsAt(core, row, at), target: row.target, content };
}

function text(attributes: FileAttributes): string {
  return Object.values(attributes)
    .map((value) => (typeof value === "object" ? `${value.sec}.${value.nsec}` : String(value)))
    .join(" ");
}

/** All entries of a delta. */
export async function entriesOf(pages: AsyncIterable<ShareDeltaPage>): Promise<DeltaEntry[]> {
  const entries: DeltaEntry[] = [];
  for await (const page of pages) entries.push(...page.entries);
  return entries;
}

/** An entry in a line: `changed a/b (content times) 0+3 5-1`, with `+` and `-` for data and holes. */
export function deltaLine(entry: DeltaEntry): string {
  const names = entry.names.map((name) => {
    const path = name.path.toString("latin1");
    if (name.state === "removed") return `-${path}[${name.now}]`;
    const before = name.pathBefore === undefined ? "" : `<${name.pathBefore.toString("latin1")}`;
    return `${name.state === "added" ? "+" : ""}${path}${before}`;
  });
  const changes = entry.changes.length === 0 ? "" : ` (${entry.changes.join(" ")})`;
  const extents = entry.extents.map(({ kind, offset, length }) => ` ${offset}${kind === "data" ? "+" : "-"}${length}`);
  return `${entry.kind} ${names.join(" ")}${changes}${extents.join("")}`;
}
