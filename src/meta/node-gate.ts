import type { Clock, Timestamp } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import { TidemarkError } from "../domain/errors.ts";
import type { Admission, Gate, NodePeer } from "../domain/node-join.ts";
import type { Peer } from "../domain/session-api.ts";
import { NODES_MAX, type NodeRow, type Nodes } from "./nodes.ts";
import { SERVICE_CONTEXT } from "./open-app.ts";

/**
 * Whose certificates say who is a node. `listed`: the service's own authority; only those that it knows are accepted, so that a certificate that was made with a stolen backup of the data folder is worth nothing here.
 * `authority`: somebody else's; what it signed is accepted, unless the node was removed.
 */
export type NodeTrust = "listed" | "authority";

/** When and from where a node called last. */
export type Sighting = { readonly at: Timestamp; readonly address: string };

/** Decides, at each call, whether a peer may talk to the service. */
export class NodeGate implements Gate {
  readonly trust: NodeTrust;
  readonly #nodes: Nodes;
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #seen = new Map<string, Sighting>();
  /** Nodes could not be noted the last time: said once. */
  #failing = false;

  constructor(nodes: Nodes, { trust, clock, log }: { trust: NodeTrust; clock: Clock; log: Log }) {
    this.#nodes = nodes;
    this.trust = trust;
    this.#clock = clock;
    this.#log = log;
  }

  admission(peer: NodePeer): Admission {
    if (peer.certificateThumbprint === "") return { kind: "admitted" };
    const now = this.#clock.now();
    // The handshake checks it too; a connection may outlive it.
    if (peer.certificateExpiresSec !== undefined && peer.certificateExpiresSec < now.sec)
      return refused("its certificate has expired");
    const admission = this.trust === "listed" ? this.#listed(peer, now) : this.#signed(peer, now);
    if (admission.kind === "admitted") this.#note(peer, now);
    return admission;
  }

  /** Whether a node may have sessions: what is to be asked when one is opened. */
  isAllowed(peer: Peer): boolean {
    return this.admission(peer).kind === "admitted";
  }

  /** When it was last here, since the service started. */
  lastSeen(name: string): Sighting | undefined {
    return this.#seen.get(name);
  }

  #listed(peer: NodePeer, now: Timestamp): Admission {
    const row = this.#nodes.ofCertificate(peer.certificateThumbprint);
    if (row === undefined || row.name !== peer.node) {
      return refused("this service does not know its certificate. Join with a new ticket: tidemark node invite NAME");
    }
    if (row.state === "removed") return removed(row);
    const { certificateThumbprint: thumbprint } = peer;
    if (row.certificates.some((each) => each.thumbprint === thumbprint)) return { kind: "admitted" };
    if (row.invite?.thumbprint === thumbprint && row.invite.expiresSec >= now.sec) return { kind: "invited" };
    return refused("its ticket has expired");
  }

  #signed(peer: NodePeer, now: Timestamp): Admission {
    const { node, certificateThumbprint: thumbprint, certificateExpiresSec: expiresSec = now.sec } = peer;
    if (node === "") return refused("its certificate has no common name that a node can have");
    const row = this.#nodes.get(node);
    if (row?.state === "removed") return removed(row);
    if (row?.refused?.some((each) => each.thumbprint === thumbprint) === true)
      return refused(`this certificate of node "${node}" was removed from the service`);
    if (row?.certificates.some((each) => each.thumbprint === thumbprint) === true) return { kind: "admitted" };
    try {
      this.#nodes.see(node, { thumbprint, sinceSec: now.sec, expiresSec }, SERVICE_CONTEXT);
    } catch (error) {
      if (error instanceof TidemarkError) return refused(error.message);
      // A full disk keeps nobody out whom the authority lets in; but then it can't be listed.
      if (!this.#failing)
        this.#log.warn("nodes can't be noted, so they are not listed", { node, error: String(error) });
      this.#failing = true;
      return { kind: "admitted" };
    }
    this.#failing = false;
    return { kind: "admitted" };
  }

  #note(peer: NodePeer, at: Timestamp): void {
    // Names of rows only, which are bounded.
    if (this.#seen.size < NODES_MAX || this.#seen.has(peer.node))
      this.#seen.set(peer.node, { at, address: peer.address });
  }
}

function refused(reason: string): Admission {
  return { kind: "refused", reason };
}

function removed(row: NodeRow): Admission {
  return refused(`node "${row.name}" was removed from the service on ${new Date(row.since.sec * 1000).toISOString()}`);
}
