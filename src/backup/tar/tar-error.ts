import { textFromBytes } from "../../domain/byte-text.ts";

/**
 * An archive that can't be read further, or must not be. TAR_DAMAGED: bytes that no tar has, or too few of them. TAR_REFUSED: a name that leads out of the place
 * it is unpacked to. TAR_UNSUPPORTED: a kind of archive or member that we can't read. The message names the member.
 */
export class TarError extends Error {
  override name = "TarError";
  readonly code: "TAR_DAMAGED" | "TAR_REFUSED" | "TAR_UNSUPPORTED";

  constructor(code: TarError["code"], message: string) {
    super(message);
    this.code = code;
  }
}

/** A member's name for a message: its beginning, when somebody made it absurdly long. */
export function shownName(name: Buffer): string {
  const text = textFromBytes(name.subarray(0, SHOWN_BYTES_MAX));
  return `"${text}${name.length > SHOWN_BYTES_MAX ? "..." : ""}"`;
}

const SHOWN_BYTES_MAX = 300;
