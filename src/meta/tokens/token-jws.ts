import { decodeJwt, errors, type JWTPayload, jwtVerify, SignJWT } from "jose";
import { TidemarkError } from "../../domain/errors.ts";
import { TOKEN_AUDIENCE, TOKEN_CHARS_MAX, TOKEN_TYPE } from "../../domain/token.ts";
import type { SigningKey } from "./key-file.ts";
import { expiredAt, utcText } from "./token-grant.ts";
import type { VerifyingKey } from "./token-keys.ts";
import type { TokenClaims } from "./token-rows.ts";

/**
 * Tokens as text: a JWS in compact form (RFC 7515), EdDSA with Ed25519 (RFC 8037) and nothing else, a type of its own (RFC 8725 section 3.11). The key is found by `kid` among the service's own; nothing the token itself says is
 * followed (`jwk`, `jku`, `x5c`).
 */

const ALGORITHM = "EdDSA";

/**
 * How far a clock may have gone back since a token was made, before the token is taken for one from the future. Nothing is added to its end: issuer and verifier are the same service, and what
 * has expired is over.
 */
export const CLOCK_TOLERANCE_SEC = 30;

const REQUIRED = ["jti", "iat", "nbf", "exp", "app", "ops", "ep", "gep"];

const COMPACT = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/;

/** The error for a token that is not taken. `why` never has the token, or a part of it. */
export function refusal(why: string): TidemarkError {
  return new TidemarkError("PERMISSION_DENIED", `the token is refused: ${why}`, { data: { reason: why } });
}

/** Signs `claims` as they are. */
export async function signToken(claims: TokenClaims, key: SigningKey): Promise<string> {
  const header = { alg: ALGORITHM, typ: TOKEN_TYPE, kid: key.id };
  return new SignJWT(claims as unknown as JWTPayload).setProtectedHeader(header).sign(key.privateKey);
}

export type VerifyOptions = {
  readonly issuer: string;
  readonly find: (keyId: string) => VerifyingKey | undefined;
  readonly nowSec: number;
  /** To look at one that has expired. */
  readonly acceptExpired?: boolean;
};

/** A token whose signature and frame are right. Its claims are those that were signed; what they mean is the caller's to check. Throws `refusal`. */
export async function verifyToken(
  token: string,
  options: VerifyOptions,
): Promise<{ readonly payload: JWTPayload; readonly keyId: string }> {
  if (token.length > TOKEN_CHARS_MAX || !COMPACT.test(token)) throw refusal("it is not a token of Tidemark");
  let keyId = "";
  const findKey = (header: { kid?: unknown }): VerifyingKey["publicKey"] => {
    const key = typeof header.kid === "string" ? options.find(header.kid) : undefined;
    if (key === undefined) throw refusal(whyUnknownKey(token, options.issuer));
    if (key.row.revokedAt !== undefined) throw refusal("the key that signed it was revoked");
    keyId = key.row.id;
    return key.publicKey;
  };
  try {
    const { payload } = await jwtVerify(token, findKey, {
      algorithms: [ALGORITHM],
      typ: TOKEN_TYPE,
      issuer: options.issuer,
      audience: TOKEN_AUDIENCE,
      requiredClaims: REQUIRED,
      clockTolerance: CLOCK_TOLERANCE_SEC,
      // Its end is checked below, to the second.
      currentDate: new Date(options.nowSec * 1000),
    });
    checkEnd(payload.exp, options);
    return { payload, keyId };
  } catch (error) {
    if (error instanceof errors.JWTExpired && options.acceptExpired === true && error.claim === "exp")
      return { payload: error.payload, keyId };
    // Without the cause: its fields quote the token.
    throw error instanceof TidemarkError ? error : refusal(whyOf(error, options));
  }
}

function checkEnd(exp: unknown, { nowSec, acceptExpired = false }: VerifyOptions): void {
  if (typeof exp !== "number") throw refusal("it does not say when it expires");
  if (!acceptExpired && exp <= nowSec) throw refusal(expiredAt(exp));
}

function whyOf(error: unknown, { issuer }: VerifyOptions): string {
  if (error instanceof errors.JWTExpired) return expiredAt(Number(error.payload.exp));
  if (error instanceof errors.JWTClaimValidationFailed) {
    if (error.reason === "missing") return `it has no "${error.claim}"`;
    switch (error.claim) {
      case "iss":
        return otherService(issuer);
      case "aud":
        return "it was made for something else than Tidemark";
      case "typ":
        return "it is a token of another kind";
      case "nbf":
        return `it is valid only from ${utcText(Number(error.payload.nbf))} on: is the clock of the service right?`;
      default:
        return `its "${error.claim}" is wrong`;
    }
  }
  if (error instanceof errors.JOSEAlgNotAllowed) return `it is not signed with ${ALGORITHM}`;
  if (error instanceof errors.JWSSignatureVerificationFailed)
    return "its signature is wrong: it was altered, or not made by this service";
  return "it is not a token of Tidemark";
}

/** What it says of itself is not proven; it is only told apart from a key that is gone. */
function whyUnknownKey(token: string, issuer: string): string {
  try {
    if (decodeJwt(token).iss !== issuer) return otherService(issuer);
  } catch {
    return "it is not a token of Tidemark";
  }
  return "this service does not know the key that signed it";
}

function otherService(issuer: string): string {
  return `it was made by another service (this one is ${issuer.slice(0, 8)})`;
}
