import type { ServerDuplexStream, UntypedServiceImplementation } from "@grpc/grpc-js";
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import type { Timers } from "../../base/timers.ts";
import { TidemarkError } from "../../domain/errors.ts";
import { LIVE, type MountId } from "../../domain/ids.ts";
import type {
  HostedSession,
  Peer,
  SessionGrant,
  SessionHost,
  SessionId,
  SessionOpen,
} from "../../domain/session-api.ts";
import { fromAppRef, fromMoment, fromShareRef } from "../codec/common.ts";
import { defined, safeNumber, wide } from "../codec/values.ts";
import { asTidemarkError, toStatus } from "../errors.ts";
import type { Hello } from "../gen/tidemark/v1/session_pb.ts";
import { widenReceiveWindows } from "../receive-window.ts";
import { VIEWS } from "./call-codec.ts";
import { CALLS_MAX, HELLO_TIMEOUT_MS, UNREAD_BYTES_MAX, VERSION_MAX, VERSION_MIN } from "./limits.ts";
import { LiveSession, type Outlet } from "./live-session.ts";
import { SESSION_METHOD, type SessionRequestMessage, type SessionResponseShape } from "./session-streams.ts";

export type SessionServerParts = {
  readonly host: SessionHost;
  /** Who is at the other end of a stream. Throws PERMISSION_DENIED for one that may not talk to us. */
  readonly peerOf: (stream: ServerStream) => Peer;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
};

export type ServerStream = ServerDuplexStream<SessionRequestMessage, SessionResponseShape>;

/** Streams at a time, of all gateways: each is one mount. */
const STREAMS_MAX = 10_000;

/** Serves sessions: one stream each, and what outlives a broken one. */
export class SessionServer {
  readonly #parts: SessionServerParts;
  readonly #live = new Map<MountId, LiveSession>();
  readonly #streams = new Set<ServerStream>();
  #closed = false;

  constructor(parts: SessionServerParts) {
    this.#parts = parts;
    widenReceiveWindows();
  }

  /** For grpc-js's `Server.addService`. */
  get definition(): { session: typeof SESSION_METHOD } {
    return { session: SESSION_METHOD };
  }

