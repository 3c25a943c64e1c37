import { readFileSync, statSync } from "node:fs";
import { TidemarkError } from "../../domain/errors.ts";
import { TOKEN_CHARS_MAX } from "../../domain/token.ts";

/** With space around it. A file of another kind is not read to its end. */
const TOKEN_BYTES_MAX = 2 * TOKEN_CHARS_MAX;

/** Where a token is kept. It is read again whenever it is needed: whoever issues tokens may replace the file at any time (Kubernetes does, before the old one expires). */
export class TokenFile {
  readonly path: string;
  #seen = "";

  constructor(path: string) {
    this.path = path;
  }

  /** The token in its compact form. Throws TidemarkError: NOT_FOUND, PERMISSION_DENIED, INVALID_ARGUMENT. Never says what is in the file. */
  read(): string {
    const text = this.#text();
    const token = text.trim();
    // RFC 7515, 7.1: three parts of base64url. Anything else would only be refused later.
    if (/^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/.test(token)) return token;
    throw new TidemarkError(
      "INVALID_ARGUMENT",
      `there is no token in ${this.path}: expected what \`tidemark token create\` prints`,
    );
  }

  /** Whether the file is another one, or has changed, since this was asked last (true the first time). A file that can't be looked at has not. */
  hasChanged(): boolean {
    try {
      const { dev, ino, size, mtimeNs } = statSync(this.path, { bigint: true });
      const now = `${dev}:${ino}:${size}:${mtimeNs}`;
      if (now === this.#seen) return false;
      this.#seen = now;
      return true;
    } catch {
      return false;
    }
  }

  #text(): string {
    try {
      if (statSync(this.path).size > TOKEN_BYTES_MAX)
        throw new TidemarkError("INVALID_ARGUMENT", `${this.path} is larger than any token`);
      return readFileSync(this.path, "utf8");
    } catch (error) {
      if (error instanceof TidemarkError) throw error;
      const { code } = error as NodeJS.ErrnoException;
      const denied = code === "EACCES" || code === "EPERM";
      const how = denied ? "may not be read" : code === "ENOENT" ? "does not exist" : `can't be read (${code ?? "?"})`;
      throw new TidemarkError(denied ? "PERMISSION_DENIED" : "NOT_FOUND", `the token file ${this.path} ${how}`, {
        cause: error,
      });
    }
  }
}
