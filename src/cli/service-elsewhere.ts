import { join } from "node:path";
import type { Command } from "commander";
import { TidemarkError } from "../domain/errors.ts";
import { type TlsOptions, tlsFiles } from "./commands/tls-options.ts";
import type { Connection } from "./environment.ts";
import type { Session } from "./session.ts";
import { readTokenFile } from "./token-file.ts";

/** Whose service is asked: that of the data folder, or one elsewhere, with a token. */
export type ElsewhereOptions = TlsOptions & {
  readonly service?: string;
  readonly tokenFile?: string;
  readonly plaintext?: boolean;
};

/** After a service elsewhere was gone, so long it is waited for, each time. */
const READY_MS = 60_000;

/** Adds the options by which a command is about a service elsewhere, as `mount` has them. `ops`: what the token must allow, for the help. */
export function addElsewhereOptions(command: Command, ops: string): void {
  command
    .optionsGroup("On a service elsewhere:")
    .option("--service <host:port>", "the service")
    .option("--token-file <file>", `what allows it, from \`token create --ops ${ops}\``)
    .option("--plaintext", "without TLS: at 127.0.0.1 or [::1] only")
    .option("--tls-cert <file>", "this machine's certificate, in place of the one it has from `node join`")
    .option("--tls-key <file>", "its key")
    .option("--tls-ca <file>", "the authority of the service's certificate")
    .hook("preAction", (_, acting) => checkElsewhere(acting.opts<ElsewhereOptions>()));
}

function checkElsewhere({ service, tokenFile, plaintext, tlsCert, tlsKey, tlsCa }: ElsewhereOptions): void {
  if (service !== undefined) return;
  if ([tokenFile, plaintext, tlsCert, tlsKey, tlsCa].some((option) => option !== undefined))
    throw new TidemarkError(
      "INVALID_ARGUMENT",
      "--token-file and certificates are for a service elsewhere: name it with --service",
    );
}

/** The service at `service`, each call with the token. Throws INVALID_ARGUMENT, and what reading the token or the certificates throws. */
export async function connectElsewhere(
  session: Session,
  options: ElsewhereOptions & { readonly service: string },
): Promise<Connection> {
  const { service, tokenFile } = options;
  if (tokenFile === undefined)
    throw new TidemarkError("INVALID_ARGUMENT", "a service elsewhere wants a token: name its file with --token-file");
  const token = await readTokenFile(session, tokenFile);
  // Loaded only when it is used: the CLI starts without it.
  const [{ clientCredentials, openChannel }, { AdminClient }] = await Promise.all([
    import("../rpc/tls/credentials.ts"),
    import("../rpc/admin-client.ts"),
  ]);
  const { clock } = session.environment;
  const files = tlsFiles(options, (file) => session.machinePath(file));
  const source = options.plaintext === true ? "plaintext" : (files ?? { nodeFolder: join(session.dataFolder, "node") });
  const credentials = await clientCredentials(source, { now: clock.now() });
  const channel = openChannel({ address: service, credentials });
  const api = new AdminClient({ channel, token, clock });
  return { api, close: () => api.close(), ready: () => channel.ready(clock.now().sec * 1000 + READY_MS) };
}
