import { Command } from "commander";
import { MOMENT_GRAMMAR } from "../domain/moment.ts";
import { addAppCommands } from "./commands/app-commands.ts";
import { addAuditCommand } from "./commands/audit-commands.ts";
import { addBackupCommands } from "./commands/backup-commands.ts";
import { addChangesCommand } from "./commands/changes-command.ts";
import { addDeltaCommand } from "./commands/delta-command.ts";
import { addExportCommand, addImportCommand } from "./commands/export-commands.ts";
import { addHistoryCommands } from "./commands/history-commands.ts";
import { addMountCommands } from "./commands/mount-commands.ts";
import { addNodeCommands } from "./commands/node-commands.ts";
import { addPurgeCommand } from "./commands/purge-command.ts";
import { addReadingCommands } from "./commands/reading-commands.ts";
import { addDrillCommand, addRepoCommands } from "./commands/repo-commands.ts";
import { addRestoreCommands } from "./commands/restore-commands.ts";
import { addRetentionCommands } from "./commands/retention-commands.ts";
import { addServeCommands } from "./commands/serve-commands.ts";
import { addShareCommands } from "./commands/share-commands.ts";
import { addSnapshotCommands } from "./commands/snapshot-commands.ts";
import { addStatusCommands } from "./commands/status-commands.ts";
import { addTokenCommands } from "./commands/token-commands.ts";
import type { CommandContext } from "./leaf.ts";

const HELP_AFTER = `
A path is [namespace:]app[/share[/path]]; \\xHH stands for a byte that is not UTF-8; app@id and share@id name deleted ones.
A moment is ${MOMENT_GRAMMAR}.
Exit codes and everything else: README.md.`;

/** The command line: every verb with its options. Nothing is done before it is parsed. */
export function makeProgram(context: CommandContext, { json = false }: { json?: boolean } = {}): Command {
  const { version, stdout, stderr } = context.environment;
  const program = new Command("tidemark")
    .description("File shares for containers that remember everything")
    .version(version)
    .option(
      "--data <dir>",
      "the service's data folder (default: TIDEMARK_DATA, /var/lib/tidemark, without root ~/.local/share/tidemark)",
    )
    .option("--json", "output for programs: one JSON value, or one a line")
    .addHelpText("after", HELP_AFTER)
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({
      writeOut: (text) => void stdout.write(text),
      // With --json what is wrong with the line is reported as JSON, in its place (run.ts).
      writeErr: (text) => void (json || stderr.write(text)),
      outputError: (text, write) => write(text.replace(/^error: /, "tidemark: ")),
    })
    .showHelpAfterError("(--help tells more)")
    .exitOverride();
  addServeCommands(program, context);
  addAppCommands(program, context);
  addShareCommands(program, context);
  addMountCommands(program, context);
  addHistoryCommands(program, context, { follows: true });
  addReadingCommands(program, context);
  addChangesCommand(program, context);
  addDeltaCommand(program, context);
  addRestoreCommands(program, context);
  addExportCommand(program, context);
  addImportCommand(program, context);
  addSnapshotCommands(program, context);
  addBackupCommands(program, context);
  addRetentionCommands(program, context);
  addPurgeCommand(program, context);
  addRepoCommands(program, context);
  addDrillCommand(program, context);
  addNodeCommands(program, context);
  addTokenCommands(program, context);
  addAuditCommand(program, context);
  addStatusCommands(program, context);
  return program;
}
