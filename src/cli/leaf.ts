import type { Command } from "commander";
import type { CliEnvironment } from "./environment.ts";
import { EXIT_CODES, type ExitName } from "./exit-codes.ts";
import { type GlobalOptions, Session } from "./session.ts";

/** What a command does: its arguments in order, its options. Answers how the process ends; nothing means well. */
export type CommandBody<O> = (session: Session, args: readonly string[], options: O) => Promise<ExitName | undefined>;

/** Where commands are registered. */
export type CommandContext = {
  readonly environment: CliEnvironment;
  /** Hears how a command ended. */
  readonly finish: (exitCode: number) => void;
};

/** Gives `command` its body: opens a session, runs, closes it. Optional arguments that were left out are absent from `args`. */
export function body<O extends object>(
  command: Command,
  context: CommandContext,
  run: CommandBody<O & GlobalOptions>,
): Command {
  return command.action(async () => {
    const options = command.optsWithGlobals<O & GlobalOptions>();
    const session = new Session(context.environment, { options, command: fullName(command) });
    try {
      const ended = await run(session, command.args, options);
      context.finish(EXIT_CODES[ended ?? "OK"].code);
    } finally {
      await session.close();
    }
  });
}

function fullName(command: Command): string {
  const names: string[] = [];
  for (let each: Command | null = command; each?.parent != null; each = each.parent) names.unshift(each.name());
  return names.join(" ");
}
