import type { NodePeer } from "../../domain/node-join.ts";
import type { Audit } from "../../meta/audit.ts";

/** What of the audit log nodes need. */
export type NodeAuditLog = Pick<Audit, "act" | "refused">;

/** Notes in the audit log which machine became a node, and which one was refused. */
export class NodeAudit {
  readonly #audit: NodeAuditLog;

  constructor(audit: NodeAuditLog) {
    this.#audit = audit;
  }

  /** A node got a certificate: with a ticket, or in place of one that it had. */
  certified(peer: NodePeer, how: "join" | "renew"): void {
    this.#audit.act({ who: whoOf(peer), what: `node.${how}`, on: addressOf(peer), why: "" });
  }

  /** A machine wanted to join or to connect, and may not. */
  refused(peer: NodePeer, { what, why }: { readonly what: "node.join" | "node.connect"; readonly why: string }): void {
    this.#audit.refused({ who: whoOf(peer), what, on: () => addressOf(peer), why });
  }
}

/** Its certificate was signed by the authority, so its name is not just anything; the thumbprint tells apart who shows it. */
function whoOf({ node, certificateThumbprint }: NodePeer): string {
  return node === "" ? `certificate ${certificateThumbprint}` : `node ${node} (certificate ${certificateThumbprint})`;
}

function addressOf({ address }: NodePeer): string {
  return `from ${address}`;
}
