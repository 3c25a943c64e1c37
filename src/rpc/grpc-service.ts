import {
  create,
  type DescMessage,
  type DescMethod,
  type DescService,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import type {
  handleServerStreamingCall,
  handleUnaryCall,
  Metadata,
  MethodDefinition,
  ServerUnaryCall,
  ServerWritableStream,
  ServiceDefinition,
  UntypedServiceImplementation,
} from "@grpc/grpc-js";
import { assert } from "../base/assert.ts";
import type { Actor } from "../domain/actor.ts";
import type { CallOptions } from "../domain/admin-call.ts";
import type { TidemarkError } from "../domain/errors.ts";
import type { NodePeer } from "../domain/node-join.ts";
import { actorFromHeaders } from "./actor-header.ts";
import { asTidemarkError, toStatus } from "./errors.ts";
import { peerOf } from "./peer.ts";

/**
 * Largest message either way: a page of PAGE_BYTES_MAX names and 1,000 fixed parts is below 2 MiB, an export page of two content pieces
 * as well; one item may add an xattr list of some 64 KiB values. Foreign messages above it are refused unread.
 */
export const MESSAGE_BYTES_MAX = 8 * 1024 * 1024;

type Message = object;
/** The unary and server-streaming methods of a service (the admin API has no others), by their local names. */
type MethodsOf<S extends DescService> = S["method"];
type InputOf<M> = M extends { input: infer I extends DescMessage } ? MessageShape<I> : never;
type OutputOf<M> = M extends { output: infer O extends DescMessage } ? MessageInitShape<O> : never;

/** What implements a service: a promise for each unary method, an async iterable of messages for each streaming one. Failures are TidemarkError. */
export type ServiceHandlers<S extends DescService> = {
  readonly [K in keyof MethodsOf<S>]: MethodsOf<S>[K] extends { methodKind: "unary" }
    ? (request: InputOf<MethodsOf<S>[K]>, options: ServerCallOptions) => Promise<OutputOf<MethodsOf<S>[K]>>
    : (request: InputOf<MethodsOf<S>[K]>, options: ServerCallOptions) => AsyncIterable<OutputOf<MethodsOf<S>[K]>>;
};

/** `signal` fires when the client goes away, cancels, or its deadline passes. `peer` is whom the transport has proven; on the Unix socket nobody. `bearer` is the token that came with the call: never logged. */
export type ServerCallOptions = CallOptions & {
  readonly signal: AbortSignal;
  readonly peer: NodePeer;
  readonly bearer?: string;
  /** Ends a stream from the service's side, also while its client takes nothing: what waits for the client ends as well. */
  readonly cut?: (error: TidemarkError) => void;
};

/** The path of a method on the wire. */
export function methodPath(method: DescMethod): string {
  return `/${method.parent.typeName}/${method.name}`;
}

/** grpc-js's description of a protobuf-es service. */
export function grpcDefinition(service: DescService): ServiceDefinition {
  const definition: Record<string, MethodDefinition<Message, Message>> = {};
  for (const method of service.methods) {
    assert(method.methodKind === "unary" || method.methodKind === "server_streaming", "unsupported kind of method");
    definition[method.localName] = {
      path: methodPath(method),
      requestStream: false,
      responseStream: method.methodKind === "server_streaming",
      requestSerialize: encoder(method.input),
      requestDeserialize: decoder(method.input),
      responseSerialize: encoder(method.output),
      responseDeserialize: decoder(method.output),
    };
  }
  return definition;
}

/** Serializes an init shape of `schema`. */
export function encoder(schema: DescMessage): (message: Message) => Buffer {
  return (message) => {
    const bytes = toBinary(schema, create(schema, message as MessageInitShape<DescMessage>));
    return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  };
}

/** Reads a message of `schema`. Byte fields are views of `bytes`. */
export function decoder(schema: DescMessage): (bytes: Buffer) => Message {
  return (bytes) => fromBinary(schema, bytes);
}

/** Hears of failures that are defects, with the method they came from. */
export type DefectListener = (error: TidemarkError, method: string) => void;

/** Makes grpc-js's implementation of `service` from `handlers`: failures mapped, cancellation passed on, back-pressure kept. */
export function grpcImplementation<S extends DescService>(
  service: S,
  handlers: ServiceHandlers<S>,
  onDefect: DefectListener,
): UntypedServiceImplementation {
  const implementation: UntypedServiceImplementation = {};
  for (const method of service.methods) {
    const handler = (handlers as Record<string, unknown>)[method.localName];
    assert(typeof handler === "function", `no handler for ${method.name}`);
    const fail = (error: unknown): TidemarkError => {
      const known = asTidemarkError(error);
      if (known.code === "INTERNAL") onDefect(known, methodPath(method));
      return known;
    };
    implementation[method.localName] =
      method.methodKind === "unary"
        ? unaryHandler(handler as UnaryHandler, fail)
        : streamHandler(handler as StreamHandler, fail);
  }
  return implementation;
}

type UnaryHandler = (request: Message, options: ServerCallOptions) => Promise<Message>;
type StreamHandler = (request: Message, options: ServerCallOptions) => AsyncIterable<Message>;
type Fail = (error: unknown) => TidemarkError;
type ServerCall = ServerUnaryCall<Message, Message> | ServerWritableStream<Message, Message>;

function callOptions(call: ServerCall, cut?: (error: TidemarkError) => void): ServerCallOptions {
  const controller = new AbortController();
  call.on("cancelled", () => controller.abort());
  const actor: Actor | undefined = actorFromHeaders(call.metadata);
  const bearer = bearerFromHeaders(call.metadata);
  return {
    signal: controller.signal,
    peer: peerOf(call),
    ...(bearer === undefined ? {} : { bearer }),
    ...(actor === undefined ? {} : { actor }),
    ...(cut === undefined
      ? {}
      : {
          cut: (error) => {
            if (controller.signal.aborted) return;
            controller.abort();
            cut(error);
          },
        }),
  };
}

/** The token in `authorization: Bearer TOKEN` (RFC 6750, section 2.1); undefined when there is none. */
function bearerFromHeaders(headers: Metadata): string | undefined {
  const [value] = headers.get("authorization");
  return typeof value === "string" ? /^Bearer +([\w.~+/=-]+) *$/i.exec(value)?.[1] : undefined;
}

function unaryHandler(handler: UnaryHandler, fail: Fail): handleUnaryCall<Message, Message> {
  return (call, callback) => {
    // The callback runs outside of the promise, so that an exception in it is not taken for one of the handler.
    const run = async (): Promise<Message> => handler(call.request, callOptions(call));
    run().then(
      (response) => callback(null, response),
      (error) => callback(toStatus(fail(error))),
    );
  };
}

function streamHandler(handler: StreamHandler, fail: Fail): handleServerStreamingCall<Message, Message> {
  return (call) => {
    let options: ServerCallOptions;
    try {
      options = callOptions(call, (error) => endWithError(call, fail(error)));
    } catch (error) {
      endWithError(call, fail(error));
      return;
    }
    pump(call, handler(call.request, options), options.signal).then(
      () => {
        if (!options.signal.aborted) call.end();
      },
      (error) => {
        if (!options.signal.aborted) endWithError(call, fail(error));
      },
    );
  };
}

function endWithError(call: ServerWritableStream<Message, Message>, error: TidemarkError): void {
  call.emit("error", { ...toStatus(error), message: error.message });
}

/** Writes until the iterable ends or the client goes away; the next message is asked for when the one before was taken over. */
async function pump(
  call: ServerWritableStream<Message, Message>,
  messages: AsyncIterable<Message>,
  signal: AbortSignal,
): Promise<void> {
  for await (const message of messages) {
    if (signal.aborted) return;
    if (!call.write(message)) await drained(call, signal);
    if (signal.aborted) return;
  }
}

function drained(call: ServerWritableStream<Message, Message>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      call.off("drain", done);
      signal.removeEventListener("abort", done);
      resolve();
    };
    call.on("drain", done);
    signal.addEventListener("abort", done);
    if (signal.aborted) done();
  });
}
