import { constants } from "node:crypto";
import { createServer, type Server, Socket } from "node:net";
import { createServer as createTlsServer, type TLSSocket, type Server as TlsServer } from "node:tls";
import { TidemarkError } from "../../domain/errors.ts";
import type { RefusalLog } from "../refusal-log.ts";
import { ConnectionCount, type ConnectionLimits } from "./connection-count.ts";
import { formatNetworkAddress, isLoopback, type NetworkAddress, unmapped } from "./network-address.ts";
import type { TlsMaterial } from "./tls-files.ts";

export type ListenerOptions<S> = {
  readonly address: NetworkAddress;
  readonly limits: ConnectionLimits;
  readonly refusals: RefusalLog;
  /** Takes a connection over. */
  readonly onConnection: (socket: S) => void;
};

/** A TCP port, and what may come in there. */
export class Listener {
  /** Where it listens; the port is the real one. */
  readonly address: NetworkAddress;
  readonly #server: Server;
  readonly #tls: TlsServer | undefined;

  private constructor(server: Server, address: NetworkAddress, tls?: TlsServer) {
    this.#server = server;
    this.address = address;
    this.#tls = tls;
  }

  /**
   * Listens with mTLS: TLS 1.3 (RFC 8446), a client's certificate that the authority has signed, ALPN "h2". What comes without is ended before anything else sees it. Throws FAILED_PRECONDITION when it can't listen there.
   */
  static async tls(options: ListenerOptions<TLSSocket>, material: TlsMaterial): Promise<Listener> {
    const { limits, refusals, onConnection } = options;
    const count = new ConnectionCount(limits);
    const tls = createTlsServer({
      ...secrets(material),
      requestCert: true,
      rejectUnauthorized: true,
      minVersion: "TLSv1.3",
      ALPNProtocols: ["h2"],
      handshakeTimeout: limits.handshakeMs,
      // A resumed session would skip the certificate; and each handshake is one more look at it.
      secureOptions: constants.SSL_OP_NO_TICKET,
    });
    tls.on("tlsClientError", (error, socket) => {
      refusals.refused({ address: remoteOf(socket), reason: reasonOf(error, socket) });
      socket.destroy();
    });
    tls.on("secureConnection", (socket) => {
      // An error of a connection that is over ends nothing else.
      socket.on("error", () => {});
      if (socket.authorized && socket.alpnProtocol === "h2") {
        count.proven(socket);
        return onConnection(socket);
      }
      refusals.refused({ address: remoteOf(socket), reason: "it does not speak HTTP/2 in TLS" });
      socket.destroy();
    });
    const server = await listen({ ...options, count }, (socket) => tls.emit("connection", socket));
    return new Listener(server, boundAddress(server, options.address), tls);
  }

  /** Listens without TLS, where nobody outside of the machine can reach it: INVALID_ARGUMENT elsewhere. FAILED_PRECONDITION when it can't listen there. */
  static async plaintext(options: ListenerOptions<Socket>): Promise<Listener> {
    const { address } = options;
    if (!isLoopback(address.host)) {
      const message = `${formatNetworkAddress(address)} can be reached from outside, so nothing is served there without TLS: listen with --listen, or at 127.0.0.1`;
      throw new TidemarkError("INVALID_ARGUMENT", message);
    }
    const host = address.host === "localhost" ? "127.0.0.1" : address.host;
    const count = new ConnectionCount(options.limits);
    const server = await listen({ ...options, address: { ...address, host }, count }, (socket) => {
      count.proven(socket);
      options.onConnection(socket);
    });
    return new Listener(server, boundAddress(server, address));
  }

  /** New connections are met with these from now on. */
  setMaterial(material: TlsMaterial): void {
    this.#tls?.setSecureContext({ ...secrets(material), minVersion: "TLSv1.3" });
  }

  /** No new connections. */
  close(): void {
    this.#server.close();
  }
}

function secrets({ certificate, key, authority }: TlsMaterial): { cert: string; key: string; ca: string } {
  return { cert: certificate, key, ca: authority };
}

type Listening = Pick<ListenerOptions<Socket>, "address" | "limits" | "refusals"> & { readonly count: ConnectionCount };

function listen(
  { address, limits, refusals, count }: Listening,
  onConnection: (socket: Socket) => void,
): Promise<Server> {
  const server = createServer({ noDelay: true }, (socket) => {
    socket.on("error", () => {});
    const reason = count.refusal(socket);
    if (reason === undefined) return onConnection(socket);
    refusals.refused({ address: remoteOf(socket), reason });
    socket.destroy();
  });
  server.maxConnections = limits.connectionsMax;
  server.on("drop", (dropped) => {
    const from = formatNetworkAddress({ host: dropped?.remoteAddress ?? "?", port: dropped?.remotePort ?? 0 });
    refusals.refused({ address: from, reason: `there are ${limits.connectionsMax} connections already` });
  });
  return new Promise((resolve, reject) => {
    server.once("error", (cause) => reject(cannotListen(address, cause)));
    server.listen({ host: address.host, port: address.port }, () => resolve(server));
  });
}

function cannotListen(address: NetworkAddress, cause: NodeJS.ErrnoException): TidemarkError {
  const words: Readonly<Record<string, string>> = {
    EADDRINUSE: "another program listens there",
    EADDRNOTAVAIL: "this machine has no such address",
    EACCES: "that port needs root",
    ENOTFOUND: "there is no such host",
  };
  const { code = "" } = cause;
  const reason = words[code] ?? cause.message;
  const message = `cannot listen on ${formatNetworkAddress(address)}: ${reason}`;
  return new TidemarkError("FAILED_PRECONDITION", message, { cause, data: { errno: code } });
}

function boundAddress(server: Server, { host }: NetworkAddress): NetworkAddress {
  const bound = server.address();
  return { host, port: typeof bound === "object" && bound !== null ? bound.port : 0 };
}

/** The other end of a socket, for people. */
export function remoteOf(socket: Socket): string {
  // A TLS socket that has failed has let go of its TCP socket, which still knows (it was asked when it came). Node has no public way there; without it the line says "unknown".
  const { remoteAddress, remotePort } =
    socket.remoteAddress === undefined && "_parent" in socket && socket._parent instanceof Socket
      ? socket._parent
      : socket;
  if (remoteAddress === undefined) return "unknown";
  return formatNetworkAddress({ host: unmapped(remoteAddress), port: remotePort ?? 0 });
}

/** OpenSSL's reasons, as people understand them. */
const REASONS: Readonly<Record<string, string>> = {
  ERR_SSL_HTTP_REQUEST: "it speaks HTTP without TLS",
  ERR_SSL_WRONG_VERSION_NUMBER: "it does not speak TLS",
  ERR_SSL_UNSUPPORTED_PROTOCOL: "it knows no TLS 1.3",
  ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE: "it has no certificate",
  ERR_SSL_NO_APPLICATION_PROTOCOL: "it does not speak HTTP/2",
  ERR_TLS_HANDSHAKE_TIMEOUT: "it did not finish the handshake in time",
  ECONNRESET: "it went away during the handshake",
};

function reasonOf(error: NodeJS.ErrnoException, socket: TLSSocket): string {
  // Node ends the connection by itself when the certificate does not hold, and says only here why.
  const unauthorized: unknown = socket.authorizationError;
  if (unauthorized !== null && unauthorized !== undefined)
    return `its certificate is not accepted: ${String(unauthorized)}`;
  return REASONS[error.code ?? ""] ?? error.code ?? error.message;
}
