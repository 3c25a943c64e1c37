import { inspect } from "node:util";
import type { Timestamp } from "../../src/base/clock.ts";
import type { ErrnoName } from "../../src/domain/errors.ts";
import type { InodeId, Lsn } from "../../src/domain/ids.ts";
import { type Inode, isDirectory } from "../../src/domain/inode.ts";
import type { ReplyMap, Request } from "../../src/domain/metadata-api.ts";
import { wrongSeek } from "./model-read.ts";
import type { ModelNode } from "./model-state.ts";

/** The engine did not do what the model did. */
export class Mismatch extends Error {
  override name = "Mismatch";
}

/** What a request came to. */
export type Outcome = { readonly reply: ReplyMap[Request["op"]] } | { readonly code: ErrnoName };

/** Throws Mismatch unless two values are written the same. */
export function expectSame(what: string, actual: unknown, expected: unknown): void {
  const [left, right] = [show(actual), show(expected)];
  if (left !== right) throw new Mismatch(`${what}: got ${left}, want ${right}`);
}

function show(value: unknown): string {
  if (value instanceof Uint8Array) {
    const bytes = Buffer.from(value);
    return bytes.length > 64 ? `${bytes.length} bytes ${bytes.toString("hex")}` : `"${bytes.toString("latin1")}"`;
  }
  return inspect(value, { depth: 4, breakLength: Number.POSITIVE_INFINITY, sorted: true });
}

const time = (value: Timestamp): string => `${value.sec}.${String(value.nsec).padStart(9, "0")}`;

/** Facts of inodes that no model can foresee, but that must never change. */
export class InodeFacts {
  readonly #generations = new Map<InodeId, number>();

  /** Throws Mismatch unless `inode`, read at `at`, has the attributes of `node`. `allocatedBytes` and a directory's size are the engine's own. */
  check(node: ModelNode, inode: Inode, at: Lsn): void {
    const what = `inode ${node.ino}`;
    for (const key of ["ino", "uid", "gid", "nlink", "rdev", "restoredFrom"] as const) {
      expectSame(`${what} ${key}`, inode[key], node[key]);
    }
    expectSame(`${what} mode`, inode.mode.toString(8), node.mode.toString(8));
    for (const key of ["atime", "mtime", "ctime", "btime"] as const) {
      expectSame(`${what} ${key}`, time(inode[key]), time(node[key]));
    }
    expectSame(`${what} target`, inode.target, node.target);
    if (!isDirectory(node.mode)) expectSame(`${what} size`, inode.size, node.size);
    if (node.nlink > 0) expectSame(`${what} parent`, inode.parent, node.parent);
    if (inode.allocatedBytes < 0n) throw new Mismatch(`${what} allocatedBytes is negative: ${inode.allocatedBytes}`);
    if (inode.since > at || inode.since < node.since) {
      throw new Mismatch(`${what} since: got ${inode.since}, but it changed at ${node.since}, read at ${at}`);
    }
    this.#checkGeneration(inode);
  }

  #checkGeneration(inode: Inode): void {
    if (inode.generation <= 0) throw new Mismatch(`inode ${inode.ino} generation is ${inode.generation}`);
    const first = this.#generations.get(inode.ino);
    if (first === undefined) this.#generations.set(inode.ino, inode.generation);
    else expectSame(`inode ${inode.ino} generation`, inode.generation, first);
  }
}

/** A dead inode may be told from a missing name, or not. */
export const sameCode = (engine: ErrnoName, model: ErrnoName): boolean =>
  engine === model || (model === "ESTALE" && engine === "ENOENT");

/** What an answer is compared with besides itself. */
export type Comparison = {
  readonly request: Request;
  readonly facts: InodeFacts;
  readonly at: Lsn;
  readonly node?: ModelNode | undefined;
};

/** Throws Mismatch unless the engine's outcome is one the model allows. `node`: the file an lseek was made on. */
export function compareOutcomes(engine: Outcome, model: Outcome, { request, facts, at, node }: Comparison): void {
  if (request.op === "lseek" && node !== undefined) {
    const answer = "reply" in engine ? (engine.reply as bigint) : undefined;
    if ("code" in engine && engine.code !== "ENXIO") throw new Mismatch(`lseek: got ${engine.code}`);
    const wrong = wrongSeek(node, request, answer);
    if (wrong !== undefined)
      throw new Mismatch(`lseek ${request.whence} at ${request.offset}: got ${answer}: ${wrong}`);
    return;
  }
  if ("code" in engine || "code" in model) {
    const same = "code" in engine && "code" in model && sameCode(engine.code, model.code);
    if (!same) throw new Mismatch(`${request.op}: got ${showOutcome(engine)}, want ${showOutcome(model)}`);
    return;
  }
  compareReplies(request, { engine: engine.reply, model: model.reply, facts, at });
}

const showOutcome = (outcome: Outcome): string =>
  "code" in outcome ? outcome.code : `success (${show(outcome.reply).slice(0, 300)})`;

type Replies = { readonly engine: unknown; readonly model: unknown; readonly facts: InodeFacts; readonly at: Lsn };

function compareReplies(request: Request, { engine, model, facts, at }: Replies): void {
  switch (request.op) {
    case "lookup":
    case "getattr":
    case "mknod":
    case "create":
    case "mkdir":
    case "symlink":
    case "link":
    case "tmpfile":
    case "setattr":
      facts.check(model as ModelNode, engine as Inode, at);
      return;
    case "read":
      expectSame("read", joined(engine), joined(model));
      return;
    case "listxattr":
      expectSame("listxattr", sorted(engine), sorted(model));
      return;
    case "readdir":
    case "statfs":
      return;
    default:
      expectSame(request.op, engine, model);
  }
}

const joined = (reply: unknown): Buffer => Buffer.concat(reply as Uint8Array[]);

const sorted = (reply: unknown): string[] => (reply as Buffer[]).map((name) => name.toString("latin1")).sort();
