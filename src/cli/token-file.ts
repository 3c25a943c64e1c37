import { open } from "node:fs/promises";
import { text } from "node:stream/consumers";
import { TidemarkError } from "../domain/errors.ts";
import type { Session } from "./session.ts";
import { TOKEN_BYTES_MAX, tokenIn, tokenUnreadable, tooLargeForToken } from "./token-text.ts";

/** Others than its owner may read it. */
const READABLE_BY_OTHERS = 0o044;

/** The token in a file, or with "-" in standard input. Says so when others may read the file. Throws NOT_FOUND, PERMISSION_DENIED, INVALID_ARGUMENT; never says what is in it. */
export async function readTokenFile(session: Session, name: string): Promise<string> {
  if (name === "-") return tokenIn(await text(session.environment.stdin), "standard input");
  return tokenIn(await readOwn(session, session.machinePath(name)), name);
}

async function readOwn(session: Session, path: string): Promise<string> {
  const file = await open(path, "r").catch((error: unknown) => {
    throw tokenUnreadable(path, error);
  });
  try {
    const stats = await file.stat();
    if (stats.isDirectory())
      throw new TidemarkError("INVALID_ARGUMENT", `${path} is a directory: expected a file with a token`);
    const { mode, size } = stats;
    if ((mode & READABLE_BY_OTHERS) !== 0)
      session.output.note(`note: others on this machine can read the token in ${path}: chmod 600 ${path}`);
    // A pipe has no size.
    if (size > TOKEN_BYTES_MAX) throw tooLargeForToken(path, size);
    return await file.readFile("utf8");
  } finally {
    await file.close();
  }
}
