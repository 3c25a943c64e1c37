/** Something that could not be restored. */
export type Shortfall = {
  /** Relative to the target; empty for that itself. */
  readonly path: Buffer;
  readonly part: "file" | "content" | "owner" | "mode" | "xattr" | "times";
  readonly reason: string;
};

/** So many are listed one by one; the rest is counted: a person reads no more, and memory is bounded. */
const LISTED_MAX = 1000;

/** The first of them, and how many there are. */
export type ShortfallList = { readonly listed: readonly Shortfall[]; readonly count: number };

/** Collects what could not be restored. */
export class Shortfalls implements ShortfallList {
  readonly listed: Shortfall[] = [];
  #count = 0;

  get count(): number {
    return this.#count;
  }

  add(shortfall: Shortfall): void {
    this.#count += 1;
    if (this.listed.length < LISTED_MAX) this.listed.push(shortfall);
  }

  /** Does `work`; its failure is a shortfall of `path`. Answers whether it went well. */
  attempt(path: Buffer, part: Shortfall["part"], work: () => void): boolean {
    try {
      work();
      return true;
    } catch (error) {
      this.add({ path, part, reason: reasonOf(error) });
      return false;
    }
  }
}

/** The words of a system error without the path, which the list has. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.message.replace(/, [a-z]+ '.*$/s, "");
}
