import type { MessageInitShape } from "@bufbuild/protobuf";
import type { NodeInfo, NodeInvite } from "../../domain/admin-nodes.ts";
import * as pb from "../gen/tidemark/v1/node_pb.ts";
import { fromTime, toTime } from "./common.ts";
import { defined, maybe, need, WordCodec } from "./values.ts";

/** What node.proto has, both ways. */

const states = new WordCodec("state of a node", {
  invited: pb.NodeState.INVITED,
  joined: pb.NodeState.JOINED,
  removed: pb.NodeState.REMOVED,
});

export function fromNode(message: pb.Node | undefined): NodeInfo {
  const { name, state, since, expiresAt, lastSeen, address, sessionCount } = need(message, "node");
  return defined({
    name,
    state: states.from(state),
    since: fromTime(since, "since"),
    expiresAt: maybe(expiresAt, (time) => fromTime(time, "expires_at")),
    lastSeen: maybe(lastSeen, (time) => fromTime(time, "last_seen")),
    address,
    sessionCount,
  });
}

export function toNode(node: NodeInfo): MessageInitShape<typeof pb.NodeSchema> {
  const { name, state, since, expiresAt, lastSeen, address, sessionCount } = node;
  return defined({
    name,
    state: states.to(state),
    since: toTime(since),
    expiresAt: maybe(expiresAt, toTime),
    lastSeen: maybe(lastSeen, toTime),
    address,
    sessionCount,
  });
}

export function fromInvite({ name, ticket, expiresAt }: pb.InviteNodeResponse): NodeInvite {
  return { name, ticket, expiresAt: fromTime(expiresAt, "expires_at") };
}

export function toInvite({
  name,
  ticket,
  expiresAt,
}: NodeInvite): MessageInitShape<typeof pb.InviteNodeResponseSchema> {
  return { name, ticket, expiresAt: toTime(expiresAt) };
}
