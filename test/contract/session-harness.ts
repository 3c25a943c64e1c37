import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { Client, credentials, Server, ServerCredentials } from "@grpc/grpc-js";
import { present } from "../../src/base/assert.ts";
import { SystemClock } from "../../src/base/clock.ts";
import { silentLog } from "../../src/base/log.ts";
import { SystemTimers } from "../../src/base/timers.ts";
import { type AppId, LIVE, type MountId, type ShareId } from "../../src/domain/ids.ts";
import type { MetadataApi, ReplyOf, Request, RequestContext } from "../../src/domain/metadata-api.ts";
import type { HostedSession, SessionHost, SessionId, SessionOpen } from "../../src/domain/session-api.ts";
import { SESSION_MESSAGE_BYTES_MAX } from "../../src/rpc/session/limits.ts";
import { SessionClient } from "../../src/rpc/session/session-client.ts";
import { SessionServer } from "../../src/rpc/session/session-server.ts";
import { sessionStreams } from "../../src/rpc/session/session-streams.ts";
import type { Harness, OpenHarness } from "../model/harness.ts";

const MESSAGES = {
  "grpc.max_receive_message_length": SESSION_MESSAGE_BYTES_MAX,
  "grpc.max_send_message_length": SESSION_MESSAGE_BYTES_MAX,
};

/** Runs the suites over real sessions: a server on a socket, and a client for each mount that outlives the server's restarts, as a gateway does. */
export function overSessions(openInner: OpenHarness): OpenHarness {
  return async (options) => {
    const inner = await openInner(options);
    const first = inner.context().actor.mountId;
    const network = new TestNetwork();
    await network.serve(inner);
    await network.connect(first);
    return harness(inner, network);
  };
}

function harness(inner: Harness, network: TestNetwork): Harness {
  const api: MetadataApi = {
    // A forget is not answered to anybody: what was asked after it is, later.
    execute: <R extends Request>(request: R, context: RequestContext): ReplyOf<R> | Promise<ReplyOf<R>> =>
      request.op === "forget" ? forgotten(network, request, context) : network.execute(request, context),
    subscribe: (listener) => inner.api.subscribe(listener),
    close: () => inner.api.close(),
  };
  return {
    ...inner,
    api,
    attachMount: () => inner.attachMount(),
    lastLsn: () => inner.lastLsn(),
    reopen: async () => {
      network.stopServing();
      const next = await inner.reopen();
      await network.serve(next);
      return harness(next, network);
    },
    close: async () => {
      network.close();
      await inner.close();
    },
  };
}

async function forgotten<R extends Request>(network: TestNetwork, request: R, context: RequestContext) {
  const client = await network.connect(context.actor.mountId);
  client.execute(request, context);
  await client.execute({ op: "statfs" }, { ...context, unique: 0 });
  return undefined as ReplyOf<R>;
}

/** One socket, whose server may be another after a while, and the gateways that know its address. */
export class TestNetwork {
  readonly #folder = mkdtempSync(path.join(tmpdir(), "tidemark-session-"));
  readonly #clients = new Map<MountId, SessionClient>();
  readonly #ids = new Map<string, SessionId>();
  #server: Server | undefined;
  #sessions: SessionServer | undefined;

  get address(): string {
    return `unix:${path.join(this.#folder, "session.sock")}`;
  }

  async serve(inner: Harness): Promise<void> {
    const host: SessionHost = { open: async (request) => this.#host(inner, request) };
    const peerOf = () => ({ node: "test", certificateThumbprint: "", address: "test" });
    const parts = { host, peerOf, clock: new SystemClock(), timers: new SystemTimers(), log: silentLog };
    this.#sessions = new SessionServer(parts);
    this.#server = new Server(MESSAGES);
    this.#server.addService(this.#sessions.definition, this.#sessions.implementation);
    const server = this.#server;
    await new Promise<void>((resolve, reject) =>
      server.bindAsync(this.address, ServerCredentials.createInsecure(), (error) =>
        error === null ? resolve() : reject(error),
      ),
    );
  }

  /** As kill -9 does: no word to anybody. */
  stopServing(): void {
    this.#server?.forceShutdown();
    rmSync(path.join(this.#folder, "session.sock"), { force: true });
  }

  async connect(mountId: MountId): Promise<SessionClient> {
    const known = this.#clients.get(mountId);
    if (known !== undefined) return known;
    const client = await SessionClient.open({
      streams: sessionStreams(() => this.#dial(), this.address),
      request: openRequest(String(mountId)),
      cache: { tell: () => {} },
      patience: { kind: "hard" },
      clock: new SystemClock(),
      timers: new SystemTimers(),
      log: silentLog,
      randomFraction: () => 0.5,
      openTimeoutMs: 10_000,
    });
    this.#clients.set(mountId, client);
    return client;
  }

  /** Through the mount's session, in this turn if that is open. */
  execute<R extends Request>(request: R, context: RequestContext): ReplyOf<R> | Promise<ReplyOf<R>> {
    const known = this.#clients.get(context.actor.mountId);
    if (known !== undefined) return known.execute(request, context);
    return this.connect(context.actor.mountId).then((client) => client.execute(request, context));
  }

  close(): void {
    for (const client of this.#clients.values()) client.detach();
    this.#sessions?.close();
    this.#server?.forceShutdown();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  #dial(): { client: Client; close(): void } {
    const client = new Client(this.address, credentials.createInsecure(), {
      ...MESSAGES,
      "grpc.use_local_subchannel_pool": 1,
    });
    return { client, close: () => client.close() };
  }

  #host(inner: Harness, request: SessionOpen): HostedSession {
    let id = this.#ids.get(request.target);
    id ??= randomBytes(32).toString("hex") as SessionId;
    this.#ids.set(request.target, id);
    return {
      grant: { ...testGrant(inner), id, mountId: Number(request.target) as MountId },
      label: "",
      api: inner.api,
      attach: () => () => {},
      findMoment: async () => undefined,
      snapshotNames: () => [],
      onEnded: () => {},
      leaseOver: () => false,
      end: async () => {},
    };
  }
}

export function openRequest(target: string): SessionOpen {
  return {
    app: { namespace: "default", name: "app" },
    share: { name: "share" },
    at: { kind: "now" },
    readOnly: false,
    locks: "kernel",
    target,
    token: "token",
  };
}

/** A grant for everything in the harness's share. */
export function testGrant(inner: { readonly root: Harness["root"] }): Omit<HostedSession["grant"], "id" | "mountId"> {
  return {
    appId: "0".repeat(32) as AppId,
    shareId: "1".repeat(32) as ShareId,
    source: "app/share",
    root: present(inner.root, "root"),
    at: LIVE,
    readOnly: false,
    views: "off",
    locks: "kernel",
    leaseMs: 60_000,
    resumed: false,
    viewSlots: [],
  };
}
