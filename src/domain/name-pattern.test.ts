import { describe, expect, test } from "vitest";
import { TidemarkError } from "./errors.ts";
import { NamePattern } from "./name-pattern.ts";

const matches = (pattern: string | Buffer, name: string | Buffer): boolean =>
  new NamePattern(Buffer.from(pattern as string)).matches(Buffer.from(name as string));

describe("a pattern for names", () => {
  test.each([
    ["*.env", ".env", true],
    ["*.env", "production.env", true],
    ["*.env", "x.env.bak", false],
    ["*", "", true],
    ["a*b*c", "aXbYbZc", true],
    ["a*b*c", "aXbYb", false],
    ["?", "ü", true],
    ["??", "ü", false],
    ["[a-c]x", "bx", true],
    ["[!a-c]x", "bx", false],
    ["[^a-c]x", "dx", true],
    ["[]]", "]", true],
    ["[a-]", "-", true],
    ["\\*", "*", true],
    ["\\*", "x", false],
    ["[\\]]", "]", true],
    ["Note", "note", false],
    ["***", "anything", true],
  ])("%s on %s: %s", (pattern, name, expected) => {
    expect(matches(pattern, name)).toBe(expected);
  });

  test("takes bytes that are no text one by one", () => {
    expect(matches("a??", Buffer.from([0x61, 0xff, 0xfe]))).toBe(true);
    expect(matches(Buffer.from([0x2a, 0xff]), Buffer.from([0x61, 0xff]))).toBe(true);
    expect(matches(Buffer.from([0x2a, 0xff]), Buffer.from([0x61, 0xfe]))).toBe(false);
    expect(matches("\ufffd", Buffer.from([0xff]))).toBe(false);
    expect(matches("\ufffd?", Buffer.from([0xef, 0xbf, 0xbd, 0xff]))).toBe(true);
  });

  test("ends on a pattern made to run long", () => {
    expect(matches(`${"a*".repeat(120)}b`, "a".repeat(255))).toBe(false);
  });

  test.each(["", "a/b", "[a", "x".repeat(1025)])("%j is refused", (pattern) => {
    expect(() => matches(pattern, "x")).toThrow(TidemarkError);
  });
});
