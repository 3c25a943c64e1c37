import fs from "node:fs";
import path from "node:path";
import { syncFolder } from "../base/durable-file.ts";

/**
 * Makes a journal's folder if it is missing, durably. Each new name is made durable before anything in it is. A crash may have come between making and that, so the three levels that
 * the layout has below the data folder (apps, app id, journal) are synced every time.
 */
export async function makeJournalFolder(folder: string): Promise<void> {
  await fs.promises.mkdir(folder, { recursive: true, mode: 0o700 });
  let parent = path.dirname(folder);
  for (let level = 0; level < 3; level += 1, parent = path.dirname(parent)) await syncFolder(parent);
}
