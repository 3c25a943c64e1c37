import type { Command } from "commander";
import { TidemarkError } from "../../domain/errors.ts";
import type { ExitName } from "../exit-codes.ts";
import { body, type CommandContext } from "../leaf.ts";
import type { Session } from "../session.ts";
import { needed, parsePlace } from "./arguments.ts";

type ExportOptions = {
  readonly at?: string;
  readonly format: string;
  readonly output?: string;
  readonly force?: boolean;
};

type ImportOptions = { readonly input?: string; readonly force?: boolean };

/** tidemark export, which a repository has too. */
export function addExportCommand(program: Command, context: CommandContext): void {
  body<ExportOptions>(
    program
      .command("export <path>")
      .description("write a share, a directory or a file as a tar archive, to standard output")
      .option("--at <moment>", "as it was then")
      .option("--format <format>", "tar: POSIX pax, as GNU tar and bsdtar read it", "tar")
      .option("--output <file>", "to this file instead")
      .option("--force", "with --output: replace the file if it is there"),
    context,
    exportTree,
    "export,history",
  );
}

/** tidemark import. */
export function addImportCommand(program: Command, context: CommandContext): void {
  body<ImportOptions>(
    program
      .command("import <path>")
      .description("unpack a tar archive from standard input into a share, or a directory of one")
      .option("--input <file>", "from this file instead")
      .option("--force", "also into a directory that has something in it: what has the same names is replaced"),
    context,
    importTree,
  );
}

async function exportTree(
  session: Session,
  [path]: readonly string[],
  options: ExportOptions,
): Promise<ExitName | undefined> {
  if (options.format !== "tar") {
    throw new TidemarkError("INVALID_ARGUMENT", `--format "${options.format}" is not known: expected tar`);
  }
  const { exportArchive } = await import("../outside/export-archive.ts");
  const { reading } = await session.api();
  const file = options.output === undefined ? {} : { output: session.machinePath(options.output) };
  return exportArchive(session, {
    reading,
    source: parsePlace(needed(path)),
    at: session.moment(options.at),
    ...file,
    force: options.force === true,
  });
}

async function importTree(
  session: Session,
  [path]: readonly string[],
  options: ImportOptions,
): Promise<ExitName | undefined> {
  const { importArchive } = await import("../outside/import-archive.ts");
  const file = options.input === undefined ? {} : { input: session.machinePath(options.input) };
  return importArchive(session, { target: parsePlace(needed(path)), ...file, force: options.force === true });
}
