import { TidemarkError } from "../../domain/errors.ts";
import type { TokenIdentity, TokenRights } from "../../domain/token.ts";
import type { TokenClaims } from "./token-rows.ts";

/**
 * The rights of a token that is made under another: the same or fewer. What the other is bound to this one is bound to as well. Throws PERMISSION_DENIED for more; that it ends in time `Tokens` sees to.
 */
export function rightsUnder(parent: TokenClaims, rights: TokenRights): TokenRights {
  const beyond = rights.ops.filter((op) => !parent.ops.includes(op));
  if (beyond.length > 0) throw more(`it does not have ${beyond.join(", ")} itself`);
  if (parent.app !== rights.appId) throw more("it is for another app");
  if (parent.shr !== undefined && parent.shr !== rights.shareId) throw more("it is for another share");
  if (parent.root !== undefined && parent.root !== rights.root) throw more("it is for another directory");
  if (!takesAnybody(parent.idm) && !isSame(parent.idm, rights.identity))
    throw more("its users are mapped to others: these must be mapped in the same way");
  const thumbprint = parent.cnf?.["x5t#S256"];
  if (differs(parent.node, rights.node) || differs(thumbprint, rights.certificateThumbprint))
    throw more("it is bound to another node or certificate");
  return {
    ...rights,
    ...(parent.node === undefined ? {} : { node: parent.node }),
    ...(thumbprint === undefined ? {} : { certificateThumbprint: thumbprint }),
    parent: parent.jti,
  };
}

function takesAnybody(identity: TokenIdentity): boolean {
  return identity.kind === "claimed" && !identity.squashRoot;
}

function isSame(a: TokenIdentity, b: TokenIdentity): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

/** One that is not said is the same. */
function differs(bound: string | undefined, wanted: string | undefined): boolean {
  return bound !== undefined && wanted !== undefined && bound !== wanted;
}

function more(why: string): TidemarkError {
  return new TidemarkError("PERMISSION_DENIED", `a token can't be given more than the one it is made with: ${why}`, {
    data: { reason: why },
  });
}
