import type { ServerInterceptingCallInterface } from "@grpc/grpc-js";
import type { NodePeer } from "../domain/node-join.ts";
import { nodeNameOf, thumbprintOfPeer } from "./tls/certificate.ts";

/** The end of a call that is asked who is at the other: any server call of grpc-js, or what an interceptor has of it. */
export type PeerCall = Pick<ServerInterceptingCallInterface, "getAuthContext" | "getPeer">;

/**
 * Who is at the other end of a call, as the transport has proven it: the name of the node in its certificate (empty when that can't name one), and the certificate's thumbprint. Both are empty without TLS, which is only on
 * loopback and on the Unix socket.
 */
export function peerOf(call: PeerCall): NodePeer {
  const address = call.getPeer();
  const certificate = call.getAuthContext().sslPeerCertificate;
  if (certificate === undefined) return { node: "", certificateThumbprint: "", address };
  return {
    node: nodeNameOf(certificate.subject) ?? "",
    certificateThumbprint: thumbprintOfPeer(certificate),
    address,
    certificateExpiresSec: Math.floor(Date.parse(certificate.valid_to) / 1000),
  };
}
