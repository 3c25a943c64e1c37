import { join } from "node:path";
import type { Command } from "commander";
import type { ChangesApi } from "../domain/admin-changes.ts";
import { TidemarkError } from "../domain/errors.ts";
import type { Session } from "./session.ts";
import { readTokenFile } from "./token-file.ts";

/** Whose changes are read: those of the data folder's service, or of one elsewhere. */
export type SourceOptions = {
  readonly service?: string;
  readonly tokenFile?: string;
  readonly plaintext?: boolean;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly tlsCa?: string;
};

/** Adds the options that name a service elsewhere, as `mount` has them. */
export function addSourceOptions(command: Command): Command {
  return command
    .option("--service <host:port>", "of a service elsewhere; all that follows is for this")
    .option("--token-file <file>", "what allows it, from `token create --ops history`")
    .option("--plaintext", "without TLS: at 127.0.0.1 or [::1] only")
    .option("--tls-cert <file>", "this machine's certificate, in place of the one it has from `node join`")
    .option("--tls-key <file>", "its key")
    .option("--tls-ca <file>", "the authority of the service's certificate");
}

/** Where changes come from, and how the connection ends. */
export type ChangesSource = {
  changes(): Promise<ChangesApi>;
  /** After the service was gone: resolves when it is there again. Throws UNAVAILABLE when it does not come. */
  reconnect(): Promise<void>;
  close(): void;
};

/** The source that the options mean. Throws INVALID_ARGUMENT, and what reading the token or the certificates throws. */
export async function openSource(session: Session, options: SourceOptions): Promise<ChangesSource> {
  const { service, tokenFile } = options;
  if (service === undefined) {
    if (tokenFile !== undefined || options.plaintext === true || options.tlsCert !== undefined)
      throw new TidemarkError(
        "INVALID_ARGUMENT",
        "--token-file and certificates are for a service elsewhere: name it with --service",
      );
    return {
      changes: async () => (await session.api()).changes,
      reconnect: () => session.reconnect(),
      close: () => {},
    };
  }
  if (tokenFile === undefined)
    throw new TidemarkError("INVALID_ARGUMENT", "a service elsewhere wants a token: name its file with --token-file");
  const token = await readTokenFile(session, tokenFile);
  return networkSource(session, { ...options, service, token });
}

/** Loaded only when it is used: the CLI starts without it. */
async function networkSource(
  session: Session,
  options: SourceOptions & { service: string; token: string },
): Promise<ChangesSource> {
  const [{ clientCredentials, openChannel }, { GrpcCaller }, { changesClient }] = await Promise.all([
    import("../rpc/tls/credentials.ts"),
    import("../rpc/grpc-caller.ts"),
    import("../rpc/admin-client.ts"),
  ]);
  const { clock } = session.environment;
  const credentials = await clientCredentials(credentialSource(session, options), { now: clock.now() });
  const channel = openChannel({ address: options.service, credentials });
  const caller = new GrpcCaller({ channel, token: options.token, clock });
  return {
    changes: async () => changesClient(caller),
    // Whoever reads over the network goes on from the cursor when it likes.
    reconnect: () => {
      throw new TidemarkError(
        "UNAVAILABLE",
        `the service at ${channel.address} went away: go on from the cursor when it is back`,
      );
    },
    close: () => caller.close(),
  };
}

function credentialSource(
  session: Session,
  { plaintext, tlsCert, tlsKey, tlsCa }: SourceOptions,
):
  | "plaintext"
  | { readonly nodeFolder: string }
  | { readonly certFile: string; readonly keyFile: string; readonly caFile: string } {
  if (plaintext === true) return "plaintext";
  if (tlsCert === undefined && tlsKey === undefined && tlsCa === undefined)
    return { nodeFolder: join(session.dataFolder, "node") };
  if (tlsCert === undefined || tlsKey === undefined || tlsCa === undefined)
    throw new TidemarkError("INVALID_ARGUMENT", "--tls-cert, --tls-key and --tls-ca belong together");
  const file = (name: string): string => session.machinePath(name);
  return { certFile: file(tlsCert), keyFile: file(tlsKey), caFile: file(tlsCa) };
}
