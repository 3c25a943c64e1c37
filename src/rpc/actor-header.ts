import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { Metadata } from "@grpc/grpc-js";
import type { Actor } from "../domain/actor.ts";
import { TidemarkError } from "../domain/errors.ts";
import { fromActor } from "./codec/common.ts";
import { ActorSchema } from "./gen/tidemark/v1/common_pb.ts";

/** Has the actor of a call, for the journal: believed on the admin socket only. */
export const ACTOR_KEY = "tidemark-actor-bin";

/** Puts who asks into the headers of a call. */
export function setActorHeader(headers: Metadata, actor: Actor): void {
  headers.set(ACTOR_KEY, Buffer.from(toBinary(ActorSchema, create(ActorSchema, actor))));
}

/** Who asks, if the client says so. Throws INVALID_ARGUMENT when the header is malformed. */
export function actorFromHeaders(headers: Metadata): Actor | undefined {
  const bytes = headers.get(ACTOR_KEY)[0];
  if (bytes === undefined) return undefined;
  if (!Buffer.isBuffer(bytes)) throw new TidemarkError("INVALID_ARGUMENT", `the header ${ACTOR_KEY} is not binary`);
  try {
    return fromActor(fromBinary(ActorSchema, bytes));
  } catch (cause) {
    throw new TidemarkError("INVALID_ARGUMENT", `the header ${ACTOR_KEY} is malformed`, { cause });
  }
}
