import type { Timestamp } from "../base/clock.ts";
import type { CallOptions, Pages } from "./admin-call.ts";
import { TidemarkError } from "./errors.ts";

/** The longest common name that RFC 5280 lets a certificate have (ub-common-name); a node is called as its certificate says. */
export const NODE_NAME_CHARS_MAX = 64;

/** What `checkNodeName` accepts, for messages. */
export const NODE_NAME_RULE =
  "letters, digits, '-', '_' and '.', starting with a letter or digit, at most 64 characters";

const NODE_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]*$/;

/** Whether `text` can be the name of a node. */
export function isNodeName(text: string): boolean {
  return text.length <= NODE_NAME_CHARS_MAX && NODE_NAME.test(text);
}

/** Returns `text` if it can name a node. Throws INVALID_ARGUMENT with the rule otherwise. */
export function checkNodeName(text: string): string {
  if (isNodeName(text)) return text;
  throw new TidemarkError(
    "INVALID_ARGUMENT",
    `${JSON.stringify(text)} is not a valid name of a node: expected ${NODE_NAME_RULE}`,
  );
}

/** An invitation shorter than this is over before it is carried to the other machine. */
export const INVITE_MS_MIN = 10_000;
/** A ticket is a credential that lies around until it is used or its time is over. */
export const INVITE_MS_MAX = 7 * 24 * 3_600_000;
export const INVITE_MS_DEFAULT = 3_600_000;

/** `invited`: a ticket was made and not used. `joined`: its certificate is accepted. `removed`: it is refused. */
export type NodeState = "invited" | "joined" | "removed";

/** A machine that may talk to the service over the network. */
export type NodeInfo = {
  readonly name: string;
  readonly state: NodeState;
  /** When it came into that state. */
  readonly since: Timestamp;
  /** When its newest certificate, or its ticket, ends. Absent: no certificate of it is accepted. */
  readonly expiresAt?: Timestamp;
  /** When it last called, since the service started. */
  readonly lastSeen?: Timestamp;
  /** Where from. */
  readonly address?: string;
  /** Shares that it has mounted now. */
  readonly sessionCount: number;
};

/** What is carried to the machine that is to join. */
export type NodeInvite = {
  readonly name: string;
  /** One line of text. A credential until it was used or has expired. Never logged. */
  readonly ticket: string;
  readonly expiresAt: Timestamp;
};

/** The nodes of a service. The mutations are durable before they answer. All but listing: FAILED_PRECONDITION when the service does not listen for nodes. */
export interface NodesApi {
  /**
   * Makes a ticket with which one machine can become the node `name`, once, within `expiresMs`. An earlier ticket for that name is void. ALREADY_EXISTS when a node has the name; FAILED_PRECONDITION with certificates of
   * somebody else's authority: that is who names nodes then.
   */
  inviteNode(request: { name: string; expiresMs: number }, options?: CallOptions): Promise<NodeInvite>;
  /** By name. */
  listNodes(options?: CallOptions): Pages<NodeInfo>;
  /** Its sessions end, its certificates and a ticket are refused from now on. NOT_FOUND when there is none, FAILED_PRECONDITION when it is removed already. */
  removeNode(request: { name: string }, options?: CallOptions): Promise<NodeInfo>;
  /**
   * With certificates of somebody else's authority: takes the removal of a name back. The certificates that it had shown before stay refused, unless `oldCertificates`. FAILED_PRECONDITION when it is not removed, or when
   * the authority is the service's own (then it is invited again).
   */
  allowNode(request: { name: string; oldCertificates: boolean }, options?: CallOptions): Promise<NodeInfo>;
}
