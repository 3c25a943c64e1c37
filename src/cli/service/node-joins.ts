import { createHash, X509Certificate } from "node:crypto";
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import { TidemarkError } from "../../domain/errors.ts";
import type { NodeCertificate, NodeJoinApi, NodePeer } from "../../domain/node-join.ts";
import type { NodeCertificateRow, Nodes } from "../../meta/nodes.ts";
import { SERVICE_CONTEXT } from "../../meta/open-app.ts";
import type { CertificateAuthority } from "../../rpc/tls/authority.ts";
import { thumbprintOf, validityOf } from "../../rpc/tls/certificate.ts";
import { readCertificateRequest } from "../../rpc/tls/x509.ts";
import type { NodeAudit } from "./node-audit.ts";

/** Each renewal is a record of the journal: a node that asks again and again makes no more than this. */
const RENEWAL_SEC_MIN = 60;

export type NodeJoinsOptions = {
  readonly nodes: Nodes;
  /** The service's own; undefined: somebody else's authority names nodes. */
  readonly authority: CertificateAuthority | undefined;
  readonly clock: Clock;
  readonly log: Log;
  /** Makes what the catalogue acknowledged durable. */
  readonly sync: () => Promise<void>;
  readonly audit: NodeAudit;
};

/** Exchanges tickets for certificates, and certificates for newer ones. */
export class NodeJoins implements NodeJoinApi {
  readonly #options: NodeJoinsOptions;

  constructor(options: NodeJoinsOptions) {
    this.#options = options;
  }

  async join(peer: NodePeer, request: Buffer): Promise<NodeCertificate> {
    const { nodes, log, audit, sync } = this.#options;
    const authority = this.#authority();
    const publicKey = await readCertificateRequest(request);
    const usedBy = createHash("sha256").update(publicKey).digest("base64url");
    const certificate = await authority.signNode(peer.node, publicKey);
    try {
      // Checked and spent in one turn, after the last await: of two that use one ticket at once, one gets nothing.
      nodes.join(peer.certificateThumbprint, { usedBy, certificate: this.#row(certificate) }, SERVICE_CONTEXT);
    } catch (error) {
      if (error instanceof TidemarkError) audit.refused(peer, { what: "node.join", why: error.message });
      throw error;
    }
    await sync();
    log.info("a node has joined", { node: peer.node, address: peer.address });
    audit.certified(peer, "join");
    return { certificate, authority: authority.certificate };
  }

  async renew(peer: NodePeer, request: Buffer): Promise<NodeCertificate> {
    const { nodes, log, audit, sync, clock } = this.#options;
    const authority = this.#authority();
    const publicKey = await readCertificateRequest(request);
    const newest = nodes.get(peer.node)?.certificates[0];
    if (newest !== undefined && clock.now().sec - newest.sinceSec < RENEWAL_SEC_MIN) {
      const message = `node "${peer.node}" got a certificate less than a minute ago: try again later`;
      throw new TidemarkError("FAILED_PRECONDITION", message);
    }
    const certificate = await authority.signNode(peer.node, publicKey);
    nodes.addCertificate(peer.node, this.#row(certificate), SERVICE_CONTEXT);
    await sync();
    log.info("the certificate of a node was renewed", { node: peer.node, address: peer.address });
    audit.certified(peer, "renew");
    return { certificate, authority: authority.certificate };
  }

  #authority(): CertificateAuthority {
    const { authority } = this.#options;
    if (authority !== undefined) return authority;
    const message =
      "this service goes by certificates of another authority (serve --tls-ca): have that one issue or renew yours";
    throw new TidemarkError("FAILED_PRECONDITION", message);
  }

  #row(certificate: string): NodeCertificateRow {
    const parsed = new X509Certificate(certificate);
    const { until } = validityOf(parsed);
    return { thumbprint: thumbprintOf(parsed), sinceSec: this.#options.clock.now().sec, expiresSec: until.sec };
  }
}
