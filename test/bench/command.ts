/** Running other programs: everything the bench starts goes through here, so that Ctrl-C can end all of it. */
import { type ChildProcess, spawn } from "node:child_process";
import { openSync } from "node:fs";

/** Half an hour: a million creates at 600 a second; a hung mount must not hang the bench for ever. */
const STEP_DURATION_MS_MAX = 1_800_000;
/** Enough of a program's complaint to see what went wrong. */
const ERROR_TEXT_LENGTH_MAX = 2_000;
/** 64 MiB of output: pgbench and npm write kilobytes; more is a program gone wild. */
const OUTPUT_BYTES_MAX = 64 * 1024 * 1024;

const interrupted = new AbortController();
const running = new Set<ChildProcess>();

export type CommandOptions = {
  cwd?: string;
  env?: Record<string, string>;
  uid?: number;
  gid?: number;
  input?: Buffer;
  /** Also runs after Ctrl-C: for what cleans up. */
  cleanup?: boolean;
};

export type CommandResult = { stdout: string; seconds: number };

/** A program ended with another status than 0, or could not be started. */
export class CommandError extends Error {
  override name = "CommandError";
}

/** Runs a program to its end and takes the time. Throws CommandError with the end of its output when it fails. */
export async function run(command: string, args: string[], options: CommandOptions = {}): Promise<CommandResult> {
  if (options.cleanup !== true) interrupted.signal.throwIfAborted();
  const startedMs = performance.now();
  const child = spawn(command, args, {
    ...identity(options),
    detached: true,
    stdio: [options.input === undefined ? "ignore" : "pipe", "pipe", "pipe"],
  });
  if (options.cleanup !== true) running.add(child);
  const timer = setTimeout(() => endGroup(child, "SIGKILL"), STEP_DURATION_MS_MAX);
  try {
    const output = collect(child);
    child.stdin?.on("error", () => undefined).end(options.input);
    const status = await ended(child);
    const { stdout, stderr } = output();
    const seconds = (performance.now() - startedMs) / 1000;
    if (options.cleanup !== true) interrupted.signal.throwIfAborted();
    if (status !== 0)
      throw new CommandError(`${command} ${args[0] ?? ""} ended with ${status}: ${tail(stderr || stdout)}`);
    return { stdout, seconds };
  } finally {
    clearTimeout(timer);
    running.delete(child);
  }
}

/** Starts a program that stays, in a session of its own (so Ctrl-C reaches only the bench), its output in `logFile`. */
export function startDaemon(
  command: string,
  args: string[],
  options: CommandOptions & { logFile: string },
): ChildProcess {
  interrupted.signal.throwIfAborted();
  const log = openSync(options.logFile, "a");
  const child = spawn(command, args, { ...identity(options), detached: true, stdio: ["ignore", log, log] });
  child.on("error", () => undefined); // seen by whoever waits for it to become ready
  return child;
}

/** Waits until the daemon has ended, at most `limitMs`, then kills its whole group. */
export async function waitForEnd(child: ChildProcess, limitMs: number): Promise<void> {
  if (hasEnded(child)) return;
  const timer = setTimeout(() => endGroup(child, "SIGKILL"), limitMs);
  await new Promise<void>((resolve) => child.once("close", () => resolve()));
  clearTimeout(timer);
}

/** Whether a daemon has ended, or never started. */
export function hasEnded(child: ChildProcess): boolean {
  return child.pid === undefined || child.exitCode !== null || child.signalCode !== null;
}

/** Looks every 10 ms whether `ready` holds; throws with `what` after `limitMs`, and on Ctrl-C. */
export async function waitUntil(what: string, limitMs: number, ready: () => boolean | Promise<boolean>): Promise<void> {
  const deadlineMs = performance.now() + limitMs;
  while (!(await ready())) {
    interrupted.signal.throwIfAborted();
    if (performance.now() > deadlineMs) throw new Error(`gave up after ${limitMs / 1000} s: ${what}`);
    await pause(10);
  }
}

/** Resolves after `durationMs`. */
export function pause(durationMs: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, durationMs));
}

/** Ctrl-C: what runs now is killed, what would run next refuses; only commands marked `cleanup` still work. */
export function interruptAll(): void {
  interrupted.abort(new Error("interrupted"));
  for (const child of running) endGroup(child, "SIGKILL");
}

/** Whether interruptAll was called. */
export function wasInterrupted(): boolean {
  return interrupted.signal.aborted;
}

function identity(options: CommandOptions) {
  return {
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.uid === undefined ? {} : { uid: options.uid }),
    ...(options.gid === undefined ? {} : { gid: options.gid }),
    env: { ...process.env, ...options.env },
  };
}

function endGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, signal);
  } catch {
    // It has ended in the meantime.
  }
}

function collect(child: ChildProcess): () => { stdout: string; stderr: string } {
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  let bytes = 0;
  const take = (into: Buffer[]) => (data: Buffer) => {
    bytes += data.length;
    if (bytes > OUTPUT_BYTES_MAX) endGroup(child, "SIGKILL");
    else into.push(data);
  };
  child.stdout?.on("data", take(stdout));
  child.stderr?.on("data", take(stderr));
  return () => ({ stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() });
}

function ended(child: ChildProcess): Promise<number | string> {
  return new Promise((resolve) => {
    child.once("error", (error) => resolve(error.message));
    child.once("close", (code, signal) => resolve(code ?? signal ?? "no status"));
  });
}

function tail(text: string): string {
  return text.trim().slice(-ERROR_TEXT_LENGTH_MAX);
}
