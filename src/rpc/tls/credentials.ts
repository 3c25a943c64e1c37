import { isIP } from "node:net";
import { checkServerIdentity, createSecureContext, type SecureContext } from "node:tls";
import { type ChannelCredentials, type ChannelOptions, Client, credentials, type ServiceError } from "@grpc/grpc-js";
import type { Timestamp } from "../../base/clock.ts";
import { TidemarkError } from "../../domain/errors.ts";
import { MESSAGE_BYTES_MAX } from "../grpc-service.ts";
import { WINDOW_BYTES } from "../receive-window.ts";
import { formatNetworkAddress, isLoopback, parseNetworkAddress } from "./network-address.ts";
import { networkFailure } from "./network-failure.ts";
import { NodeFolder } from "./node-folder.ts";
import { readTlsFiles, type TlsFiles, type TlsMaterial } from "./tls-files.ts";

/** A half-open connection is noticed within both together. */
const KEEPALIVE_MS = 10_000;
const KEEPALIVE_TIMEOUT_MS = 10_000;

/** How soon a connection that was lost is tried again, growing; a service that restarts is back within a second. */
const BACKOFF_MS_MIN = 100;
const BACKOFF_MS_MAX = 2_000;

/** What a channel needs to prove who it is: made by `clientCredentials` or `credentialsOf`. */
export type NetworkCredentials =
  | { readonly kind: "tls"; readonly context: SecureContext }
  | { readonly kind: "plaintext" };

/** Whose certificate is used: that of the machine that has joined, one of somebody else's authority, or none (loopback only). */
export type CredentialSource = { readonly nodeFolder: string } | TlsFiles | "plaintext";

/** Reads what a node proves itself with. Throws a TidemarkError that names the file and what is wrong with it (`readTlsFiles`); FAILED_PRECONDITION when the machine has joined no service. */
export async function clientCredentials(
  source: CredentialSource,
  { now }: { readonly now: Timestamp },
): Promise<NetworkCredentials> {
  if (source === "plaintext") return { kind: "plaintext" };
  if (!("nodeFolder" in source)) return credentialsOf(await readTlsFiles(source, { purpose: "node", now }));
  const folder = new NodeFolder(source.nodeFolder);
  folder.checkJoined();
  try {
    return credentialsOf(await readTlsFiles(folder.files, { purpose: "node", now }));
  } catch (error) {
    if (!(error instanceof TidemarkError) || error.data["expired"] !== true) throw error;
    const message = `${error.message.replace(/: renew it$/, "")}, so it can't be renewed: this machine has to join again (tidemark node leave, and a new ticket)`;
    throw new TidemarkError(error.code, message, { cause: error });
  }
}

/** Credentials of what was read, or was in a ticket. */
export function credentialsOf({ certificate, key, authority }: TlsMaterial): NetworkCredentials {
  const context = createSecureContext({ cert: certificate, key, ca: authority, minVersion: "TLSv1.3" });
  return { kind: "tls", context };
}

/** A connection to a service on another machine; made when the first call is. */
export type NetworkChannel = {
  readonly client: Client;
  /** "HOST:PORT", for messages. */
  readonly address: string;
  /** What a failed call means: UNAVAILABLE may be better later; PERMISSION_DENIED and the others will not be. */
  failure(error: ServiceError): TidemarkError;
  /** Resolves when the service can be reached. Rejects with UNAVAILABLE when it could not be until `deadlineMs`, milliseconds since 1970. */
  ready(deadlineMs: number): Promise<void>;
  /** Ends it; calls that run fail. */
  close(): void;
};

/** A channel of its own to the service at `address` ("HOST:PORT"). Throws INVALID_ARGUMENT for what is no address, and for plaintext off loopback. */
export function openChannel(options: {
  readonly address: string;
  readonly credentials: NetworkCredentials;
  /** Beside, or in place of, what every channel has. */
  readonly channelOptions?: ChannelOptions;
}): NetworkChannel {
  const parsed = parseNetworkAddress("the service", options.address);
  const address = formatNetworkAddress(parsed);
  if (options.credentials.kind === "plaintext" && !isLoopback(parsed.host)) {
    const message = `${address} is not on this machine, so nothing is sent there without TLS: join the service first (tidemark node join)`;
    throw new TidemarkError("INVALID_ARGUMENT", message);
  }
  const client = new Client(`dns:${address}`, channelCredentials(options.credentials, parsed.host), {
    ...(isIP(parsed.host) === 0 ? {} : { "grpc.ssl_target_name_override": ADDRESS_SERVER_NAME }),
    "grpc.max_receive_message_length": MESSAGE_BYTES_MAX,
    "grpc.max_send_message_length": MESSAGE_BYTES_MAX,
    "grpc-node.flow_control_window": WINDOW_BYTES,
    "grpc.keepalive_time_ms": KEEPALIVE_MS,
    "grpc.keepalive_timeout_ms": KEEPALIVE_TIMEOUT_MS,
    "grpc.keepalive_permit_without_calls": 1,
    "grpc.initial_reconnect_backoff_ms": BACKOFF_MS_MIN,
    "grpc.max_reconnect_backoff_ms": BACKOFF_MS_MAX,
    // Not shared: another channel may have another certificate, and a closed one is closed.
    "grpc.use_local_subchannel_pool": 1,
    // What may be sent again is decided where it is known what it does.
    "grpc.enable_retries": 0,
    "grpc.enable_http_proxy": 0,
    "grpc.enable_channelz": 0,
    ...options.channelOptions,
  });
  const failure = (error: ServiceError): TidemarkError => networkFailure(error, address);
  return {
    client,
    address,
    failure,
    ready: (deadlineMs) => ready(client, address, deadlineMs),
    close: () => client.close(),
  };
}

function ready(client: Client, address: string, deadlineMs: number): Promise<void> {
  return new Promise((resolve, reject) => {
    client.waitForReady(deadlineMs, (error) => {
      if (error === undefined || error === null) return resolve();
      reject(new TidemarkError("UNAVAILABLE", `the service at ${address} does not answer`, { cause: error }));
    });
  });
}

/** What is sent as the server's name when it is reached by an address: that must be a name (RFC 6066, 3), and grpc-js would send the address. It decides nothing. */
const ADDRESS_SERVER_NAME = "tidemark.invalid";

function channelCredentials(given: NetworkCredentials, host: string): ChannelCredentials {
  if (given.kind === "plaintext") return credentials.createInsecure();
  return credentials.createFromSecureContext(given.context, {
    checkServerIdentity: (_name, certificate) => checkServerIdentity(host, certificate),
  });
}

/** Where the service is that this machine has joined; undefined: none. Throws INVALID_ARGUMENT for a damaged folder. */
export async function joinedAddress(nodeFolder: string): Promise<string | undefined> {
  const folder = new NodeFolder(nodeFolder);
  return folder.hasJoined ? folder.address() : undefined;
}
