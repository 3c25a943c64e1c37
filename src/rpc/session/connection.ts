import { type ServiceError, status } from "@grpc/grpc-js";
import type { Clock } from "../../base/clock.ts";
import type { Timers } from "../../base/timers.ts";
import { TidemarkError } from "../../domain/errors.ts";
import { type InodeId, LIVE, type Lsn, type MountId } from "../../domain/ids.ts";
import type { SessionGrant, SessionId, SessionOpen } from "../../domain/session-api.ts";
import { fromAppId, fromIno, fromLsn, fromShareId, toMoment } from "../codec/common.ts";
import { wide } from "../codec/values.ts";
import { fromServiceError } from "../errors.ts";
import type { SessionResponse, Welcome } from "../gen/tidemark/v1/session_pb.ts";
import { VIEWS } from "./call-codec.ts";
import { VERSION_MAX, VERSION_MIN, WELCOME_TIMEOUT_MS } from "./limits.ts";
import type { SessionRequestShape, SessionStream } from "./session-streams.ts";

export type ConnectionParts = {
  readonly stream: SessionStream;
  readonly address: string;
  readonly hello: SessionOpen;
  /** Which answers have arrived: up to one, and beyond it. */
  readonly received: number;
  readonly beyond: readonly { readonly from: bigint; readonly to: bigint }[];
  /** Hello.process. */
  readonly process: number;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly onWelcome: (grant: SessionGrant) => void;
  /** Everything but the welcome. */
  readonly onMessage: (message: SessionResponse) => void;
  /** The stream has ended or failed; once, and not after `abandon`, which tells it itself. */
  readonly onBroken: (error: TidemarkError) => void;
};

/** One stream of a session, from its Hello to its end. */
export class Connection {
  readonly #parts: ConnectionParts;
  #heardMs: number;
  #over = false;
  /** Acknowledgements go out in the order of the news. */
  #acknowledged: Promise<void> | undefined;

  constructor(parts: ConnectionParts) {
    this.#parts = parts;
    this.#heardMs = parts.clock.monotonicMs();
    const { stream, timers } = parts;
    let greeted = false;
    const stopWaiting = timers.after(WELCOME_TIMEOUT_MS, () => {
      if (!greeted) this.abandon("the service did not answer a Hello");
    });
    stream.on("data", (message: SessionResponse) => {
      if (this.#over) return;
      this.#heardMs = parts.clock.monotonicMs();
      if (greeted) {
        this.#message(message);
        return;
      }
      greeted = true;
      stopWaiting();
      this.#welcome(message);
    });
    stream.on("error", (error: ServiceError) => this.#broken(fromStreamError(error, parts.address)));
    stream.on("end", () => this.#broken(new TidemarkError("UNAVAILABLE", "the service has ended the stream")));
    stream.on("status", stopWaiting);
    this.send({ message: { case: "hello", value: helloOf(parts) } });
  }

  send(message: SessionRequestShape): void {
    if (!this.#over) this.#parts.stream.write(message);
  }

  /** How long nothing came. */
  silentMs(): number {
    return this.#parts.clock.monotonicMs() - this.#heardMs;
  }

  /** Calls `acknowledge` when `done` is, and everything before. */
  acknowledgeInOrder(done: Promise<unknown> | undefined, acknowledge: () => void): void {
    if (done === undefined && this.#acknowledged === undefined) {
      acknowledge();
      return;
    }
    const before = this.#acknowledged;
    const mine = Promise.all([before, done]).then(() => {
      acknowledge();
      if (this.#acknowledged === mine) this.#acknowledged = undefined;
    });
    this.#acknowledged = mine;
  }

  /** Nothing of this stream counts any more. */
  abandon(reason: string): void {
    this.#parts.stream.cancel();
    this.#broken(new TidemarkError("UNAVAILABLE", reason));
  }

  #message(message: SessionResponse): void {
    try {
      this.#parts.onMessage(message);
    } catch (error) {
      this.abandon(
        `the service said something that can't be: ${error instanceof Error ? error.message : String(error)}`,
      );
    }
  }

  #broken(error: TidemarkError): void {
    if (this.#over) return;
    this.#over = true;
    this.#parts.onBroken(error);
  }

  #welcome({ message }: SessionResponse): void {
    if (message.case === "farewell") {
      this.#broken(
        new TidemarkError(message.value.final ? "FAILED_PRECONDITION" : "UNAVAILABLE", message.value.reason),
      );
      return;
    }
    if (message.case !== "welcome") {
      this.abandon("the service did not begin with a welcome");
      return;
    }
    try {
      this.#parts.onWelcome(grantOf(message.value));
    } catch (error) {
      this.abandon(error instanceof Error ? error.message : String(error));
    }
  }
}

/** A refusal has its own code; whatever else ends a stream may be over the next time. */
function fromStreamError(error: ServiceError, address: string): TidemarkError {
  const known = fromServiceError(error, address);
  const transient = known.code === "INTERNAL" || error.code === status.CANCELLED;
  return transient ? new TidemarkError("UNAVAILABLE", known.message, { cause: error }) : known;
}

function helloOf({ hello, received, beyond, process }: ConnectionParts) {
  const { app, share, at, readOnly, locks, target, token, resume } = hello;
  return {
    versionMin: VERSION_MIN,
    versionMax: VERSION_MAX,
    app,
    share,
    at: toMoment(at),
    readOnly,
    locksShared: locks === "shared",
    target,
    token,
    resume: resume ?? "",
    received: wide(received),
    beyond: [...beyond],
    process: wide(process),
    kernelMounted: hello.kernelMounted === true,
  };
}

function grantOf(welcome: Welcome): SessionGrant {
  return {
    id: welcome.sessionId as SessionId,
    mountId: welcome.mountId as MountId,
    appId: fromAppId(welcome.appId),
    shareId: fromShareId(welcome.shareId),
    source: welcome.source,
    root: fromIno(welcome.root, "root") as InodeId,
    at: welcome.at === undefined ? LIVE : (fromLsn(welcome.at, "at") as Lsn),
    readOnly: welcome.readOnly,
    views: VIEWS.from(welcome.views),
    locks: welcome.locksShared ? "shared" : "kernel",
    leaseMs: welcome.leaseMs,
    ...(welcome.checksAccess ? { checksAccess: true } : {}),
    resumed: welcome.resumed,
    viewSlots: welcome.viewSlots.map(({ slot, lsn }) => ({ slot, lsn: fromLsn(lsn, "lsn") })),
  };
}
