import { randomBytes, randomInt } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { Client, credentials, Server, ServerCredentials } from "@grpc/grpc-js";
import { SystemClock } from "../../src/base/clock.ts";
import { MemoryLog } from "../../src/base/log.ts";
import { SystemTimers } from "../../src/base/timers.ts";
import { FsError, TidemarkError } from "../../src/domain/errors.ts";
import type { InodeId, MountId } from "../../src/domain/ids.ts";
import type { MetadataApi, Request, RequestContext } from "../../src/domain/metadata-api.ts";
import type { CacheHolder, HostedSession, SessionHost, SessionId } from "../../src/domain/session-api.ts";
import { SESSION_MESSAGE_BYTES_MAX } from "../../src/rpc/session/limits.ts";
import { type Patience, SessionClient } from "../../src/rpc/session/session-client.ts";
import { SessionServer } from "../../src/rpc/session/session-server.ts";
import {
  SESSION_METHOD,
  type SessionStream,
  type SessionStreams,
  sessionStreams,
} from "../../src/rpc/session/session-streams.ts";
import { openRequest, testGrant } from "../contract/session-harness.ts";
import { CutProxy } from "./cut-proxy.ts";

export const ROOT = 2 as InodeId;

const OPTIONS = {
  "grpc.max_receive_message_length": SESSION_MESSAGE_BYTES_MAX,
  "grpc.max_send_message_length": SESSION_MESSAGE_BYTES_MAX,
  "grpc.initial_reconnect_backoff_ms": 50,
  "grpc.max_reconnect_backoff_ms": 100,
  "grpc.use_local_subchannel_pool": 1,
};

/** What arrived at the file system behind the session. */
export class FakeFiles implements MetadataApi {
  readonly seen: { readonly request: Request; readonly context: RequestContext }[] = [];
  /** Called for each request; absent or undefined: an answer of its own. */
  answer: ((request: Request, context: RequestContext) => unknown) | undefined;

  execute(request: Request, context: RequestContext): never {
    const copy = request.op === "write" ? { ...request, data: Buffer.from(request.data) } : request;
    this.seen.push({ request: copy, context });
    const reply = this.answer?.(request, context);
    if (reply !== undefined) return reply as never;
    return (request.op === "write" ? request.data.length : undefined) as never;
  }

  subscribe(): () => void {
    return () => {};
  }

  async close(): Promise<void> {}

  count(op: Request["op"]): number {
    return this.seen.filter(({ request }) => request.op === op).length;
  }
}

export type Options = { readonly leaseMs?: number };

/** A session server with a file system that does nothing, and a network in between that can be cut. */
export class SessionFixture {
  readonly files = new FakeFiles();
  readonly log = new MemoryLog();
  readonly holders: CacheHolder[] = [];
  readonly ends: ((reason: string) => void)[] = [];
  /** What the host says to the next Hello instead of opening. */
  refusal: Error | undefined;
  /** Tokens that were presented, in order. */
  readonly tokens: string[] = [];
  /** The mounts that said goodbye, and those whose lease ran out. */
  readonly goodbyes: MountId[] = [];
  readonly leasesOver: MountId[] = [];
  holdsLocks = false;
  proxy: CutProxy;
  readonly #folder: string;
  readonly #leaseMs: number;
  readonly #hosted = new Map<string, HostedSession>();
  readonly #clients: SessionClient[] = [];
  readonly #channels: Client[] = [];
  #server = new Server(OPTIONS);
  #sessions: SessionServer;

  private constructor(folder: string, proxy: CutProxy, leaseMs: number) {
    this.#folder = folder;
    this.proxy = proxy;
    this.#leaseMs = leaseMs;
    this.#sessions = this.#makeServer();
  }

  static async open({ leaseMs = 60_000 }: Options = {}): Promise<SessionFixture> {
    const folder = mkdtempSync(path.join(tmpdir(), "tidemark-session-"));
    const proxy = await CutProxy.listen(path.join(folder, "s"));
    const fixture = new SessionFixture(folder, proxy, leaseMs);
    await fixture.#bind();
    return fixture;
  }

  get sessions(): SessionServer {
    return this.#sessions;
  }

