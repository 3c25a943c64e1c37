import { FsError } from "../../src/domain/errors.ts";
import type { InodeId } from "../../src/domain/ids.ts";
import type { FileLock } from "../../src/domain/metadata-api.ts";
import type { Share, Who } from "./metadata-share.ts";

export const END = 2n ** 63n - 1n;

/** Whose lock, and how it is asked for. */
export type Asker = Who & { readonly owner?: bigint; readonly flock?: boolean; readonly signal?: AbortSignal };

export type Range = readonly [start: bigint, end: bigint];

/** Locks of one file, in short words. */
export class Locking {
  readonly share: Share;
  readonly ino: InodeId;

  constructor(share: Share, ino: InodeId) {
    this.share = share;
    this.ino = ino;
  }

  static async on(share: Share, name = "file"): Promise<Locking> {
    return new Locking(share, (await share.create(name)).ino);
  }

  /** Asks and answers "success" or the code of the refusal. */
  ask(type: FileLock["type"], [start, end]: Range, who: Asker = {}, wait = false): Promise<string> {
    const { owner = 1n, flock = false } = who;
    const request = { op: "setlk", ino: this.ino, owner, flock, lock: { start, end, type, pid: 100 }, wait } as const;
    const context = {
      ...this.share.context(who),
      ...(who.signal === undefined ? {} : { signal: who.signal }),
    };
    try {
      return Promise.resolve(this.share.harness.api.execute(request, context)).then(() => "success", codeOf);
    } catch (error) {
      return Promise.resolve(codeOf(error));
    }
  }

  read = (range: Range, who?: Asker): Promise<string> => this.ask("read", range, who);
  write = (range: Range, who?: Asker): Promise<string> => this.ask("write", range, who);
  unlock = (range: Range, who?: Asker): Promise<string> => this.ask("unlock", range, who);

  /** Asks and waits. */
  wait(type: "read" | "write", range: Range, who?: Asker): Waiting {
    return new Waiting(this.share, this.ask(type, range, who, true));
  }

  /** What somebody without locks sees in his way: "r0-9 w20-end". */
  async held(flock = false): Promise<string> {
    const seen: string[] = [];
    for (let start = 0n; start <= END; ) {
      const lock: FileLock = { start, end: END, type: "write", pid: 1 };
      const found = await this.share.do({ op: "getlk", ino: this.ino, owner: 999n, flock, lock });
      if (found === undefined) break;
      seen.push(`${found.type[0]}${found.start}-${found.end === END ? "end" : found.end}`);
      start = found.end + 1n;
    }
    return seen.join(" ");
  }
}

/** A request that may have to wait. */
export class Waiting {
  readonly #share: Share;
  readonly #result: Promise<string>;
  #state = "waiting";

  constructor(share: Share, result: Promise<string>) {
    this.#share = share;
    this.#result = result;
    void result.then((text) => {
      this.#state = text;
    });
  }

  /** What has become of it, once requests sent later are answered. */
  async state(): Promise<string> {
    await this.#share.stat(this.#share.root);
    return this.#state;
  }

  get result(): Promise<string> {
    return this.#result;
  }
}

function codeOf(error: unknown): string {
  if (error instanceof FsError) return error.code;
  throw error;
}

export const WHOLE: Range = [0n, END];
export const [B, C, D] = [{ owner: 2n }, { owner: 3n }, { owner: 4n }] as const;
