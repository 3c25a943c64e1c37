import type { MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import type { Client, ClientDuplexStream, MethodDefinition } from "@grpc/grpc-js";
import { Metadata } from "@grpc/grpc-js";
import {
  SessionRequestSchema,
  type SessionResponse,
  SessionResponseSchema,
  SessionService,
} from "../gen/tidemark/v1/session_pb.ts";
import { decoder, encoder, methodPath } from "../grpc-service.ts";

export type SessionRequestShape = MessageInitShape<typeof SessionRequestSchema>;
export type SessionResponseShape = MessageInitShape<typeof SessionResponseSchema>;
export type SessionRequestMessage = MessageShape<typeof SessionRequestSchema>;

/** The gateway's end of one stream. */
export type SessionStream = ClientDuplexStream<SessionRequestShape, SessionResponse>;

/** Opens streams to one service. */
export interface SessionStreams {
  /** Begins a stream; whether the service is there shows later. */
  open(): SessionStream;
  /** The connection is of no use (it broke, or nothing comes through): the next stream gets another. */
  reset(): void;
  /** Ends the connection. */
  close(): void;
  /** For messages: "10.0.0.1:7400". */
  readonly address: string;
}

/** A channel of grpc-js, and how to end it. */
export type SessionChannel = { readonly client: Client; close(): void };

/** grpc-js's description of the session: the one bidirectional method. */
export const SESSION_METHOD: MethodDefinition<SessionRequestShape, SessionResponseShape> = {
  path: methodPath(SessionService.method.session),
  requestStream: true,
  responseStream: true,
  requestSerialize: encoder(SessionRequestSchema),
  requestDeserialize: decoder(SessionRequestSchema) as (bytes: Buffer) => SessionRequestShape,
  responseSerialize: encoder(SessionResponseSchema),
  responseDeserialize: decoder(SessionResponseSchema) as (bytes: Buffer) => SessionResponseShape,
};

/** Streams over channels that `connect` makes: one at a time, and another after each reset, so that neither a half-open connection nor a channel's own pauses between tries hold anything up. */
export function sessionStreams(connect: () => SessionChannel, address: string): SessionStreams {
  const { path, requestSerialize, responseDeserialize } = SESSION_METHOD;
  let channel: SessionChannel | undefined;
  const reset = (): void => {
    channel?.close();
    channel = undefined;
  };
  const open = (): SessionStream => {
    channel ??= connect();
    const { client } = channel;
    return client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize, new Metadata()) as SessionStream;
  };
  return { address, open, reset, close: reset };
}
