import type { MessageInitShape } from "@bufbuild/protobuf";
import type { AuditEntry, TokenInfo, TokenRequest, TokenSelection } from "../../domain/admin-token.ts";
import { TidemarkError } from "../../domain/errors.ts";
import { isHexId } from "../../domain/ids.ts";
import { TOKEN_OP_NAMES, type TokenId, type TokenIdentity } from "../../domain/token.ts";
import * as pb from "../gen/tidemark/v1/token_pb.ts";
import { fromAppName, fromAppRef, fromLsn, fromShareName, fromShareRef, fromTime, toTime } from "./common.ts";
import { buffer, defined, maybe, need, oneOf, safeNumber, WordCodec, wide } from "./values.ts";

/** What token.proto has, both ways. */

const tokenStates = new WordCodec("token state", {
  valid: pb.TokenState.VALID,
  expired: pb.TokenState.EXPIRED,
  revoked: pb.TokenState.REVOKED,
  "key-revoked": pb.TokenState.KEY_REVOKED,
});

const auditKinds = new WordCodec("audit kind", { refused: pb.AuditKind.REFUSED, act: pb.AuditKind.ACT });

export function fromTokenIdentity(message: pb.TokenIdentity | undefined): TokenIdentity {
  const { identity } = need(message, "identity");
  switch (identity.case) {
    case "claimed":
      return { kind: "claimed", squashRoot: identity.value.squashRoot };
    case "all":
      return { kind: "all", uid: identity.value.uid, gid: identity.value.gid };
    case "listed":
      return { kind: "list", uids: identity.value.uids.map(fromPair), gids: identity.value.gids.map(fromPair) };
    case undefined:
      throw new TidemarkError("INVALID_ARGUMENT", "the identity is empty: expected claimed, all or listed");
  }
}

export function toTokenIdentity(identity: TokenIdentity): MessageInitShape<typeof pb.TokenIdentitySchema> {
  switch (identity.kind) {
    case "claimed":
      return { identity: { case: "claimed", value: { squashRoot: identity.squashRoot } } };
    case "all":
      return { identity: { case: "all", value: { uid: identity.uid, gid: identity.gid } } };
    case "list":
      return { identity: { case: "listed", value: { uids: [...identity.uids], gids: [...identity.gids] } } };
  }
}

function fromPair({ there, here }: pb.IdPair): { there: number; here: number } {
  return { there, here };
}

const fromOps = (ops: readonly string[]): TokenInfo["ops"] =>
  ops.map((op) => oneOf(TOKEN_OP_NAMES, op, "token operation"));

export function fromTokenRequest(message: pb.CreateTokenRequest): TokenRequest {
  const { app, share, path, ops, lifetimeMs, identity, node, certificateThumbprint } = message;
  return defined({
    app: fromAppRef(app),
    share: maybe(share, fromShareRef),
    path: buffer(path),
    ops: fromOps(ops),
    lifetimeMs: safeNumber(lifetimeMs, "lifetime_ms"),
    identity: fromTokenIdentity(identity),
    node,
    certificateThumbprint,
  });
}

export function toTokenRequest(request: TokenRequest): MessageInitShape<typeof pb.CreateTokenRequestSchema> {
  const { ops, lifetimeMs, identity, ...same } = request;
  return { ...same, ops: [...ops], lifetimeMs: wide(lifetimeMs), identity: toTokenIdentity(identity) };
}

export function fromTokenInfo(message: pb.TokenInfo | undefined): TokenInfo {
  const m = need(message, "token");
  if (!isHexId(m.id))
    throw new TidemarkError("INVALID_ARGUMENT", `token id "${m.id}" is not an id: expected 32 hex digits`);
  return defined({
    id: m.id as TokenId,
    app: fromAppName(m.app),
    share: maybe(m.share, fromShareName),
    path: maybe(m.path, buffer),
    isGone: m.isGone ? true : undefined,
    ops: fromOps(m.ops),
    identity: fromTokenIdentity(m.identity),
    issuedAt: fromTime(m.issuedAt, "issued_at"),
    expiresAt: fromTime(m.expiresAt, "expires_at"),
    state: tokenStates.from(m.state),
    sessionCount: m.sessionCount,
    node: m.node,
    certificateThumbprint: m.certificateThumbprint,
    parent: m.parent as TokenId | undefined,
  });
}

export function toTokenInfo(info: TokenInfo): MessageInitShape<typeof pb.TokenInfoSchema> {
  const { ops, identity, issuedAt, expiresAt, state, ...same } = info;
  return {
    ...same,
    ops: [...ops],
    identity: toTokenIdentity(identity),
    issuedAt: toTime(issuedAt),
    expiresAt: toTime(expiresAt),
    state: tokenStates.to(state),
  };
}

export function fromTokenSelection({ selection }: pb.RevokeTokensRequest): TokenSelection {
  switch (selection.case) {
    case "id":
      return { kind: "id", id: selection.value };
    case "app":
      return { kind: "app", app: fromAppRef(selection.value) };
    case "all":
      return { kind: "all" };
    case undefined:
      throw new TidemarkError("INVALID_ARGUMENT", "it is not said which tokens: expected id, app or all");
  }
}

export function toTokenSelection(selection: TokenSelection): MessageInitShape<typeof pb.RevokeTokensRequestSchema> {
  switch (selection.kind) {
    case "id":
      return { selection: { case: "id", value: selection.id } };
    case "app":
      return { selection: { case: "app", value: selection.app } };
    case "all":
      return { selection: { case: "all", value: {} } };
  }
}

export function fromAuditEntry(message: pb.AuditEntry): AuditEntry {
  const { lsn, time, kind, who, what, on, why, count, app } = message;
  return defined({
    lsn: fromLsn(lsn, "lsn"),
    time: fromTime(time, "time"),
    kind: auditKinds.from(kind),
    who,
    what,
    on,
    why,
    count: safeNumber(count, "count"),
    app: maybe(app, fromAppName),
  });
}

export function toAuditEntry(entry: AuditEntry): MessageInitShape<typeof pb.AuditEntrySchema> {
  const { lsn, time, kind, count, ...same } = entry;
  return { ...same, lsn: wide(lsn), time: toTime(time), kind: auditKinds.to(kind), count: wide(count) };
}
