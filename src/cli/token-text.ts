import { TidemarkError } from "../domain/errors.ts";
import { TOKEN_CHARS_MAX } from "../domain/token.ts";

/** With space around it. A file of another kind is not read to its end. */
export const TOKEN_BYTES_MAX = 2 * TOKEN_CHARS_MAX;

/** The token in what was read from `where`, in its compact form. Throws INVALID_ARGUMENT; never says what is in there. */
export function tokenIn(content: string, where: string): string {
  const token = content.trim();
  if (token === "") throw new TidemarkError("INVALID_ARGUMENT", `there is no token in ${where}: it is empty`);
  // RFC 7515, 7.1: three parts of base64url. Anything else would only be refused later.
  if (token.length <= TOKEN_CHARS_MAX && /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/.test(token)) return token;
  throw new TidemarkError(
    "INVALID_ARGUMENT",
    `what is in ${where} is no token: expected one line, as "tidemark token create" prints it`,
  );
}

/** A file that is too large to be one. */
export function tooLargeForToken(path: string, bytes: number): TidemarkError {
  return new TidemarkError("INVALID_ARGUMENT", `${path} is no token: it has ${bytes} bytes`);
}

/** Why a token's file could not be read: NOT_FOUND, PERMISSION_DENIED, INVALID_ARGUMENT. */
export function tokenUnreadable(path: string, cause: unknown): TidemarkError {
  const { code } = cause as NodeJS.ErrnoException;
  if (code === "ENOENT") return new TidemarkError("NOT_FOUND", `there is no file ${path} with a token`, { cause });
  if (code === "EACCES" || code === "EPERM")
    return new TidemarkError("PERMISSION_DENIED", `you may not read the token in ${path}`, { cause });
  return new TidemarkError("INVALID_ARGUMENT", `${path} can't be read as a token (${code ?? "unknown"})`, { cause });
}
