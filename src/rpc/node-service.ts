import type { NodeCertificate, NodeJoinApi } from "../domain/node-join.ts";
import { buffer } from "./codec/values.ts";
import { type JoinRequest, type JoinResponse, NodeService } from "./gen/tidemark/v1/node_pb.ts";
import { type DefectListener, grpcDefinition, grpcImplementation, type ServerCallOptions } from "./grpc-service.ts";
import type { NetworkServer } from "./network-server.ts";

/** Lets machines join over the network, and renew. Before the server listens. */
export function serveNodes(server: NetworkServer, joins: NodeJoinApi, onDefect: DefectListener): void {
  const handlers = {
    join: async ({ certificateRequest }: Pick<JoinRequest, "certificateRequest">, { peer }: ServerCallOptions) =>
      answer(await joins.join(peer, buffer(certificateRequest))),
    renew: async ({ certificateRequest }: Pick<JoinRequest, "certificateRequest">, { peer }: ServerCallOptions) =>
      answer(await joins.renew(peer, buffer(certificateRequest))),
  };
  server.add(grpcDefinition(NodeService), grpcImplementation(NodeService, handlers, onDefect));
}

function answer({ certificate, authority }: NodeCertificate): Pick<JoinResponse, "certificate" | "authority"> {
  return { certificate, authority };
}
