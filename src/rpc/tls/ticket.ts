import { createHash } from "node:crypto";
import { TidemarkError } from "../../domain/errors.ts";
import { parseNetworkAddress } from "./network-address.ts";

/**
 * A ticket is one line: `tidemark-join-1.BODY.CHECK`. BODY is base64url of UTF-8 JSON with the fields below, CHECK the first 8 hex digits of SHA-256 of what stands before the second dot: a line that was cut or mistyped is seen
 * before anybody is asked.
 */
export type Ticket = {
  /** Of the node that joins with it. */
  readonly name: string;
  /** Where the service is reached, the likeliest first. */
  readonly addresses: readonly string[];
  /** PEM: whose certificate the service must show. */
  readonly authority: string;
  /** PEM: what is exchanged for the node's own. */
  readonly certificate: string;
  /** PEM, its key. */
  readonly key: string;
};

const FORMAT = "tidemark-join";
const VERSION = "1";

/** Three small PEM texts and some addresses; a file that is longer is something else. */
export const TICKET_CHARS_MAX = 32_768;

/** Addresses of one service. */
const ADDRESSES_MAX = 64;

/** The line of a ticket. */
export function formatTicket(ticket: Ticket): string {
  const head = `${FORMAT}-${VERSION}.${Buffer.from(JSON.stringify(ticket)).toString("base64url")}`;
  return `${head}.${checkOf(head)}`;
}

/** Whether a text begins as a ticket does. */
export function looksLikeTicket(text: string): boolean {
  return text.trimStart().startsWith(`${FORMAT}-`);
}

/** Reads a ticket. `from` is where it was, for messages: what is in it is never shown. Throws INVALID_ARGUMENT; UNSUPPORTED for one of a newer version. */
export function parseTicket(from: string, text: string): Ticket {
  const line = text.trim();
  const match = /^tidemark-join-(\d{1,4})\.([A-Za-z0-9_-]+)\.([0-9a-f]{8})$/.exec(line);
  if (line.length > TICKET_CHARS_MAX || match === null)
    throw invalid(from, "it is no ticket: expected the line that `tidemark node invite` printed, whole");
  const [, version, body = "", check] = match;
  if (checkOf(line.slice(0, line.lastIndexOf("."))) !== check) throw invalid(from, "it is not whole, or was changed");
  if (version !== VERSION) {
    const message = `the ticket in ${from} is of version ${version}, this program knows ${VERSION}: use the version of Tidemark that the service has`;
    throw new TidemarkError("UNSUPPORTED", message);
  }
  return fromJson(from, Buffer.from(body, "base64url").toString("utf8"));
}

function fromJson(from: string, text: string): Ticket {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw invalid(from, "it is damaged", cause);
  }
  if (typeof value !== "object" || value === null) throw invalid(from, "it is damaged");
  const { name, addresses, authority, certificate, key } = value as Partial<Record<keyof Ticket, unknown>>;
  const texts = [name, authority, certificate, key];
  if (!texts.every((each) => typeof each === "string")) throw invalid(from, "it is damaged");
  if (!Array.isArray(addresses) || addresses.length > ADDRESSES_MAX) throw invalid(from, "it is damaged");
  for (const each of addresses) {
    if (typeof each !== "string") throw invalid(from, "it is damaged");
    parseNetworkAddress("the ticket's address", each);
  }
  return { name, addresses, authority, certificate, key } as Ticket;
}

function checkOf(head: string): string {
  return createHash("sha256").update(head).digest("hex").slice(0, 8);
}

function invalid(from: string, reason: string, cause?: unknown): TidemarkError {
  return new TidemarkError("INVALID_ARGUMENT", `the ticket in ${from} can't be used: ${reason}`, { cause });
}
