import type { InodeId, Lsn } from "../../src/domain/ids.ts";
import { isDirectory, isRegular, isSymlink, S_IFMT } from "../../src/domain/inode.ts";
import type { DirectoryEntry, ReadRequest, ReplyOf } from "../../src/domain/metadata-api.ts";
import { expectSame, type InodeFacts, Mismatch } from "./compare.ts";
import { readContent } from "./model-content.ts";
import { wrongSeek } from "./model-read.ts";
import type { ModelNode, Snapshot } from "./model-state.ts";
import type { Random } from "./random.ts";

/** How a whole tree is compared: asks the engine and takes its answers; failures come as Mismatch. */
export type TreeComparison = {
  ask<R extends ReadRequest>(request: R): Promise<ReplyOf<R>>;
  /** The errno of a request that must fail, or undefined when it succeeds. */
  refusal(request: ReadRequest): Promise<string | undefined>;
  readonly expected: Snapshot;
  /** As requests name the moment; `lsn` is what it means. */
  readonly at: Lsn;
  readonly lsn: Lsn;
  readonly facts: InodeFacts;
  /** Chooses page and read sizes. */
  readonly random: Random;
  /** Inodes that existed once. */
  readonly known: ReadonlySet<InodeId>;
};

/** Dead inodes looked at in one comparison. */
const DEAD_CHECKED_MAX = 5;
/** A file up to this size is read whole. */
const WHOLE_READ_BYTES_MAX = 300_000n;
/** Bytes read on either side of a piece of a larger file. */
const MARGIN_BYTES = 100n;
/** More steps from data to hole than a test file can have: an engine that goes in circles. */
const SEEKS_MAX = 20_000;

/** Throws Mismatch unless every directory, attribute, xattr, byte and orphan of the engine is as in `expected`, and nothing more is there. */
export async function compareTree(comparison: TreeComparison): Promise<void> {
  for (const node of comparison.expected.values()) await compareNode(comparison, node);
  let dead = 0;
  for (const ino of [...comparison.known].reverse()) {
    if (comparison.expected.has(ino)) continue;
    const code = await comparison.refusal({ op: "getattr", ino, at: comparison.at });
    if (code !== "ENOENT" && code !== "ESTALE")
      throw new Mismatch(`inode ${ino} does not exist then, but getattr gives ${code}`);
    if (++dead === DEAD_CHECKED_MAX) return;
  }
}

async function compareNode(comparison: TreeComparison, node: ModelNode): Promise<void> {
  const { ask, at, facts, lsn } = comparison;
  facts.check(node, await ask({ op: "getattr", ino: node.ino, at }), lsn);
  await compareXattrs(comparison, node);
  if (isDirectory(node.mode)) await compareDirectory(comparison, node);
  if (isSymlink(node.mode)) expectSame("readlink", await ask({ op: "readlink", ino: node.ino, at }), node.target);
  if (isRegular(node.mode)) {
    await compareBytes(comparison, node);
    await compareHoles(comparison, node);
  }
}

async function compareXattrs({ ask, at }: TreeComparison, node: ModelNode): Promise<void> {
  const names = await ask({ op: "listxattr", ino: node.ino, at });
  const listed = names.map((name) => name.toString("latin1")).sort();
  expectSame(`xattrs of inode ${node.ino}`, listed, [...node.xattrs.keys()].sort());
  for (const [name, value] of node.xattrs) {
    const found = await ask({ op: "getxattr", ino: node.ino, name: Buffer.from(name, "latin1"), at });
    expectSame(`xattr ${name} of inode ${node.ino}`, found, value);
  }
}

/** Reads a directory to its end, in pages. Throws Mismatch when the paging misbehaves. */
export async function listDirectory(
  ask: TreeComparison["ask"],
  request: Omit<Extract<ReadRequest, { op: "readdir" }>, "cookie" | "op">,
): Promise<DirectoryEntry[]> {
  const found: DirectoryEntry[] = [];
  for (let cookie = 0n; ; ) {
    const { entries, end } = await ask({ ...request, op: "readdir", cookie });
    found.push(...entries);
    if (end) return found;
    if (entries.length > request.entriesMax)
      throw new Mismatch(`readdir: ${entries.length} entries in a page of ${request.entriesMax}`);
    const last = entries.at(-1);
    if (last === undefined || last.cookie === cookie) throw new Mismatch("readdir goes on without getting anywhere");
    cookie = last.cookie;
  }
}

