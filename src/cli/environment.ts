import type { Readable } from "node:stream";
import type { Clock } from "../base/clock.ts";
import type { AdminApi } from "../domain/admin-api.ts";
import type { ZoneOffset } from "../domain/moment.ts";
import type { GatewayProcessOptions } from "./gateway/run-gateway.ts";
import type { OutputStream } from "./output/output.ts";
import type { ListenOptions } from "./service/listen-options.ts";

export type ServeOptions = {
  readonly dataFolder: string;
  /** Bound of local history; absent: half of the disk. */
  readonly historyBytesMax?: bigint;
  /** How to listen for other nodes; absent: not at all. */
  readonly listen?: ListenOptions;
  /** Log level. */
  readonly logLevel: "debug" | "info" | "warn" | "error";
};

export type Connection = {
  readonly api: AdminApi;
  close(): void | Promise<void>;
  /** Resolves when the service answers; absent: one finds out by asking. Throws UNAVAILABLE. */
  ready?(): Promise<void>;
};

/** Everything the commands take from the world: main.ts gives the process's own, tests give theirs. */
export type CliEnvironment = {
  readonly stdin: Readable & { readonly isTTY?: boolean };
  readonly stdout: OutputStream;
  readonly stderr: OutputStream;
  readonly variables: Readonly<Record<string, string | undefined>>;
  readonly clock: Clock;
  readonly zone: ZoneOffset;
  readonly workingFolder: string;
  readonly homeFolder: string;
  readonly process: { readonly pid: number; readonly uid: number; readonly gid: number };
  readonly version: string;
  /** Fires when the person wants out (Ctrl-C, SIGTERM). */
  readonly signal: AbortSignal;
  /** Reaches a service; the first call fails with UNAVAILABLE when there is none. */
  readonly connect: (socketPath: string) => Promise<Connection>;
  /** Keeps a mount whose service is elsewhere until it is unmounted or this process is told to end. Answers the exit code. */
  readonly runGateway: (options: GatewayProcessOptions) => Promise<number>;
  /** Runs the service until it is stopped. Answers the exit code. */
  readonly serve: (options: ServeOptions) => Promise<number>;
};
