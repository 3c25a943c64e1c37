import { mkdtempSync, rmSync } from "node:fs";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import type { Duplex } from "node:stream";
import type { ConnectionOptions } from "node:tls";
import type {
  ChannelOptions,
  ClientDuplexStream,
  ServiceDefinition,
  UntypedServiceImplementation,
} from "@grpc/grpc-js";
import { type Clock, SystemClock, type Timestamp } from "../base/clock.ts";
import { type MemoryLog, memoryLog } from "../base/log.ts";
import { SystemTimers } from "../base/timers.ts";
import type { Admission, NodePeer } from "../domain/node-join.ts";
import { NetworkServer } from "./network-server.ts";
import { peerOf } from "./peer.ts";
import { CertificateAuthority } from "./tls/authority.ts";
import type { ConnectionLimits } from "./tls/connection-count.ts";
import { credentialsOf, type NetworkChannel, openChannel } from "./tls/credentials.ts";
import type { TlsMaterial } from "./tls/tls-files.ts";

const asIs = (bytes: Buffer): Buffer => bytes;
const raw = {
  requestSerialize: asIs,
  requestDeserialize: asIs,
  responseSerialize: asIs,
  responseDeserialize: asIs,
};

/** For tests: a service whose calls answer with the peer they came from, or with what they got. */
const DEFINITION: ServiceDefinition = {
  who: { path: "/test/Who", requestStream: false, responseStream: false, ...raw },
  echo: { path: "/test/Echo", requestStream: true, responseStream: true, ...raw },
  join: { path: "/tidemark.v1.NodeService/Join", requestStream: false, responseStream: false, ...raw },
};

export type TestNetworkOptions = { readonly limits?: Partial<ConnectionLimits>; readonly keepaliveMs?: number };

/** For tests: a NetworkServer on loopback with an authority of its own, and what it takes to call it. */
export class TestNetwork {
  readonly folder: string;
  readonly authority: CertificateAuthority;
  readonly material: TlsMaterial;
  readonly server: NetworkServer;
  readonly log: MemoryLog;
  /** What the gate answers. */
  admit: (peer: NodePeer) => Admission = () => ({ kind: "admitted" });
  readonly #clock: Clock;
  readonly #channels: NetworkChannel[] = [];
  port = 0;

  private constructor(
    folder: string,
    parts: { authority: CertificateAuthority; material: TlsMaterial; options: TestNetworkOptions },
  ) {
    this.folder = folder;
    this.authority = parts.authority;
    this.material = parts.material;
    this.#clock = new SystemClock();
    this.log = memoryLog();
    const gate = { admission: (peer: NodePeer) => this.admit(peer) };
    const timers = new SystemTimers();
    this.server = new NetworkServer({ gate, clock: this.#clock, timers, log: this.log, ...parts.options });
    const who = (call: Parameters<typeof peerOf>[0], answer: (error: null, bytes: Buffer) => void): void =>
      answer(null, Buffer.from(JSON.stringify(peerOf(call))));
    const echo = (call: Duplex): unknown => call.pipe(call);
    this.server.add(DEFINITION, { who, join: who, echo } as object as UntypedServiceImplementation);
  }

  static async start(options: TestNetworkOptions = {}): Promise<TestNetwork> {
    const folder = mkdtempSync(path.join(tmpdir(), "tidemark-tls-"));
    const authority = await CertificateAuthority.open(path.join(folder, "tls"), { clock: new SystemClock() });
    const material = await authority.service(["127.0.0.1", "localhost", "::1"]);
    const network = new TestNetwork(folder, { authority, material, options });
    network.port = (await network.server.listenTls({ host: "127.0.0.1", port: 0 }, material)).port;
    return network;
  }

  /** What a node of that name, of this authority or another, proves itself with. */
  async node(name: string, { authority = this.authority, until = this.inSeconds(3600) } = {}): Promise<TlsMaterial> {
    return { ...(await authority.issueInvite(name, until)), authority: this.authority.certificate };
  }

  /** Another authority, which this service does not know. */
  async stranger(): Promise<CertificateAuthority> {
    return CertificateAuthority.open(path.join(this.folder, "stranger"), { clock: this.#clock });
  }

  inSeconds(seconds: number): Timestamp {
    return { sec: this.#clock.now().sec + seconds, nsec: 0 };
  }

  /** For a TLS client that is no channel. */
  tlsOptions({ certificate, key, authority }: TlsMaterial): ConnectionOptions {
    const secrets = { cert: certificate, key, ca: authority };
    return { host: "127.0.0.1", port: this.port, ...secrets, ALPNProtocols: ["h2"] };
  }

  /** A channel that is closed with the network. */
  channel(
    material: TlsMaterial | "plaintext",
    { host = "127.0.0.1", port = this.port, channelOptions = {} as ChannelOptions } = {},
  ): NetworkChannel {
    const credentials = material === "plaintext" ? ({ kind: "plaintext" } as const) : credentialsOf(material);
    const channel = openChannel({ address: `${host}:${port}`, credentials, channelOptions });
    this.#channels.push(channel);
    return channel;
  }

  /** Calls the service once: the peer it saw. Throws as `failure` of the channel says. */
  async who(channel: NetworkChannel, method = "/test/Who"): Promise<NodePeer> {
    const answer = await new Promise<Buffer>((resolve, reject) => {
      channel.client.makeUnaryRequest(method, asIs, asIs, Buffer.alloc(1), (error, bytes) =>
        error === null && bytes !== undefined
          ? resolve(bytes)
          : reject(error === null ? error : channel.failure(error)),
      );
    });
    return JSON.parse(answer.toString()) as NodePeer;
  }

  /** A stream that stays open. */
  stream(channel: NetworkChannel): ClientDuplexStream<Buffer, Buffer> {
    return channel.client.makeBidiStreamRequest("/test/Echo", asIs, asIs);
  }

  async stop(): Promise<void> {
    for (const channel of this.#channels) channel.close();
    await this.server.close({ graceMs: 100 });
    rmSync(this.folder, { recursive: true });
  }
}

/** For tests: resolves when the other end has closed it. */
export async function closed(socket: Socket): Promise<void> {
  socket.on("error", () => {});
  socket.resume();
  // Not `once` of node:events, which takes an error before the close for its own.
  if (!socket.closed) await new Promise((resolve) => socket.once("close", resolve));
}
