import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const SERVER = fileURLToPath(new URL("./toy-server.ts", import.meta.url));

/** A toy server in its own process, so that a test may use its mount with synchronous calls. */
export class ToyProcess {
  readonly target: string;
  readonly child: ChildProcess;
  readonly #lines: string[] = [];

  private constructor(target: string, child: ChildProcess) {
    this.target = target;
    this.child = child;
  }

  /** Mounts on a new directory. */
  static async start(...options: string[]): Promise<ToyProcess> {
    const target = mkdtempSync(join(tmpdir(), "tidemark-toy-"));
    const child = spawn(process.execPath, [SERVER, target, ...options], { stdio: ["ignore", "pipe", "inherit"] });
    const toy = new ToyProcess(target, child);
    await new Promise<void>((ready, failed) => {
      child.once("exit", (status) => failed(new Error(`the toy server ended with status ${status}`)));
      if (child.stdout === null) throw new Error("no stdout");
      createInterface({ input: child.stdout }).on("line", (line) => {
        toy.#lines.push(line);
        if (line === "ready") ready();
      });
    });
    return toy;
  }

  /** What it said so far. */
  get lines(): readonly string[] {
    return this.#lines;
  }

  path(name: string): string {
    return join(this.target, name);
  }

  /** Unmounts and ends it. */
  async stop(): Promise<void> {
    if (this.child.exitCode === null && this.child.signalCode === null) {
      const ended = new Promise((done) => this.child.once("exit", done));
      this.child.kill("SIGTERM");
      await ended;
    }
    rmdirSync(this.target);
  }
}
