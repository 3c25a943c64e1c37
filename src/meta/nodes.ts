import type { Timestamp } from "../base/clock.ts";
import type { NodeState } from "../domain/admin-nodes.ts";
import { TidemarkError } from "../domain/errors.ts";
import type { RequestContext } from "../domain/metadata-api.ts";
import { RECORD_OP } from "../domain/record-op.ts";
import type { EngineCore } from "./core.ts";
import { plainKey, TABLE } from "./keys.ts";
import { decodeJson, encodeJson } from "./rows.ts";
import { rowsOfTable } from "./table-rows.ts";

/** A certificate of a node. */
export type NodeCertificateRow = {
  /** SHA-256 of it, base64url. */
  readonly thumbprint: string;
  readonly sinceSec: number;
  readonly expiresSec: number;
};

/** A machine that may talk to the service, or may no more. */
export type NodeRow = {
  readonly name: string;
  readonly state: NodeState;
  /** When it came into that state. */
  readonly since: Timestamp;
  /** Those that are accepted, newest first; those of somebody else's authority, as far as they were seen. */
  readonly certificates: readonly NodeCertificateRow[];
  /** Those that are refused whatever their authority says, until they expire. */
  readonly refused?: readonly NodeCertificateRow[];
  /** The ticket that was last made for it. `usedBy`: SHA-256 of the public key that the machine had which used it, base64url. */
  readonly invite?: { readonly thumbprint: string; readonly expiresSec: number; readonly usedBy?: string };
};

/** Rows kept; a service has a few, and somebody else's authority could name any number. */
export const NODES_MAX = 10_000;

/** Nodes forgotten in one record, whose detail has at most 64 KiB: names have 64 characters. */
const FORGOTTEN_AT_ONCE_MAX = 500;

/** Certificates of one node that are known: it has one, and another while it is renewed; an authority that renews them daily lets them end as fast. */
const CERTIFICATES_MAX = 64;

/** The nodes of a service, in the system app: kept in memory; each change is one record of its journal first. */
export class Nodes {
  readonly #core: EngineCore;
  readonly #rows = new Map<string, NodeRow>();
  /** Whose a certificate is, tickets' too. */
  readonly #names = new Map<string, string>();
  readonly #removed = new Set<(name: string) => void>();

  constructor(core: EngineCore) {
    this.#core = core;
    for (const { value } of rowsOfTable(core, TABLE.NODE)) this.#take(decodeJson<NodeRow>(value));
  }

