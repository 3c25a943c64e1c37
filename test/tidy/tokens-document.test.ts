import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { TOKEN_OP_NAMES, WALKING_OPS } from "../../src/domain/token.ts";
import { callsTable, operationsTable, requestsTable } from "../support/token-table.ts";
import { ROOT, readText } from "./sources.ts";

const DOCUMENT = "docs/tokens.md";

const TABLES = { operations: operationsTable(), requests: requestsTable(), calls: callsTable() };

/** The document with the tables as the code has them. */
function renewed(text: string): string {
  return Object.entries(TABLES).reduce((before, [name, table]) => {
    const between = new RegExp(`(<!-- ${name} -->\n)[^]*?(\n<!-- end -->)`);
    expect(before).toMatch(between);
    return before.replace(between, (_, begin: string, end: string) => `${begin}${table}${end}`);
  }, text);
}

test("docs/tokens.md has the tables of the code (WRITE_DOCUMENTS=1 writes them)", () => {
  const text = readText(DOCUMENT);
  if (process.env["WRITE_DOCUMENTS"] === "1") writeFileSync(join(ROOT, DOCUMENT), renewed(text));
  else expect(text).toBe(renewed(text));
});

test("the operations that let one walk are the first ones, as the document says", () => {
  expect(TOKEN_OP_NAMES.slice(0, WALKING_OPS.length)).toEqual(WALKING_OPS);
  expect(WALKING_OPS).toHaveLength(7);
});
