import { fstatSync } from "node:fs";
import type { Session } from "../session.ts";

/** Says so when a secret went to a file that others may read: a shell's `> file` makes files for everybody. */
export function noteReadable(session: Session): void {
  const { fd } = session.environment.stdout as { readonly fd?: unknown };
  if (typeof fd !== "number") return;
  const stat = fstatSync(fd);
  if (stat.isFile() && (stat.mode & 0o044) !== 0)
    session.output.note("note: others on this machine can read the file: chmod 600 it, or set umask 077 before");
}
