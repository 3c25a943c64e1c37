import type { InodeId } from "../../domain/ids.ts";
import type { Request } from "../../domain/metadata-api.ts";

/** The inodes whose locks the kernel holds while it waits for the answer to `request`, so that it can't drop names in them, or pages of theirs. Those of reading are given back soon, whatever happens. */
export function lockedBy(request: Request): readonly InodeId[] {
  switch (request.op) {
    case "create":
    case "mknod":
    case "mkdir":
    case "symlink":
    case "tmpfile":
    case "unlink":
    case "rmdir":
      return [request.parent];
    case "link":
      return [request.parent, request.ino];
    case "rename":
      return [request.parent, request.newParent];
    case "write":
    case "setattr":
    case "fallocate":
    case "setxattr":
    case "removexattr":
      return [request.ino];
    case "copyRange":
      return [request.target];
    default:
      return [];
  }
}

/** Which inodes the calls of one mount that are not answered yet are about to change. At most as many as its connection has requests waiting. */
export class CallsInFlight {
  readonly #counts = new Map<InodeId, number>();
  readonly #watchers = new Map<InodeId, Set<() => void>>();

  isChanging(ino: InodeId): boolean {
    return this.#counts.size > 0 && this.#counts.has(ino);
  }

  /** A call that changes `inodes` waits, until `answer` is there. */
  add(inodes: readonly InodeId[], answer: Promise<unknown>): void {
    for (const ino of inodes) {
      this.#counts.set(ino, (this.#counts.get(ino) ?? 0) + 1);
      for (const watcher of this.#watchers.get(ino) ?? []) watcher();
    }
    const done = (): void => {
      for (const ino of inodes) {
        const count = (this.#counts.get(ino) ?? 1) - 1;
        if (count > 0) this.#counts.set(ino, count);
        else this.#counts.delete(ino);
      }
    };
    answer.then(done, done);
  }

  /** Resolves when `done` is, or as soon as a call waits that changes the inode. Never rejects, if `done` does not. */
  async changingOr(ino: InodeId, done: Promise<void>): Promise<void> {
    if (this.isChanging(ino)) return;
    const watchers = this.#watchers.get(ino) ?? new Set();
    this.#watchers.set(ino, watchers);
    const { promise, resolve } = Promise.withResolvers<void>();
    watchers.add(resolve);
    await Promise.race([done, promise]);
    watchers.delete(resolve);
    if (watchers.size === 0 && this.#watchers.get(ino) === watchers) this.#watchers.delete(ino);
  }
}
