import { type ServiceError, status } from "@grpc/grpc-js";
import { type ErrorCode, TidemarkError } from "../../domain/errors.ts";
import { DETAIL_KEY, fromServiceError } from "../errors.ts";

/** What OpenSSL and Node say when a handshake fails, as a person at the client's end understands it. `%` stands for the service's address. */
const HANDSHAKES: readonly { readonly words: RegExp; readonly code: ErrorCode; readonly message: string }[] = [
  {
    words: /unable to (?:verify|get)|self.signed certificate|UNABLE_TO_|SELF_SIGNED|certificate signature failure/i,
    code: "PERMISSION_DENIED",
    message:
      "what answers at % is not the service that this machine knows: its certificate is of another authority than ca.crt. Is the address right? If the service began with a new authority, join it again",
  },
  {
    words: /Hostname\/IP does not match|ERR_TLS_CERT_ALTNAME_INVALID/i,
    code: "PERMISSION_DENIED",
    message:
      "the service at % has a certificate for other names: use one that it has, or start it with --listen-name and this name or address",
  },
  {
    words: /CERT_HAS_EXPIRED|certificate has expired/i,
    code: "PERMISSION_DENIED",
    message: "the certificate of the service at % has expired, or this machine's clock is wrong",
  },
  {
    words: /CERT_NOT_YET_VALID|not yet valid/i,
    code: "PERMISSION_DENIED",
    message: "the certificate of the service at % does not hold yet: is this machine's clock right?",
  },
  {
    words: /alert certificate expired/i,
    code: "PERMISSION_DENIED",
    message: "the service at % refuses this machine's certificate: it has expired, or one of the two clocks is wrong",
  },
  {
    words: /alert (?:unknown ca|bad certificate|certificate unknown|certificate required|unsupported certificate)/i,
    code: "PERMISSION_DENIED",
    message:
      "the service at % refuses this machine's certificate: it is of an authority that the service does not trust",
  },
  {
    words: /wrong version number|packet length too long|unexpected message|http request/i,
    code: "INVALID_ARGUMENT",
    message: "what answers at % does not speak TLS: is it the address of a service (serve --listen)?",
  },
  {
    words: /unsupported protocol|alert protocol version|no protocols available/i,
    code: "UNSUPPORTED",
    message: "what answers at % knows no TLS 1.3",
  },
  {
    words: /no application protocol/i,
    code: "INVALID_ARGUMENT",
    message: "what answers at % does not speak HTTP/2 in TLS: is it the address of a service (serve --listen)?",
  },
];

/** What a client on another machine makes of a failed call. */
export function networkFailure(error: ServiceError, address: string): TidemarkError {
  const answered = (error.metadata?.get(DETAIL_KEY).length ?? 0) > 0;
  if (answered || error.code !== status.UNAVAILABLE) return fromServiceError(error, address);
  const handshake = HANDSHAKES.find(({ words }) => words.test(error.details));
  if (handshake !== undefined) {
    return new TidemarkError(handshake.code, handshake.message.replaceAll("%", address), { cause: error });
  }
  return new TidemarkError("UNAVAILABLE", `the service at ${address} is not reachable: ${reasonOf(error)}`, {
    cause: error,
  });
}

function reasonOf({ details }: ServiceError): string {
  if (details.includes("ECONNREFUSED")) return "nothing listens there";
  if (/ENOTFOUND|EAI_AGAIN|Name resolution failed/.test(details)) return "its name can't be resolved";
  if (/EHOSTUNREACH|ENETUNREACH/.test(details)) return "there is no way to it";
  if (/ECONNRESET|EPIPE|Failed to connect|Socket closed|socket hang up|closed before/i.test(details))
    return "it ended the connection (if it goes on so, it refuses this machine's certificate: its log says why)";
  return details
    .replace(/^No connection established\. Last error: (?:Error: )?/, "")
    .replace(/ ?Resolution note: $/, "");
}
