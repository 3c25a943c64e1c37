import type { Command } from "commander";
import { TidemarkError } from "../domain/errors.ts";
import { NAMESPACE_DEFAULT } from "../domain/share-path.ts";
import type { CliEnvironment, Connection } from "./environment.ts";
import { EXIT_CODES, type ExitName } from "./exit-codes.ts";
import { findNamespace } from "./find-namespace.ts";
import { addElsewhereOptions, connectElsewhere } from "./service-elsewhere.ts";
import { type GlobalOptions, Session } from "./session.ts";

/** What a command does: its arguments in order, its options. Answers how the process ends; nothing means well. */
export type CommandBody<O> = (session: Session, args: readonly string[], options: O) => Promise<ExitName | undefined>;

/** Where commands are registered. */
export type CommandContext = {
  readonly environment: CliEnvironment;
  /** Hears how a command ended. */
  readonly finish: (exitCode: number) => void;
  /** What the commands talk to, by their options; absent: the service of the data folder. */
  readonly connect?: (session: Session, options: object) => Promise<Connection>;
};

/**
 * Gives `command` its body: opens a session, runs, closes it. Optional arguments that were left out are absent from `args`. `tokenOps`: it can be about a service elsewhere, too, with a token that allows these, unless commands
 * talk to something else than a service here.
 */
export function body<O extends object>(
  command: Command,
  context: CommandContext,
  run: CommandBody<O & GlobalOptions>,
  tokenOps?: string,
): Command {
  if (tokenOps !== undefined && context.connect === undefined) addElsewhereOptions(command, tokenOps);
  return command.action(async () => {
    const options = command.optsWithGlobals<O & GlobalOptions>();
    const { environment } = context;
    const connect = context.connect ?? elsewhere(options as { readonly service?: string });
    const session = new Session(environment, {
      options,
      command: fullName(command),
      connect: connect === undefined ? undefined : (each) => connect(each, options),
    });
    try {
      const ended = await runFindingNamespace(session, { command, options, run });
      context.finish(EXIT_CODES[ended ?? "OK"].code);
    } finally {
      await session.close();
    }
  });
}

/** How a command reaches a service elsewhere, if it was told to. */
function elsewhere({ service }: { readonly service?: string }): CommandContext["connect"] {
  if (service === undefined) return undefined;
  return (session, options) => connectElsewhere(session, { ...options, service });
}

type Run<O> = { readonly command: Command; readonly options: O; readonly run: CommandBody<O> };

/**
 * Runs the body; when there is no app of the name that was given without a namespace, but one elsewhere, once more with that one. Nothing can have been
 * done the first time: there was no app to do it to.
 */
async function runFindingNamespace<O>(
  session: Session,
  { command, options, run }: Run<O>,
): Promise<ExitName | undefined> {
  const { args } = command;
  try {
    return await run(session, args, options);
  } catch (error) {
    const named = APP_ARGUMENTS.includes(command.registeredArguments[0]?.name() ?? "") ? args[0] : undefined;
    const full = named === undefined || !isAppMissing(error) ? undefined : await findNamespace(session, named);
    if (full === undefined) throw error;
    session.output.note(`note: there is no app of that name in the namespace "${NAMESPACE_DEFAULT}"; this is ${full}`);
    return run(session, [full, ...args.slice(1)], options);
  }
}

/** First arguments that begin with an app's name. */
const APP_ARGUMENTS: readonly string[] = ["app", "app/share", "path"];

function isAppMissing(error: unknown): boolean {
  return error instanceof TidemarkError && error.code === "NOT_FOUND" && error.data["missing"] === "app";
}

function fullName(command: Command): string {
  const names: string[] = [];
  for (let each: Command | null = command; each?.parent != null; each = each.parent) names.unshift(each.name());
  return names.join(" ");
}
