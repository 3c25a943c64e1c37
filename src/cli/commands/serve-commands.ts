import { isIP } from "node:net";
import { resolve } from "node:path";
import { type Command, Option } from "commander";
import { TidemarkError } from "../../domain/errors.ts";
import { isHostName, parseNetworkAddress } from "../../rpc/tls/network-address.ts";
import type { CliEnvironment, ServeOptions } from "../environment.ts";
import type { CommandContext } from "../leaf.ts";
import type { ListenOptions } from "../service/listen-options.ts";
import { dataFolderOf, type GlobalOptions } from "../session.ts";
import { collect, parseBytes } from "./arguments.ts";
import { type TlsOptions, tlsFiles } from "./tls-options.ts";

type ServeCommandOptions = GlobalOptions &
  TlsOptions & {
    readonly historyBytesMax?: string;
    readonly logLevel: ServeOptions["logLevel"];
    readonly listen?: readonly string[];
    readonly listenPlaintext?: readonly string[];
    readonly listenName?: readonly string[];
  };

/** tidemark serve. */
export function addServeCommands(program: Command, { environment, finish }: CommandContext): void {
  const serve = program
    .command("serve")
    .description("run the service in the foreground, until Ctrl-C or SIGTERM")
    .option("--history-bytes-max <size>", "bound of local history, e.g. 200g (default: half of the disk)")
    .option("--listen <host:port>", "serve other nodes there, with mutual TLS; may be given several times", collect)
    .option("--listen-name <name>", "a name or address under which nodes reach the service; several times", collect)
    .option("--listen-plaintext <host:port>", "without TLS: at 127.0.0.1 or [::1] only", collect)
    .option("--tls-cert <file>", "the service's certificate, of another authority than its own")
    .option("--tls-key <file>", "its key")
    .option("--tls-ca <file>", "the authority whose certificates name nodes")
    .addOption(
      new Option("--log-level <level>", "how much it says").choices(["debug", "info", "warn", "error"]).default("info"),
    );
  serve.action(async () => {
    const options = serve.optsWithGlobals<ServeCommandOptions>();
    const { historyBytesMax, logLevel } = options;
    const listen = listenOptions(environment, options);
    finish(
      await environment.serve({
        dataFolder: dataFolderOf(environment, options.data),
        logLevel,
        ...(listen === undefined ? {} : { listen }),
        ...(historyBytesMax === undefined
          ? {}
          : { historyBytesMax: parseBytes("--history-bytes-max", historyBytesMax) }),
      }),
    );
  });
}

function listenOptions(environment: CliEnvironment, options: ServeCommandOptions): ListenOptions | undefined {
  const { listen = [], listenPlaintext = [], listenName = [] } = options;
  const tls = tlsFiles(options, (file) => resolve(environment.workingFolder, file));
  for (const text of listen) parseNetworkAddress("--listen", text);
  for (const text of listenPlaintext) parseNetworkAddress("--listen-plaintext", text);
  for (const name of listenName) checkName(name);
  if (listen.length === 0 && (listenName.length > 0 || tls !== undefined)) {
    const given = tls === undefined ? "--listen-name" : "--tls-cert";
    throw new TidemarkError("INVALID_ARGUMENT", `${given} is for a service that listens: give --listen HOST:PORT too`);
  }
  if (listen.length === 0 && listenPlaintext.length === 0) return undefined;
  const common = { addresses: listen, plaintext: listenPlaintext, names: listenName };
  return tls === undefined ? common : { ...common, tls };
}

function checkName(name: string): void {
  if (isIP(name) !== 0 || isHostName(name)) return;
  throw new TidemarkError("INVALID_ARGUMENT", `--listen-name "${name}" is no host name or address`);
}
