import type { Log } from "../../base/log.ts";
import type { CallOptions } from "../../domain/admin-call.ts";
import type { ChangesApi, ChangesPage, ShareDeltaPage } from "../../domain/admin-changes.ts";
import { TidemarkError } from "../../domain/errors.ts";
import type { InodeId } from "../../domain/ids.ts";
import type { SharePath } from "../../domain/share-path.ts";
import type { TokenId } from "../../domain/token.ts";
import type { Audit } from "../../meta/audit.ts";
import { findShareRow } from "../../meta/catalogue-api.ts";
import type { MetadataService } from "../../meta/service.ts";
import { sharesAt } from "../../meta/shares.ts";
import type { TokenGrant } from "../../meta/tokens/token-grant.ts";
import type { Tokens } from "../../meta/tokens/tokens.ts";
import { fromChangesRequest, fromShareDeltaRequest, toChangesPage, toShareDeltaPage } from "../../rpc/codec/changes.ts";
import { ChangesService } from "../../rpc/gen/tidemark/v1/changes_pb.ts";
import {
  grpcDefinition,
  grpcImplementation,
  type ServerCallOptions,
  type ServiceHandlers,
} from "../../rpc/grpc-service.ts";
import type { NetworkServer } from "../../rpc/network-server.ts";

export type NetworkChangesParts = {
  readonly service: Pick<MetadataService, "find">;
  readonly changes: ChangesApi;
  readonly tokens: Tokens;
  readonly audit: Audit;
  readonly log: Log;
};

/** Feeds and deltas at a time over the network: each may fill caches of some 50 MiB. */
const CALLS_MAX = 32;

/** Of them, under one token: nobody takes them all. */
const CALLS_PER_TOKEN_MAX = 8;

/** Serves the change feed and deltas to callers on the network, each held to the token that it sends. */
export function serveChanges(server: NetworkServer | undefined, parts: NetworkChangesParts): void {
  const onDefect = (error: TidemarkError, method: string): void =>
    parts.log.error("a call from the network failed by a defect", { error, cause: error.cause, method });
  const handlers = new NetworkChanges(parts).handlers;
  server?.add(grpcDefinition(ChangesService), grpcImplementation(ChangesService, handlers, onDefect));
}

/** What a caller may see: a path of one share, below one directory of it. */
type Allowed = { readonly path: SharePath; readonly within: InodeId };

type Run<P> = (allowed: Allowed, options: CallOptions) => AsyncIterable<P>;

/** ChangesService under tokens: without one that allows `history` nothing is said, and when it ends so does the call. */
export class NetworkChanges {
  readonly #parts: NetworkChangesParts;
  #calls = 0;
  readonly #callsOf = new Map<TokenId, number>();

  constructor(parts: NetworkChangesParts) {
    this.#parts = parts;
  }

  get handlers(): ServiceHandlers<typeof ChangesService> {
    const { changes } = this.#parts;
    return {
      changes: (message, options) =>
        this.#call(options, () => {
          const request = fromChangesRequest(message);
          const run: Run<ChangesPage> = (allowed, own) => changes.changes({ ...request, ...allowed }, own);
          return { path: request.path, run, convert: toChangesPage };
        }),
      shareDelta: (message, options) =>
        this.#call(options, () => {
          const request = fromShareDeltaRequest(message);
          const run: Run<ShareDeltaPage> = (allowed, own) => changes.shareDelta({ ...request, ...allowed }, own);
          return { path: request.path, run, convert: toShareDeltaPage };
        }),
    };
  }

  /** `open` reads the request: one that is malformed fails the call as anything else does. */
  async *#call<P, M>(
    options: ServerCallOptions,
    open: () => { readonly path: SharePath; readonly run: Run<P>; readonly convert: (page: P) => M },
  ): AsyncGenerator<M> {
    if (this.#calls >= CALLS_MAX) throw busy(CALLS_MAX);
    this.#calls++;
    try {
      const { path, run, convert } = open();
      const { grant, ...allowed } = await this.#allow(path, options);
      const ended = new AbortController();
      const stop = grant.onEnded(() => ended.abort());
      const signal = AbortSignal.any([options.signal, ended.signal]);
      const leave = this.#enter(grant.id);
      try {
        if (leave === undefined) throw busy(CALLS_PER_TOKEN_MAX);
        for await (const page of run(allowed, { signal })) yield convert(page);
        checkEnded(grant);
      } catch (error) {
        checkEnded(grant);
        throw error;
      } finally {
        leave?.();
        stop();
        grant.release();
      }
    } finally {
      this.#calls--;
    }
  }

  /** One more call under a token; answers how it ends, or undefined when there are too many. */
  #enter(id: TokenId): (() => void) | undefined {
    const before = this.#callsOf.get(id) ?? 0;
    if (before >= CALLS_PER_TOKEN_MAX) return undefined;
    this.#callsOf.set(id, before + 1);
    return () => {
      const left = (this.#callsOf.get(id) ?? 1) - 1;
      if (left > 0) this.#callsOf.set(id, left);
      else this.#callsOf.delete(id);
    };
  }

  async #allow(
    path: SharePath,
    { bearer, peer }: ServerCallOptions,
  ): Promise<Allowed & { readonly grant: TokenGrant }> {
    const { service, tokens, audit } = this.#parts;
    if (bearer === undefined)
      throw new TidemarkError(
        "PERMISSION_DENIED",
        "a token is needed: send it in the metadata as authorization: Bearer TOKEN",
      );
    if (path.share === undefined)
      throw new TidemarkError("INVALID_ARGUMENT", "a token is for a share: name the share, as in app/share");
    const { share: shareRef } = path;
    const { grant, app, share } = await tokens.exchangeNamed(bearer, {
      peer,
      findApp: () => service.find(path.app),
      findShare: ({ core }) => findShareRow(sharesAt(core, core.lastLsn), shareRef),
    });
    if (!grant.has("history")) {
      grant.release();
      const why = "the token does not allow to look at the past (history)";
      const who = `token ${grant.id}, ${peer.node === "" ? peer.address : `node ${peer.node}`}`;
      audit.refused({ who, what: "changes", on: () => `share ${share.id.slice(0, 8)}`, why, appId: app.id });
      throw new TidemarkError("PERMISSION_DENIED", why);
    }
    // By id from here on: names may be given to others meanwhile.
    const byId = { app: { ...path.app, id: app.id }, share: { name: share.name, id: share.id }, path: path.path };
    return { grant, path: byId, within: grant.root };
  }
}

function busy(count: number): TidemarkError {
  return new TidemarkError("UNAVAILABLE", `${count} feeds and deltas are being read already: try again later`);
}

/** What stopped a call says why: a token that has ended is no caller that went away. */
function checkEnded({ ended }: TokenGrant): void {
  if (ended !== undefined)
    throw new TidemarkError("PERMISSION_DENIED", `the token does not allow this any more: ${ended}`);
}