  get implementation(): UntypedServiceImplementation {
    return { session: (stream: ServerStream) => this.#accept(stream) };
  }

  /** Sessions that are known now, and how many of them have a stream. */
  counts(): { readonly sessions: number; readonly connected: number } {
    const connected = [...this.#live.values()].filter((session) => session.connected).length;
    return { sessions: this.#live.size, connected };
  }

  /** Tells all gateways to come back to the next service, and ends all streams. */
  close(): void {
    this.#closed = true;
    for (const session of this.#live.values()) session.leave("the service stops");
    this.#live.clear();
    for (const stream of this.#streams) stream.end();
  }

  #accept(stream: ServerStream): void {
    if (this.#closed) {
      fail(stream, new TidemarkError("UNAVAILABLE", "the service is stopping"));
      return;
    }
    if (this.#streams.size >= STREAMS_MAX) {
      fail(stream, new TidemarkError("UNAVAILABLE", `there are ${STREAMS_MAX} sessions already`));
      return;
    }
    this.#streams.add(stream);
    const conversation = new Conversation(stream, { ...this.#parts, open: (hello, peer) => this.#open(hello, peer) });
    conversation.begin(() => this.#streams.delete(stream));
  }

  /** A session of the process before, whose gateway may come: until it does, or its lease is over, what others change waits for it. */
  expect(hosted: HostedSession): void {
    this.#live.set(hosted.grant.mountId, this.#makeLive(hosted));
  }

  /** The session that a Hello asks for. */
  async #open(hello: Hello, peer: Peer): Promise<LiveSession> {
    const request = toSessionOpen(hello);
    const process = safeNumber(hello.process, "process");
    const hosted = await this.#parts.host.open(request, peer);
    if (this.#closed) throw new TidemarkError("UNAVAILABLE", "the service is stopping");
    const { mountId } = hosted.grant;
    const live = this.#live.get(mountId) ?? this.#makeLive(hosted);
    this.#live.set(mountId, live);
    if (live.waitMs > 0)
      throw new TidemarkError("UNAVAILABLE", "the gateway was cut off: it may come back when its lease has run out");
    live.goOn(hello, process);
    return live;
  }

  #makeLive(hosted: HostedSession): LiveSession {
    const { clock, timers, log } = this.#parts;
    const { mountId } = hosted.grant;
    return new LiveSession({
      hosted,
      clock,
      timers,
      onDefect: (error) => log.error("a call of a gateway failed by a defect: answered EIO", { mount: mountId, error }),
      onOver: () => this.#live.delete(mountId),
    });
  }
}

type ConversationParts = SessionServerParts & {
  readonly open: (hello: Hello, peer: Peer) => Promise<LiveSession>;
};

/** One stream: who may say what when, and how much may be on the way. */
class Conversation implements Outlet {
  readonly #stream: ServerStream;
  readonly #parts: ConversationParts;
  #session: LiveSession | undefined;
  /** Of messages that the transport has not taken: grpc-js counts messages, not bytes. */
  #unreadBytes = 0;
  #paused = false;
  #greeted = false;
  #ended = false;

  constructor(stream: ServerStream, parts: ConversationParts) {
    this.#stream = stream;
    this.#parts = parts;
  }

  begin(onEnd: () => void): void {
    const stream = this.#stream;
    const cancelTimeout = this.#parts.timers.after(HELLO_TIMEOUT_MS, () => {
      if (!this.#greeted) this.#fail(new TidemarkError("INVALID_ARGUMENT", "no Hello came"));
    });
    let left = false;
    const leave = (): void => {
      if (left) return;
      left = true;
      this.#ended = true;
      cancelTimeout();
      this.#session?.disconnect(this);
      onEnd();
    };
    stream.on("data", (message: SessionRequestMessage) => this.#take(message));
    stream.on("cancelled", leave);
    stream.on("error", leave);
    stream.on("close", leave);
    stream.on("end", () => {
      leave();
      stream.end();
    });
  }

  send(message: SessionResponseShape): void {
    if (this.#ended) return;
    const bytes = bytesOf(message);
    this.#unreadBytes += bytes;
    this.#stream.write(message, () => {
      this.#unreadBytes -= bytes;
      if (this.#paused && this.#unreadBytes <= UNREAD_BYTES_MAX / 2) this.#goOnReading();
    });
    // A reader that is slower than its own questions is asked to wait: what it says next is read when it has caught up.
    if (this.#unreadBytes <= UNREAD_BYTES_MAX || this.#paused) return;
    this.#paused = true;
    this.#stream.pause();
  }

  #goOnReading(): void {
    this.#paused = false;
    this.#stream.resume();
  }

  farewell(reason: string, final: boolean): void {
    if (this.#ended) return;
    this.send({ message: { case: "farewell", value: { reason, final } } });
    this.#ended = true;
    this.#stream.end();
  }

  #take(message: SessionRequestMessage): void {
    if (this.#ended) return;
    try {
      this.#dispatch(message.message);
    } catch (error) {
      this.#fail(error);
    }
  }

  #dispatch(message: SessionRequestMessage["message"]): void {
    if (message.case === "hello") {
      if (this.#greeted) throw new TidemarkError("INVALID_ARGUMENT", "a second Hello came");
      this.#greeted = true;
      this.#open(message.value).catch((error: unknown) => this.#fail(error));
      return;
    }
    const session = this.#session;
    if (session === undefined) throw new TidemarkError("INVALID_ARGUMENT", "the first message has to be a Hello");
    switch (message.case) {
      case "call":
        session.call(message.value);
        return;
      case "acknowledge":
        session.heard(undefined);
        session.acknowledged(message.value.number);
        return;
      case "cancel":
        session.cancel(message.value.number);
        return;
      case "ping":
        session.heard({ received: message.value.received, beyond: [] });
        session.pong(message.value.number);
        return;
      case "receivedAnswers":
        session.heard(message.value);
        return;
      case "goodbye":
        this.#goodbye(session);
        return;
      default:
        throw new TidemarkError("INVALID_ARGUMENT", "a message came that this version does not know");
    }
  }

  #goodbye(session: LiveSession): void {
    session.goodbye().then(
      () => this.farewell("the session is over", true),
      (error: unknown) => this.#fail(error),
    );
  }

  async #open(hello: Hello): Promise<void> {
    const version = versionOf(hello);
    const peer = this.#parts.peerOf(this.#stream);
    const session = await this.#parts.open(hello, peer);
    if (this.#ended) {
      // A session that its gateway never heard of is nobody's; it asks again.
      if (hello.resume === "" && !session.connected) await session.goodbye();
      return;
    }
    const { grant } = session.hosted;
    this.send({ message: { case: "welcome", value: toWelcome(grant, version, hello.resume !== "") } });
    this.#session = session;
    session.connect(this);
  }

  #fail(error: unknown): void {
    if (this.#ended) return;
    this.#ended = true;
    const known = asTidemarkError(error);
    if (known.code === "INTERNAL") this.#parts.log.error("a session failed by a defect", { error });
    this.#session?.disconnect(this);
    fail(this.#stream, known);
  }
}

/** About how long a message is: what is long in it. */
function bytesOf({ message }: SessionResponseShape): number {
  const shape = message?.case === "answer" ? message.value.answer : undefined;
  if (shape?.case === "data") return (shape.value.data?.length ?? 0) + MESSAGE_BYTES;
  if (shape?.case === "page") return (shape.value.entries?.length ?? 0) * ENTRY_BYTES + MESSAGE_BYTES;
  if (shape?.case === "map") return (shape.value.pieces?.length ?? 0) * PIECE_BYTES + MESSAGE_BYTES;
  return MESSAGE_BYTES;
}

const MESSAGE_BYTES = 300;
const ENTRY_BYTES = 200;
const PIECE_BYTES = 30;

function fail(stream: ServerStream, error: TidemarkError): void {
  stream.emit("error", { ...toStatus(error), message: error.message });
}

/** The version to speak. Throws FAILED_PRECONDITION. */
function versionOf({ versionMin, versionMax }: Hello): number {
  const version = Math.min(versionMax, VERSION_MAX);
  if (version >= Math.max(versionMin, VERSION_MIN)) return version;
  const ours = VERSION_MIN === VERSION_MAX ? `${VERSION_MAX}` : `${VERSION_MIN} to ${VERSION_MAX}`;
  const older = versionMax < VERSION_MIN ? "gateway" : "service";
  throw new TidemarkError(
    "FAILED_PRECONDITION",
    `the gateway speaks protocol ${versionMin} to ${versionMax}, the service ${ours}: upgrade the ${older}`,
  );
}

function toSessionOpen(hello: Hello): SessionOpen {
  return defined({
    app: fromAppRef(hello.app),
    share: fromShareRef(hello.share),
    at: hello.at === undefined ? ({ kind: "now" } as const) : fromMoment(hello.at),
    readOnly: hello.readOnly,
    locks: hello.locksShared ? ("shared" as const) : ("kernel" as const),
    target: hello.target,
    token: hello.token,
    kernelMounted: hello.kernelMounted,
    resume: hello.resume === "" ? undefined : (hello.resume as SessionId),
  });
}

function toWelcome(grant: SessionGrant, version: number, resumed: boolean) {
  return {
    version,
    sessionId: grant.id,
    mountId: grant.mountId,
    appId: grant.appId,
    shareId: grant.shareId,
    source: grant.source,
    root: wide(grant.root),
    ...(grant.at === LIVE ? {} : { at: wide(grant.at) }),
    readOnly: grant.readOnly,
    views: VIEWS.to(grant.views),
    locksShared: grant.locks === "shared",
    leaseMs: grant.leaseMs,
    checksAccess: grant.checksAccess ?? false,
    resumed,
    viewSlots: grant.viewSlots.map(({ slot, lsn }) => ({ slot, lsn: wide(lsn) })),
    callsMax: CALLS_MAX,
  };
}
