import { dottedName, lineOf, type SourceFile, walk } from "./sources.ts";

/** What makes a program depend on when, where and how often it runs. */
const AMBIENT_CALLS = ["Date.now", "Math.random", "setTimeout", "setInterval", "setImmediate", "AbortSignal.timeout"];
const AMBIENT_VALUES = ["process.env", "process.argv"];

export type AmbientUse = { readonly path: string; readonly line: number; readonly name: string };

/** Files outside of src/base that may use something ambient, each with why. */
export const ALLOWED_AMBIENT: Readonly<Record<string, { readonly names: readonly string[]; readonly reason: string }>> =
  {
    "src/cli/gateway/gateway-main.ts": { names: ["process.env"], reason: "the entry of a gateway's process" },
    "src/cli/gateway/gateway-supervisor-main.ts": {
      names: ["process.env"],
      reason: "the entry of a gateway's supervisor",
    },
    "src/cli/main.ts": { names: ["process.env", "process.argv"], reason: "where the process meets the program" },
    "src/cli/serve.ts": { names: ["process.env"], reason: "hands the environment on to the service process" },
    "src/cli/service-main.ts": { names: ["process.env"], reason: "the entry of the service process" },
    "src/gateway/fuse/mount.ts": {
      names: ["AbortSignal.timeout"],
      reason: "bounds a child process, beside spawn's own",
    },
    "src/gateway/fuse/poll-loop.ts": {
      names: ["setImmediate"],
      reason: "it is the loop: gives the turn back to Node.js",
    },
    "src/meta/reading/turns.ts": { names: ["setImmediate"], reason: "the adapter of its port Turns" },
    "src/rpc/admin-server.ts": {
      names: ["AbortSignal.timeout"],
      reason: "the grace of a shutdown, beside the transport's own timers",
    },
  };

/** The uses of ambient state in `file`: calls, `new Date()` of now, and console. */
export function ambientUses(file: SourceFile): AmbientUse[] {
  const uses: AmbientUse[] = [];
  for (const node of walk(file.tree)) {
    const name = ambientName(node);
    if (name !== undefined) uses.push({ path: file.path, line: lineOf(file, node.start), name });
  }
  return uses;
}

function ambientName(node: { readonly type: string; readonly [key: string]: unknown }): string | undefined {
  if (node.type === "CallExpression") {
    const name = dottedName(node["callee"]);
    return name !== undefined && AMBIENT_CALLS.includes(name) ? name : undefined;
  }
  if (node.type === "NewExpression" && dottedName(node["callee"]) === "Date") {
    return (node["arguments"] as unknown[]).length === 0 ? "new Date()" : undefined;
  }
  if (node.type !== "MemberExpression") return undefined;
  const name = dottedName(node as never);
  if (name !== undefined && AMBIENT_VALUES.includes(name)) return name;
  return dottedName(node["object"]) === "console" ? "console" : undefined;
}
