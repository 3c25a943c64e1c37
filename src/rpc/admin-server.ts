import { chmodSync, lstatSync, unlinkSync } from "node:fs";
import { connect } from "node:net";
import { Server, ServerCredentials } from "@grpc/grpc-js";
import type { AdminApi } from "../domain/admin-api.ts";
import { TidemarkError } from "../domain/errors.ts";
import { adminServices } from "./admin-services.ts";
import { type DefectListener, MESSAGE_BYTES_MAX } from "./grpc-service.ts";
import { type SocketAddress, socketAddress } from "./socket-address.ts";

/** File name of the admin socket in the data folder. */
export const ADMIN_SOCKET_NAME = "admin.sock";

/** Calls of one connection at a time: far more than a CLI makes; a client beyond it waits (SETTINGS_MAX_CONCURRENT_STREAMS). */
const STREAMS_PER_CONNECTION_MAX = 256;

/** Serves AdminApi over gRPC on a Unix socket. */
export class AdminServer {
  readonly #server: Server;
  readonly #address: SocketAddress;
  readonly #socketPath: string;

  private constructor(server: Server, address: SocketAddress, socketPath: string) {
    this.#server = server;
    this.#address = address;
    this.#socketPath = socketPath;
  }

  /**
   * Listens at `socketPath` (mode 0600; its folder is the caller's and private). A socket that a dead service left is replaced; FAILED_PRECONDITION when something
   * listens there, or when something else than a socket has the name. `onDefect` hears of failures that are ours.
   */
  static async listen(options: { api: AdminApi; socketPath: string; onDefect: DefectListener }): Promise<AdminServer> {
    const { api, socketPath, onDefect } = options;
    const address = socketAddress(socketPath);
    try {
      await removeStaleSocket(address.path, socketPath);
      const server = makeServer(api, onDefect);
      await bind(server, address.path, socketPath);
      chmodSync(address.path, 0o600);
      return new AdminServer(server, address, socketPath);
    } catch (error) {
      address.close();
      throw error;
    }
  }

  get socketPath(): string {
    return this.#socketPath;
  }

  /**
   * Takes no more calls, waits for those that run up to `graceMs`, then cancels them. Once. The timer is the transport's own: it is not
   * on a clock that decides anything.
   */
  async close(options: { graceMs: number }): Promise<void> {
    await new Promise<void>((resolve) => {
      const force = AbortSignal.timeout(options.graceMs);
      const onTimeout = (): void => this.#server.forceShutdown();
      force.addEventListener("abort", onTimeout);
      this.#server.tryShutdown(() => {
        force.removeEventListener("abort", onTimeout);
        resolve();
      });
    });
    this.#address.close();
  }
}

function makeServer(api: AdminApi, onDefect: DefectListener): Server {
  const server = new Server({
    "grpc.max_receive_message_length": MESSAGE_BYTES_MAX,
    "grpc.max_send_message_length": MESSAGE_BYTES_MAX,
    "grpc.max_concurrent_streams": STREAMS_PER_CONNECTION_MAX,
  });
  for (const { definition, implementation } of adminServices(api, onDefect))
    server.addService(definition, implementation);
  return server;
}

function bind(server: Server, path: string, shownPath: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.bindAsync(`unix:${path}`, ServerCredentials.createInsecure(), (error) => {
      if (error === null) return resolve();
      reject(
        new TidemarkError("FAILED_PRECONDITION", `cannot listen on ${shownPath}: ${error.message}`, { cause: error }),
      );
    });
  });
}

/** Only a socket that nobody listens on is removed. */
async function removeStaleSocket(path: string, shownPath: string): Promise<void> {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return;
  if (!stat.isSocket()) {
    throw new TidemarkError(
      "FAILED_PRECONDITION",
      `${shownPath} is in the way: expected a socket or nothing; move it elsewhere`,
    );
  }
  if (await isListening(path)) {
    throw new TidemarkError("FAILED_PRECONDITION", `another service listens on ${shownPath}; stop it first`);
  }
  unlinkSync(path);
}

function isListening(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.on("connect", () => {
      socket.destroy();
      resolve(true);
    });
    // ECONNREFUSED: its process is gone. Anything else is found out, by name, when binding.
    socket.on("error", () => resolve(false));
  });
}