async function compareDirectory(comparison: TreeComparison, node: ModelNode): Promise<void> {
  const { ask, at, expected, facts, lsn, random } = comparison;
  const plus = random.oneIn(2);
  const entriesMax = random.pick([1, 2, 3, 7, 100]);
  const entries = await listDirectory(ask, { ino: node.ino, entriesMax, plus, at });
  const type = (ino: InodeId): number => ((expected.get(ino)?.mode ?? 0) & S_IFMT) >> 12;
  const found = entries.map((entry) => `${entry.name.toString("latin1")} -> ${entry.ino} type ${entry.type}`).sort();
  const wanted = [...node.entries].map(([name, ino]) => `${name} -> ${ino} type ${type(ino)}`).sort();
  expectSame(`readdir of inode ${node.ino} at ${lsn} in pages of ${entriesMax}`, found, wanted);
  for (const entry of entries) {
    const child = expected.get(entry.ino);
    if (child === undefined) continue;
    if (plus && entry.inode === undefined) throw new Mismatch("readdir with plus answers no inode");
    if (entry.inode !== undefined) facts.check(child, entry.inode, lsn);
    if (random.oneIn(2)) facts.check(child, await ask({ op: "lookup", parent: node.ino, name: entry.name, at }), lsn);
  }
}

/** Ranges worth reading: all of a small file; else around each piece, the end, and somewhere in a hole. */
function ranges(node: ModelNode, random: Random): { from: bigint; to: bigint }[] {
  if (node.size <= WHOLE_READ_BYTES_MAX) return [{ from: 0n, to: node.size + 1n }];
  const found: { from: bigint; to: bigint }[] = [];
  const middle = (node.size * BigInt(random.below(1000))) / 1000n;
  const points = [
    ...node.content.map((piece) => ({ from: piece.offset, to: piece.offset + BigInt(piece.bytes.length) })),
    { from: node.size, to: node.size },
    { from: middle, to: middle },
  ].sort((left, right) => (left.from < right.from ? -1 : left.from > right.from ? 1 : 0));
  for (const point of points) {
    const last = found.at(-1);
    const from = point.from > MARGIN_BYTES ? point.from - MARGIN_BYTES : 0n;
    const to = point.to + MARGIN_BYTES;
    if (last !== undefined && from <= last.to) last.to = to > last.to ? to : last.to;
    else found.push({ from, to });
  }
  return found;
}

async function compareBytes({ ask, at, random, lsn }: TreeComparison, node: ModelNode): Promise<void> {
  const longest = random.pick([700, 5000, 70_000, 1_000_000]);
  for (const { from, to } of ranges(node, random)) {
    for (let offset = from; offset < to; ) {
      const length = Math.min(1 + random.below(longest), Number(to - offset));
      const left = node.size > offset ? node.size - offset : 0n;
      const wanted = readContent(node.content, offset, left < BigInt(length) ? Number(left) : length);
      const found = Buffer.concat(await ask({ op: "read", ino: node.ino, offset, length, at }));
      if (!found.equals(wanted))
        throw new Mismatch(
          `read of inode ${node.ino} at ${lsn}, offset ${offset}, length ${length}: ${difference(found, wanted)}`,
        );
      offset += BigInt(length);
    }
  }
}

function difference(found: Buffer, wanted: Buffer): string {
  if (found.length !== wanted.length) return `got ${found.length} bytes, want ${wanted.length}`;
  const index = found.findIndex((byte, at) => byte !== wanted[at]);
  return `byte ${index} is ${found[index]}, want ${wanted[index]}`;
}

/** Walks the file by lseek from data to hole to data: every hole must read as zeros, and the walk must end. */
async function compareHoles(comparison: TreeComparison, node: ModelNode): Promise<void> {
  let offset = 0n;
  let whence: "data" | "hole" = "data";
  for (let seeks = 0; offset < node.size; seeks++) {
    if (seeks > SEEKS_MAX) throw new Mismatch(`lseek of inode ${node.ino} does not end`);
    const request = { op: "lseek", ino: node.ino, offset, whence, at: comparison.at } as const;
    const code = await comparison.refusal(request);
    if (code !== undefined && code !== "ENXIO") throw new Mismatch(`lseek of inode ${node.ino}: ${code}`);
    const answer = code === undefined ? await comparison.ask(request) : undefined;
    const wrong = wrongSeek(node, request, answer);
    if (wrong !== undefined)
      throw new Mismatch(`lseek ${whence} of inode ${node.ino} at offset ${offset}: got ${answer}: ${wrong}`);
    if (answer === undefined) return;
    if (whence === "hole" && answer === offset)
      throw new Mismatch(`lseek: byte ${offset} of inode ${node.ino} is data, and a hole`);
    offset = answer;
    whence = whence === "data" ? "hole" : "data";
  }
}
