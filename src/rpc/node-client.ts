import type { Clock, Timestamp } from "../base/clock.ts";
import type { Timers } from "../base/timers.ts";
import { TidemarkError } from "../domain/errors.ts";
import type { NodeCertificate } from "../domain/node-join.ts";
import { NodeService } from "./gen/tidemark/v1/node_pb.ts";
import { GrpcCaller } from "./grpc-caller.ts";
import { isRenewalDue } from "./tls/authority.ts";
import { validityOf } from "./tls/certificate.ts";
import { clientCredentials, credentialsOf, type NetworkCredentials, openChannel } from "./tls/credentials.ts";
import type { NodeFolder } from "./tls/node-folder.ts";
import type { Ticket } from "./tls/ticket.ts";
import { parseCertificates, readText } from "./tls/tls-files.ts";
import { makeCertificateRequest, newPrivateKey } from "./tls/x509.ts";

/** How a machine becomes a node, and stays one: the node's end of NodeService. */

/** An address that leads nowhere is given up after this, and the next one tried: TCP would try for minutes. */
const ATTEMPT_MS = 15_000;

/** What a call takes besides itself. */
export type NodeCallParts = { readonly clock: Clock; readonly timers: Timers; readonly signal: AbortSignal };

/**
 * Joins a service with a ticket: makes a key in `folder` (it never leaves it), has it certified, and keeps what came. `addresses` are tried in turn. Answers which one it was. Throws what the service refuses with; UNAVAILABLE when
 * none answers; ALREADY_EXISTS when the machine has joined one.
 */
export async function joinService(
  folder: NodeFolder,
  ticket: Ticket,
  { addresses, ...parts }: { readonly addresses: readonly string[] } & NodeCallParts,
): Promise<string> {
  if (folder.hasJoined) {
    const message = `this machine has joined the service at ${await folder.address()}: if it is to leave that one: tidemark node leave`;
    throw new TidemarkError("ALREADY_EXISTS", message);
  }
  const [ticketCertificate] = parseCertificates("the ticket", ticket.certificate);
  if (parts.clock.now().sec > validityOf(ticketCertificate).until.sec)
    throw new TidemarkError("FAILED_PRECONDITION", "the ticket has expired (by this machine's clock): make a new one");
  const key = await folder.key(newPrivateKey);
  const request = await makeCertificateRequest(ticket.name, key);
  const credentials = credentialsOf(ticket);
  let failure: unknown = new TidemarkError(
    "INVALID_ARGUMENT",
    "the ticket has no address: tidemark node join HOST:PORT --ticket FILE",
  );
  for (const address of addresses) {
    try {
      const { certificate } = await call("join", { address, credentials, request, ...parts });
      // The authority is the ticket's: what the service says of itself is believed because of that one.
      await folder.joined({ authority: ticket.authority, certificate, address });
      return address;
    } catch (error) {
      failure = error;
      if (!(error instanceof TidemarkError) || error.code !== "UNAVAILABLE") throw error;
    }
  }
  throw failure;
}

/** When a node's certificate holds, and whether it should be renewed now. */
export type NodeCertificateState = { readonly until: Timestamp; readonly isDue: boolean };

/** Looks at the certificate of a machine that has joined. Throws FAILED_PRECONDITION when it has not. */
export async function nodeCertificate(folder: NodeFolder, clock: Clock): Promise<NodeCertificateState> {
  folder.checkJoined();
  const file = folder.files.certFile;
  const validity = validityOf(parseCertificates(file, await readText(file))[0]);
  return { until: validity.until, isDue: isRenewalDue(validity, clock.now()) };
}

/** Has the node's certificate renewed, for the same key. Answers until when the new one holds. Errors as `joinService`. */
export async function renewCertificate(folder: NodeFolder, parts: NodeCallParts): Promise<Timestamp> {
  const address = await folder.address();
  const credentials = await clientCredentials({ nodeFolder: folder.path }, { now: parts.clock.now() });
  const key = await readText(folder.files.keyFile, { secret: true });
  const request = await makeCertificateRequest("node", key);
  const { certificate } = await call("renew", { address, credentials, request, ...parts });
  const [parsed] = parseCertificates("the answer", certificate);
  await folder.renewed(certificate);
  return validityOf(parsed).until;
}

type NodeCall = NodeCallParts & {
  readonly address: string;
  readonly credentials: NetworkCredentials;
  readonly request: Buffer;
};

async function call(what: "join" | "renew", options: NodeCall): Promise<NodeCertificate> {
  const { address, credentials, request, clock, timers, signal } = options;
  const caller = new GrpcCaller({ channel: openChannel({ address, credentials }), clock });
  const { method } = NodeService;
  const tooLong = new AbortController();
  const cancel = timers.after(ATTEMPT_MS, () => tooLong.abort());
  try {
    const either = AbortSignal.any([signal, tooLong.signal]);
    return await caller.unary(method[what], { certificateRequest: request }, { signal: either });
  } catch (error) {
    if (!tooLong.signal.aborted || signal.aborted) throw error;
    const message = `the service at ${address} did not answer within ${ATTEMPT_MS / 1000} s`;
    throw new TidemarkError("UNAVAILABLE", message, { cause: error });
  } finally {
    cancel();
    caller.close();
  }
}
