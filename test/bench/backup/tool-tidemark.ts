import type { ChildProcess } from "node:child_process";
import { existsSync, mkdirSync, readdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { unmount } from "../cleanup.ts";
import { hasEnded, run, startDaemon, waitForEnd, waitUntil } from "../command.ts";
import { isMounted, processTree } from "../process-info.ts";
import { folderBytes, type Measured, measure } from "./measure.ts";
import type { BackupTool, Subject } from "./tool.ts";

const PROGRAM_DEFAULT = resolve(import.meta.dirname, "../../../bin/tidemark");
const READY_MS_MAX = 60_000;
const STOP_MS_MAX = 60_000;
const SETTLE_MS_MAX = 120_000;

/** Tidemark: files on mounted shares, repositories with a key file, so without a passphrase to derive a key from. */
export class Tidemark implements BackupTool {
  readonly name = "tidemark";
  readonly #home: string;
  readonly #program: string;
  #server: ChildProcess | undefined;
  readonly #enabled = new Set<Subject>();

  constructor(home: string, program = PROGRAM_DEFAULT) {
    this.#home = home;
    this.#program = program;
  }

  async version(): Promise<string | undefined> {
    if (process.getuid?.() !== 0) return undefined;
    return `tidemark ${(await run(this.#program, ["--version"])).stdout.trim()}`;
  }

  async prepare(): Promise<void> {
    mkdirSync(this.#home, { recursive: true });
    await this.#start();
    for (const subject of ["tree", "big"] as const) {
      await this.#cli("app", "create", subject);
      await this.#cli("share", "create", `${subject}/files`);
      await this.#cli(
        "repo",
        "init",
        this.#repository(subject),
        "--name",
        subject,
        "--key-file",
        this.#keyFile(subject),
      );
    }
    await this.#mountAll();
  }

  root(subject: Subject): string {
    return join(this.#home, `mount-${subject}`);
  }

  /** Shipping is off until the files are complete. */
  /** The checkpoint that follows a backup by some seconds is there: the service wasn't given them, being started again before each step. */
  async settle(): Promise<void> {
    const apps = join(this.#repository("tree"), "apps");
    const checkpoints = (): number =>
      readdirSync(apps).reduce((sum, app) => sum + countIn(join(apps, app, "checkpoints")), 0);
    await waitUntil("the checkpoint of a backup", SETTLE_MS_MAX, () => checkpoints() > 0);
  }

  async restart(): Promise<void> {
    await this.#stop();
    await this.#start();
    await this.#mountAll();
  }

  startUp(): Promise<Measured> {
    return measure(this.#program, ["--version"]);
  }

  async backup(subject: Subject): Promise<Measured> {
    if (!this.#enabled.has(subject)) {
      // Longer than the bench: only `backup now` ships.
      await this.#cli("backup", "enable", subject, "--repo", subject, "--every", "1h");
      this.#enabled.add(subject);
    }
    return this.#measure("backup", "now", subject);
  }

  restoreFile(path: string, to: string): Promise<Measured> {
    return this.#fromRepository("restore", `tree/files/${path}`, "--at", "now", "--to", join(to, "one"), "--yes");
  }

  restoreAll(to: string): Promise<Measured> {
    return this.#fromRepository("restore", "tree/files", "--at", "now", "--to", join(to, "all"), "--yes");
  }

  repositoryBytes(subject: Subject): Promise<number> {
    return folderBytes(this.#repository(subject));
  }

  async close(): Promise<void> {
    await this.#stop();
  }

  #fromRepository(verb: string, ...args: string[]): Promise<Measured> {
    const repository = ["--repo", this.#repository("tree"), "--key-file", this.#keyFile("tree")];
    const env = { XDG_CACHE_HOME: join(this.#home, "cache") };
    return measure(this.#program, ["repo", verb, ...args, ...repository], { env });
  }

  async #start(): Promise<void> {
    const logFile = join(this.#home, "log");
    const server = startDaemon(this.#program, ["serve", "--data", this.#data], { logFile });
    this.#server = server;
    await waitUntil("start of tidemark", READY_MS_MAX, () => {
      if (hasEnded(server)) throw new Error(`the service ended: see ${logFile}`);
      return this.#cli("status").then(
        () => true,
        () => false,
      );
    });
  }

  async #mountAll(): Promise<void> {
    for (const subject of ["tree", "big"] as const) {
      mkdirSync(this.root(subject), { recursive: true });
      if (!isMounted(this.root(subject))) await this.#cli("mount", `${subject}/files`, this.root(subject));
    }
  }

  async #stop(): Promise<void> {
    const server = this.#server;
    if (server === undefined) return;
    for (const subject of ["tree", "big"] as const) {
      await this.#cli("umount", this.root(subject)).catch(() => undefined);
      await unmount(this.root(subject));
    }
    if (!hasEnded(server)) server.kill("SIGTERM");
    await waitForEnd(server, STOP_MS_MAX);
    this.#server = undefined;
  }

  get #data(): string {
    return join(this.#home, "data");
  }

  #repository(subject: Subject): string {
    return join(this.#home, `repository-${subject}`);
  }

  #keyFile(subject: Subject): string {
    return join(this.#home, `${subject}.key`);
  }

  async #cli(...args: string[]): Promise<void> {
    await run(this.#program, ["--data", this.#data, ...args], { cleanup: args[0] === "umount" });
  }

  #measure(...args: string[]): Promise<Measured> {
    const server = this.#server?.pid;
    const service = (): number[] => (server === undefined ? [] : processTree(server));
    return measure(this.#program, ["--data", this.#data, ...args], { service });
  }
}

function countIn(folder: string): number {
  return existsSync(folder) ? readdirSync(folder).length : 0;
}
