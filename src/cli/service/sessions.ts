import { createHash } from "node:crypto";
import type { Log } from "../../base/log.ts";
import type { Timers } from "../../base/timers.ts";
import { TidemarkError } from "../../domain/errors.ts";
import { LIVE, type Lsn, type MountId } from "../../domain/ids.ts";
import type {
  HostedSession,
  Peer,
  SessionGrant,
  SessionHost,
  SessionId,
  SessionOpen,
} from "../../domain/session-api.ts";
import { formatAppRef } from "../../domain/share-path.ts";
import type { Audit } from "../../meta/audit.ts";
import { contextOf } from "../../meta/catalogue-api.ts";
import type { MountRow } from "../../meta/catalogue-rows.ts";
import type { Nodes } from "../../meta/nodes.ts";
import { type OpenApp, SERVICE_CONTEXT } from "../../meta/open-app.ts";
import { findShareIn } from "../../meta/reading/find-share.ts";
import { resolveMoment } from "../../meta/reading/time.ts";
import type { MetadataService } from "../../meta/service.ts";
import { type ShareRow, sharesAt } from "../../meta/shares.ts";
import type { TokenGrant } from "../../meta/tokens/token-grant.ts";
import type { Tokens } from "../../meta/tokens/tokens.ts";
import { ShareSession } from "./share-session.ts";

export type SessionsParts = {
  readonly service: MetadataService;
  readonly tokens: Tokens;
  readonly audit: Audit;
  readonly nodes: Nodes;
  readonly timers: Timers;
  readonly log: Log;
  readonly leaseMs: number;
  /** 32 random bytes as hex. */
  readonly newSessionId: () => string;
};

/** How long a gateway that is not heard of may still go on with its session: a node that was off over a week-end. Until then the files that were unlinked while it had them stay. */
const KEPT_MS = 3 * 86_400_000;
const KEPT_CHECK_MS = 3_600_000;

/** Sessions of a service. Each is a mount row and a few kilobytes. */
const SESSIONS_MAX = 10_000;

/** The sessions of a service: opened with a token, gone on with after a break or a restart, ended by whoever has the right to. */
export class Sessions implements SessionHost {
  readonly #parts: SessionsParts;
  readonly #sessions = new Map<MountId, ShareSession>();
  readonly #closers: (() => void)[] = [];

  constructor(parts: SessionsParts) {
    this.#parts = parts;
  }

