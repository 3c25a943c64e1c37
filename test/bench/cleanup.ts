/** What has to be undone at the end of a run, however it ends. */
import { chmodSync, mkdirSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { run } from "./command.ts";
import { isMounted, mounts } from "./process-info.ts";

/** A stack of undo steps. `runAll` runs each once, last first; a failing step is reported and the others still run. */
export class Cleanups {
  #steps: { what: string; undo: () => Promise<void> }[] = [];

  add(what: string, undo: () => Promise<void>): void {
    this.#steps.push({ what, undo });
  }

  async runAll(): Promise<void> {
    for (let step = this.#steps.pop(); step !== undefined; step = this.#steps.pop()) {
      try {
        await step.undo();
      } catch (error) {
        process.stderr.write(`bench: could not clean up ${step.what}: ${String(error)}\n`);
      }
    }
  }
}

/** Makes a scratch folder below `parent` that goes with the run, with whatever is still mounted in it. */
export function makeScratch(cleanups: Cleanups, parent: string = tmpdir()): string {
  const dir = mkdtempSync(join(parent, "tidemark-bench-"));
  // PostgreSQL runs as a user of its own and has to pass through.
  chmodSync(dir, 0o755);
  cleanups.add(dir, async () => {
    const below = mounts().filter((mount) => mount.mountpoint.startsWith(`${dir}/`));
    for (const mount of below.reverse()) await unmount(mount.mountpoint);
    await run("rm", ["-rf", "--one-file-system", dir], { cleanup: true });
  });
  return dir;
}

/**
 * Makes a folder whose subfolders ext4 spreads over its block groups, each as far as possible from the others. Without
 * it, a create after a large delete is up to 40 times slower for minutes: ext4 looks at every inode freed lately in the
 * group before it takes one (recently_deleted in fs/ext4/ialloc.c), and the yardsticks would depend on the row before.
 */
export async function makeSpreadDir(dir: string): Promise<void> {
  mkdirSync(dir, { recursive: true });
  // Only ext4 has the attribute; elsewhere there is nothing to do.
  await run("chattr", ["+T", dir]).catch(() => undefined);
}

/** Unmounts if mounted; lazily when something still uses it, so that a run never leaves a mount behind. */
export async function unmount(mountpoint: string): Promise<void> {
  if (!isMounted(mountpoint)) return;
  try {
    await run("umount", [mountpoint], { cleanup: true });
  } catch {
    await run("umount", ["-l", mountpoint], { cleanup: true });
  }
}
