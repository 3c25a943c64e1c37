import { type ChildProcess, spawn } from "node:child_process";
import { accessSync, constants, readFileSync } from "node:fs";
import { createServer } from "node:net";
import { homedir } from "node:os";
import { delimiter, join } from "node:path";

/** How long a server may take until it answers: it is a second on an idle machine. */
const START_MS_MAX = 30_000;

/**
 * Servers that tests run against, which `.ci/run` builds from Go modules into a folder of its own (TIDEMARK_TEST_TOOLS, by default in the user's cache).
 * Toxiproxy's program is called `server` there; elsewhere that may be anything.
 */
const TOOLS = {
  versitygw: { built: "versitygw", common: "versitygw", module: "github.com/versity/versitygw/cmd/versitygw@v1.8.0" },
  toxiproxy: {
    built: "server",
    common: "toxiproxy-server",
    module: "github.com/Shopify/toxiproxy/v2/cmd/server@v2.5.0",
  },
} as const;

export type TestTool = keyof typeof TOOLS;

/** The folder that `.ci/run` builds into. */
export function toolsFolder(): string {
  const cache = process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache");
  return process.env["TIDEMARK_TEST_TOOLS"] ?? join(cache, "tidemark-test-tools");
}

/** The path of a tool's program; undefined if it isn't there. */
export function toolPath(tool: TestTool): string | undefined {
  const inPath = (process.env["PATH"] ?? "").split(delimiter).filter((folder) => folder !== "");
  const { built, common } = TOOLS[tool];
  const candidates = [join(toolsFolder(), built), ...inPath.map((folder) => join(folder, common))];
  return candidates.find(isExecutable);
}

/** Whether tests must be skipped for want of these tools, for `describe.skipIf`: says which, and how to get them. In CI nothing is skipped: it throws. */
export function lacksTools(...tools: readonly TestTool[]): boolean {
  const missing = tools.filter((tool) => toolPath(tool) === undefined);
  if (missing.length === 0) return false;
  const how = missing.map((tool) => `GOBIN=${toolsFolder()} go install ${TOOLS[tool].module}`).join("; ");
  const words = `${missing.join(" and ")} not found (to have it: ${how})`;
  if ((process.env["CI"] ?? "") !== "") throw new Error(words);
  console.warn(`skipped: ${words}`);
  return true;
}

/** A server that runs as a child process. */
export class ToolProcess {
  readonly #child: ChildProcess;
  readonly #exited: Promise<void>;
  #output = "";

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.#exited = new Promise((resolve) => child.once("exit", () => resolve()));
    const note = (text: Buffer): void => {
      this.#output = (this.#output + text.toString()).slice(-4_000);
    };
    child.stdout?.on("data", note);
    child.stderr?.on("data", note);
    child.once("error", (error) => note(Buffer.from(String(error))));
  }

  /** Starts a tool and waits until `isReady` says so. */
  static async start(tool: TestTool, args: readonly string[], isReady: () => Promise<boolean>): Promise<ToolProcess> {
    const path = toolPath(tool);
    if (path === undefined) throw new Error(`${tool} is not there: ask lacksTools first`);
    const child = spawn(path, args, { stdio: ["ignore", "pipe", "pipe"] });
    // A test that is broken off leaves no server behind.
    const end = (): boolean => child.kill("SIGKILL");
    process.once("exit", end);
    child.once("exit", () => process.off("exit", end));
    const started = new ToolProcess(child);
    const deadline = Date.now() + START_MS_MAX;
    while (!(await isReady().catch(() => false))) {
      if (started.#child.exitCode !== null || Date.now() > deadline) {
        await started.stop("SIGKILL");
        throw new Error(`${tool} did not start: ${started.#output}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    return started;
  }

  /** What it printed last. */
  get output(): string {
    return this.#output;
  }

  /** Freezes it: connections stay open and nothing is answered. Resolves when it has come to a stop. */
  async freeze(): Promise<void> {
    this.#child.kill("SIGSTOP");
    // proc_pid_stat(5): the state follows the name in parentheses; T is stopped.
    while (!/\) T /.test(readFileSync(`/proc/${this.#child.pid}/stat`, "utf8")))
      await new Promise((resolve) => setTimeout(resolve, 5));
  }

  /** Lets it go on. */
  thaw(): void {
    this.#child.kill("SIGCONT");
  }

  /** Ends it and waits until it has ended. */
  async stop(signal: "SIGTERM" | "SIGKILL" = "SIGTERM"): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) this.#child.kill(signal);
    else return;
    await this.#exited;
  }
}

/** A port of the loopback address that nobody listened on a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
