import type { Actor } from "../../domain/actor.ts";
import { FsError } from "../../domain/errors.ts";
import { type InodeId, LIVE, type MountId } from "../../domain/ids.ts";
import { type Inode, S_ISGID } from "../../domain/inode.ts";
import {
  type Invalidation,
  isChange,
  type MetadataApi,
  type ReplyMap,
  type ReplyOf,
  type Request,
  type RequestContext,
} from "../../domain/metadata-api.ts";
import type { TokenOp } from "../../domain/token.ts";
import {
  isAppend,
  isMet,
  momentOf,
  needWords,
  PAST_NEED,
  PLACES,
  TOKEN_NEEDS,
  type TokenFacts,
  type TokenRow,
} from "../../domain/token-needs.ts";
import { ACL_ACCESS, ACL_DEFAULT } from "../acl.ts";
import type { Audit } from "../audit.ts";
import type { EngineCore } from "../core.ts";
import type { InodeRow } from "../rows.ts";
import { AccessCheck } from "./access.ts";
import { subjectOf } from "./audit-subject.ts";
import { IdentityMap } from "./identity.ts";
import { MAKES_INODES, RECORDED_AS } from "./resent.ts";
import { Subtree } from "./subtree.ts";
import type { TokenGrant } from "./token-grant.ts";

export type TokenGuardParts = {
  /** What carries requests out that are allowed. */
  readonly api: MetadataApi;
  /** The core of the same app: what a request is about is looked up here, in the turn in which it is carried out. */
  readonly core: EngineCore;
  readonly grant: TokenGrant;
  /** The mount that all requests are of. */
  readonly mount: MountId;
  readonly audit: Audit;
  /** The guard of the same mount until now, not closed yet: the mount goes on under another grant. */
  readonly before?: TokenGuard | undefined;
  /** Where requests come from, for the audit log: "node n2", "/srv/uploads". */
  readonly from: string;
};

type AnyReply = ReplyMap[keyof ReplyMap];
type Op = Request["op"];

/**
 * An app's engine behind a token. What is outside of the subtree is ESTALE, as if it were not there; what the token does not allow is EACCES.
 *
 * G1  Nothing is carried out that the table (token-needs.ts) does not allow, or that is about an inode outside of the subtree, or for a grant that has ended. What can't be decided is refused.
 * G2  The check and what it allows are one turn, unless the engine makes a writer wait; nothing that was checked is cached beyond `Subtree`.
 * G3  No answer names anything outside of the subtree: the root is its own parent.
 */
export class TokenGuard implements MetadataApi {
  readonly #parts: TokenGuardParts;
  readonly #core: EngineCore;
  readonly #api: MetadataApi;
  readonly #subtree: Subtree;
  readonly #map: IdentityMap;
  readonly #access: AccessCheck | undefined;
  readonly #facts: TokenFacts;
  readonly #mount: MountId;
  readonly #root: InodeId;
  /** What must be asked for each operation; nothing for one that is allowed whatever it is about. */
  readonly #refusing: Readonly<Record<Op, readonly TokenRow[]>>;
  readonly #past: boolean;
  readonly #label: string;
  readonly #grant: TokenGrant;
  /** The root as it was last answered, and what was made of it. */
  #rootAnswer: { readonly inode: Inode; readonly masked: Inode } | undefined;

