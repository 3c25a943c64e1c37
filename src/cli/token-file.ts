import { open } from "node:fs/promises";
import { text } from "node:stream/consumers";
import { TidemarkError } from "../domain/errors.ts";
import { TOKEN_CHARS_MAX } from "../domain/token.ts";
import type { Session } from "./session.ts";

/** Others than its owner may read it. */
const READABLE_BY_OTHERS = 0o044;

/** The token in a file, or with "-" in standard input. Says so when others may read the file. Throws NOT_FOUND, PERMISSION_DENIED, INVALID_ARGUMENT; never says what is in it. */
export async function readTokenFile(session: Session, name: string): Promise<string> {
  const content =
    name === "-" ? await text(session.environment.stdin) : await readOwn(session, session.machinePath(name));
  const token = content.trim();
  if (token === "") throw new TidemarkError("INVALID_ARGUMENT", `there is no token in ${shown(name)}: it is empty`);
  if (token.length > TOKEN_CHARS_MAX || /\s/.test(token))
    throw new TidemarkError(
      "INVALID_ARGUMENT",
      `what is in ${shown(name)} is no token: expected one line, as "token create" prints it`,
    );
  return token;
}

async function readOwn(session: Session, path: string): Promise<string> {
  const file = await open(path, "r").catch((error: unknown) => {
    throw unreadable(path, error);
  });
  try {
    const stats = await file.stat();
    if (stats.isDirectory())
      throw new TidemarkError("INVALID_ARGUMENT", `${path} is a directory: expected a file with a token`);
    const { mode, size } = stats;
    if ((mode & READABLE_BY_OTHERS) !== 0)
      session.output.note(`note: others on this machine can read the token in ${path}: chmod 600 ${path}`);
    // A pipe has no size.
    if (size > 2 * TOKEN_CHARS_MAX)
      throw new TidemarkError("INVALID_ARGUMENT", `${path} is no token: it has ${size} bytes`);
    return await file.readFile("utf8");
  } finally {
    await file.close();
  }
}

function unreadable(path: string, cause: unknown): TidemarkError {
  const { code } = cause as NodeJS.ErrnoException;
  if (code === "ENOENT") return new TidemarkError("NOT_FOUND", `there is no file ${path} with a token`, { cause });
  if (code === "EACCES" || code === "EPERM")
    return new TidemarkError("PERMISSION_DENIED", `you may not read the token in ${path}`, { cause });
  return new TidemarkError("INVALID_ARGUMENT", `${path} can't be read as a token (${code ?? "unknown"})`, { cause });
}

function shown(name: string): string {
  return name === "-" ? "standard input" : name;
}
