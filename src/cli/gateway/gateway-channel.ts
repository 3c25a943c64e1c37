import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import type { Timers } from "../../base/timers.ts";
import { keepRenewed } from "../../rpc/node-renewal.ts";
import { type SessionStreams, sessionStreams } from "../../rpc/session/session-streams.ts";
import { clientCredentials, type NetworkCredentials, openChannel } from "../../rpc/tls/credentials.ts";
import { NodeFolder } from "../../rpc/tls/node-folder.ts";
import type { GatewayMount, GatewayTls } from "./mount-state.ts";

/** How often the certificate is read again: this or another gateway of the machine renews it, or whoever runs an authority of his own. */
const CREDENTIALS_MS = 60_000;

/** Streams to the service of a mount, with the machine's certificate as it is now. Throws TidemarkError when that can't be read. */
export async function openStreams(
  { service, tls }: Pick<GatewayMount, "service" | "tls">,
  parts: { clock: Clock; timers: Timers; log: Log; randomFraction: () => number },
): Promise<SessionStreams> {
  const { clock, timers, log } = parts;
  const read = (): Promise<NetworkCredentials> => clientCredentials(sourceOf(tls), { now: clock.now() });
  let credentials = await read();
  // An address that is none, or plaintext off loopback, is refused here.
  openChannel({ address: service, credentials }).close();
  const streams = sessionStreams(() => openChannel({ address: service, credentials }), service);
  let stop = (): void => {};
  const readAgain = (): void => {
    stop = timers.after(CREDENTIALS_MS, () => {
      read().then(
        (latest) => {
          credentials = latest;
        },
        (error: unknown) =>
          log.warn("the machine's certificate can't be read: going on with the one before", { error }),
      );
      readAgain();
    });
  };
  if (tls.kind !== "plaintext") readAgain();
  const stopRenewing = tls.kind === "node" ? keepRenewed(new NodeFolder(tls.nodeFolder), parts) : () => {};
  return {
    ...streams,
    close: () => {
      stop();
      stopRenewing();
      streams.close();
    },
  };
}

function sourceOf(tls: GatewayTls): Parameters<typeof clientCredentials>[0] {
  switch (tls.kind) {
    case "plaintext":
      return "plaintext";
    case "node":
      return { nodeFolder: tls.nodeFolder };
    case "files":
      return { certFile: tls.certFile, keyFile: tls.keyFile, caFile: tls.caFile };
  }
}
