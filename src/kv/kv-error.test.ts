import { expect, test } from "vitest";
import { KV_ERROR_CODES, KvError, type KvErrorCode } from "./kv-error.ts";
import { rocksError } from "./rocks-error.ts";

test("every code but KV_CLOSED says what to do, and none advises to delete", () => {
  for (const code of Object.keys(KV_ERROR_CODES) as KvErrorCode[]) {
    const error = new KvError(code, "/data/kv", `Cannot open "/data/kv".`);
    expect(error).toMatchObject({ code, directory: "/data/kv", name: "KvError" });
    if (code !== "KV_CLOSED") expect(error.message.length).toBeGreaterThan(50);
    expect(error.message).not.toMatch(/(?<!not )delete/i);
  }
});

test("errors of the native code get a code, the directory and one line", () => {
  const native = (message: string, code?: string) =>
    Object.assign(new Error(message), code === undefined ? {} : { code });
  const cases: [Error, "open" | "read from" | "write to", KvErrorCode][] = [
    [
      native("IO error: While lock file: /d/LOCK: Resource temporarily unavailable", "LEVEL_LOCKED"),
      "open",
      "KV_LOCKED",
    ],
    [native("Corruption: block checksum mismatch\n in 1.sst", "LEVEL_CORRUPTION"), "read from", "KV_CORRUPT"],
    [native("IO error: No such file or directory: /d/MANIFEST-1", "LEVEL_IO_ERROR"), "open", "KV_CORRUPT"],
    [native("IO error: No such file or directory: /d/1.sst", "LEVEL_IO_ERROR"), "read from", "KV_IO"],
    [native("IO error: No space left on device: While appending", "LEVEL_IO_ERROR"), "write to", "KV_NO_SPACE"],
    [native("Invalid argument: compression type"), "open", "KV_IO"],
  ];
  for (const [cause, action, code] of cases) {
    const error = rocksError(cause, "/d", action);
    expect(error).toMatchObject({ code, cause });
    expect(error.message).toContain(`Cannot ${action} the key-value store in "/d"`);
    expect(error.message).not.toContain("\n");
  }
});
