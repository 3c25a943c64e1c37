import { PassThrough, Readable, Writable } from "node:stream";
import type { Clock } from "../../src/base/clock.ts";
import type { CliEnvironment, ServeOptions } from "../../src/cli/environment.ts";
import { run } from "../../src/cli/run.ts";
import type { AdminApi } from "../../src/domain/admin-api.ts";
import { FakeAdminApi } from "../contract/fake-admin-api.ts";

/** 2026-11-20 12:00:00 UTC, where nothing moves. */
export const NOW = { sec: Date.parse("2026-11-20T12:00:00Z") / 1000, nsec: 0 };
const CLOCK: Clock = { now: () => NOW, monotonicMs: () => 0 };

class Captured extends Writable {
  readonly isTTY: boolean;
  readonly columns = 100;
  readonly chunks: Buffer[] = [];

  constructor(isTTY: boolean) {
    super();
    this.isTTY = isTTY;
  }

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.chunks.push(Buffer.from(chunk));
    done();
  }

  get text(): string {
    return Buffer.concat(this.chunks).toString();
  }
}

export type CliOptions = {
  readonly api?: AdminApi;
  /** Standard output and error are terminals. */
  readonly terminal?: boolean;
  /** Typed on a terminal. */
  readonly answer?: string;
  readonly variables?: Record<string, string>;
  readonly signal?: AbortSignal;
  readonly stdout?: Writable;
  readonly uid?: number;
  /** What else is different. */
  readonly environment?: Partial<CliEnvironment>;
};

export type CliResult = {
  readonly code: number;
  readonly stdout: string;
  readonly bytes: Buffer;
  readonly stderr: string;
  readonly socketPaths: readonly string[];
  readonly served: readonly ServeOptions[];
};

/** Surroundings in which nothing is there, for what only needs some. */
export function makeEnvironment(changes: Partial<CliEnvironment> = {}): CliEnvironment {
  return {
    stdin: new PassThrough(),
    stdout: new Captured(false),
    stderr: new Captured(false),
    variables: {},
    clock: CLOCK,
    zone: () => 3600,
    workingFolder: "/home/ann",
    homeFolder: "/home/me",
    process: { pid: 77, uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 },
    version: "9.8.7",
    signal: new AbortController().signal,
    connect: async () => ({ api: new FakeAdminApi(), close: () => {} }),
    runGateway: async () => 0,
    serve: async () => 0,
    ...changes,
  };
}

/** Runs one command line in this process, against `api` (else a FakeAdminApi). */
export async function cli(args: readonly string[], options: CliOptions = {}): Promise<CliResult> {
  const terminal = options.terminal === true;
  const stdout = new Captured(terminal);
  const stderr = new Captured(terminal);
  const stdin = Object.assign(
    options.answer === undefined ? new PassThrough() : Readable.from([`${options.answer}\n`]),
    {
      isTTY: options.answer !== undefined,
    },
  );
  const socketPaths: string[] = [];
  const served: ServeOptions[] = [];
  const { signal, uid } = options;
  const environment = makeEnvironment({
    stdin,
    stdout: options.stdout ?? stdout,
    stderr,
    variables: { NO_COLOR: "1", ...options.variables },
    ...(signal === undefined ? {} : { signal }),
    ...(uid === undefined ? {} : { process: { pid: 77, uid, gid: uid } }),
    connect: async (socketPath) => {
      socketPaths.push(socketPath);
      return { api: options.api ?? new FakeAdminApi(), close: () => {} };
    },
    serve: async (serveOptions) => {
      served.push(serveOptions);
      return 0;
    },
    ...options.environment,
  });
  const code = await run(args, environment);
  return { code, stdout: stdout.text, bytes: Buffer.concat(stdout.chunks), stderr: stderr.text, socketPaths, served };
}