  constructor(parts: TokenGuardParts) {
    const { core, grant } = parts;
    this.#parts = parts;
    this.#core = core;
    this.#api = parts.api;
    this.#grant = grant;
    this.#mount = parts.mount;
    this.#root = grant.root;
    this.#subtree = new Subtree(core, {
      root: grant.root,
      mount: parts.mount,
      before: parts.before === undefined ? undefined : parts.before.#subtree,
    });
    this.#map = new IdentityMap(grant.identity);
    this.#access = this.#map.trustsNode ? undefined : new AccessCheck(core);
    this.#facts = {
      sizeOf: (ino) => core.inode(ino).size,
      hasName: (parent, name) => name.length > 0 && name.length < 256 && core.dentry(parent, name) !== undefined,
    };
    this.#refusing = refusingRows(grant.ops);
    this.#past = isMet(PAST_NEED, grant.ops);
    this.#label = `token ${grant.id}`;
  }

  get grant(): TokenGrant {
    return this.#grant;
  }

  /** Whether the share's `.tidemark` is there for the holder: the past of the whole share. */
  get showsViews(): boolean {
    return this.#past && this.#grant.wholeShare;
  }

  execute<R extends Request>(request: R, context: RequestContext): ReplyOf<R> | Promise<ReplyOf<R>> {
    this.#check(request, context);
    const asked = this.#map.trustsNode && !isChange(request) ? context : this.#contextOf(request, context);
    const wanted = this.#asIsHere(request);
    this.#checkAccess(wanted, asked);
    const reply = this.#api.execute(wanted, asked) as AnyReply | Promise<AnyReply>;
    const answered =
      reply instanceof Promise
        ? reply.then((settled) => this.#shown(request, this.#checkedAgain(request, settled, context)))
        : this.#shown(request, this.#noted(request, this.#checkedAgain(request, reply, context), context));
    return answered as ReplyOf<R> | Promise<ReplyOf<R>>;
  }

  /** Only of what the subtree has, or its holder was told of. */
  subscribe(listener: (invalidation: Invalidation) => void): () => void {
    return this.#api.subscribe((invalidation) => {
      if (this.concerns(invalidation)) listener(invalidation);
    });
  }

  /** The session is over: the grant is given back. What is behind the guard goes on. */
  async close(): Promise<void> {
    this.#subtree.close();
    this.#grant.release();
  }

  /** Whether the holder may be told of a change: names and numbers from outside are none of its business. What it was told of once it is told of, wherever that is by now. */
  concerns(invalidation: Invalidation): boolean {
    if (invalidation.kind === "snapshot") return this.showsViews;
    const ino = invalidation.kind === "inode" ? invalidation.ino : invalidation.parent;
    return this.#core.holders.isHeldBy(this.#mount, ino) || this.#subtree.has(ino, LIVE);
  }

  /** G1. Throws FsError. */
  #check(request: Request, context: RequestContext): void {
    const { op } = request;
    if (context.actor.mountId !== this.#mount) this.#refuse(request, "it claims to be of another mount");
    const { ended } = this.#grant;
    if (ended !== undefined && !isAlwaysAllowed(request)) this.#refuse(request, ended);
    const at = momentOf(request);
    if (at !== LIVE) {
      // Before anything is looked up there: rows of a moment that is not kept any more are not all there.
      this.#core.moments.check(at);
      if (!this.#past) this.#refuse(request, "the past takes history");
    }
    const fields = request as unknown as Readonly<Record<string, InodeId>>;
    for (const place of PLACES[op]) {
      const ino = fields[place.field] as InodeId;
      if (!this.#subtree.has(ino, place.at === undefined ? LIVE : at)) this.#notThere(request, ino);
    }
    if (context.resent && this.#wasDone(request, context.unique)) return;
    for (const row of this.#refusing[op]) {
      if (row.when === undefined || row.when(request as never, this.#facts)) this.#refuse(request, lacks(row));
    }
  }

  /**
   * Whether a request that is sent again has its record: the engine answers from that and does nothing, and what was the end of the file, or a new name, when it was allowed is none any more. One that has the number of
   * something else is a forgery: the answer to that would be given to it.
   */
  #wasDone(request: Request, unique: number): boolean {
    const kinds = RECORDED_AS[request.op];
    const found = kinds === undefined ? undefined : this.#core.recent.find(this.#mount, unique);
    if (kinds === undefined || found === undefined) return false;
    if (!kinds.includes(found.op)) this.#refuse(request, "it is sent again as what it was not");
    return request.op === "write" || request.op === "create";
  }

  #checkAccess(request: Request, context: RequestContext): void {
    if (this.#access === undefined) return;
    try {
      this.#access.check(request, context.actor);
    } catch (error) {
      if (error instanceof FsError && (error.code === "EACCES" || error.code === "EPERM")) {
        const { uid } = context.actor;
        this.#note(request, `mode or access list, for uid ${uid}`);
      }
      throw error;
    }
  }

  /** The request in terms of the share: owners of an id-mapped node, and an append that must not become a write elsewhere. */
  #asIsHere<R extends Request>(request: R): R {
    const changed = this.#changed(request);
    return (changed ?? request) as R;
  }

  #changed(request: Request): Request | undefined {
    const { trustsNode } = this.#map;
    switch (request.op) {
      case "write": {
        // The engine may make it wait: it must still be the end then.
        const append = request.append === true || (!this.#grant.has("write") && isAppend(request, this.#facts));
        if (trustsNode && append === (request.append === true)) return undefined;
        return { ...request, append, killPrivileges: request.killPrivileges || !trustsNode };
      }
      case "setattr": {
        if (trustsNode) return undefined;
        const set = this.#map.owners(request.set);
        if (set === undefined) throw FsError.of("EINVAL");
        return { ...request, set: { ...set, killPrivileges: set.killPrivileges === true || set.size !== undefined } };
      }
      case "create":
      case "mknod":
      case "tmpfile":
        // Of a directory's group that the caller may not be in: a kernel takes it off, but it is not trusted.
        if (trustsNode || (request.mode & S_ISGID) === 0) return undefined;
        return { ...request, mode: request.mode & ~S_ISGID };
      case "setxattr":
        if (!this.#map.changesOwners || !isAcl(request.name)) return undefined;
        return { ...request, value: this.#map.aclHere(request.value) };
      default:
        return undefined;
    }
  }

  #contextOf(request: Request, context: RequestContext): RequestContext {
    const { actor } = context;
    const { uid, gid } = this.#map.here(actor);
    const label = isChange(request) ? this.#label : actor.label;
    const here: Actor = { mountId: actor.mountId, uid, gid, pid: actor.pid, label };
    return { ...context, actor: here };
  }

  /** What the answer of this very turn names is inside. */
  #noted(request: Request, reply: AnyReply, { resent }: RequestContext): AnyReply {
    switch (request.op) {
      case "lookup":
        this.#subtree.found((reply as Inode).ino, request.at);
        break;
      case "readdir":
        for (const { ino } of (reply as ReplyMap["readdir"]).entries) this.#subtree.found(ino, request.at);
        break;
      case "create":
      case "mknod":
      case "mkdir":
      case "symlink":
        if (!resent) this.#subtree.found((reply as Inode).ino, LIVE);
        break;
    }
    return reply;
  }

  /** What was made by a request that is sent again may have been moved out since: then it is outside, whoever made it. */
  #checkedAgain(request: Request, reply: AnyReply, { resent }: RequestContext): AnyReply {
    if (!resent || !MAKES_INODES.has(request.op)) return reply;
    const { ino } = reply as Inode;
    if (!this.#subtree.has(ino, LIVE)) this.#notThere(request, ino);
    return reply;
  }

  /** G3, and owners as the node has them. */
  #shown(request: Request, reply: AnyReply): AnyReply {
    switch (request.op) {
      case "lookup":
      case "getattr":
      case "create":
      case "mknod":
      case "mkdir":
      case "symlink":
      case "link":
      case "tmpfile":
      case "setattr":
        return this.#shownInode(reply as InodeRow);
      case "readdir": {
        if (!this.#map.changesOwners || !request.plus) return reply;
        const { entries, end } = reply as ReplyMap["readdir"];
        const shown = entries.map((entry) =>
          entry.inode === undefined ? entry : { ...entry, inode: this.#map.shown(entry.inode as InodeRow) },
        );
        return { entries: shown, end };
      }
      case "getxattr":
        return this.#map.changesOwners && isAcl(request.name) ? this.#map.shownAcl(reply as Buffer) : reply;
      default:
        return reply;
    }
  }

  #shownInode(inode: InodeRow): Inode {
    const own = inode.ino === this.#root && inode.parent !== this.#root ? this.#masked(inode) : inode;
    return this.#map.changesOwners ? this.#map.shown(own as InodeRow) : own;
  }

  #masked(inode: Inode): Inode {
    if (this.#rootAnswer?.inode !== inode) this.#rootAnswer = { inode, masked: { ...inode, parent: this.#root } };
    return this.#rootAnswer.masked;
  }

  #refuse(request: Request, why: string): never {
    this.#note(request, why);
    throw FsError.of("EACCES");
  }

  /** Kernels ask for what was just deleted, too: only what is there is worth an entry. */
  #notThere(request: Request, ino: InodeId): never {
    if (this.#core.findInodeNow(ino) !== undefined) this.#note(request, "outside of the directory of the token");
    throw FsError.of("ESTALE");
  }

  #note(request: Request, why: string): void {
    const { audit, from } = this.#parts;
    const who = `${this.#label} at ${from}`;
    const on = (): string => subjectOf(this.#core, request);
    audit.refused({ who, what: request.op, on, why, appId: this.#grant.appId });
  }
}

/** Of each operation, the rows whose needs `ops` do not meet: when one of them applies, the request is refused. */
function refusingRows(ops: ReadonlySet<TokenOp>): Record<Op, readonly TokenRow[]> {
  const rows = Object.fromEntries((Object.keys(PLACES) as Op[]).map((op) => [op, [] as TokenRow[]])) as Record<
    Op,
    TokenRow[]
  >;
  for (const row of TOKEN_NEEDS) if (!row.needs.every((need) => isMet(need, ops))) rows[row.op].push(row);
  return rows;
}

/** What lets go of something: a kernel has no way to be told that it may not. */
function isAlwaysAllowed(request: Request): boolean {
  return request.op === "forget" || (request.op === "setlk" && request.lock.type === "unlock");
}

function lacks({ needs, variant }: TokenRow): string {
  return `it takes ${needWords(needs)}${variant === "" ? "" : ` (${variant})`}`;
}

function isAcl(name: Buffer): boolean {
  return name.equals(ACL_ACCESS) || name.equals(ACL_DEFAULT);
}
