import { textFromBytes } from "../../domain/byte-text.ts";
import { formatUtcTime } from "../../domain/moment.ts";

/** The JSON of a value: bytes in their written form (`\xHH`), times in ISO 8601 UTC with nanoseconds, 64-bit integers exactly, as JSON integers. */
export function toJson(value: unknown): string {
  return JSON.stringify(plain(value));
}

/** Node.js 24 has the proposal JSON.parse source text access; TypeScript's library does not know it yet. */
const json = JSON as unknown as { rawJSON(text: string): unknown };

function plain(value: unknown): unknown {
  if (typeof value === "bigint") return json.rawJSON(value.toString());
  if (value instanceof Uint8Array) return textFromBytes(value);
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null) return value;
  if (isTimestamp(value)) return formatUtcTime(value);
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, plain(item)]));
}

function isTimestamp(value: object): value is { sec: number; nsec: number } {
  return "sec" in value && "nsec" in value && Object.keys(value).length === 2;
}
