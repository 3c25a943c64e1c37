import type { SetAttributes } from "../../domain/metadata-api.ts";
import { ANONYMOUS_ID, type IdPair, type TokenIdentity } from "../../domain/token.ts";
import { decodeAcl, encodeAcl, mapAcl } from "../acl.ts";
import type { InodeRow } from "../rows.ts";

type Ids = { readonly uid: number; readonly gid: number };

/**
 * Who a session's users are in the share, and how the share's owners look to them.
 *
 * `claimed`: as they are, but root, which is nobody if it is squashed. `all`: everybody is one user; owners are shown as they are, and nobody can change them. `list`: as an id-mapped mount
 * does it: pairs, both ways, and nobody for the rest.
 */
export class IdentityMap {
  readonly identity: TokenIdentity;
  readonly #uids: ReadonlyMap<number, number>;
  readonly #gids: ReadonlyMap<number, number>;
  readonly #shownUids: ReadonlyMap<number, number>;
  readonly #shownGids: ReadonlyMap<number, number>;

  constructor(identity: TokenIdentity) {
    this.identity = identity;
    const { uids, gids } = identity.kind === "list" ? identity : { uids: [], gids: [] };
    this.#uids = forward(uids);
    this.#gids = forward(gids);
    this.#shownUids = backward(uids);
    this.#shownGids = backward(gids);
  }

  /** Whether what the node says about its users is taken as it is: then it checks modes itself, and nothing here does. */
  get trustsNode(): boolean {
    return this.identity.kind === "claimed" && !this.identity.squashRoot;
  }

  /** Whether owners look different there. */
  get changesOwners(): boolean {
    return this.identity.kind === "list";
  }

  /** Who somebody of the node is here. */
  here({ uid, gid }: Ids): Ids {
    const { identity } = this;
    switch (identity.kind) {
      case "all":
        return { uid: identity.uid, gid: identity.gid };
      case "list":
        return { uid: this.#uids.get(uid) ?? ANONYMOUS_ID, gid: this.#gids.get(gid) ?? ANONYMOUS_ID };
      case "claimed":
        if (!identity.squashRoot) return { uid, gid };
        return { uid: uid === 0 ? ANONYMOUS_ID : uid, gid: gid === 0 ? ANONYMOUS_ID : gid };
    }
  }

  /** The inode as the node is to see it. */
  shown(inode: InodeRow): InodeRow {
    return { ...inode, uid: this.shownUid(inode.uid), gid: this.shownGid(inode.gid) };
  }

  shownUid(uid: number): number {
    return this.#shownUids.get(uid) ?? ANONYMOUS_ID;
  }

  shownGid(gid: number): number {
    return this.#shownGids.get(gid) ?? ANONYMOUS_ID;
  }

  /** New owners as they are here; undefined when one of them is nobody here, which can't be given anything. */
  owners(set: SetAttributes): SetAttributes | undefined {
    if (!this.changesOwners) return set;
    const uid = set.uid === undefined ? undefined : this.#uids.get(set.uid);
    const gid = set.gid === undefined ? undefined : this.#gids.get(set.gid);
    if ((set.uid !== undefined && uid === undefined) || (set.gid !== undefined && gid === undefined)) return undefined;
    return { ...set, ...(uid === undefined ? {} : { uid }), ...(gid === undefined ? {} : { gid }) };
  }

  /** An access list as the node is to see it. */
  shownAcl(value: Buffer): Buffer {
    const ids = { user: (id: number) => this.shownUid(id), group: (id: number) => this.shownGid(id) };
    return encodeAcl(mapAcl(decodeAcl(value), ids));
  }

  /** An access list of the node, as it is here. */
  aclHere(value: Buffer): Buffer {
    const user = (id: number): number => this.#uids.get(id) ?? ANONYMOUS_ID;
    const group = (id: number): number => this.#gids.get(id) ?? ANONYMOUS_ID;
    return encodeAcl(mapAcl(decodeAcl(value), { user, group }));
  }
}

function forward(pairs: readonly IdPair[]): Map<number, number> {
  return new Map(pairs.map(({ there, here }) => [there, here]));
}

/** Of several who are one here, the first is shown. */
function backward(pairs: readonly IdPair[]): Map<number, number> {
  return new Map([...pairs].reverse().map(({ there, here }) => [here, there]));
}
