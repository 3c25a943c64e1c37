import { create, type DescMethod, type MessageInitShape, type MessageShape } from "@bufbuild/protobuf";
import { Client, type ClientReadableStream, credentials, Metadata, type ServiceError } from "@grpc/grpc-js";
import type { Clock } from "../base/clock.ts";
import type { CallOptions } from "../domain/admin-call.ts";
import { TidemarkError } from "../domain/errors.ts";
import { setActorHeader } from "./actor-header.ts";
import { fromServiceError } from "./errors.ts";
import { decoder, encoder, MESSAGE_BYTES_MAX, methodPath } from "./grpc-service.ts";
import { socketAddress } from "./socket-address.ts";

/** A unary call answers within this: the slowest, a mount or a durable change under load, take seconds. Streams have no deadline. */
const UNARY_DEADLINE_MS = 120_000;

type Unary = DescMethod & { readonly methodKind: "unary" };
type Streaming = DescMethod & { readonly methodKind: "server_streaming" };

/** What leads to a service: `failure` says what a failed call means. */
export type CallerChannel = {
  readonly client: Client;
  failure(error: ServiceError): TidemarkError;
  close(): void;
};

/** Calls methods described by protobuf-es over one grpc-js channel. */
export class GrpcCaller {
  readonly #channel: CallerChannel;
  readonly #clock: Clock;
  readonly #token: string | undefined;

  /** To a Unix socket, or over a channel, which it then owns; a token is sent with every call. Connects at the first call. UNAVAILABLE, then or now, when nothing listens there. */
  constructor(options: { clock: Clock } & ({ socketPath: string } | { channel: CallerChannel; token?: string })) {
    this.#clock = options.clock;
    this.#token = "channel" in options ? options.token : undefined;
    this.#channel = "channel" in options ? options.channel : socketChannel(options.socketPath);
  }

  /** One request, one response. Rejects with TidemarkError. */
  async unary<M extends Unary>(
    method: M,
    request: MessageInitShape<M["input"]>,
    options: CallOptions | undefined,
  ): Promise<MessageShape<M["output"]>> {
    const { signal, headers } = this.#prepare(options);
    return new Promise((resolve, reject) => {
      const call = this.#channel.client.makeUnaryRequest(
        methodPath(method),
        encoder(method.input),
        decoder(method.output),
        create(method.input, request),
        headers,
        { deadline: this.#clock.now().sec * 1000 + UNARY_DEADLINE_MS },
        (error, response) => {
          signal?.removeEventListener("abort", cancel);
          if (error !== null) reject(this.#channel.failure(error));
          else resolve(response as MessageShape<M["output"]>);
        },
      );
      const cancel = (): void => call.cancel();
      signal?.addEventListener("abort", cancel);
    });
  }

  /** One request, a stream of responses, at the reader's pace; leaving the loop cancels the call. Throws TidemarkError. */
  async *stream<M extends Streaming>(
    method: M,
    request: MessageInitShape<M["input"]>,
    options: CallOptions | undefined,
  ): AsyncGenerator<MessageShape<M["output"]>, void, undefined> {
    const { signal, headers } = this.#prepare(options);
    const call = this.#channel.client.makeServerStreamRequest(
      methodPath(method),
      encoder(method.input),
      decoder(method.output),
      create(method.input, request),
      headers,
      {},
    ) as ClientReadableStream<MessageShape<M["output"]>>;
    // grpc-js reports the cancellation of a stream that was left as an error, which then nobody listens to.
    call.on("error", () => {});
    const cancel = (): void => call.cancel();
    signal?.addEventListener("abort", cancel);
    try {
      for await (const message of call) yield message;
    } catch (error) {
      throw this.#channel.failure(error as ServiceError);
    } finally {
      signal?.removeEventListener("abort", cancel);
      call.cancel();
    }
  }

  /** Ends the channel; calls that run fail. */
  close(): void {
    this.#channel.close();
  }

  #prepare(options: CallOptions | undefined): { signal: AbortSignal | undefined; headers: Metadata } {
    const signal = options?.signal;
    if (signal?.aborted === true) throw new TidemarkError("CANCELLED", "the call was interrupted");
    const headers = new Metadata();
    if (this.#token !== undefined) headers.set("authorization", `Bearer ${this.#token}`);
    // Over the network it is not for the caller to say who acts.
    else if (options?.actor !== undefined) setActorHeader(headers, options.actor);
    return { signal, headers };
  }
}

function socketChannel(socketPath: string): CallerChannel {
  try {
    const address = socketAddress(socketPath);
    const client = new Client(`unix:${address.path}`, credentials.createInsecure(), {
      "grpc.max_receive_message_length": MESSAGE_BYTES_MAX,
      "grpc.max_send_message_length": MESSAGE_BYTES_MAX,
    });
    const close = (): void => {
      client.close();
      address.close();
    };
    return { client, failure: (error) => fromServiceError(error, socketPath), close };
  } catch (cause) {
    throw new TidemarkError("UNAVAILABLE", `there is no service at ${socketPath}; start it with "tidemark serve"`, {
      cause,
    });
  }
}
