import { references, type SourceFile } from "./sources.ts";

/** Files that something outside of the sources starts: the CLI, `npm start`, people. Workers and child processes are found by their URL. */
export const ENTRY_POINTS: readonly string[] = [
  "src/cli/main.ts",
  "src/cli/start.ts",
  // Run by hand, to capture bytes from a kernel for codec.test.ts.
  "src/gateway/fuse/testing/capture-golden.ts",
];

/** Files of src that only tests use, each with why it is not in a `testing` folder. */
export const ONLY_FOR_TESTS: Readonly<Record<string, string>> = {
  "src/kv/memory-kv.ts": "an adapter of the KV port: the store of the model tests",
};

/** The files that can be reached from `entries` by references. */
export function reachableFrom(files: readonly SourceFile[], entries: readonly string[]): ReadonlySet<string> {
  const byPath = new Map(files.map((file) => [file.path, file]));
  const seen = new Set<string>();
  const waiting = [...entries];
  for (let path = waiting.pop(); path !== undefined; path = waiting.pop()) {
    const file = byPath.get(path);
    if (file === undefined || seen.has(path)) continue;
    seen.add(path);
    waiting.push(...references(file));
  }
  return seen;
}
