import { type Command, Option } from "commander";
import type { ServeOptions } from "../environment.ts";
import type { CommandContext } from "../leaf.ts";
import { dataFolderOf, type GlobalOptions } from "../session.ts";
import { parseBytes } from "./arguments.ts";

/** tidemark serve. */
export function addServeCommands(program: Command, { environment, finish }: CommandContext): void {
  const serve = program
    .command("serve")
    .description("run the service in the foreground, until Ctrl-C or SIGTERM")
    .option("--history-bytes-max <size>", "bound of local history, e.g. 200g (default: half of the disk)")
    .addOption(
      new Option("--log-level <level>", "how much it says").choices(["debug", "info", "warn", "error"]).default("info"),
    );
  serve.action(async () => {
    const options = serve.optsWithGlobals<
      GlobalOptions & { historyBytesMax?: string; logLevel: ServeOptions["logLevel"] }
    >();
    const { historyBytesMax, logLevel } = options;
    finish(
      await environment.serve({
        dataFolder: dataFolderOf(environment, options.data),
        logLevel,
        ...(historyBytesMax === undefined
          ? {}
          : { historyBytesMax: parseBytes("--history-bytes-max", historyBytesMax) }),
      }),
    );
  });
}
