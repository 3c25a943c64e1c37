import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { unmountFuse } from "../mount.ts";

const SUPERVISOR = fileURLToPath(new URL("./toy-supervisor.ts", import.meta.url));

/** A supervised toy server in processes of its own. */
export class SupervisedToy {
  readonly folder: string;
  readonly target: string;
  readonly supervisor: ChildProcess;
  readonly lines: string[] = [];
  /** Status, or signal, that the supervisor ended with. */
  readonly ended: Promise<number | string>;
  #listeners: (() => void)[] = [];

  constructor(target: (folder: string) => string, ...options: string[]) {
    this.folder = mkdtempSync(join(tmpdir(), "tidemark-supervised-"));
    this.target = target(this.folder);
    this.supervisor = spawn(process.execPath, [SUPERVISOR, this.target, join(this.folder, "log"), ...options], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    this.ended = new Promise((done) => this.supervisor.once("exit", (status, signal) => done(status ?? signal ?? "")));
    if (this.supervisor.stdout === null) throw new Error("no stdout");
    createInterface({ input: this.supervisor.stdout }).on("line", (line) => {
      this.lines.push(line);
      for (const listener of this.#listeners) listener();
    });
  }

  /** The process ids of all children that served, in order. */
  get childPids(): number[] {
    return this.lines.flatMap((line) => {
      const pid = /serving \{"pid":(\d+)/.exec(line)?.[1];
      return pid === undefined ? [] : [Number(pid)];
    });
  }

  /** Resolves when `condition` holds; it is looked at with each line that is said. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>((next) => this.#listeners.push(next));
    this.#listeners = [];
  }

  /** Kills the child that serves now and waits until the next one does. */
  async killChild(): Promise<void> {
    const { length } = this.childPids;
    process.kill(this.childPids[length - 1] ?? 0, "SIGKILL");
    await this.until(() => this.childPids.length > length);
  }

  /** Removes what is left, whatever happened. */
  async cleanUp(): Promise<void> {
    this.supervisor.kill("SIGKILL");
    for (const pid of this.childPids) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // It ended before.
      }
    }
    await this.ended;
    await unmountFuse(this.target, { lazy: true });
    rmSync(this.folder, { recursive: true, force: true });
  }
}
