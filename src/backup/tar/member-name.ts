import { shownName, TarError } from "./tar-error.ts";

/**
 * Directories in one name. The writer holds a descriptor for each, of which a process may have 1,024 at the least on usual systems and 524,288 on newer ones; a path that a program can name at once has at most 2,048.
 */
export const DEPTH_MAX = 2048;

/**
 * The path that a member's name means below the target: without "." and doubled or trailing slashes, empty for the target itself. TAR_REFUSED for a name that leads out: absolute, or with "..". `what`
 * begins the message.
 */
export function memberPath(name: Buffer, what: string): Buffer {
  const refuse = (why: string): never => {
    throw new TarError("TAR_REFUSED", `${what} ${shownName(name)} ${why}`);
  };
  if (name.length === 0) return refuse("is empty");
  if (name[0] === 0x2f)
    return refuse("is absolute: an archive may only name what lies below the place it is unpacked to");
  if (name.includes(0)) return refuse("has a NUL byte");
  const names: Buffer[] = [];
  for (let at = 0; at <= name.length; ) {
    const slash = name.indexOf(0x2f, at);
    const end = slash === -1 ? name.length : slash;
    const part = name.subarray(at, end);
    at = end + 1;
    if (part.length === 0 || part.equals(DOT)) continue;
    if (part.equals(DOT_DOT))
      return refuse('leads out with "..": an archive may only name what lies below the place it is unpacked to');
    if (names.length === DEPTH_MAX) return refuse(`is deeper than ${DEPTH_MAX} directories`);
    names.push(part);
  }
  return Buffer.concat(names.flatMap((part, index) => (index === 0 ? [part] : [SLASH, part])));
}

const DOT = Buffer.from(".");
const DOT_DOT = Buffer.from("..");
const SLASH = Buffer.from("/");
