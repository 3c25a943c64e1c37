import { join, resolve } from "node:path";
import type { Actor } from "../domain/actor.ts";
import type { AdminApi } from "../domain/admin-api.ts";
import type { CallOptions } from "../domain/admin-call.ts";
import { TidemarkError } from "../domain/errors.ts";
import type { MountId } from "../domain/ids.ts";
import { type MomentRef, parseMoment } from "../domain/moment.ts";
import type { CliEnvironment, Connection } from "./environment.ts";
import { formatLocalTime } from "./output/human.ts";
import { Output } from "./output/output.ts";

/** File name of the admin socket in the data folder; src/rpc/admin-server.ts has it too, but loading that costs every start. */
const SOCKET_NAME = "admin.sock";

export type GlobalOptions = { readonly data?: string; readonly json?: boolean };

/** A service that is just dying may still take a connection; the next try then waits for its successor. */
const RECONNECTS_MAX = 3;

/** One run of one command: its options, its output, its connection. */
export class Session {
  readonly environment: CliEnvironment;
  readonly output: Output;
  readonly dataFolder: string;
  readonly #label: string;
  readonly #connect: (session: Session) => Promise<Connection>;
  #connection: Promise<Connection> | undefined;

  /** `connect`: to something else than the service of the data folder. */
  constructor(
    environment: CliEnvironment,
    {
      options,
      command,
      connect,
    }: { options: GlobalOptions; command: string; connect?: ((session: Session) => Promise<Connection>) | undefined },
  ) {
    this.environment = environment;
    this.dataFolder = dataFolderOf(environment, options.data);
    this.output = makeOutput(environment, options.json === true);
    this.#label = `cli ${command}`;
    this.#connect = connect ?? (() => environment.connect(join(this.dataFolder, SOCKET_NAME)));
  }

  /** The service. Connects once. */
  async api(): Promise<AdminApi> {
    return (await this.#connected()).api;
  }

  #connected(): Promise<Connection> {
    this.#connection ??= this.#connect(this);
    return this.#connection;
  }

  async #ready({ api, ready }: Connection): Promise<void> {
    await (ready === undefined ? api.status.serviceStatus(this.callOptions) : ready());
  }

  /** After a service has ended: connects to the one that is started in its place. Throws UNAVAILABLE when none is. */
  async reconnect(): Promise<void> {
    for (let left = RECONNECTS_MAX; ; left -= 1) {
      await this.close();
      this.#connection = undefined;
      try {
        await this.#ready(await this.#connected());
        return;
      } catch (error) {
        if (!(error instanceof TidemarkError) || error.code !== "UNAVAILABLE" || left === 1) throw error;
      }
    }
  }

  /** What every call carries: who asks, and the way to interrupt it. */
  get callOptions(): CallOptions & { readonly signal: AbortSignal } {
    const { pid, uid, gid } = this.environment.process;
    const actor: Actor = { mountId: 0 as MountId, uid, gid, pid, label: this.#label };
    return { actor, signal: this.environment.signal };
  }

  /** A moment as typed, or now. What is to be said about it is said. Throws INVALID_ARGUMENT. */
  moment(text: string | undefined): MomentRef {
    if (text === undefined) return { kind: "now" };
    const { clock, zone } = this.environment;
    const now = clock.now();
    const { moment, note } = parseMoment(text, { now, zone });
    if (note !== undefined) this.output.note(`note: "${text}": ${note}`);
    if (moment.kind === "time" && moment.time.sec > now.sec)
      this.output.note(`note: "${text}": that is in the future: this is now`);
    return moment;
  }

  /** A path of this machine, absolute. */
  machinePath(text: string): string {
    return resolve(this.environment.workingFolder, text);
  }

  /** Wall time in the person's zone. */
  time(time: { readonly sec: number; readonly nsec: number }): string {
    return formatLocalTime(time, this.environment.zone);
  }

  async close(): Promise<void> {
    if (this.#connection === undefined) return;
    const connection = await this.#connection.catch(() => undefined);
    await connection?.close();
  }
}

/** --data, else TIDEMARK_DATA, else the folder of the system (root) or of the person. */
export function dataFolderOf(environment: CliEnvironment, option: string | undefined): string {
  const named = option ?? environment.variables["TIDEMARK_DATA"];
  if (named === "")
    throw new TidemarkError(
      "INVALID_ARGUMENT",
      "the data folder's name is empty: expected --data DIR or TIDEMARK_DATA=DIR",
    );
  if (named !== undefined) return resolve(environment.workingFolder, named);
  if (environment.process.uid === 0) return "/var/lib/tidemark";
  return join(environment.homeFolder, ".local/share/tidemark");
}

/** Standard output and error, with colour where a terminal shows it and nobody objects (no-color.org). */
export function makeOutput(environment: CliEnvironment, json: boolean): Output {
  const { stdout, stderr, variables } = environment;
  const wanted = (variables["NO_COLOR"] ?? "") === "" && variables["TERM"] !== "dumb";
  return new Output({ stdout, stderr, json, color: wanted && !json && stdout.isTTY === true });
}
