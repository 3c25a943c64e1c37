import { readFileSync } from "node:fs";
import { enableCompileCache } from "node:module";
import { homedir } from "node:os";
import { SystemClock } from "../base/clock.ts";
import { SystemTimers } from "../base/timers.ts";
import type { CliEnvironment } from "./environment.ts";
import { EXIT_CODES } from "./exit-codes.ts";
import { waitForService } from "./wait-for-service.ts";

// Node.js compiles the sources at each start; the cache (in the system's folder for temporary files) halves the time that takes.
enableCompileCache();

/** Where the process meets the program: the only place that reads its surroundings. */
async function main(): Promise<void> {
  const args = process.argv.slice(2);
  const version = packageVersion();
  // Answered without loading anything: the usual question of scripts.
  if (args.length === 1 && (args[0] === "--version" || args[0] === "-V")) {
    process.stdout.write(`${version}\n`);
    return;
  }
  const { run } = await import("./run.ts");
  const code = await run(args, processEnvironment(version, interruption()));
  process.exitCode = code;
  // What a command left behind (a connection, a terminal's input) must not keep the process; output that waits in a pipe must be out.
  process.stdout.write("", () => process.exit(code));
}

function packageVersion(): string {
  const text = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  return (JSON.parse(text) as { version: string }).version;
}

/** Under npx a terminal and npm both pass one Ctrl-C on: what follows so soon is the same one. */
const SAME_INTERRUPTION_MS = 1_000;

/** The first Ctrl-C asks the command to end, a second one ends the process. */
function interruption(): AbortSignal {
  const controller = new AbortController();
  let firstAtMs = 0;
  const interrupt = (): void => {
    if (!controller.signal.aborted) firstAtMs = performance.now();
    else if (performance.now() - firstAtMs > SAME_INTERRUPTION_MS) process.exit(EXIT_CODES.INTERRUPTED.code);
    controller.abort();
  };
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, interrupt);
  return controller.signal;
}

function processEnvironment(version: string, signal: AbortSignal): CliEnvironment {
  const clock = new SystemClock();
  return {
    stdin: process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
    variables: process.env,
    clock,
    zone: (utcSec) => -new Date(utcSec * 1000).getTimezoneOffset() * 60,
    workingFolder: process.cwd(),
    homeFolder: homedir(),
    process: { pid: process.pid, uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 },
    version,
    signal,
    connect: async (socketPath) => {
      const onWait = (waitMsMax: number): void => {
        if (process.stderr.isTTY)
          process.stderr.write(`The service does not answer; waiting up to ${waitMsMax / 1000} s ...\n`);
      };
      const waited = waitForService(socketPath, { clock, timers: new SystemTimers(), signal, onWait });
      const { AdminClient } = await import("../rpc/admin-client.ts");
      await waited;
      const api = new AdminClient({ socketPath, clock });
      return { api, close: () => api.close() };
    },
    runGateway: async (options) => (await import("./gateway/run-gateway.ts")).runGateway(options, process.env),
    serve: async (options) => (await import("./serve.ts")).serve(options),
  };
}

await main();
