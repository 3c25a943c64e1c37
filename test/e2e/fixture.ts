import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { type RunOptions, type RunResult, run } from "./run.ts";

const MAIN = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));

/** How long a start may take on a loaded machine before the test says that it hangs. */
const START_TIMEOUT_MS = 60_000;

/** A real service in a scratch folder, as a user starts it: `tidemark serve`, driven through the CLI. */
export class TestService {
  readonly folder: string;
  readonly dataFolder: string;
  #child: ChildProcess | undefined;
  #log = "";
  readonly #options: { readonly dataFolder?: string; readonly serveArgs?: readonly string[] };
  readonly #mounts = new Set<string>();

  constructor(options: { readonly dataFolder?: string; readonly serveArgs?: readonly string[] } = {}) {
    this.folder = mkdtempSync(path.join(tmpdir(), "tidemark-e2e-"));
    this.dataFolder = options.dataFolder ?? path.join(this.folder, "data");
    this.#options = options;
  }

  /** A service with app "shop", share "files", mounted; answers the mount point. */
  static async withShare(
    options: ConstructorParameters<typeof TestService>[0] = {},
  ): Promise<{ service: TestService; mount: string }> {
    const service = new TestService(options);
    await service.start();
    await service.cli("app", "create", "shop");
    await service.cli("share", "create", "shop/files");
    return { service, mount: await service.mount("shop/files", "mnt") };
  }

  /** Everything the service has logged, for a failing test. */
  get log(): string {
    return this.#log;
  }

  async start(): Promise<void> {
    const child = spawn(
      process.execPath,
      [MAIN, "--data", this.dataFolder, "serve", ...(this.#options.serveArgs ?? [])],
      {
        stdio: ["ignore", "ignore", "pipe"],
      },
    );
    this.#child = child;
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`the service did not start:\n${this.#log}`)), START_TIMEOUT_MS);
      const mark = this.#log.length;
      child.stderr?.setEncoding("utf8").on("data", (text: string) => {
        this.#log += text;
        if (this.#log.indexOf('"msg":"serving"', mark) !== -1) {
          clearTimeout(timer);
          resolve();
        }
      });
      child.once("exit", (code) => {
        clearTimeout(timer);
        reject(new Error(`the service ended with ${code}:\n${this.#log}`));
      });
    });
  }

  /** Mounts a share (or with `--at` a view) at a directory of the scratch folder. */
  async mount(share: string, name: string, ...args: readonly string[]): Promise<string> {
    const target = path.join(this.folder, name);
    mkdirSync(target, { recursive: true });
    await this.cli("mount", share, target, ...args);
    this.#mounts.add(target);
    return target;
  }

  async umount(target: string): Promise<void> {
    await this.cli("umount", target);
    this.#mounts.delete(target);
  }

  /** Runs the CLI; throws with its output when it fails. */
  cli(...args: readonly string[]): Promise<RunResult> {
    return run(process.execPath, [MAIN, "--data", this.dataFolder, ...args]);
  }

  cliWith(options: RunOptions, ...args: readonly string[]): Promise<RunResult> {
    return run(process.execPath, [MAIN, "--data", this.dataFolder, ...args], options);
  }

  /** The CLI's answer as JSON. */
  async json<T>(...args: readonly string[]): Promise<T> {
    return JSON.parse((await this.cli("--json", ...args)).stdout) as T;
  }

  /** LSN of the newest record of app "shop": the moment "now". */
  async lastLsn(): Promise<number> {
    const { apps } = await this.json<{ apps: { app: { name: string }; lastLsn: number }[] }>("status");
    return apps.find(({ app }) => app.name === "shop")?.lastLsn ?? 0;
  }

  get supervisorPid(): number {
    return this.#child?.pid ?? 0;
  }

  /** The process that serves now: the supervisor's child. */
  get servicePid(): number {
    const pid = this.supervisorPid;
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ");
    return Number(children[0] ?? 0);
  }

  /** A clean stop, as by Ctrl-C. */
  async stop(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
    child.kill("SIGTERM");
    await ended;
  }

  /** Ends the supervisor and the service at once, as a crash of both would. */
  async killAll(): Promise<void> {
    const child = this.#child;
    if (child === undefined) return;
    const service = this.servicePid;
    this.#child = undefined;
    const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
    child.kill("SIGKILL");
    if (service > 0) process.kill(service, "SIGKILL");
    await ended;
  }

  /** Stops the service and removes everything. */
  async dispose(): Promise<void> {
    await this.stop();
    for (const target of this.#mounts) await run("umount", ["-l", target], { anyStatus: true });
    rmSync(this.folder, { recursive: true, force: true });
  }
}
