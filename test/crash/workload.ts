import { type ChildProcess, spawn } from "node:child_process";
import path from "node:path";
import { fileURLToPath } from "node:url";

const FOLDER = fileURLToPath(new URL("./workloads/", import.meta.url));

/** How long a workload may take to check what it did. */
const FINISH_TIMEOUT_MS = 120_000;

/** What a workload says at its end. A stall is a call that took long: when it began on CLOCK_MONOTONIC, and how long, in nanoseconds. */
export type WorkloadResult = { readonly stalls: readonly (readonly [number, number])[] } & Readonly<
  Record<string, unknown>
>;

/** A program that works on a share and checks every result (test/crash/workloads). */
export class Workload {
  readonly name: string;
  readonly #child: ChildProcess;
  readonly #ended: Promise<number | string>;
  #rest = "";
  #result = "";
  #stderr = "";
  readonly #facts = new Map<string, number>();

  constructor(program: string, args: readonly string[]) {
    this.name = program;
    const interpreter = program.endsWith(".py") ? ["python3", "-B"] : ["bash"];
    this.#child = spawn(interpreter[0] ?? "", [...interpreter.slice(1), path.join(FOLDER, program), ...args], {
      stdio: ["pipe", "pipe", "pipe"],
      detached: true,
    });
    this.#ended = new Promise((resolve) =>
      this.#child.once("close", (status, signal) => resolve(status ?? signal ?? "")),
    );
    this.#child.stdout?.setEncoding("utf8").on("data", (text: string) => this.#said(text));
    this.#child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.#stderr += text;
    });
    this.#child.stdin?.on("error", () => {});
  }

  /** What the program told last of something ("progress", "synced", "pid"); 0 before. */
  fact(name: string): number {
    return this.#facts.get(name) ?? 0;
  }

  /** Throws with what the program said if it has ended: before `finish` that is always a failure. */
  checkRuns(): void {
    const { exitCode, signalCode } = this.#child;
    if (exitCode !== null || signalCode !== null)
      throw new Error(`${this.name} ended with ${exitCode ?? signalCode}:\n${this.#stderr}`);
  }

  /** Lets the program end its work and check it. Throws with what it said when anything was wrong. */
  finish(): Promise<WorkloadResult> {
    this.#child.stdin?.end();
    return this.result();
  }

  /** What the program says when it has ended by itself. Throws with what it said when anything was wrong. */
  async result(): Promise<WorkloadResult> {
    const timer = setTimeout(() => this.kill(), FINISH_TIMEOUT_MS);
    const status = await this.#ended;
    clearTimeout(timer);
    if (status !== 0) throw new Error(`${this.name} ended with ${status}:\n${this.#stderr}`);
    return JSON.parse(this.#result) as WorkloadResult;
  }

  /** Ends the program and whatever it started, as it is. */
  kill(): void {
    try {
      process.kill(-(this.#child.pid ?? 0), "SIGKILL");
    } catch {
      // It has ended.
    }
  }

  /** Ends it, and resolves when it is gone. */
  async killed(): Promise<void> {
    this.kill();
    await this.#ended;
  }

  #said(text: string): void {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop() ?? "";
    for (const line of lines) {
      const [, name, number] = /^([a-z]+) (\d+)$/.exec(line) ?? [];
      if (name === undefined) this.#result = line;
      else this.#facts.set(name, Number(number));
    }
  }
}
