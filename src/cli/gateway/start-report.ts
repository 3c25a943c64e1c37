import { rmSync } from "node:fs";
import { connect as connectTo, createServer, type Socket } from "node:net";
import { type ErrorCode, TidemarkError } from "../../domain/errors.ts";
import { socketAddress } from "../../rpc/socket-address.ts";

/** How the start of a gateway went, told by its process to the command that started it. */
export type StartReport =
  | { readonly outcome: "mounted"; readonly readOnly: boolean; readonly source: string }
  | { readonly outcome: "failed"; readonly code: ErrorCode; readonly message: string };

/** Longer reports than any are cut. */
const REPORT_BYTES_MAX = 65_536;

/** Who waits for a report. */
export type ReportListener = {
  /** The report. Rejects when it is unreadable; pends for ever when none comes. */
  readonly report: Promise<StartReport>;
  close(): void;
};

/** Listens for the report of a gateway that is about to be started, at the socket `path`. Rejects when it can't. */
export async function listenForReport(path: string): Promise<ReportListener> {
  rmSync(path, { force: true });
  const report = Promise.withResolvers<StartReport>();
  report.promise.catch(() => {});
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    let text = "";
    socket.setEncoding("utf8").on("data", (part: string) => {
      if (text.length < REPORT_BYTES_MAX) text += part;
    });
    socket.on("error", () => {});
    socket.on("close", () => {
      try {
        report.resolve(JSON.parse(text) as StartReport);
      } catch (cause) {
        report.reject(new TidemarkError("INTERNAL", "the gateway's report of its start is unreadable", { cause }));
      }
    });
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
  return {
    report: report.promise,
    close: () => {
      server.close();
      for (const socket of sockets) socket.destroy();
      rmSync(path, { force: true });
    },
  };
}

/** Tells how the start went. Resolves when it is told, or nobody listens (any more). Never rejects. */
export function sendReport(path: string, report: StartReport): Promise<void> {
  return new Promise((resolve) => {
    try {
      const address = socketAddress(path);
      const socket = connectTo(address.path);
      const done = (): void => {
        address.close();
        resolve();
      };
      socket.on("error", done);
      socket.on("close", done);
      socket.end(JSON.stringify(report));
      socket.resume();
    } catch {
      resolve();
    }
  });
}
