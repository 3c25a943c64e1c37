import { hostname, networkInterfaces } from "node:os";
import path from "node:path";
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import type { Timers } from "../../base/timers.ts";
import type { NodesApi } from "../../domain/admin-nodes.ts";
import { TidemarkError } from "../../domain/errors.ts";
import type { NodePeer } from "../../domain/node-join.ts";
import { NodeGate } from "../../meta/node-gate.ts";
import type { MetadataService } from "../../meta/service.ts";
import { NetworkServer } from "../../rpc/network-server.ts";
import { serveNodes } from "../../rpc/node-service.ts";
import { CertificateAuthority } from "../../rpc/tls/authority.ts";
import { formatNetworkAddress, type NetworkAddress, parseNetworkAddress } from "../../rpc/tls/network-address.ts";
import { readTlsFiles, type TlsMaterial } from "../../rpc/tls/tls-files.ts";
import type { ListenOptions } from "./listen-options.ts";
import { NodeAdmin } from "./node-admin.ts";
import { NodeAudit, type NodeAuditLog } from "./node-audit.ts";
import { NodeJoins } from "./node-joins.ts";
import { certificateNames, type Machine, reachableAddresses } from "./service-names.ts";

/** How often the service's certificate is looked at: files of another authority may have been replaced, an own one be about to expire. */
const REFRESH_MS = 60_000;

/** When the process before this one, or an interface that is just coming up, keeps an address busy. */
const LISTEN_AGAIN_MS = 2_000;

/** A removed node's sessions have so long to say why they end. */
const REMOVED_LINGER_MS = 1_000;

/** Calls under way when the service stops get this long. */
const GRACE_MS = 2_000;

/** An authority that ends is no surprise that should come on the day. */
const AUTHORITY_WARNING_SEC = 365 * 24 * 3600;

export type NetworkOptions = {
  readonly dataFolder: string;
  readonly service: MetadataService;
  /** Undefined: the service is for this machine alone. */
  readonly listen: ListenOptions | undefined;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
  /** Whether the process before this one was a service too: then an address that can't be had is tried again, instead of ending the mounts that live on. */
  readonly restarted: boolean;
  /** Shares that a node has mounted now. */
  readonly sessionCount: (node: string) => number;
  readonly audit: NodeAuditLog;
  /** For tests; absent: this machine. */
  readonly machine?: () => Machine;
};

/** The service on the network. */
export type Network = {
  readonly admin: NodesApi;
  /** Undefined when the service does not listen. More services are added to it before `start`. */
  readonly server: NetworkServer | undefined;
  /** Who may have sessions. */
  readonly gate: NodeGate;
  /** Where it listens, "HOST:PORT". */
  readonly listening: () => readonly string[];
  /** Listens. Throws FAILED_PRECONDITION when an address can't be had. Answers where, with real ports. */
  start(): Promise<readonly NetworkAddress[]>;
  stop(): Promise<void>;
};

/**
 * Opens the certificates and makes the server. Throws a TidemarkError that names the file or option and what is wrong with it; but a service that takes over from one that died goes on for this machine, with an alarm: its mounts
 * live on.
 */
export async function composeNetwork(options: NetworkOptions): Promise<Network> {
  try {
    return await openNetwork(options);
  } catch (error) {
    if (!options.restarted || !(error instanceof TidemarkError)) throw error;
    options.log.alarm(`no node reaches the service until it is started again: ${error.message}`);
    return openNetwork({ ...options, listen: undefined });
  }
}

async function openNetwork(options: NetworkOptions): Promise<Network> {
  const { service, listen, clock, log, timers } = options;
  const { nodes } = service;
  const trust = listen?.tls === undefined ? "listed" : "authority";
  const gate = new NodeGate(nodes, { trust, clock, log });
  const common = { nodes, clock, sync: () => service.syncCatalogue() };
  if (listen === undefined) {
    const admin = new NodeAdmin({ ...common, ...options, gate: undefined, authority: undefined, addresses: () => [] });
    return { admin, server: undefined, gate, listening: () => [], start: async () => [], stop: async () => {} };
  }
  const authority = listen.tls === undefined ? await openAuthority(options) : undefined;
  const audit = new NodeAudit(options.audit);
  const onRefused = (peer: NodePeer, why: string): void => audit.refused(peer, { what: "node.connect", why });
  const server = new NetworkServer({ gate, clock, timers, log, onRefused });
  const joins = new NodeJoins({ ...common, authority, log, audit });
  serveNodes(server, joins, (error, method) => log.error("a call of a node failed by a defect", { error, method }));
  const listening = new Listening(options, { listen, server, authority });
  await listening.load();
  nodes.onRemoved((name) => server.dropNode(name, { afterMs: REMOVED_LINGER_MS }));
  const addresses = (): string[] => listening.reachable().map(formatNetworkAddress);
  const admin = new NodeAdmin({ ...common, ...options, gate, authority, addresses });
  return {
    admin,
    server,
    gate,
    listening: () => listening.bound().map(formatNetworkAddress),
    start: () => listening.start(),
    stop: () => listening.stop(),
  };
}

