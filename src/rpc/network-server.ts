import type { Duplex } from "node:stream";
import type { TLSSocket } from "node:tls";
import {
  type ConnectionInjector,
  type Metadata,
  Server,
  ServerCredentials,
  ServerInterceptingCall,
  type ServerInterceptor,
  type ServiceDefinition,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { Timers } from "../base/timers.ts";
import { TidemarkError } from "../domain/errors.ts";
import type { Gate, NodePeer } from "../domain/node-join.ts";
import { ACTOR_KEY } from "./actor-header.ts";
import { toStatus } from "./errors.ts";
import { MESSAGE_BYTES_MAX } from "./grpc-service.ts";
import { admit, peerOf } from "./peer.ts";
import { widenReceiveWindows } from "./receive-window.ts";
import { RefusalLog } from "./refusal-log.ts";
import { nodeNameOf, thumbprintOfPeer } from "./tls/certificate.ts";
import { CONNECTION_LIMITS, type ConnectionLimits } from "./tls/connection-count.ts";
import { Listener, remoteOf } from "./tls/listener.ts";
import type { NetworkAddress } from "./tls/network-address.ts";
import type { TlsMaterial } from "./tls/tls-files.ts";

/** The one call that a ticket's certificate may make. */
export const JOIN_PATH = "/tidemark.v1.NodeService/Join";

/** Each end asks the other so often, and waits so long for the answer: a half-open connection is noticed within twice that. */
const KEEPALIVE_MS = 10_000;

/** A connection without a call is of no use; a node that comes back makes a new one. */
const IDLE_MS = 300_000;

/** Calls of one connection at a time: a session for each share of a node, a feed or two, and what joins or renews. */
const STREAMS_PER_CONNECTION_MAX = 256;

/** What HTTP/2 may hold for one connection, in MiB: some messages of the largest size each way, and far from what one peer could otherwise pile up. */
const CONNECTION_MEMORY_MIB_MAX = 128;

/** Who is refused gets an answer that says so; then the connection ends. */
const REFUSED_LINGER_MS = 2_000;

/** How often connections are looked at again: a certificate may have expired meanwhile. */
const SWEEP_MS = 60_000;

export type NetworkServerOptions = {
  readonly gate: Gate;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
  readonly limits?: Partial<ConnectionLimits>;
  /** How often a connection is asked for a sign of life, and how long for the answer; for tests. */
  readonly keepaliveMs?: number;
  /** Hears of a peer with a good certificate whom the gate has refused a connection. */
  readonly onRefused?: (peer: NodePeer, reason: string) => void;
};

/**
 * The service's door to other nodes: gRPC over mTLS. No handler runs for a peer that the gate does not admit; a ticket's certificate reaches `NodeService.Join` only.
 *
 * Connections are accepted by our own listener, which counts, bounds and proves them, and are handed to grpc-js afterwards.
 */
export class NetworkServer {
  readonly #options: NetworkServerOptions;
  readonly #limits: ConnectionLimits;
  readonly #refusals: RefusalLog;
  readonly #secure: Door;
  readonly #plain: Door;
  readonly #listeners: Listener[] = [];
  readonly #peers = new Map<TLSSocket, NodePeer>();
  #stopSweep: () => void = () => {};
  #closed = false;

  constructor(options: NetworkServerOptions) {
    this.#options = options;
    widenReceiveWindows();
    this.#limits = { ...CONNECTION_LIMITS, ...options.limits };
    this.#refusals = new RefusalLog(options.log, options.clock);
    const { keepaliveMs = KEEPALIVE_MS } = options;
    this.#secure = makeDoor(this.#interceptor({ proven: true }), keepaliveMs);
    this.#plain = makeDoor(this.#interceptor({ proven: false }), keepaliveMs);
  }

  /** Serves `service` on every address. Before the first `listen`. */
  add(service: ServiceDefinition, implementation: UntypedServiceImplementation): void {
    for (const { server } of [this.#secure, this.#plain]) server.addService(service, implementation);
  }

  /** Listens for nodes. Answers where: the port is the real one. Throws FAILED_PRECONDITION when it can't. */
  async listenTls(address: NetworkAddress, material: TlsMaterial): Promise<NetworkAddress> {
    const common = { address, limits: this.#limits, refusals: this.#refusals };
    return this.#listening(await Listener.tls({ ...common, onConnection: (socket) => this.#meet(socket) }, material));
  }

  /** Listens without TLS, on loopback only: for tests, and for what ends TLS before it. Throws INVALID_ARGUMENT elsewhere. */
  async listenPlaintext(address: NetworkAddress): Promise<NetworkAddress> {
    const onConnection = (socket: Duplex): void => this.#plain.connections.injectConnection(socket);
    return this.#listening(
      await Listener.plaintext({ address, limits: this.#limits, refusals: this.#refusals, onConnection }),
    );
  }

  /** New connections are met with another certificate from now on. */
  setMaterial(material: TlsMaterial): void {
    for (const listener of this.#listeners) listener.setMaterial(material);
  }

  /** Ends the connections of a node, `afterMs` from now: so long its calls have to say why. */
  dropNode(name: string, { afterMs }: { readonly afterMs: number }): void {
    const sockets = [...this.#peers].filter(([, peer]) => peer.node === name).map(([socket]) => socket);
    this.#options.timers.after(afterMs, () => {
      for (const socket of sockets) socket.destroy();
    });
  }

  /** How many connections there are with a proven certificate. */
  get connectionCount(): number {
    return this.#peers.size;
  }

  /** Takes no more connections or calls, waits for calls that run up to `graceMs`, then ends them. Once. */
  async close({ graceMs }: { readonly graceMs: number }): Promise<void> {
    this.#closed = true;
    this.#stopSweep();
    for (const listener of this.#listeners) listener.close();
    await Promise.all([this.#secure, this.#plain].map((door) => this.#shut(door, graceMs)));
    for (const socket of this.#peers.keys()) socket.destroy();
  }

  #listening(listener: Listener): NetworkAddress {
    if (this.#listeners.length === 0) this.#sweepLater();
    this.#listeners.push(listener);
    return listener.address;
  }

  /** A peer that has proven its certificate. */
  #meet(socket: TLSSocket): void {
    if (socket.destroyed) return;
    const certificate = socket.getPeerCertificate();
    const peer: NodePeer = {
      node: nodeNameOf(certificate.subject) ?? "",
      certificateThumbprint: thumbprintOfPeer(certificate),
      address: remoteOf(socket),
      certificateExpiresSec: Math.floor(Date.parse(certificate.valid_to) / 1000),
    };
    this.#peers.set(socket, peer);
    socket.once("close", () => this.#peers.delete(socket));
    const admission = this.#options.gate.admission(peer);
    if (admission.kind === "refused") this.#dismiss(socket, peer, admission.reason);
    this.#secure.connections.injectConnection(socket);
  }

  #dismiss(socket: TLSSocket, peer: NodePeer, reason: string): void {
    const { node, address } = peer;
    this.#options.onRefused?.(peer, reason);
    this.#refusals.refused({ address, reason: node === "" ? reason : `node ${node}: ${reason}` });
    this.#options.timers.after(REFUSED_LINGER_MS, () => socket.destroy());
  }

  #sweepLater(): void {
    this.#stopSweep = this.#options.timers.after(SWEEP_MS, () => {
      for (const [socket, peer] of this.#peers) {
        const admission = this.#options.gate.admission(peer);
        if (admission.kind === "refused") this.#dismiss(socket, peer, admission.reason);
      }
      if (!this.#closed) this.#sweepLater();
    });
  }

  /** Asks the gate before a call reaches its handler. `proven`: a call without a certificate can't be. */
  #interceptor({ proven }: { readonly proven: boolean }): ServerInterceptor {
    return (method, call) => {
      return new ServerInterceptingCall(call, {
        start: (next) =>
          next({
            onReceiveMetadata: (metadata: Metadata, go: (metadata: Metadata) => void) => {
              const peer = peerOf(call);
              const reason = this.#refusal(peer, { path: method.path, proven });
              if (reason !== undefined) {
                call.sendStatus(
                  toStatus(new TidemarkError("PERMISSION_DENIED", `the service refuses this node: ${reason}`)),
                );
                return;
              }
              // Who acts is what the certificate and the token say, not the caller.
              metadata.remove(ACTOR_KEY);
              admit(metadata, peer);
              go(metadata);
            },
          }),
      });
    };
  }

  #refusal(peer: NodePeer, { path, proven }: { readonly path: string; readonly proven: boolean }): string | undefined {
    if (proven && peer.certificateThumbprint === "") return "it has no certificate";
    const admission = this.#options.gate.admission(peer);
    switch (admission.kind) {
      case "admitted":
        return undefined;
      case "invited":
        return path === JOIN_PATH ? undefined : "it has a ticket, and has not joined with it yet";
      case "refused":
        return admission.reason;
    }
  }

  async #shut({ server, connections }: Door, graceMs: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const cancel = this.#options.timers.after(graceMs, () => server.forceShutdown());
      server.tryShutdown(() => {
        cancel();
        resolve();
      });
    });
    connections.destroy();
  }
}

/** A grpc-js server, and the way to hand it connections. */
type Door = { readonly server: Server; readonly connections: ConnectionInjector };

function makeDoor(interceptor: ServerInterceptor, keepaliveMs: number): Door {
  const server = new Server({
    interceptors: [interceptor],
    "grpc.max_receive_message_length": MESSAGE_BYTES_MAX,
    "grpc.max_send_message_length": MESSAGE_BYTES_MAX,
    "grpc.max_concurrent_streams": STREAMS_PER_CONNECTION_MAX,
    "grpc.keepalive_time_ms": keepaliveMs,
    "grpc.keepalive_timeout_ms": keepaliveMs,
    "grpc.max_connection_idle_ms": IDLE_MS,
    "grpc-node.max_session_memory": CONNECTION_MEMORY_MIB_MAX,
    "grpc.enable_channelz": 0,
  });
  return { server, connections: server.createConnectionInjector(ServerCredentials.createInsecure()) };
}