  /** `resume`: another process of the gateway that had this session. */
  async connect(
    options: { readonly cache?: CacheHolder; readonly patience?: Patience; readonly resume?: SessionId } = {},
  ): Promise<SessionClient> {
    const { cache = { tell: () => {} }, patience = { kind: "hard" }, resume } = options;
    const client = await SessionClient.open({
      streams: this.streams(),
      request: { ...openRequest(randomBytes(4).toString("hex")), ...(resume === undefined ? {} : { resume }) },
      cache,
      patience,
      clock: new SystemClock(),
      timers: new SystemTimers(),
      log: this.log,
      randomFraction: () => randomInt(2 ** 32) / 2 ** 32,
      openTimeoutMs: 10_000,
    });
    this.#clients.push(client);
    return client;
  }

  channel(): Client {
    const channel = new Client(this.proxy.address, credentials.createInsecure(), OPTIONS);
    this.#channels.push(channel);
    return channel;
  }

  /** Connections through the network that can be cut. */
  streams(): SessionStreams {
    return sessionStreams(() => this.#connection(), this.proxy.address);
  }

  #connection(): { client: Client; close(): void } {
    const client = new Client(this.proxy.address, credentials.createInsecure(), OPTIONS);
    return { client, close: () => client.close() };
  }

  /** A stream without a client behind it: says what the test says. */
  rawStream(): SessionStream {
    const stream = sessionStreams(() => ({ client: this.channel(), close: () => {} }), "test").open();
    stream.on("error", () => {});
    return stream;
  }

  /** A stream of bytes instead of messages. */
  byteStream() {
    const stream = this.channel().makeBidiStreamRequest(
      SESSION_METHOD.path,
      (bytes: Buffer) => bytes,
      (bytes) => bytes,
    );
    stream.on("error", () => {});
    return stream;
  }

  /** Another process serves: nothing is remembered but what is in the file system. */
  async restart(): Promise<void> {
    this.#server.forceShutdown();
    this.proxy.reset();
    rmSync(path.join(this.#folder, "s"), { force: true });
    this.#server = new Server(OPTIONS);
    this.#sessions = this.#makeServer();
    await this.#bind();
  }

  close(): void {
    for (const client of this.#clients) client.detach();
    for (const channel of this.#channels) channel.close();
    this.#sessions.close();
    this.#server.forceShutdown();
    this.proxy.close();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  #makeServer(): SessionServer {
    const host: SessionHost = {
      open: async (request) => {
        if (this.refusal !== undefined) throw this.refusal;
        this.tokens.push(request.token);
        const known = this.#hosted.get(request.resume ?? "");
        if (known === undefined && request.resume !== undefined)
          throw new TidemarkError("NOT_FOUND", "the session is over");
        return known ?? this.#host();
      },
    };
    const peerOf = () => ({ node: "n", certificateThumbprint: "", address: "test" });
    return new SessionServer({ host, peerOf, clock: new SystemClock(), timers: new SystemTimers(), log: this.log });
  }

  #host(): HostedSession {
    const id = randomBytes(32).toString("hex") as SessionId;
    const mountId = (this.#hosted.size + 1) as MountId;
    const hosted: HostedSession = {
      grant: { ...testGrant({ root: ROOT }), id, mountId, leaseMs: this.#leaseMs },
      label: "test",
      api: this.files,
      attach: (holder) => {
        this.holders.push(holder);
        return () => {};
      },
      findMoment: async () => undefined,
      snapshotNames: () => ["before", "after"],
      onEnded: (listener) => void this.ends.push(listener),
      leaseOver: () => {
        this.leasesOver.push(mountId);
        return this.holdsLocks;
      },
      end: async () => void this.goodbyes.push(mountId),
    };
    this.#hosted.set(id, hosted);
    return hosted;
  }

  #bind(): Promise<void> {
    this.#server.addService(this.#sessions.definition, this.#sessions.implementation);
    const address = `unix:${path.join(this.#folder, "s")}`;
    return new Promise((resolve, reject) =>
      this.#server.bindAsync(address, ServerCredentials.createInsecure(), (error) =>
        error === null ? resolve() : reject(error),
      ),
    );
  }
}

export const CONTEXT: RequestContext = {
  actor: { mountId: 1 as MountId, uid: 7, gid: 8, pid: 9, label: "" },
  unique: 0,
  resent: false,
};

export function write(text: string, offset = 0n): Extract<Request, { op: "write" }> {
  return { op: "write", ino: ROOT, offset, data: Buffer.from(text), killPrivileges: false };
}

/** The code a promise is rejected with; "success" if it isn't. */
export async function codeOf(promise: unknown): Promise<string> {
  try {
    await promise;
    return "success";
  } catch (error) {
    if (error instanceof FsError) return error.code;
    throw error;
  }
}
