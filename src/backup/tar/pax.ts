import type { Timestamp } from "../../base/clock.ts";

/**
 * Records of a pax extended header (POSIX.1-2017 pax, "pax Extended Header"): "LENGTH KEY=VALUE\n", LENGTH in decimal digits and counting itself. Keys and values are
 * bytes: names of files and values of extended attributes need not be text. Keys are held as latin1 strings, a character a byte.
 */
export type PaxRecord = { readonly key: string; readonly value: Buffer };

/** One record. */
export function encodePaxRecord(key: string, value: Buffer | string): Buffer {
  const bytes = typeof value === "string" ? Buffer.from(value, "latin1") : value;
  const rest = 1 + key.length + 1 + bytes.length + 1;
  let digits = String(rest).length;
  // The digits of the length are part of the length: at most one more round is needed.
  while (String(rest + digits).length > digits) digits += 1;
  return Buffer.concat([Buffer.from(`${rest + digits} ${key}=`, "latin1"), bytes, NEWLINE]);
}

/** The records of a header in their order. Answers undefined when it is damaged. */
export function decodePaxRecords(header: Buffer): PaxRecord[] | undefined {
  const records: PaxRecord[] = [];
  let at = 0;
  while (at < header.length) {
    // Some writers fill the last block with zeros and count them.
    if (header[at] === 0) return records;
    const space = header.indexOf(0x20, at);
    if (space === -1 || space - at > LENGTH_DIGITS_MAX) return undefined;
    const digits = header.toString("latin1", at, space);
    const end = at + Number(digits);
    const equals = header.indexOf(0x3d, space + 1);
    const whole = /^[1-9]\d*$/.test(digits) && end <= header.length && equals > space + 1 && equals < end;
    if (!whole || header[end - 1] !== 0x0a) return undefined;
    records.push({ key: header.toString("latin1", space + 1, equals), value: header.subarray(equals + 1, end - 1) });
    at = end;
  }
  return records;
}

/** Seconds with a fraction, exactly. Before 1970 it is negative as a whole: a quarter second before is "-0.25". */
export function encodePaxTime({ sec, nsec }: Timestamp): string {
  const below = sec < 0 && nsec > 0;
  const fraction = String(below ? 1_000_000_000 - nsec : nsec).padStart(9, "0");
  const whole = below ? sec + 1 : sec;
  const sign = below && whole === 0 ? "-" : "";
  return nsec === 0 ? String(sec) : `${sign}${whole}.${fraction.replace(/0+$/, "")}`;
}

/** Answers undefined for what is no time. Digits below the nanosecond are cut off, towards the past. */
export function decodePaxTime(text: string): Timestamp | undefined {
  const match = /^(-?)(\d{1,15})(?:\.(\d{0,40}))?$/.exec(text);
  if (match === null) return undefined;
  const [, sign, whole = "", digits = ""] = match;
  const sec = Number(whole);
  const nsec = Number(digits.slice(0, 9).padEnd(9, "0"));
  if (sign === "") return { sec, nsec };
  const cut = /[1-9]/.test(digits.slice(9)) ? 1 : 0;
  const below = nsec + cut;
  if (below === 0) return { sec: sec === 0 ? 0 : -sec, nsec: 0 };
  return { sec: -sec - 1, nsec: 1_000_000_000 - below };
}

/** More digits than any length that fits into a header has. */
const LENGTH_DIGITS_MAX = 12;

const NEWLINE = Buffer.from("\n");
