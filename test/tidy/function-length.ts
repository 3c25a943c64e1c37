import { dottedName, lineOf, type SourceFile, type SyntaxNode, walk } from "./sources.ts";

const FUNCTIONS = ["FunctionDeclaration", "FunctionExpression", "ArrowFunctionExpression"];

export type FunctionLength = { readonly place: string; readonly lineCount: number };

/**
 * The lines of each function of `file`, from its first line to its last, those of functions inside of it included. One that registers tests
 * (a contract suite) is a list of functions, which count by themselves.
 */
export function functionLengths(file: SourceFile): FunctionLength[] {
  const lengths: FunctionLength[] = [];
  for (const node of walk(file.tree)) {
    if (!FUNCTIONS.includes(node.type) || registersTests(node)) continue;
    const firstLine = lineOf(file, node.start);
    lengths.push({
      place: `${file.path}:${firstLine} ${nameOf(node)}`,
      lineCount: lineOf(file, node.end) - firstLine + 1,
    });
  }
  return lengths;
}

function registersTests(node: SyntaxNode): boolean {
  for (const each of walk(node)) {
    if (each.type !== "CallExpression") continue;
    if (/^(test|describe|it|behaviour)(\.|$)/.test(dottedName(each["callee"]) ?? "")) return true;
  }
  return false;
}

function nameOf(node: SyntaxNode): string {
  const id = node["id"] as { name?: string } | null | undefined;
  return id?.name ?? "(function)";
}
