import { type ChildProcess, spawn } from "node:child_process";
import { createInterface, type Interface } from "node:readline";

/** A test program that answers each line with a line. */
export class LineChild {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  readonly #reader: Interface;

  constructor(command: string, args: readonly string[], options: { readonly cwd?: string } = {}) {
    const child = spawn(command, args, { stdio: ["pipe", "pipe", "inherit"], ...options });
    this.#child = child;
    this.#reader = createInterface({ input: child.stdout as NonNullable<typeof child.stdout> });
    this.#lines = this.#reader[Symbol.asyncIterator]();
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Sends a line and answers the next one that comes. */
  async ask(line: string): Promise<string> {
    this.#child.stdin?.write(`${line}\n`);
    const next = await this.#lines.next();
    return next.done === true ? "the program ended" : next.value;
  }

  /** Ends the program; resolves when it is gone. */
  async end(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = new Promise<void>((resolve) => this.#child.once("close", () => resolve()));
    this.#child.stdin?.end();
    this.#child.kill("SIGKILL");
    this.#reader.close();
    await ended;
  }
}