  /** All of them. */
  all(): NodeRow[] {
    return [...this.#rows.values()];
  }

  get(name: string): NodeRow | undefined {
    return this.#rows.get(name);
  }

  /** Whose certificate it is. */
  ofCertificate(thumbprint: string): NodeRow | undefined {
    const name = this.#names.get(thumbprint);
    return name === undefined ? undefined : this.#rows.get(name);
  }

  /** Hears the name of each node that is removed. Answers how to stop. */
  onRemoved(listener: (name: string) => void): () => void {
    this.#removed.add(listener);
    return () => this.#removed.delete(listener);
  }

  /** A ticket was made: any former one of that name is void. Throws ALREADY_EXISTS for a node that has joined. */
  invite(
    name: string,
    { thumbprint, expiresSec }: { readonly thumbprint: string; readonly expiresSec: number },
    context: RequestContext,
  ): NodeRow {
    const before = this.#rows.get(name);
    if (before?.state === "joined") {
      const message = `there is a node "${name}" already: choose another name, or remove that one first (tidemark node remove ${name})`;
      throw new TidemarkError("ALREADY_EXISTS", message);
    }
    if (before === undefined && this.#rows.size >= NODES_MAX) this.#forgetOver(context);
    this.#checkRoom(before);
    const invite = { thumbprint, expiresSec };
    return this.#set({ name, state: "invited", since: this.#now(), certificates: [], invite }, context);
  }

  /**
   * A machine that holds the key `usedBy` has used the ticket, and gets `certificate`. Once: PERMISSION_DENIED for another key, and for a ticket that is void or over.
   */
  join(
    ticket: string,
    { usedBy, certificate }: { readonly usedBy: string; readonly certificate: NodeCertificateRow },
    context: RequestContext,
  ): NodeRow {
    const row = this.ofCertificate(ticket);
    const invite = row?.invite;
    if (row === undefined || row.state === "removed" || invite?.thumbprint !== ticket)
      throw refused("it is void: another one was made, or the node was removed");
    if (invite.usedBy !== undefined && invite.usedBy !== usedBy) throw refused("it was used already");
    const since = this.#now();
    if (since.sec > invite.expiresSec) throw refused("it has expired");
    const certificates = row.state === "joined" ? [certificate, ...row.certificates] : [certificate];
    return this.#set({ ...row, state: "joined", since, certificates, invite: { ...invite, usedBy } }, context);
  }

  /** A newer certificate for a node; those it has stay good. NOT_FOUND when it has not joined. */
  addCertificate(name: string, certificate: NodeCertificateRow, context: RequestContext): NodeRow {
    const row = this.#rows.get(name);
    if (row?.state !== "joined") throw notFound(name);
    return this.#set({ ...row, certificates: [certificate, ...row.certificates] }, context);
  }

  /** A node whom its authority has named is seen for the first time, or with another certificate. FAILED_PRECONDITION when there are too many. */
  see(name: string, certificate: NodeCertificateRow, context: RequestContext): NodeRow {
    const before = this.#rows.get(name);
    this.#checkRoom(before);
    const row = before ?? { name, state: "joined", since: this.#now(), certificates: [] };
    return this.#set({ ...row, certificates: [certificate, ...row.certificates] }, context);
  }

  /** What it had is refused from now on. NOT_FOUND; FAILED_PRECONDITION when it was removed before. */
  remove(name: string, context: RequestContext): NodeRow {
    const row = this.#rows.get(name);
    if (row === undefined) throw notFound(name);
    if (row.state === "removed") throw new TidemarkError("FAILED_PRECONDITION", `node "${name}" was removed already`);
    const refused = [...row.certificates, ...(row.refused ?? [])];
    const gone = this.#set({ name, state: "removed", since: this.#now(), certificates: [], refused }, context);
    for (const listener of this.#removed) listener(name);
    return gone;
  }

  /** Takes a removal back; `oldCertificates`: of its certificates too. NOT_FOUND; FAILED_PRECONDITION when it is not removed. */
  allow(name: string, { oldCertificates }: { readonly oldCertificates: boolean }, context: RequestContext): NodeRow {
    const row = this.#rows.get(name);
    if (row === undefined) throw notFound(name);
    if (row.state !== "removed") throw new TidemarkError("FAILED_PRECONDITION", `node "${name}" is not removed`);
    const { refused = [] } = row;
    const certificates = oldCertificates ? { certificates: refused } : { certificates: [], refused };
    return this.#set({ name, state: "joined", since: this.#now(), ...certificates }, context);
  }

  /** Forgets nodes of which nothing can come back: removed ones, or tickets never used, whose certificates have all expired. */
  #forgetOver(context: RequestContext): void {
    const nowSec = this.#now().sec;
    const isOver = ({ state, certificates, refused = [], invite }: NodeRow): boolean =>
      state !== "joined" &&
      [...certificates, ...refused, ...(invite ? [invite] : [])].every((each) => each.expiresSec < nowSec);
    const over = this.all().filter(isOver).slice(0, FORGOTTEN_AT_ONCE_MAX);
    if (over.length === 0) return;
    const tx = this.#core.begin(context);
    for (const { name } of over) tx.row(nodeKey(name), null);
    tx.commit(RECORD_OP.NODE_REMOVE, encodeJson({ forgotten: over.map(({ name }) => name) }), { useReserve: true });
    for (const row of over) {
      this.#rows.delete(row.name);
      for (const thumbprint of thumbprintsOf(row)) this.#names.delete(thumbprint);
    }
  }

  #checkRoom(before: NodeRow | undefined): void {
    if (before !== undefined || this.#rows.size < NODES_MAX) return;
    throw new TidemarkError("FAILED_PRECONDITION", `there are ${NODES_MAX} nodes, which is the most one service has`);
  }

  #set(wanted: NodeRow, context: RequestContext): NodeRow {
    const nowSec = this.#now().sec;
    const live = (all: readonly NodeCertificateRow[]): readonly NodeCertificateRow[] =>
      all.filter(({ expiresSec }) => expiresSec >= nowSec).slice(0, CERTIFICATES_MAX);
    const { invite, refused, ...rest } = wanted;
    const row = {
      ...rest,
      certificates: live(wanted.certificates),
      ...(refused === undefined ? {} : { refused: live(refused) }),
      ...(invite === undefined || invite.expiresSec < nowSec ? {} : { invite }),
    };
    const tx = this.#core.begin(context);
    tx.row(nodeKey(row.name), encodeJson(row));
    // On a full disk it must be possible to lock somebody out.
    const removes = row.state === "removed";
    tx.commit(removes ? RECORD_OP.NODE_REMOVE : RECORD_OP.NODE_SET, encodeJson(row), { useReserve: removes });
    this.#take(row);
    return row;
  }

  #take(row: NodeRow): void {
    for (const thumbprint of thumbprintsOf(this.#rows.get(row.name))) this.#names.delete(thumbprint);
    this.#rows.set(row.name, row);
    for (const thumbprint of thumbprintsOf(row)) this.#names.set(thumbprint, row.name);
  }

  #now(): Timestamp {
    return this.#core.clock.now();
  }
}

function thumbprintsOf(row: NodeRow | undefined): string[] {
  if (row === undefined) return [];
  const invited = row.invite === undefined ? [] : [row.invite.thumbprint];
  return [...invited, ...[...row.certificates, ...(row.refused ?? [])].map(({ thumbprint }) => thumbprint)];
}

function nodeKey(name: string): Buffer {
  return plainKey(TABLE.NODE, Buffer.from(name));
}

function refused(reason: string): TidemarkError {
  const message = `the ticket is refused: ${reason}. On the service's machine, "tidemark node invite NAME" makes a new one`;
  return new TidemarkError("PERMISSION_DENIED", message);
}

function notFound(name: string): TidemarkError {
  return new TidemarkError("NOT_FOUND", `there is no node "${name}": see \`tidemark node list\``);
}
