import { subscribe } from "node:diagnostics_channel";
import type { ServerHttp2Session, ServerHttp2Stream } from "node:http2";

/** Flow control of HTTP/2: so much may be on the way before the other end has read it. 64 KiB, the default, is a sixteenth of one write, and 16 MB/s where a round trip takes 4 ms. */
export const WINDOW_BYTES = 4 * 1024 * 1024;

const widened = new WeakSet<ServerHttp2Session>();
let watching = false;

/**
 * Lets connections to servers of this process have WINDOW_BYTES on the way, from their first stream on. grpc-js has a channel option for the client's end (`grpc-node.flow_control_window`) and none for the server's, whose 64 KiB
 * cost a write of 1 MiB sixteen round trips. Node.js tells of each stream (diagnostics_channel, "http2.server.stream.created").
 */
export function widenReceiveWindows(): void {
  if (watching) return;
  watching = true;
  subscribe("http2.server.stream.created", (message) => {
    const { session } = (message as { readonly stream: ServerHttp2Stream }).stream;
    if (session === undefined || widened.has(session as ServerHttp2Session)) return;
    widened.add(session as ServerHttp2Session);
    session.settings({ initialWindowSize: WINDOW_BYTES });
    (session as ServerHttp2Session).setLocalWindowSize(WINDOW_BYTES);
  });
}
