import { KvError } from "./kv-error.ts";

/** What was being done when the native code failed; completes "Cannot … the key-value store in …". */
export type RocksAction = "open" | "read from" | "write to" | "close";

/**
 * Converts an error of the native code. It gives a code for corruption, the lock and the rest of input and output, and for everything
 * else only RocksDB's own text (`Status::ToString`), which is part of the message.
 */
export function rocksError(error: unknown, directory: string, action: RocksAction): KvError {
  const text = error instanceof Error ? error.message : String(error);
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  const what = `Cannot ${action} the key-value store in "${directory}"`;
  if (code === "LEVEL_LOCKED") {
    const holder = text.includes("hold by current process")
      ? "this process already has it open"
      : "another process has it open";
    return new KvError("KV_LOCKED", directory, `${what}: ${holder}.`, { cause: error });
  }
  if (text.includes("No space left on device"))
    return new KvError("KV_NO_SPACE", directory, `${what}: the disk is full.`, { cause: error });
  // While opening, a file that CURRENT or the manifest names and that is not there means an incomplete store, not a failing disk.
  if (code === "LEVEL_CORRUPTION" || (action === "open" && text.includes("No such file or directory"))) {
    return new KvError("KV_CORRUPT", directory, `${what}: it is damaged (${oneLine(text)}).`, { cause: error });
  }
  return new KvError("KV_IO", directory, `${what}: ${oneLine(text)}.`, { cause: error });
}

function oneLine(text: string): string {
  return text.replaceAll(/\s+/g, " ").replace(/[.\s]+$/, "");
}
