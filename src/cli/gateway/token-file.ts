import { readFileSync, statSync } from "node:fs";
import { TidemarkError } from "../../domain/errors.ts";
import { TOKEN_BYTES_MAX, tokenIn, tokenUnreadable, tooLargeForToken } from "../token-text.ts";

/** Where a token is kept. It is read again whenever it is needed: whoever issues tokens may replace the file at any time (Kubernetes does, before the old one expires). */
export class TokenFile {
  readonly path: string;
  #seen = "";

  constructor(path: string) {
    this.path = path;
  }

  /** The token in its compact form. Throws TidemarkError: NOT_FOUND, PERMISSION_DENIED, INVALID_ARGUMENT. Never says what is in the file. */
  read(): string {
    return tokenIn(this.#text(), this.path);
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
      const { size } = statSync(this.path);
      if (size > TOKEN_BYTES_MAX) throw tooLargeForToken(this.path, size);
      return readFileSync(this.path, "utf8");
    } catch (error) {
      throw error instanceof TidemarkError ? error : tokenUnreadable(this.path, error);
    }
  }
}
