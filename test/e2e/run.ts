import { spawn } from "node:child_process";

export type RunResult = { readonly status: number | null; readonly stdout: string; readonly stderr: string };

export type RunOptions = {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly input?: string;
  /** Any status is fine; else one other than 0 throws. */
  readonly anyStatus?: boolean;
  readonly timeoutMs?: number;
};

/** What a test program may print. */
const OUTPUT_BYTES_MAX = 64 * 1024 * 1024;

/** Runs a program to its end without blocking this process. Throws with its output when it fails. */
export async function run(command: string, args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const child = spawn(command, args, {
    cwd: options.cwd,
    env: { ...process.env, ...options.env },
    stdio: ["pipe", "pipe", "pipe"],
    timeout: options.timeoutMs ?? 300_000,
    killSignal: "SIGKILL",
  });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    if (stdout.length < OUTPUT_BYTES_MAX) stdout += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    if (stderr.length < OUTPUT_BYTES_MAX) stderr += text;
  });
  child.stdin.on("error", () => {});
  child.stdin.end(options.input ?? "");
  const status = await new Promise<number | null>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => resolve(code));
  });
  if (status !== 0 && options.anyStatus !== true) {
    throw new Error(
      `${command} ${args.join(" ")} ended with ${status}:\n${stdout.slice(-4000)}\n${stderr.slice(-4000)}`,
    );
  }
  return { status, stdout, stderr };
}

/** Runs a shell script, failing at the first error. */
export function shell(script: string, options: RunOptions = {}): Promise<RunResult> {
  return run("bash", ["-euo", "pipefail", "-c", script], options);
}
