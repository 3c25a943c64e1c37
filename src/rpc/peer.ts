import type { Metadata, ServerInterceptingCallInterface } from "@grpc/grpc-js";
import type { NodePeer } from "../domain/node-join.ts";
import { nodeNameOf, thumbprintOfPeer } from "./tls/certificate.ts";
import { formatNetworkAddress, unmapped } from "./tls/network-address.ts";

/** The end of a call that is asked who is at the other: any server call of grpc-js, or what an interceptor has of it. */
export type PeerCall = Pick<ServerInterceptingCallInterface, "getAuthContext" | "getPeer"> & {
  readonly metadata?: Metadata;
};

/** Who was admitted, by the headers of the call: what a handler is told is what the gate was asked about, also when the connection has gone away meanwhile. */
const ADMITTED = new WeakMap<Metadata, NodePeer>();

/** Notes, before a handler runs, whose call it is. */
export function admit(headers: Metadata, peer: NodePeer): void {
  ADMITTED.set(headers, peer);
}

/**
 * Who is at the other end of a call, as the transport has proven it: the name of the node in its certificate (empty when that can't name one), and the certificate's thumbprint. Both are empty without TLS, which is only on
 * loopback and on the Unix socket.
 */
export function peerOf(call: PeerCall): NodePeer {
  const admitted = call.metadata === undefined ? undefined : ADMITTED.get(call.metadata);
  if (admitted !== undefined) return admitted;
  const address = written(call.getPeer());
  const certificate = certificateOf(call);
  if (certificate === undefined) return { node: "", certificateThumbprint: "", address };
  return {
    node: nodeNameOf(certificate.subject) ?? "",
    certificateThumbprint: thumbprintOfPeer(certificate),
    address,
    certificateExpiresSec: Math.floor(Date.parse(certificate.valid_to) / 1000),
  };
}

/** grpc-js puts a colon and the port behind the address as the system has it: IPv6 without brackets, IPv4 as seen by a socket that listens for both. */
function written(peer: string): string {
  const match = /^(.+):(\d+)$/.exec(peer);
  if (match?.[1] === undefined) return peer;
  return formatNetworkAddress({ host: unmapped(match[1]), port: Number(match[2]) });
}

function certificateOf(call: PeerCall): ReturnType<PeerCall["getAuthContext"]>["sslPeerCertificate"] {
  try {
    return call.getAuthContext().sslPeerCertificate;
  } catch {
    // grpc-js asks a socket that has just been destroyed, and trips over its silence: nothing is proven.
    return undefined;
  }
}
