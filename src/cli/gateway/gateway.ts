import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import type { Timers } from "../../base/timers.ts";
import { TidemarkError } from "../../domain/errors.ts";
import type { AppId } from "../../domain/ids.ts";
import type { MetadataApi } from "../../domain/metadata-api.ts";
import type { SessionGrant } from "../../domain/session-api.ts";
import { CachedApi } from "../../gateway/cache/cached-api.ts";
import { ReadCache } from "../../gateway/cache/read-cache.ts";
import type { Mounted } from "../../gateway/fuse/mount.ts";
import { NotificationLanes } from "../../gateway/fuse/notification-lanes.ts";
import { FuseLoop } from "../../gateway/fuse/poll-loop.ts";
import type { SupervisorClient } from "../../gateway/fuse/supervisor-client.ts";
import { openStreams } from "./gateway-channel.ts";
import { GatewaySession, type GatewaySessionOptions } from "./gateway-session.ts";
import { type GatewayStatus, serveStatus } from "./gateway-status.ts";
import { LateCache } from "./late-cache.ts";
import type { MountFiles } from "./mount-files.ts";
import { forgetMount, type KeptGrant, keptGrant, type MountState, writeMountState } from "./mount-state.ts";
import { processOf } from "./process-identity.ts";
import { asksOpens, RemoteMount } from "./remote-mount.ts";
import { REMOTE_SOURCE } from "./remote-source.ts";
import { TokenFile } from "./token-file.ts";

/** The first connection: long enough for a service that restarts, short enough for somebody who has mistyped its address. */
const OPEN_MS = 20_000;

/** At a stop, requests that are with the service get so long to be answered. */
const DRAIN_MS = 2_000;

export type GatewayOptions = {
  readonly files: MountFiles;
  readonly state: MountState;
  readonly host: SupervisorClient;
  readonly supervisorPid: number;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
  readonly randomFraction: () => number;
};

/**
 * One mount of a share whose service is elsewhere, in one process; another has the kernel's descriptor and starts the next when this one dies. What the next needs is in the mount's state file: written
 * before the kernel mounts, and whenever the session is another one.
 */
export class Gateway {
  readonly #options: GatewayOptions;
  readonly #lanes: NotificationLanes;
  readonly #loop: FuseLoop;
  readonly #news = new LateCache();
  readonly #ended = Promise.withResolvers<void>();
  #state: MountState;
  #resumed = false;
  /** Never rejects. */
  #saved: Promise<void> = Promise.resolve();
  #session: GatewaySession | undefined;
  #cache: ReadCache | undefined;
  #mount: { readonly served: RemoteMount; readonly mounted: Mounted } | undefined;
  #status: { close(): void } | undefined;

  private constructor(options: GatewayOptions) {
    this.#options = options;
    this.#state = { ...options.state, processes: [options.supervisorPid, process.pid].map(processOf) };
    this.#lanes = new NotificationLanes((lane) => options.host.notificationWriter(lane));
    this.#loop = new FuseLoop({ clock: options.clock });
  }

  /** Makes the mount, or goes on with the one that the process before served. Throws TidemarkError; nothing is mounted and no session left then. */
  static async start(options: GatewayOptions): Promise<Gateway> {
    const gateway = new Gateway(options);
    const resumed = options.host.resumed().get(options.state.id);
    if (resumed === undefined) await gateway.#begin();
    else await gateway.#goOn(resumed);
    return gateway;
  }

  /** Resolves when the kernel has unmounted it. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  /** What the service granted. */
  get granted(): KeptGrant {
    const { session } = this.#state;
    if (session === undefined) throw new TidemarkError("INTERNAL", "nothing was granted yet");
    return session;
  }

  /** Ends the mount, with what waits, and the session. Unmounted by somebody (`forget`), nothing is kept; else the cache is, for when it is mounted again. Once. */
  async stop({ forget }: { readonly forget: boolean }): Promise<void> {
    const { host, timers, files, state, log } = this.#options;
    this.#status?.close();
    const mount = this.#mount;
    if (mount !== undefined) {
      if (!forget)
        await host.umount(mount.mounted.target, { lazy: true }).catch((error: unknown) => {
          log.error("cannot unmount", { error: String(error) });
        });
      const served = mount.served.stop();
      await Promise.race([served, timers.wait(DRAIN_MS)]);
      await this.#session?.close();
      await served;
      await host.release(state.id, mount.mounted);
    } else await this.#session?.close();
    await this.#lanes.close();
    await this.#cache?.close();
    if (forget) forgetMount(files, state.id);
  }

