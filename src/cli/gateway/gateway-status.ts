import { rmSync } from "node:fs";
import { connect as connectTo, createServer, type Server } from "node:net";
import type { Timers } from "../../base/timers.ts";
import { socketAddress } from "../../rpc/socket-address.ts";
import type { SessionState } from "./gateway-session.ts";

/** What a gateway says of itself. */
export type GatewayStatus = {
  readonly pid: number;
  readonly session: SessionState;
  /** Times that its process was replaced. */
  readonly restartCount: number;
  readonly supervised: boolean;
  /** Absent: it has none. */
  readonly cache?: {
    readonly bytes: number;
    readonly bytesMax: number;
    /** Bytes of larger reads that were there, and that were not, since the process began. */
    readonly hitBytes: number;
    readonly missBytes: number;
  };
};

/** A gateway that lives answers at once. */
const ANSWER_MS = 1_000;
/** Far above any answer. */
const ANSWER_BYTES_MAX = 65_536;

/** Answers whoever connects to the socket at `path` (0600 by its folder, 0700) with `status`, as one line of JSON. Rejects when it can't listen. */
export async function serveStatus(path: string, status: () => GatewayStatus): Promise<{ close(): void }> {
  // What a process before left; there is one for each mount.
  rmSync(path, { force: true });
  const server: Server = createServer((socket) => {
    socket.on("error", () => {});
    socket.end(`${JSON.stringify(status())}\n`);
  });
  const address = socketAddress(path);
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(address.path, () => resolve());
    });
  } finally {
    address.close();
  }
  server.unref();
  return {
    close: () => {
      server.close();
      rmSync(path, { force: true });
    },
  };
}

/** What the gateway that listens at `path` says of itself; undefined: nobody does. Never rejects. */
export async function askStatus(path: string, timers: Timers): Promise<GatewayStatus | undefined> {
  const text = await readAll(path, timers);
  try {
    return text === undefined ? undefined : (JSON.parse(text) as GatewayStatus);
  } catch {
    return undefined;
  }
}

function readAll(path: string, timers: Timers): Promise<string | undefined> {
  return new Promise((resolve) => {
    try {
      const address = socketAddress(path);
      const socket = connectTo(address.path);
      let text = "";
      const end = (answer: string | undefined): void => {
        stop();
        address.close();
        socket.destroy();
        resolve(answer);
      };
      const stop = timers.after(ANSWER_MS, () => end(undefined));
      socket.setEncoding("utf8").on("data", (part: string) => {
        if (text.length < ANSWER_BYTES_MAX) text += part;
      });
      socket.on("end", () => end(text));
      socket.on("error", () => end(undefined));
    } catch {
      resolve(undefined);
    }
  });
}