async function openAuthority({ dataFolder, clock, log }: NetworkOptions): Promise<CertificateAuthority> {
  const folder = path.join(dataFolder, "tls");
  const authority = await CertificateAuthority.open(folder, { clock });
  const { until } = authority.validity;
  if (until.sec - clock.now().sec < AUTHORITY_WARNING_SEC) {
    const words =
      "the certificate authority of this service expires: before that, stop it, remove its folder, and let every node join again";
    log.alarm(words, { folder, expires: new Date(until.sec * 1000).toISOString() });
  }
  return authority;
}

/** The addresses of the service, and the certificate it shows there. */
class Listening {
  readonly #options: NetworkOptions;
  readonly #listen: ListenOptions;
  readonly #server: NetworkServer;
  readonly #authority: CertificateAuthority | undefined;
  readonly #wanted: readonly NetworkAddress[];
  readonly #plaintext: readonly NetworkAddress[];
  #bound: NetworkAddress[] = [];
  readonly #boundPlaintext: NetworkAddress[] = [];
  #material: TlsMaterial | undefined;
  #failure = "";
  #cancelRefresh: () => void = () => {};
  #stopped = false;

  constructor(
    options: NetworkOptions,
    parts: { listen: ListenOptions; server: NetworkServer; authority: CertificateAuthority | undefined },
  ) {
    this.#options = options;
    this.#listen = parts.listen;
    this.#server = parts.server;
    this.#authority = parts.authority;
    this.#wanted = this.#listen.addresses.map((text) => parseNetworkAddress("--listen", text));
    this.#plaintext = this.#listen.plaintext.map((text) => parseNetworkAddress("--listen-plaintext", text));
  }

  /** Where nodes reach the service, the likeliest first. */
  reachable(): NetworkAddress[] {
    const bound = this.#bound.length === 0 ? this.#wanted : this.#bound;
    return reachableAddresses(bound, { names: this.#listen.names, machine: this.#machine() });
  }

  bound(): readonly NetworkAddress[] {
    return [...this.#bound, ...this.#boundPlaintext];
  }

  /** Reads or makes what the service proves itself with. Answers whether it is another than before. */
  async load(): Promise<boolean> {
    const { clock } = this.#options;
    const names = certificateNames(this.#wanted, { names: this.#listen.names, machine: this.#machine() });
    const { tls } = this.#listen;
    const material =
      tls === undefined
        ? await this.#authority?.service(names)
        : await readTlsFiles(tls, { purpose: "service", now: clock.now() });
    const before = this.#material;
    this.#material = material;
    return material?.certificate !== before?.certificate || material?.authority !== before?.authority;
  }

  async start(): Promise<readonly NetworkAddress[]> {
    for (const address of this.#wanted) await this.#have(address);
    for (const address of this.#plaintext) this.#boundPlaintext.push(await this.#server.listenPlaintext(address));
    this.#refreshLater();
    return this.bound();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#cancelRefresh();
    await this.#server.close({ graceMs: GRACE_MS });
  }

  async #have(address: NetworkAddress): Promise<void> {
    const { log, timers, restarted } = this.#options;
    const material = this.#material;
    if (material === undefined || this.#stopped) return;
    try {
      const bound = await this.#server.listenTls(address, material);
      this.#bound.push(bound);
      log.info("listening for nodes", { address: formatNetworkAddress(bound) });
    } catch (error) {
      if (!restarted || !(error instanceof TidemarkError)) throw error;
      log.alarm(`${error.message}; it is tried again`, { address: formatNetworkAddress(address) });
      timers.after(LISTEN_AGAIN_MS, () => void this.#have(address).catch(() => {}));
    }
  }

  #refreshLater(): void {
    this.#cancelRefresh = this.#options.timers.after(REFRESH_MS, () => {
      void this.#refresh().finally(() => {
        if (!this.#stopped) this.#refreshLater();
      });
    });
  }

  async #refresh(): Promise<void> {
    const { log } = this.#options;
    try {
      const isNew = await this.load();
      this.#failure = "";
      if (!isNew || this.#material === undefined) return;
      this.#server.setMaterial(this.#material);
      log.info("the service shows another certificate from now on");
    } catch (error) {
      // Said once: the certificate that is in use goes on.
      const failure = error instanceof Error ? error.message : String(error);
      if (failure !== this.#failure) log.alarm(`the service's certificate can't be renewed: ${failure}`);
      this.#failure = failure;
    }
  }

  #machine(): Machine {
    return this.#options.machine?.() ?? thisMachine();
  }
}

function thisMachine(): Machine {
  const all = Object.values(networkInterfaces()).flatMap((each) => each ?? []);
  const addresses = all
    .filter(({ internal, scopeid }) => !internal && (scopeid ?? 0) === 0)
    .map(({ address }) => address);
  return { hostName: hostname(), addresses };
}
