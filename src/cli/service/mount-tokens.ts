import { TidemarkError } from "../../domain/errors.ts";
import type { Lsn } from "../../domain/ids.ts";
import type { Peer } from "../../domain/session-api.ts";
import type { MountRow } from "../../meta/catalogue-rows.ts";
import type { OpenApp } from "../../meta/open-app.ts";
import type { ShareRow } from "../../meta/shares.ts";
import { TokenGuard } from "../../meta/tokens/guard.ts";
import type { TokenGrant } from "../../meta/tokens/token-grant.ts";
import type { Exchange } from "../../meta/tokens/tokens.ts";
import type { ComposedTokens } from "./compose-tokens.ts";

/** Who mounts here: the service's own machine, which has no certificate and needs none. */
const THIS_MACHINE: Peer = { node: "", certificateThumbprint: "", address: "this machine" };

type Place = { readonly app: OpenApp; readonly share: ShareRow };

/** Mounts of the service's own machine that are held to a token. */
export class MountTokens {
  readonly #composed: Pick<ComposedTokens, "tokens" | "audit">;

  constructor(composed: Pick<ComposedTokens, "tokens" | "audit">) {
    this.#composed = composed;
  }

  /** What the token of a request grants; undefined without one. Throws PERMISSION_DENIED. */
  async grantFor(
    { token }: { readonly token?: string },
    { at, ...place }: Place & { readonly at: Lsn | undefined },
  ): Promise<TokenGrant | undefined> {
    if (token === undefined) return undefined;
    const grant = await this.#composed.tokens.exchange(token, exchangeOf(place));
    if (at === undefined || grant.has("history")) return grant;
    grant.release();
    throw new TidemarkError("PERMISSION_DENIED", "the token does not allow history, which a view takes");
  }

  /** What the token of a mount grants that is to be made again; undefined for one that has none. Throws PERMISSION_DENIED. */
  resume({ tokenId }: MountRow, place: Place): TokenGrant | undefined {
    return tokenId === undefined ? undefined : this.#composed.tokens.resume(tokenId, exchangeOf(place));
  }

  /** What holds a mount to its token. One that lived on though its token is good no more is refused everything. */
  guard(
    row: MountRow,
    { grant, ...place }: Place & { readonly grant: TokenGrant | undefined },
  ): TokenGuard | undefined {
    const { tokens, audit } = this.#composed;
    if (row.tokenId === undefined) return undefined;
    const { coherent, core } = place.app;
    const held = grant ?? tokens.goOn(row.tokenId, exchangeOf(place));
    return new TokenGuard({ api: coherent, core, grant: held, mount: row.id, audit, from: row.target });
  }
}

function exchangeOf({ app, share }: Place): Exchange {
  return { appId: app.id, shareId: share.id, shareRoot: share.root, peer: THIS_MACHINE };
}
