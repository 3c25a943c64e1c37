import { randomBytes } from "node:crypto";
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import type { Timers } from "../../base/timers.ts";
import type { MountId } from "../../domain/ids.ts";
import type { Invalidation } from "../../domain/metadata-api.ts";
import type { Audit } from "../../meta/audit.ts";
import { recentNews } from "../../meta/news.ts";
import type { MetadataService } from "../../meta/service.ts";
import type { Tokens } from "../../meta/tokens/tokens.ts";
import type { NetworkServer } from "../../rpc/network-server.ts";
import { peerOf } from "../../rpc/peer.ts";
import { SessionServer } from "../../rpc/session/session-server.ts";
import { Sessions } from "./sessions.ts";

export type ComposeSessionsParts = {
  readonly service: MetadataService;
  readonly tokens: Tokens;
  readonly audit: Audit;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
};

/** How long a gateway may answer from what it was told: what a partition delays changes by, on other nodes, and how often an idle file is asked about again. */
const LEASE_MS = 10_000;

/** The sessions of a service. */
export type ComposedSessions = {
  readonly sessions: Sessions;
  /**
   * Takes over the sessions of the process before, and has told again what that may not have told them any more. Before the mounts are gone on with: a change that is made, or asked for again, is answered when gateways know of
   * it, or their leases are over.
   */
  start(): Promise<void>;
  /** Gateways come through this door from now on. */
  serve(server: NetworkServer | undefined): void;
  /** Ends the session of a mount: an administrator does. */
  readonly end: (mount: MountId, reason: string) => void;
  stop(): void;
};

/** Makes what holds the sessions of gateways on other nodes. */
export function composeSessions(parts: ComposeSessionsParts): ComposedSessions {
  const { service, clock, timers, log } = parts;
  const newSessionId = (): string => randomBytes(32).toString("hex");
  const sessions = new Sessions({ ...parts, nodes: service.nodes, leaseMs: LEASE_MS, newSessionId });
  const server = new SessionServer({ host: sessions, peerOf, clock, timers, log });
  return {
    sessions,
    end: (mount, reason) => void sessions.stop(mount, reason),
    start: async () => {
      sessions.start();
      for (const session of sessions.expected()) server.expect(session);
      await catchUp(service, sessions, log);
    },
    serve: (network) => network?.add(server.definition, server.implementation),
    stop: () => {
      server.close();
      sessions.close();
    },
  };
}

/** Tells gateways what the process before may not have told them any more. */
async function catchUp(service: MetadataService, sessions: Sessions, log: Log): Promise<void> {
  for (const app of service.openApps()) {
    const mounts = sessions.expected().filter(({ row }) => row.appId === app.id && row.at === undefined);
    if (mounts.length === 0) continue;
    try {
      const told = new Set<string>();
      for await (const news of recentNews(app)) {
        const key = keyOf(news);
        if (told.has(key)) continue;
        told.add(key);
        for (const { row } of mounts) app.coherent.tellAgain(row.id, news);
      }
    } catch (error) {
      log.error("gateways may not have heard of the last changes before the restart", { appId: app.id, error });
    }
  }
}

/** What news is about, and who is not told: once is enough. */
function keyOf(news: Invalidation): string {
  const { excluding } = news;
  if (news.kind === "inode") return `${excluding} ${news.ino}`;
  const name = news.name.toString("latin1");
  return news.kind === "snapshot" ? `${excluding} snapshot ${name}` : `${excluding} ${news.parent}/${name}`;
}
