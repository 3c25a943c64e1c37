import type { AppId, InodeId, ShareId } from "./ids.ts";

/** What a token may allow, each with what it means. The table of requests is in token-needs.ts; docs/tokens.md is made of both. */
export const TOKEN_OPS = {
  list: "list directories",
  read: "read the content and the extended attributes of files",
  create: "make files, directories, links and other names",
  append: "add to the end of files; what is there can't be changed",
  write: "change the content of files anywhere, also their size",
  delete: "remove names; with create also rename",
  setattr: "change mode, owner, times, extended attributes and access lists",
  history: "look at the past: whatever else is allowed, at every moment that is kept; and read the change feed",
  restore: "bring the past back",
  snapshot: "name moments",
  export: "take whole trees away as archives",
  admin: "manage the app: its shares, backup, retention, tokens of the same or fewer rights",
} as const;

/** One of the things that a token may allow. */
export type TokenOp = keyof typeof TOKEN_OPS;

export const TOKEN_OP_NAMES = Object.keys(TOKEN_OPS) as readonly TokenOp[];

/** What it takes to walk in the tree at all: look up names, see attributes. Without one of these a token is of no use on a mount. */
export const WALKING_OPS: readonly TokenOp[] = ["list", "read", "create", "append", "write", "delete", "setattr"];

/** Operations that change files. A mount under a token without any of them is read-only. */
export const CHANGING_OPS: readonly TokenOp[] = ["create", "append", "write", "delete", "setattr"];

/** 128 random bits as 32 lower-case hex digits: the `jti` of a token, and what it is called by. */
export type TokenId = string & { readonly brand: "TokenId" };

/** Whom users of another user's number become who is in no list: "nobody", as with NFS and id-mapped mounts. */
export const ANONYMOUS_ID = 65_534;

/** Pairs of one list, at most: a token is sent with every opening of a session. */
export const ID_PAIRS_MAX = 64;

/** A number as it is used on the node, and which one that is in the share. */
export type IdPair = { readonly there: number; readonly here: number };

/**
 * Who the users of a token's mount are in the share.
 * `claimed`: who the node says, as NFS has it with sec=sys: the node is trusted to tell. With `squashRoot` root is nobody.
 * `all`: everybody is this user. `list`: the listed ones are those, everybody else is nobody, and owners are shown the other way round.
 * But for `claimed` without `squashRoot`, modes and access lists are checked by the service too.
 */
export type TokenIdentity =
  | { readonly kind: "claimed"; readonly squashRoot: boolean }
  | { readonly kind: "all"; readonly uid: number; readonly gid: number }
  | { readonly kind: "list"; readonly uids: readonly IdPair[]; readonly gids: readonly IdPair[] };

/** What a token is bound to, besides its bearer. */
export type TokenBinding = {
  /** The name of the node that may use it, as its certificate says. */
  readonly node?: string;
  /** SHA-256 of the certificate that may use it, base64url (RFC 8705, "x5t#S256"). */
  readonly certificateThumbprint?: string;
};

/** The rights of a token: what it is for, and what it allows there. */
export type TokenRights = TokenBinding & {
  readonly appId: AppId;
  /** Absent: every share of the app. */
  readonly shareId?: ShareId;
  /** The directory that it ends at, by its number: it stays that directory, wherever it is moved. Absent: the share's root. */
  readonly root?: InodeId;
  readonly ops: readonly TokenOp[];
  readonly identity: TokenIdentity;
  /** The token under which it is made: when that ends, so does this one. */
  readonly parent?: TokenId;
};

/** Longest lifetime: what is needed for longer is made anew. */
export const TOKEN_LIFETIME_MS_MAX = 366 * 86_400_000;
export const TOKEN_LIFETIME_MS_DEFAULT = 3_600_000;
export const TOKEN_LIFETIME_MS_MIN = 1_000;

/** `kind` of a JWS made for something else is refused by this (RFC 8725 section 3.11). */
export const TOKEN_TYPE = "tidemark-token+jwt";
export const TOKEN_AUDIENCE = "tidemark";

/** Characters of a token, at most: 64 pairs of ids take 2 KB of it. What is longer is none. */
export const TOKEN_CHARS_MAX = 8192;

/** `revoked`: by name, with its app, or with all; `key-revoked`: what signed it is not trusted any more. */
export type TokenState = "valid" | "expired" | "revoked" | "key-revoked";
