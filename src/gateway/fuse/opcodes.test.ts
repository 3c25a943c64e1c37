import { existsSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { buildRoutes } from "./dispatch.ts";
import { OPCODE, OPCODE_TABLE, type OpcodeName, opcodeName } from "./opcodes.ts";
import type { FuseOperations } from "./operations.ts";

const HEADER = "/usr/include/linux/fuse.h";

/** Opcodes of 7.39 to 7.45, which a distribution's header may not have yet. */
const NEWER_THAN_7_38: readonly string[] = ["STATX", "COPY_FILE_RANGE_64"];

/** Numbers of `enum fuse_opcode`, by name without the FUSE_ prefix. */
function opcodesOfHeader(text: string): Map<string, number> {
  const body = /enum fuse_opcode \{([\s\S]*?)\};/.exec(text)?.[1] ?? "";
  const found = new Map<string, number>();
  for (const [, prefix, name, number] of body.matchAll(/^\s*(FUSE_|CUSE_)(\w+)\s*=\s*(\d+)/gm)) {
    const reserved = prefix === "CUSE_" || name === "INIT_BSWAP_RESERVED";
    found.set(reserved ? `${prefix}${name}` : `${name}`, Number(number));
  }
  return found;
}

describe("the opcode table", () => {
  const present = existsSync(HEADER);
  if (!present) console.log(`skipped: ${HEADER} (package linux-libc-dev) is not installed`);

  test.skipIf(!present && process.env.CI === undefined)(
    "has every opcode of the machine's fuse.h, with its number",
    () => {
      const header = opcodesOfHeader(readFileSync(HEADER, "utf8"));
      expect(header.size).toBeGreaterThan(45);
      for (const [name, number] of header) expect([name, OPCODE[name as OpcodeName]]).toEqual([name, number]);
      const extra = Object.keys(OPCODE).filter((name) => !header.has(name));
      expect(extra.every((name) => NEWER_THAN_7_38.includes(name))).toBe(true);
    },
  );

  test("gives every opcode a handling and a reason", () => {
    expect(Object.keys(OPCODE_TABLE).sort()).toEqual(Object.keys(OPCODE).sort());
    for (const { why } of Object.values(OPCODE_TABLE)) expect(why).not.toBe("");
    for (const [name, code] of Object.entries(OPCODE)) expect(opcodeName(code)).toBe(name);
  });

  test("agrees with what is routed to a file system that has every operation", () => {
    const everything = new Proxy({}, { get: () => () => {} }) as FuseOperations;
    const routes = buildRoutes(everything, { setxattrExtended: true });
    const answeredWithoutReply: readonly string[] = ["FORGET", "BATCH_FORGET"];
    for (const [name, { handling }] of Object.entries(OPCODE_TABLE)) {
      const routed = routes[OPCODE[name as OpcodeName]] !== undefined;
      expect([name, routed]).toEqual([name, handling === "operation" && !answeredWithoutReply.includes(name)]);
    }
  });
});
