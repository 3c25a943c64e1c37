import fs from "node:fs";
import path from "node:path";

/** Makes the names that were just made in a folder, or taken away there, durable. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await fs.promises.open(folder, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/**
 * Writes a file (0600) in place of the one that may be there: after a crash it is the old one or the new one, whole, and the new one when this has resolved. Written beside, synced, renamed over, and the folder
 * synced. `draft`: what it is called until then, if not the name with ".new" behind it; `isNew`: nothing of that name may be there. Errors: those of node:fs.
 */
export async function writeWhole(
  file: string,
  text: string | Uint8Array,
  { draft = `${file}.new`, isNew = false }: { readonly draft?: string; readonly isNew?: boolean } = {},
): Promise<void> {
  const handle = await fs.promises.open(draft, isNew ? "wx" : "w", 0o600);
  try {
    await handle.writeFile(text);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await fs.promises.rename(draft, file);
  await syncFolder(path.dirname(file));
}
