import { X509Certificate } from "node:crypto";
import type { Clock } from "../../base/clock.ts";
import { type CallOptions, PAGE_ITEMS_MAX, type Pages } from "../../domain/admin-call.ts";
import {
  checkNodeName,
  INVITE_MS_MAX,
  INVITE_MS_MIN,
  type NodeInfo,
  type NodeInvite,
  type NodesApi,
} from "../../domain/admin-nodes.ts";
import { TidemarkError } from "../../domain/errors.ts";
import { contextOf } from "../../meta/catalogue-api.ts";
import type { NodeGate } from "../../meta/node-gate.ts";
import type { NodeRow, Nodes } from "../../meta/nodes.ts";
import type { CertificateAuthority } from "../../rpc/tls/authority.ts";
import { thumbprintOf } from "../../rpc/tls/certificate.ts";
import { formatTicket } from "../../rpc/tls/ticket.ts";

export type NodeAdminOptions = {
  readonly nodes: Nodes;
  /** Undefined: the service does not listen for nodes. */
  readonly gate: NodeGate | undefined;
  /** The service's own; undefined: somebody else's, or it does not listen. */
  readonly authority: CertificateAuthority | undefined;
  /** Where the service is reached, the likeliest first. */
  readonly addresses: () => readonly string[];
  readonly sessionCount: (node: string) => number;
  readonly clock: Clock;
  /** Makes what the catalogue acknowledged durable. */
  readonly sync: () => Promise<void>;
};

/** The nodes of a service, as an admin sees them. */
export class NodeAdmin implements NodesApi {
  readonly #options: NodeAdminOptions;

  constructor(options: NodeAdminOptions) {
    this.#options = options;
  }

  async inviteNode(request: { name: string; expiresMs: number }, options?: CallOptions): Promise<NodeInvite> {
    const { nodes, clock, addresses, sync } = this.#options;
    const name = checkNodeName(request.name);
    const { expiresMs } = request;
    if (!(expiresMs >= INVITE_MS_MIN && expiresMs <= INVITE_MS_MAX)) {
      const message = `a ticket holds for ${INVITE_MS_MIN / 1000} seconds at least and ${INVITE_MS_MAX / 86_400_000} days at most`;
      throw new TidemarkError("INVALID_ARGUMENT", message);
    }
    const authority = this.#authority();
    const expiresAt = { sec: clock.now().sec + Math.ceil(expiresMs / 1000), nsec: 0 };
    const { certificate, key } = await authority.issueInvite(name, expiresAt);
    const thumbprint = thumbprintOf(new X509Certificate(certificate));
    nodes.invite(name, { thumbprint, expiresSec: expiresAt.sec }, contextOf(options));
    await sync();
    const ticket = formatTicket({ name, addresses: addresses(), authority: authority.certificate, certificate, key });
    return { name, ticket, expiresAt };
  }

  async *listNodes(): Pages<NodeInfo> {
    const rows = this.#options.nodes.all().sort((left, right) => (left.name < right.name ? -1 : 1));
    for (let at = 0; at < rows.length; at += PAGE_ITEMS_MAX)
      yield rows.slice(at, at + PAGE_ITEMS_MAX).map((row) => this.#info(row));
  }

  async removeNode({ name }: { name: string }, options?: CallOptions): Promise<NodeInfo> {
    const row = this.#options.nodes.remove(checkNodeName(name), contextOf(options));
    await this.#options.sync();
    return this.#info(row);
  }

  async allowNode(request: { name: string; oldCertificates: boolean }, options?: CallOptions): Promise<NodeInfo> {
    const { nodes, gate, sync } = this.#options;
    const { oldCertificates } = request;
    if (gate?.trust !== "authority") {
      const message = `only what another authority has named is allowed again (serve --tls-ca): here, tidemark node invite ${request.name}`;
      throw new TidemarkError("FAILED_PRECONDITION", message);
    }
    const row = nodes.allow(checkNodeName(request.name), { oldCertificates }, contextOf(options));
    await sync();
    return this.#info(row);
  }

  #authority(): CertificateAuthority {
    const { gate, authority } = this.#options;
    if (authority !== undefined) return authority;
    const message =
      gate === undefined
        ? "the service does not listen for nodes: start it with --listen HOST:PORT"
        : "the service goes by certificates of another authority (serve --tls-ca): a node needs one from there, and no ticket";
    throw new TidemarkError("FAILED_PRECONDITION", message);
  }

  #info(row: NodeRow): NodeInfo {
    const { gate, sessionCount } = this.#options;
    const { name, state, since } = row;
    const expiresSec = state === "invited" ? row.invite?.expiresSec : row.certificates[0]?.expiresSec;
    const seen = gate?.lastSeen(name);
    return {
      name,
      state,
      since,
      ...(expiresSec === undefined ? {} : { expiresAt: { sec: expiresSec, nsec: 0 } }),
      ...(seen === undefined ? {} : { lastSeen: seen.at, address: seen.address }),
      sessionCount: sessionCount(name),
    };
  }
}
