import { accessSync, constants } from "node:fs";

/** Why mounts cannot be tested here; undefined when they can. In CI nothing is skipped: the tests then fail with what is missing. */
export function mountsUnavailable(): string | undefined {
  if (process.env.CI !== undefined) return undefined;
  if (process.geteuid?.() !== 0) return "mount tests need root";
  try {
    accessSync("/dev/fuse", constants.R_OK | constants.W_OK);
  } catch {
    return "mount tests need /dev/fuse";
  }
  return undefined;
}

/** `skip` for describe.skipIf, with the reason printed. */
export function skipMountTests(): boolean {
  const reason = mountsUnavailable();
  if (reason !== undefined) console.log(`skipped: ${reason}`);
  return reason !== undefined;
}
