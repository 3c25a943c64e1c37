import { FsError } from "../../src/domain/errors.ts";
import { type InodeId, LIVE, type Lsn, type MountId } from "../../src/domain/ids.ts";
import type { MetadataApi, ReplyOf, Request, RequestContext } from "../../src/domain/metadata-api.ts";
import type { RequestHeader } from "../../src/gateway/fuse/frame.ts";
import type { FuseOperations } from "../../src/gateway/fuse/operations.ts";
import { Reply, ReplyWriter } from "../../src/gateway/fuse/reply.ts";
import { RecordingIo } from "../../src/gateway/fuse/testing/frames.ts";
import type { VfsOptions } from "../../src/gateway/vfs/context.ts";
import { vfsOperations } from "../../src/gateway/vfs/vfs.ts";

/** An engine of which every answer is a promise, some turns later: as over a session. */
export class LaterApi implements MetadataApi {
  readonly #api: MetadataApi;

  constructor(api: MetadataApi) {
    this.#api = api;
  }

  execute<R extends Request>(request: R, context: RequestContext): ReplyOf<R> | Promise<ReplyOf<R>> {
    if (request.op === "forget") return this.#api.execute(request, context);
    // Two turns: what is thrown in the same turn would be caught by what only looks like it can wait.
    return Promise.resolve()
      .then(() => new Promise<void>((resolve) => setImmediate(resolve)))
      .then(() => this.#api.execute(request, context)) as Promise<ReplyOf<R>>;
  }

  subscribe(listener: Parameters<MetadataApi["subscribe"]>[0]): () => void {
    return this.#api.subscribe(listener);
  }

  close(): Promise<void> {
    return this.#api.close();
  }
}

/** An answer as the kernel gets it. */
export type Answer = { readonly errno: number; readonly body: Buffer; readonly inTurn: boolean };

/** Asks the operations of a mount, as its connection would. */
export class VfsDriver {
  readonly operations: FuseOperations;
  readonly #io = new RecordingIo();
  readonly #writer = new ReplyWriter(this.#io);
  #unique = 1000;

  constructor(options: Partial<VfsOptions> & Pick<VfsOptions, "api" | "root">) {
    this.operations = vfsOperations({
      mountId: 1 as MountId,
      at: LIVE,
      readOnly: false,
      views: () => "off",
      asksOpens: false,
      groupsOf: () => [],
      appends: "any",
      slots: { slotOf: (lsn: Lsn) => lsn as number, lsnOf: (slot) => slot as Lsn },
      moments: { find: () => undefined, snapshotNames: () => [] },
      ...options,
    });
  }

  /** `request` without its header. */
  async ask(
    operation: Exclude<keyof FuseOperations, "forget">,
    node: { readonly ino: number; readonly slot?: number; readonly uid?: number },
    request: object = {},
  ): Promise<Answer> {
    const { ino, slot = 0, uid = 0 } = node;
    this.#unique += 2;
    const header: RequestHeader = {
      opcode: 0,
      unique: this.#unique,
      resent: false,
      slot,
      ino,
      uid,
      gid: uid,
      pid: 0,
    };
    const reply = new Reply(header, { fd: 3, writer: this.#writer, owner: { replied: () => {} } });
    const run = this.operations[operation] as ((request: object, reply: Reply) => void | Promise<void>) | undefined;
    let inTurn = true;
    try {
      if (run === undefined) throw FsError.of("ENOSYS");
      const done = run({ header, ...request }, reply);
      inTurn = !(done instanceof Promise);
      await done;
    } catch (error) {
      if (!(error instanceof FsError)) throw error;
      reply.error(error.errno);
    }
    const bytes = this.#io.messages.pop() ?? Buffer.alloc(16);
    return { errno: 0 - bytes.readInt32LE(4), body: Buffer.from(bytes.subarray(16)), inTurn };
  }

  /** Looks up or makes something; answers its number. */
  async entry(
    operation: "lookup" | "mkdir" | "mknod" | "symlink",
    parent: { readonly ino: number; readonly slot?: number },
    request: object,
  ): Promise<InodeId> {
    const { errno, body } = await this.ask(operation, parent, request);
    if (errno !== 0) throw new Error(`${operation}: errno ${errno}`);
    return nodeOf(body).ino as InodeId;
  }
}

/** The node of an entry. */
export function nodeOf(body: Buffer): { readonly slot: number; readonly ino: number } {
  const node = body.readBigUInt64LE(0);
  return { slot: Number(node >> 40n), ino: Number(node & (2n ** 40n - 1n)) };
}
