import type { AppId, InodeId, Lsn, MountId, ShareId } from "./ids.ts";
import type { Invalidation, MetadataApi } from "./metadata-api.ts";
import type { MomentRef } from "./moment.ts";
import type { AppRef, ShareRef } from "./share-path.ts";

/**
 * The port between the network and the service: how a gateway on another node gets hold of a share. `src/rpc/session` carries it (proto/tidemark/v1/session.proto); the service
 * implements `SessionHost`, a gateway has a client that offers what it was granted as a `MetadataApi`.
 */

/** Who is at the other end, as the transport has proven it. */
export type Peer = {
  /** The name in the node's certificate; empty on loopback without TLS. */
  readonly node: string;
  /** SHA-256 of the certificate, base64url as RFC 8705 has it ("x5t#S256"); empty without TLS. */
  readonly certificateThumbprint: string;
  /** For the audit log: "10.0.0.2:40312". */
  readonly address: string;
};

/** What a gateway asks for. */
export type SessionOpen = {
  readonly app: AppRef;
  readonly share: ShareRef;
  readonly at: MomentRef;
  readonly readOnly: boolean;
  /** Where the locks of files are: with each node's kernel, or with the service, across nodes. */
  readonly locks: "kernel" | "shared";
  /** Where it is to be mounted over there; shown to admins. */
  readonly target: string;
  /** A token's compact form. Never logged. */
  readonly token: string;
  /** A kernel has it mounted already, under a session that is over: it may hold what this session never told it. */
  readonly kernelMounted?: boolean;
  /** Goes on with a session, under its mount: the same token (or a newer one of the same rights) is needed. */
  readonly resume?: SessionId;
};

/** 256 random bits as hex: who knows it (and has the token and the certificate) may go on with the session. */
export type SessionId = string & { readonly brand: "SessionId" };

/** What the service grants. */
export type SessionGrant = {
  readonly id: SessionId;
  readonly mountId: MountId;
  readonly appId: AppId;
  readonly shareId: ShareId;
  /** "app/share", with the namespace if it is not the default: for the mount table. */
  readonly source: string;
  /** The directory that the gateway's mount shows as its root: the share's, or the token's subtree. */
  readonly root: InodeId;
  /** `LIVE`, or the moment of a view. */
  readonly at: Lsn;
  readonly readOnly: boolean;
  /** Who may look into `.tidemark`; "off" when the token does not allow history, or the root is not the share's. */
  readonly views: "off" | "root" | "users";
  readonly locks: "kernel" | "shared";
  /** How long a kernel may answer from what it was told: no answer of the service is good for longer. */
  readonly leaseMs: number;
  /** The former process of this gateway, or this one, had it before; its requests may be sent again. */
  readonly resumed: boolean;
  /** Modes and access lists are checked by the service alone, for the one user that the token makes of everybody: the kernel over there is not to refuse anything by the owners that it sees. */
  readonly checksAccess?: boolean;
  /** Moments that node ids of this mount name already. */
  readonly viewSlots: readonly { readonly slot: number; readonly lsn: Lsn }[];
};

/**
 * A kernel's cache somewhere. `tell` is called with each change made elsewhere, in order. It answers when that cache no longer answers from what it had: at once, or by a promise, which never rejects
 * and is bounded by the lease. The call that made the change returns only then.
 */
export interface CacheHolder {
  /** `doubtful`: it may know already, so what is right is better kept (a name is only asked for again). */
  tell(invalidation: Invalidation, options?: { readonly doubtful: boolean }): void | Promise<void>;
}

/** A session as the service holds it. */
export interface HostedSession {
  readonly grant: SessionGrant;
  /** Who changes things through it, for the journal: "node NAME, token ID". */
  readonly label: string;
  /** The app's engine behind the token: what is not allowed is refused here. */
  readonly api: MetadataApi;
  /** From now on the gateway's cache is told of changes. Answers how to stop. At most one at a time. */
  attach(holder: CacheHolder): () => void;
  /** What a name in `.tidemark` means now; undefined: nothing. The slot stands for the moment for ever. */
  findMoment(name: string): Promise<{ readonly slot: number; readonly lsn: Lsn } | undefined>;
  snapshotNames(): readonly string[];
  /** Fires when the token is revoked or has expired, the node was removed, or the share is gone: the reason, fit to be shown. */
  onEnded(listener: (reason: string) => void): void;
  /** Nothing was heard of the gateway for a whole lease: its locks go to others. Answers whether it had any: then the session can't be gone on with. */
  leaseOver(): boolean;
  /** The gateway is gone for good (unmounted): its mount ends, with its locks and the orphans it held. */
  end(): Promise<void>;
}

export interface SessionHost {
  /** Checks the token and opens, or goes on with, a session. Throws TidemarkError: PERMISSION_DENIED (says why the token is refused), NOT_FOUND, FAILED_PRECONDITION. */
  open(request: SessionOpen, peer: Peer): Promise<HostedSession>;
}
