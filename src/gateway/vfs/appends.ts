import type { InodeId } from "../../domain/ids.ts";

/** Inodes remembered as changed elsewhere: the oldest is forgotten, and an append to it may then land where the kernel thinks the end is. */
const CHANGED_MAX = 65_536;

/**
 * Where appending writes go. The kernel puts them at the size it knows, under its own lock, so on one mount nothing is ever lost; but a change through
 * another mount (or a restore) makes that size stale, and the kernel asks for a new one only when it reads. So for a file that was changed elsewhere the
 * engine decides where the end is, as O_APPEND promises. Only for those: pwritev2(2) with RWF_NOAPPEND can't be told from an append.
 */
export class Appends {
  readonly #changed = new Set<InodeId>();
  /** A process before this one served the mount: what it knew is lost, any file may have been changed elsewhere. */
  readonly #anyChanged: boolean;

  constructor(options: { readonly resumed: boolean }) {
    this.#anyChanged = options.resumed;
  }

  /** The size or content of a file was changed, not through this mount. */
  changedElsewhere(ino: InodeId): void {
    if (this.#changed.has(ino)) return;
    this.#changed.add(ino);
    const oldest = this.#changed.values().next();
    if (this.#changed.size > CHANGED_MAX && oldest.done === false) this.#changed.delete(oldest.value);
  }

  /** Whether the kernel's idea of the file's end may be wrong. */
  isDoubtful(ino: InodeId): boolean {
    return this.#anyChanged || this.#changed.has(ino);
  }
}
