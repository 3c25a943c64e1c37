import type { AuditEntry, TokenInfo, TokenRequest } from "../../src/domain/admin-token.ts";
import type { AppId, Lsn, ShareId } from "../../src/domain/ids.ts";
import type { TokenId } from "../../src/domain/token.ts";

/** What token.proto carries: every field set, and every one absent that may be. */

const APP = { id: "11".repeat(16) as AppId, namespace: "prod", name: "shop" };

export const TOKENS: readonly TokenInfo[] = [
  {
    id: "ab".repeat(16) as TokenId,
    app: APP,
    share: { id: "22".repeat(16) as ShareId, name: "uploads" },
    path: Buffer.from("public/\xff", "latin1"),
    ops: ["list", "read", "history"],
    identity: {
      kind: "list",
      uids: [{ there: 1000, here: 4_294_967_294 }],
      gids: [
        { there: 0, here: 0 },
        { there: 5, here: 6 },
      ],
    },
    issuedAt: { sec: 1_700_000_000, nsec: 123_456_789 },
    expiresAt: { sec: 1_700_003_600, nsec: 0 },
    state: "valid",
    sessionCount: 3,
    node: "n1",
    certificateThumbprint: "A".repeat(43),
  },
  {
    id: "cd".repeat(16) as TokenId,
    app: APP,
    path: Buffer.alloc(0),
    isGone: true,
    ops: ["write"],
    identity: { kind: "all", uid: 1000, gid: 0 },
    issuedAt: { sec: 0, nsec: 0 },
    expiresAt: { sec: 1, nsec: 0 },
    state: "key-revoked",
    sessionCount: 0,
  },
  {
    id: "ef".repeat(16) as TokenId,
    app: APP,
    ops: ["admin"],
    identity: { kind: "claimed", squashRoot: true },
    issuedAt: { sec: 0, nsec: 0 },
    expiresAt: { sec: 1, nsec: 0 },
    state: "revoked",
    sessionCount: 0,
  },
];

export const TOKEN_REQUESTS: readonly TokenRequest[] = [
  {
    app: { namespace: "prod", name: "shop", id: "abcdef12" },
    share: { name: "uploads", id: "abcdef34" },
    path: Buffer.from("public/\xff", "latin1"),
    ops: ["list", "append", "admin"],
    lifetimeMs: 366 * 86_400_000,
    identity: { kind: "list", uids: [{ there: 0, here: 4_294_967_294 }], gids: [] },
    node: "n1",
    certificateThumbprint: "A".repeat(43),
  },
  {
    app: { namespace: "default", name: "shop" },
    path: Buffer.alloc(0),
    ops: ["read"],
    lifetimeMs: 1000,
    identity: { kind: "all", uid: 0, gid: 65_534 },
  },
  {
    app: { namespace: "default", name: "shop" },
    share: { name: "uploads" },
    path: Buffer.alloc(0),
    ops: ["read"],
    lifetimeMs: 1000,
    identity: { kind: "claimed", squashRoot: false },
  },
];

export const AUDIT_ENTRIES: readonly AuditEntry[] = [
  {
    lsn: 7 as Lsn,
    time: { sec: 1_700_000_000, nsec: 1 },
    kind: "refused",
    who: "token abab at node n1",
    what: "write",
    on: "ino 7",
    why: "it takes write",
    count: 2 ** 40,
    app: APP,
  },
  {
    lsn: 8 as Lsn,
    time: { sec: 1_700_000_001, nsec: 0 },
    kind: "act",
    who: "cli app create (uid 0)",
    what: "catalogue.createApp",
    on: "prod:shop",
    why: "",
    count: 1,
  },
];