  /** A new mount. */
  async #begin(): Promise<void> {
    const { state, host } = this.#options;
    const { mount } = state;
    try {
      this.#session = await GatewaySession.open(await this.#sessionOptions(), { timeoutMs: OPEN_MS });
      const { granted } = this;
      const mounted = await host.mount(state.id, {
        target: mount.target,
        source: `${REMOTE_SOURCE}${mount.service}/${granted.source}`,
        readOnly: granted.readOnly,
        suid: mount.suid,
        dev: mount.dev,
        locks: granted.locks === "shared" ? "service" : "kernel",
        pages: "follow-attributes",
        ...(this.#session.grant.checksAccess === true ? { access: "service" } : {}),
      });
      await this.#serve(mounted);
    } catch (error) {
      await this.stop({ forget: true });
      throw error;
    }
  }

  /** The mount lives, and programs wait. */
  async #goOn(mounted: Mounted): Promise<void> {
    this.#resumed = true;
    this.#session = GatewaySession.goOn({ ...(await this.#sessionOptions()), former: this.granted });
    await this.#save();
    await this.#serve(mounted);
  }

  async #sessionOptions(): Promise<GatewaySessionOptions> {
    const { state, clock, timers, log, randomFraction } = this.#options;
    return {
      streams: await openStreams(state.mount, { clock, timers, log, randomFraction }),
      mount: state.mount,
      tokenFile: new TokenFile(state.mount.tokenFile),
      cache: this.#news,
      onGrant: (grant) => this.#keep(grant),
      clock,
      timers,
      log,
      randomFraction,
    };
  }

  async #keep(grant: SessionGrant): Promise<void> {
    const opens = this.#state.session?.asksOpens ?? asksOpens(grant);
    this.#state = { ...this.#state, session: keptGrant(grant, { asksOpens: opens }) };
    await this.#save();
  }

  /** Keeps the state, after what was to be kept before. Rejects for a new mount only: one that lives goes on, though the next process may not (a full disk). */
  async #save(): Promise<void> {
    const { files, log } = this.#options;
    const saved = this.#saved.then(() => writeMountState(files, this.#state));
    this.#saved = saved.catch(() => {});
    await saved.catch((error: unknown) => {
      if (!this.#resumed) throw error;
      log.error("the state of the mount can't be kept: a process after this one may not be able to go on", { error });
    });
  }

  async #serve(mounted: Mounted): Promise<void> {
    const { clock, timers, log, files, state } = this.#options;
    const session = this.#session as GatewaySession;
    const { granted } = this;
    this.#cache = await this.#openCache(granted.appId);
    const api: MetadataApi = this.#cache === undefined ? session : new CachedApi(session, this.#cache);
    const served = new RemoteMount({
      session,
      api,
      news: this.#news,
      granted,
      mounted,
      loop: this.#loop,
      lanes: this.#lanes,
      clock,
      timers,
      log,
      onEnd: () => this.#ended.resolve(),
    });
    this.#mount = { served, mounted };
    this.#status = await serveStatus(files.socketOf(state.id), () => this.#tell(session)).catch((error: unknown) => {
      log.warn("nobody can ask how this mount is", { error: String(error) });
      return undefined;
    });
  }

  /** Without a cache everything works, too. */
  async #openCache(app: AppId): Promise<ReadCache | undefined> {
    const { files, state, clock, log } = this.#options;
    const bytesMax = state.mount.cacheBytes;
    if (bytesMax === 0) return undefined;
    const folder = files.cacheOf(state.id);
    try {
      return await ReadCache.open({ folder, app, bytesMax, clock, log });
    } catch (error) {
      log.warn("the read cache can't be used", { folder, error: String(error) });
      return undefined;
    }
  }

  #tell(session: GatewaySession): GatewayStatus {
    const { host } = this.#options;
    const cache = this.#cache;
    return {
      pid: process.pid,
      session: session.state,
      restartCount: host.restartCount,
      supervised: host.supervised,
      ...(cache === undefined
        ? {}
        : {
            cache: {
              bytes: cache.bytes,
              bytesMax: cache.bytesMax,
              hitBytes: cache.counts.hitBytes,
              missBytes: cache.counts.missBytes,
            },
          }),
    };
  }
}
