import type { Pages } from "../../domain/admin-call.ts";
import type { ExportItem } from "../../domain/admin-reading.ts";
import { TidemarkError } from "../../domain/errors.ts";
import { isDirectory } from "../../domain/inode.ts";

type Entry = Extract<ExportItem, { readonly kind: "entry" }>;

const SLASH = 0x2f;

/**
 * A tree that is only what `ExportItem` promises, whoever sends it: each name is below a directory of the tree that came before it, and a further name is one of a file of the tree. So what
 * is made of it stays in its place, and nothing is written through a link of it. Throws DATA_DAMAGED for anything else.
 */
export async function* checkedTree(pages: Pages<ExportItem>): Pages<ExportItem> {
  const check = new TreeCheck();
  for await (const page of pages) {
    for (const item of page) if (item.kind === "entry") check.entry(item);
    yield page;
  }
}

class TreeCheck {
  /** Directories that are open: each is in the one before. */
  readonly #open: string[] = [];
  /** Files of which more names may come. */
  readonly #linked = new Set<string>();
  #isFirst = true;

  entry({ path, attributes, linkedTo }: Entry): void {
    const { mode, nlink } = attributes;
    const text = path.toString("latin1");
    if (this.#isFirst ? path.length > 0 : !this.#isInside(path, text)) throw foreign(path);
    if (linkedTo !== undefined && !this.#linked.has(linkedTo.toString("latin1"))) throw foreign(linkedTo);
    this.#isFirst = false;
    if (isDirectory(mode)) this.#open.push(text);
    else if (nlink > 1) this.#linked.add(text);
  }

  #isInside(path: Buffer, text: string): boolean {
    const end = path.lastIndexOf(SLASH);
    const parent = end < 0 ? "" : text.slice(0, end);
    const name = text.slice(end + 1);
    if (name === "" || name === "." || name === ".." || name.includes("\0")) return false;
    while (this.#open.length > 0 && this.#open.at(-1) !== parent) this.#open.pop();
    return this.#open.length > 0;
  }
}

function foreign(path: Buffer): TidemarkError {
  const message = `the service sent a name that is not in the tree that was asked for (${JSON.stringify(path.toString())}): nothing more is written`;
  return new TidemarkError("DATA_DAMAGED", message);
}
