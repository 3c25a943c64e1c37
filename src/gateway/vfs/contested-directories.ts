import type { Clock } from "../../base/clock.ts";
import type { InodeId } from "../../domain/ids.ts";
import { RENAME_EXCHANGE, type Request } from "../../domain/metadata-api.ts";
import { lockedBy } from "./calls-in-flight.ts";

/** How long after the last change made elsewhere a directory counts as changed by others. */
const CONTESTED_MS = 60_000;

/** Directories changed elsewhere that are remembered, and contested ones: the one with the oldest news is forgotten. Its names are dropped one by one then, as anywhere. */
const DIRECTORIES_MAX = 4096;

/** Names of one contested directory that are known to be asked for each time: 100 bytes each. The others are dropped one by one. */
const NAMES_MAX = 65_536;

/**
 * Directories that are changed through this mount and through others at the same time. To drop a name there means to wait for the lock of the directory, which applications hold all the time, some
 * of them while they wait for others who do the same. So names of such a directory are not kept by the kernel at all: it asks for each at each use, and nothing needs to be dropped. What it was told
 * before still has to be; once that is done, or the name was asked for again, the name is "fresh".
 */
export class ContestedDirectories {
  readonly #clock: Clock;
  /** When others changed a directory last, oldest first. */
  readonly #elsewhere = new Map<InodeId, number>();
  /** The contested ones, with their fresh names. */
  readonly #fresh = new Map<InodeId, Set<string>>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The directory was changed elsewhere; `isOurs`: somebody on this mount is changing it, too. */
  changedElsewhere(directory: InodeId, { isOurs }: { readonly isOurs: boolean }): void {
    this.#elsewhere.delete(directory);
    this.#elsewhere.set(directory, this.#clock.monotonicMs());
    if (isOurs) this.#contest(directory);
    for (const oldest of this.#elsewhere.keys()) {
      if (this.#elsewhere.size <= DIRECTORIES_MAX) break;
      this.#forget(oldest);
    }
  }

  /** Somebody on this mount changes something. To be called before the answer. */
  changedHere(request: Request): void {
    if (this.#elsewhere.size === 0) return;
    for (const ino of lockedBy(request)) {
      const atMs = this.#elsewhere.get(ino);
      if (atMs === undefined) continue;
      if (this.#clock.monotonicMs() - atMs > CONTESTED_MS) this.#forget(ino);
      else this.#contest(ino);
    }
    if (request.op === "rename" && this.#fresh.size > 0) this.#renamed(request);
  }

  /** Whether the kernel may keep names that it is being told of now. If not, it must not: `name`, if it is the one, is fresh from now on. */
  mayKeep(directory: InodeId, name?: Buffer): boolean {
    if (this.#fresh.size === 0) return true;
    const fresh = this.#fresh.get(directory);
    if (fresh === undefined) return true;
    if (name !== undefined && fresh.size < NAMES_MAX) fresh.add(keyOf(name));
    return false;
  }

  /** Whether the kernel asks for the name before it uses it, whatever it was told. */
  isFresh(directory: InodeId, name: Buffer): boolean {
    return this.#fresh.size > 0 && this.#fresh.get(directory)?.has(keyOf(name)) === true;
  }

  /** The kernel has dropped the name. */
  dropped(directory: InodeId, name: Buffer): void {
    const fresh = this.#fresh.get(directory);
    if (fresh !== undefined && fresh.size < NAMES_MAX) fresh.add(keyOf(name));
  }

  #contest(directory: InodeId): void {
    if (!this.#fresh.has(directory)) this.#fresh.set(directory, new Set());
  }

  #forget(directory: InodeId): void {
    this.#elsewhere.delete(directory);
    this.#fresh.delete(directory);
  }

  /** The kernel moves what it knows of the old name to the new one. */
  #renamed({ parent, name, newParent, newName, flags }: Request & { readonly op: "rename" }): void {
    const [from, to] = [this.#fresh.get(parent), this.#fresh.get(newParent)];
    const [old, next] = [keyOf(name), keyOf(newName)];
    const [wasFresh, nextWasFresh] = [from?.has(old) === true, to?.has(next) === true];
    if (!wasFresh) to?.delete(next);
    if ((flags & RENAME_EXCHANGE) !== 0 && !nextWasFresh) from?.delete(old);
  }
}

function keyOf(name: Buffer): string {
  return name.toString("latin1");
}
