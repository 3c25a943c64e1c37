/** The service of `npm run bench:session`, in a process of its own: prints its address, and ends with its standard input. */
import { Server, ServerCredentials } from "@grpc/grpc-js";
import { SystemClock } from "../../../src/base/clock.ts";
import { silentLog } from "../../../src/base/log.ts";
import { SystemTimers } from "../../../src/base/timers.ts";
import type { SessionHost, SessionId } from "../../../src/domain/session-api.ts";
import { WINDOW_BYTES } from "../../../src/rpc/receive-window.ts";
import { SESSION_MESSAGE_BYTES_MAX } from "../../../src/rpc/session/limits.ts";
import { SessionServer } from "../../../src/rpc/session/session-server.ts";
import { testGrant } from "../../contract/session-harness.ts";
import { MOUNT, openBenchApp } from "./engine.ts";

const { app, root, close } = await openBenchApp();
const host: SessionHost = {
  open: async () => ({
    grant: { ...testGrant({ root }), id: "0".repeat(64) as SessionId, mountId: MOUNT },
    label: "",
    api: app.coherent,
    attach: () => () => {},
    findMoment: async () => undefined,
    snapshotNames: () => [],
    onEnded: () => {},
    leaseOver: () => false,
    end: async () => {},
  }),
};
const sessions = new SessionServer({
  host,
  peerOf: () => ({ node: "", certificateThumbprint: "", address: "" }),
  clock: new SystemClock(),
  timers: new SystemTimers(),
  log: silentLog,
});
const server = new Server({
  "grpc.max_receive_message_length": SESSION_MESSAGE_BYTES_MAX,
  "grpc.max_send_message_length": SESSION_MESSAGE_BYTES_MAX,
  "grpc-node.flow_control_window": WINDOW_BYTES,
});
server.addService(sessions.definition, sessions.implementation);
server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, port) => {
  if (error !== null) throw error;
  process.stdout.write(`127.0.0.1:${port}\n`);
});
process.stdin.resume();
process.stdin.on("end", () => {
  server.forceShutdown();
  void close().then(() => process.exit(0));
});
