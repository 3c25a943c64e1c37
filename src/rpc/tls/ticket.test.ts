import { createHash } from "node:crypto";
import { expect, test } from "vitest";
import { formatTicket, looksLikeTicket, parseTicket, type Ticket } from "./ticket.ts";

const TICKET: Ticket = {
  name: "web1",
  addresses: ["10.0.0.1:7400", "[fd00::1]:7400"],
  authority: "-----BEGIN CERTIFICATE-----\nA\n",
  certificate: "-----BEGIN CERTIFICATE-----\nB\n",
  key: "-----BEGIN PRIVATE KEY-----\nC\n",
};

test("a ticket is one line and comes back as it was, whatever white space is around it", () => {
  const line = formatTicket(TICKET);
  expect(line).not.toMatch(/\s/);
  expect(looksLikeTicket(`\n ${line}`)).toBe(true);
  expect(parseTicket("t", `  ${line}\n`)).toEqual(TICKET);
});

test("any single character that was changed, lost or added is seen", () => {
  const line = formatTicket(TICKET);
  for (let at = 0; at < line.length; at += 7) {
    const other = line[at] === "A" ? "B" : "A";
    for (const bad of [line.slice(0, at) + other + line.slice(at + 1), line.slice(0, at) + line.slice(at + 1)]) {
      expect(() => parseTicket("the file t", bad)).toThrow(/the ticket in the file t|is of version/);
    }
  }
  expect(() => parseTicket("t", line.slice(0, 100))).toThrow("whole");
});

test("what is in a ticket is in no message", () => {
  const broken = `${formatTicket(TICKET).slice(0, -8)}00000000`;
  try {
    parseTicket("t", broken);
    expect.unreachable();
  } catch (error) {
    expect(String(error)).not.toContain(broken.slice(20, 40));
  }
});

test("a ticket of a newer version is refused by name", () => {
  const head = `tidemark-join-2.${Buffer.from("{}").toString("base64url")}`;
  expect(() => parseTicket("t", withCheck(head))).toThrow("the ticket in t is of version 2, this program knows 1");
});

test.each([
  ["no JSON", "{"],
  ["no object", "3"],
  ["a field less", JSON.stringify({ ...TICKET, key: undefined })],
  ["a field of another type", JSON.stringify({ ...TICKET, name: 3 })],
  ["an address that is none", JSON.stringify({ ...TICKET, addresses: ["nowhere"] })],
  ["too many addresses", JSON.stringify({ ...TICKET, addresses: Array(65).fill("a:1") })],
  ["addresses that are no list", JSON.stringify({ ...TICKET, addresses: "a:1" })],
])("a whole line with %s in it is refused", (_, json) => {
  const head = `tidemark-join-1.${Buffer.from(json).toString("base64url")}`;
  expect(() => parseTicket("t", withCheck(head))).toThrow(/damaged|network address/);
});

function withCheck(head: string): string {
  return `${head}.${createHash("sha256").update(head).digest("hex").slice(0, 8)}`;
}
