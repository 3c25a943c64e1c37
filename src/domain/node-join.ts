import type { Peer } from "./session-api.ts";

/** A peer, and until when its certificate holds; absent: without TLS. */
export type NodePeer = Peer & { readonly certificateExpiresSec?: number };

/** What a node gets and keeps: PEM. */
export type NodeCertificate = {
  readonly certificate: string;
  /** Of the authority that signed it, and the service's. */
  readonly authority: string;
};

/** Largest certificate request: one of RSA 4096 with all usual attributes has 2 KiB. */
export const CERTIFICATE_REQUEST_BYTES_MAX = 16_384;

/** How a machine becomes a node, and stays one. The peer is whom the transport has proven. */
export interface NodeJoinApi {
  /**
   * A ticket's certificate is exchanged for the node's own, once: PERMISSION_DENIED when it was used, or has expired. With the same key it may be called again, so that an answer that was lost is no ticket lost.
   * `request` is PKCS #10, DER; only its key counts, which must be ECDSA on P-256 or P-384: INVALID_ARGUMENT otherwise.
   */
  join(peer: NodePeer, request: Buffer): Promise<NodeCertificate>;
  /** A newer certificate for a node that has one; the one it has stays good until it expires. Errors as `join`; FAILED_PRECONDITION when the authority is not the service's own. */
  renew(peer: NodePeer, request: Buffer): Promise<NodeCertificate>;
}

/** Whether a peer may talk to the service now. Asked at each call. */
export type Admission =
  | { readonly kind: "admitted" }
  /** A ticket's certificate: it may join, and nothing else. */
  | { readonly kind: "invited" }
  /** The reason is fit to be shown to the peer. */
  | { readonly kind: "refused"; readonly reason: string };

/** Who may talk to the service. */
export interface Gate {
  /** Synchronous and cheap. Also notes that the peer was here. A peer without a certificate is one on loopback: whether there may be such is decided where it listens. */
  admission(peer: NodePeer): Admission;
}