  /** Takes over the sessions of the process before: their kernels may hold files and names, and their gateways may come. To be called before orphans that nobody holds are ended. */
  start(): void {
    const { service, nodes } = this.#parts;
    for (const row of service.catalogue.mounts()) {
      const app = service.get(row.appId);
      if (row.session === undefined) continue;
      if (app === undefined) service.catalogue.removeMount(row.id, SERVICE_CONTEXT);
      else this.#take(app, row, { resumed: true });
    }
    const stop = nodes.onRemoved((name) => {
      for (const session of [...this.#sessions.values()])
        if (session.row.session?.node === name) session.stop(`the node "${name}" was removed`);
    });
    this.#closers.push(stop);
    this.#watchKept();
  }

  /** Those whose gateways may come and go on, and have not been away for long. */
  expected(): ShareSession[] {
    return [...this.#sessions.values()].filter(({ row }) => row.session?.awaySince === undefined);
  }

  /** How many a node has. */
  countOf(node: string): number {
    return [...this.#sessions.values()].filter(({ row }) => row.session?.node === node).length;
  }

  async open(request: SessionOpen, peer: Peer): Promise<HostedSession> {
    const { service, tokens } = this.#parts;
    // Whoever goes on with a session does so whatever its app and share are called by now.
    const known = request.resume === undefined ? undefined : this.#known(request.resume, peer);
    const {
      grant: token,
      app,
      share,
    } = await tokens.exchangeNamed(request.token, {
      peer,
      findApp: () => known?.app ?? service.find(request.app),
      findShare: ({ core }) => {
        const shares = sharesAt(core, core.lastLsn);
        return shares.find(({ id }) => id === known?.row.shareId) ?? findShareIn(shares, request.share);
      },
    });
    try {
      const asked = { request, app, share, token, peer };
      return request.resume === undefined ? await this.#begin(asked) : this.#goOn(asked, known, request.resume);
    } catch (error) {
      token.release();
      throw error;
    }
  }

  /** An admin ends the mount. */
  stop(mount: MountId, reason: string): boolean {
    const session = this.#sessions.get(mount);
    session?.stop(reason);
    return session !== undefined;
  }

  /** The service stops; gateways go on with the next one. */
  close(): void {
    for (const close of this.#closers) close();
    for (const session of this.#sessions.values()) session.leave();
  }

  async #begin(asked: Asked): Promise<ShareSession> {
    const { service, newSessionId } = this.#parts;
    const { request, app, share, token, peer } = asked;
    if (this.#sessions.size >= SESSIONS_MAX)
      throw new TidemarkError("FAILED_PRECONDITION", `there are ${SESSIONS_MAX} sessions already: end some`);
    const at = request.at.kind === "now" ? LIVE : (await resolveMoment(app.core, request.at)).lsn;
    if (at !== LIVE && !token.has("history"))
      throw new TidemarkError("PERMISSION_DENIED", "the token does not allow to look at the past (history)");
    if (at === LIVE) this.#refuseDeleted(app, share);
    const id = newSessionId() as SessionId;
    const session = { idHash: hashOf(id), node: peer.node, tokenId: token.id };
    const readOnly = request.readOnly || token.readOnly || at !== LIVE;
    const locks = request.locks === "shared" && at === LIVE ? { locks: "shared" as const } : {};
    const rest = { persist: false, allowSuid: false, allowDevices: false, readOnly, root: token.root, session };
    const where = { appId: app.id, shareId: share.id, target: request.target.slice(0, TARGET_CHARS_MAX) };
    const draft = { ...where, ...rest, ...locks, ...(at === LIVE ? {} : { at }) };
    const row = service.catalogue.addMount(draft, contextOf(undefined));
    // A kernel that has it mounted already may hold anything.
    const made = this.#take(app, row, { resumed: request.kernelMounted === true });
    try {
      made.present(token, this.#grantOf(asked, { row, id, resumed: false }));
      await service.syncCatalogue();
    } catch (error) {
      await made.end();
      throw error;
    }
    return made;
  }

  /** The session that a gateway means, if it is this node's. */
  #known(id: SessionId, peer: Peer): ShareSession | undefined {
    const hash = hashOf(id);
    return [...this.#sessions.values()].find(
      ({ row: { session } }) => session?.idHash === hash && session.node === peer.node,
    );
  }

  #goOn(asked: Asked, found: ShareSession | undefined, id: SessionId): ShareSession {
    const { app, share, token } = asked;
    if (found === undefined) throw new TidemarkError("NOT_FOUND", "the session is over: mount the share again");
    const { row } = found;
    if (row.appId !== app.id || row.shareId !== share.id || row.root !== token.root)
      throw new TidemarkError("PERMISSION_DENIED", "the token is for another share or directory than the session");
    if (row.at === undefined) this.#refuseDeleted(app, share);
    found.present(token, this.#grantOf(asked, { row, id, resumed: true }));
    found.back();
    return found;
  }

  #take(app: OpenApp, row: MountRow, { resumed }: { readonly resumed: boolean }): ShareSession {
    const { service, audit, log } = this.#parts;
    app.engine.attachMount(row.id, { resumed, elsewhere: true });
    const onOver = (): void => void this.#sessions.delete(row.id);
    const session = new ShareSession({
      service,
      audit,
      log,
      app,
      row,
      grant: this.#placeholder(row),
      knowsNothing: !resumed,
      onOver,
    });
    this.#sessions.set(row.id, session);
    return session;
  }

  /** What is known of a session before its gateway has come and shown its token. */
  #placeholder(row: MountRow): SessionGrant {
    return {
      id: row.session?.idHash as SessionId,
      mountId: row.id,
      appId: row.appId,
      shareId: row.shareId,
      source: "",
      root: row.root ?? (0 as never),
      at: (row.at ?? LIVE) as Lsn,
      readOnly: row.readOnly,
      views: "off",
      locks: row.locks ?? "kernel",
      leaseMs: this.#parts.leaseMs,
      resumed: true,
      viewSlots: [],
    };
  }

  #grantOf({ app, share, token }: Asked, of: { row: MountRow; id: SessionId; resumed: boolean }): SessionGrant {
    const { service } = this.#parts;
    const { row, id, resumed } = of;
    const name = formatAppRef(service.nameOf(app.id));
    const views = row.at === undefined ? token.viewsOf(share.views) : "off";
    return {
      ...this.#placeholder(row),
      id,
      source: `${name}/${share.name}`,
      root: token.root,
      readOnly: row.readOnly || token.readOnly,
      ...(token.access === "service" ? { checksAccess: true } : {}),
      views,
      resumed,
      viewSlots: views === "off" ? [] : service.catalogue.viewSlots(app.id),
    };
  }

  #refuseDeleted(app: OpenApp, share: ShareRow): void {
    const row = this.#parts.service.catalogue.app(app.id);
    if (row?.deletedAt === undefined && share.deletedAt === undefined) return;
    throw new TidemarkError("FAILED_PRECONDITION", "the share is deleted: undelete it first, or mount a moment of it");
  }

  /** Ends sessions whose gateways have not been heard of for days. */
  #watchKept(): void {
    const { service, timers } = this.#parts;
    const beforeSec = service.clock.now().sec - KEPT_MS / 1000;
    for (const session of [...this.#sessions.values()]) {
      const { awaySince } = session.row.session ?? {};
      if (awaySince !== undefined && awaySince.sec < beforeSec)
        session.stop("nothing was heard of the gateway for days");
    }
    this.#closers.push(timers.after(KEPT_CHECK_MS, () => this.#watchKept()));
  }
}

/** Characters of a mount point that are kept: PATH_MAX. */
const TARGET_CHARS_MAX = 4096;

type Asked = {
  readonly request: SessionOpen;
  readonly app: OpenApp;
  readonly share: ShareRow;
  readonly token: TokenGrant;
  readonly peer: Peer;
};

function hashOf(id: SessionId): string {
  return createHash("sha256").update(id).digest("hex");
}
