import { compareTimestamps } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import { TidemarkError } from "../../domain/errors.ts";
import { LIVE, type Lsn } from "../../domain/ids.ts";
import type { MetadataApi } from "../../domain/metadata-api.ts";
import type { CacheHolder, HostedSession, SessionGrant } from "../../domain/session-api.ts";
import type { Audit } from "../../meta/audit.ts";
import type { MountRow } from "../../meta/catalogue-rows.ts";
import { type OpenApp, SERVICE_CONTEXT } from "../../meta/open-app.ts";
import type { MetadataService } from "../../meta/service.ts";
import { TokenGuard } from "../../meta/tokens/guard.ts";
import type { TokenGrant } from "../../meta/tokens/token-grant.ts";
import { findMoment, snapshotNames } from "./app-moments.ts";

export type ShareSessionParts = {
  readonly service: MetadataService;
  readonly audit: Audit;
  readonly log: Log;
  readonly app: OpenApp;
  readonly row: MountRow;
  readonly grant: SessionGrant;
  /** Its kernel has just made the mount. */
  readonly knowsNothing: boolean;
  /** It is over: forget it. */
  readonly onOver: () => void;
};

/** A mount that a gateway on another node serves, as the service holds it: the app's engine behind the token that was presented last. */
export class ShareSession implements HostedSession {
  readonly #parts: ShareSessionParts;
  readonly #listeners = new Set<(reason: string) => void>();
  #row: MountRow;
  #grant: SessionGrant;
  #guard: TokenGuard | undefined;
  #stopWatching: () => void = () => {};
  #over = false;

  constructor(parts: ShareSessionParts) {
    this.#parts = parts;
    this.#row = parts.row;
    this.#grant = parts.grant;
  }

  get app(): OpenApp {
    return this.#parts.app;
  }

  get row(): MountRow {
    return this.#row;
  }

  get grant(): SessionGrant {
    return this.#grant;
  }

  get label(): string {
    return this.#row.session?.node ?? "";
  }

  /** Nothing can be asked before a token was presented: the former process's word for it does not count. */
  get api(): MetadataApi {
    if (this.#guard === undefined) throw new TidemarkError("INTERNAL", "no token was presented yet");
    return this.#guard;
  }

  /** A token was presented: from now on what it allows is allowed, no more and no less. */
  present(token: TokenGrant, grant: SessionGrant): void {
    this.#stopWatching();
    const old = this.#guard;
    const { app, audit } = this.#parts;
    const from = this.#row.session?.node === "" ? "loopback" : `node ${this.#row.session?.node}`;
    this.#guard = new TokenGuard({
      api: app.coherent,
      core: app.core,
      grant: token,
      mount: this.#row.id,
      audit,
      from,
      before: old,
    });
    this.#grant = grant;
    this.#stopWatching = token.onEnded((reason) => this.stop(`the token is not good any more: ${reason}`));
    void old?.close();
    this.#note({ tokenId: token.id });
  }

  attach(holder: CacheHolder): () => void {
    // A view never changes.
    if (this.#grant.at !== LIVE) return () => {};
    const { coherent } = this.#parts.app;
    const filtered: CacheHolder = {
      tell: (invalidation, options) => {
        // What lies outside of the token's subtree is not for the gateway to know.
        if (this.#guard?.concerns(invalidation) === false) return;
        return holder.tell(invalidation, options);
      },
    };
    return coherent.attach(this.#row.id, filtered, { root: this.#grant.root, isNew: this.#parts.knowsNothing });
  }

  async findMoment(name: string): Promise<{ readonly slot: number; readonly lsn: Lsn } | undefined> {
    if (this.#grant.views === "off") return undefined;
    const { app, service } = this.#parts;
    const lsn = await findMoment(app, name);
    return lsn === undefined ? undefined : { lsn, slot: service.viewSlot(app.id, lsn) };
  }

  snapshotNames(): readonly string[] {
    return this.#grant.views === "off" ? [] : snapshotNames(this.#parts.app);
  }

  onEnded(listener: (reason: string) => void): void {
    this.#listeners.add(listener);
  }

  leaseOver(): boolean {
    const lost = this.#tried(() => this.#parts.app.engine.mountAway(this.#row.id, SERVICE_CONTEXT)) ?? 0;
    this.#note({ awaySince: this.#parts.service.clock.now() });
    return lost > 0;
  }

  /** The gateway is there again. */
  back(): void {
    this.#parts.app.engine.mountBack(this.#row.id);
    if (this.#row.session?.awaySince !== undefined) this.#note({});
  }

  async end(): Promise<void> {
    this.#finish();
  }

  /** Ends it from this side: the gateway is told why, and its mount is over. */
  stop(reason: string): void {
    if (this.#over) return;
    for (const listener of this.#listeners) listener(reason);
    this.#finish();
  }

  /** The service stops: the session goes on with the next one. */
  leave(): void {
    this.#stopWatching();
    void this.#guard?.close();
  }

  #finish(): void {
    if (this.#over) return;
    this.#over = true;
    this.leave();
    const { app, service, onOver } = this.#parts;
    this.#tried(() => app.engine.detachMount(this.#row.id, SERVICE_CONTEXT));
    this.#tried(() => service.catalogue.removeMount(this.#row.id, SERVICE_CONTEXT));
    onOver();
  }

  /** What can't be written down now (a full disk, a journal that takes no more) is done again at the next start: the session is over all the same. */
  #tried<T>(act: () => T): T | undefined {
    try {
      return act();
    } catch (error) {
      this.#parts.log.error("what became of a session can't be written down", {
        mount: this.#row.id,
        error: String(error),
      });
      return undefined;
    }
  }

  /** Keeps what is known of the session; without `awaySince` the gateway is there. */
  #note(change: { readonly awaySince?: ReturnType<MetadataService["clock"]["now"]>; readonly tokenId?: string }): void {
    const { session } = this.#row;
    if (session === undefined || this.#over) return;
    const { awaySince: _before, ...rest } = session;
    const next = { ...rest, ...change };
    const same =
      next.tokenId === session.tokenId &&
      (next.awaySince === undefined) === (session.awaySince === undefined) &&
      (next.awaySince === undefined || compareTimestamps(next.awaySince, session.awaySince ?? next.awaySince) === 0);
    if (same) return;
    const { catalogue } = this.#parts.service;
    this.#row = this.#tried(() => catalogue.setSession(this.#row.id, next, SERVICE_CONTEXT)) ?? this.#row;
  }
}
