import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { parseAst } from "vitest/node";

/** The repository. */
export const ROOT = resolve(import.meta.dirname, "../..");

/** A node of the syntax tree (ESTree with TypeScript's types), as far as the tests look at it. */
export type SyntaxNode = {
  readonly type: string;
  readonly start: number;
  readonly end: number;
  readonly [key: string]: unknown;
};

/** A source file, read and parsed. */
export type SourceFile = {
  /** Relative to the repository. */
  readonly path: string;
  readonly text: string;
  readonly lines: readonly string[];
  readonly tree: SyntaxNode;
};

/** Names of files below `folder`, relative to the repository. */
export function filesBelow(folder: string, ending: string): string[] {
  return readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(ending))
    .map((entry) => relative(ROOT, join(entry.parentPath, entry.name)))
    .filter((path) => !path.startsWith(GENERATED))
    .sort();
}

/** What buf generates, from protos that are tested themselves. */
const GENERATED = "src/rpc/gen/";

/** Reads a file of the repository as text. */
export function readText(path: string): string {
  return readFileSync(join(ROOT, path), "utf8");
}

/** Reads and parses all TypeScript below `folder`. */
export function parseBelow(folder: string): SourceFile[] {
  return filesBelow(folder, ".ts").map((path) => {
    const text = readText(path);
    const tree = parseAst(text, { lang: "ts" }) as unknown as SyntaxNode;
    return { path, text, lines: text.trimEnd().split("\n"), tree };
  });
}

/** Whether a path is that of a test or of what only tests use: test/, a folder `testing`, `x-fixture.ts`, `test-x.ts`. */
export function isForTests(path: string): boolean {
  return path.startsWith("test/") || path.includes("/testing/") || /(\.test|-fixture|\/test-[a-z-]+)\.ts$/.test(path);
}

/** Every node below `node`, itself included, parents first. */
export function* walk(node: SyntaxNode): Generator<SyntaxNode> {
  yield node;
  for (const value of Object.values(node)) {
    for (const child of Array.isArray(value) ? value : [value]) if (isNode(child)) yield* walk(child);
  }
}

function isNode(value: unknown): value is SyntaxNode {
  return typeof value === "object" && value !== null && "type" in value && typeof value.type === "string";
}

/** The line, from 1, of an offset. */
export function lineOf(file: SourceFile, offset: number): number {
  return file.text.slice(0, offset).split("\n").length;
}

/** `a.b.c` of a chain of names, undefined for anything else. */
export function dottedName(node: unknown): string | undefined {
  if (!isNode(node)) return undefined;
  if (node.type === "Identifier") return String(node["name"]);
  if (node.type !== "MemberExpression" || node["computed"] === true) return undefined;
  const object = dottedName(node["object"]);
  return object === undefined ? undefined : `${object}.${(node["property"] as { name: string }).name}`;
}

/**
 * The files of the repository that `file` refers to: imports of types and values, dynamic imports, and `new URL("./x.ts", import.meta.url)`, the way workers and child
 * processes are named.
 */
export function references(file: SourceFile): string[] {
  const found = new Set<string>();
  for (const node of walk(file.tree)) {
    const text = referenceText(node);
    if (text?.startsWith(".") === true && text.endsWith(".ts"))
      found.add(relative(ROOT, resolve(ROOT, dirname(file.path), text)));
  }
  return [...found];
}

const WITH_SOURCE = ["ImportDeclaration", "ImportExpression", "ExportNamedDeclaration", "ExportAllDeclaration"];

function referenceText(node: SyntaxNode): string | undefined {
  if (WITH_SOURCE.includes(node.type)) return literal(node["source"]);
  if (node.type !== "NewExpression" || dottedName(node["callee"]) !== "URL") return undefined;
  return literal((node["arguments"] as unknown[])[0]);
}

function literal(node: unknown): string | undefined {
  return isNode(node) && node.type === "Literal" && typeof node["value"] === "string" ? node["value"] : undefined;
}
