import { CommanderError } from "commander";
import { TidemarkError } from "../domain/errors.ts";
import type { CliEnvironment } from "./environment.ts";
import { EXIT_CODES, EXIT_OF_ERROR } from "./exit-codes.ts";
import { toJson } from "./output/json.ts";
import { OutputClosedError } from "./output/output.ts";
import { makeProgram } from "./program.ts";
import { storeFailure } from "./repository/store-failure.ts";

/** Runs one command line (without the program's own name). Never throws: answers the exit code; what went wrong is on standard error. */
export async function run(args: readonly string[], environment: CliEnvironment): Promise<number> {
  // Looked for before the line is parsed: it says how a line that can't be parsed is reported.
  const json = args.includes("--json");
  let exitCode: number = EXIT_CODES.OK.code;
  const finish = (code: number): void => {
    exitCode = code;
  };
  try {
    await makeProgram({ environment, finish }, { json }).parseAsync([...args], { from: "user" });
    return exitCode;
  } catch (error) {
    return report(error, { environment, json });
  }
}

function report(error: unknown, { environment, json }: { environment: CliEnvironment; json: boolean }): number {
  // Help and version end this way too. To a person commander has said what is wrong already.
  if (error instanceof CommanderError && (error.exitCode === 0 || !json))
    return error.exitCode === 0 ? EXIT_CODES.OK.code : EXIT_CODES.USAGE.code;
  if (error instanceof OutputClosedError) return EXIT_CODES.OK.code;
  const known = asTidemarkError(error);
  const exitCode = EXIT_CODES[EXIT_OF_ERROR[known.code]].code;
  if (environment.signal.aborted && known.code === "CANCELLED") return exitCode;
  const { code, message, data } = known;
  const text = json ? toJson({ error: { code, message, data } }) : `tidemark: ${message}`;
  environment.stderr.write(`${text}\n`);
  // A defect is to be reported: its trace is wanted then, and only then.
  if (known.code === "INTERNAL" && (environment.variables["TIDEMARK_DEBUG"] ?? "") !== "" && error instanceof Error) {
    environment.stderr.write(`${error.stack ?? ""}\n`);
  }
  return exitCode;
}

function asTidemarkError(raised: unknown): TidemarkError {
  const error = storeFailure(raised);
  if (error instanceof TidemarkError) return error;
  if (error instanceof CommanderError)
    return new TidemarkError("INVALID_ARGUMENT", error.message.replace(/^error: /, ""), { cause: error });
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  const message = error instanceof Error ? error.message : String(error);
  switch (code) {
    case "EACCES":
    case "EPERM":
      return new TidemarkError("PERMISSION_DENIED", message, { cause: error });
    case "ENOSPC":
    case "EDQUOT":
      return new TidemarkError("NO_SPACE", message, { cause: error });
    case "ENOENT":
      return new TidemarkError("NOT_FOUND", message, { cause: error });
    case "ABORT_ERR":
      return new TidemarkError("CANCELLED", "interrupted", { cause: error });
    default:
      return new TidemarkError("INTERNAL", `a defect in Tidemark: ${message} (TIDEMARK_DEBUG=1 tells where)`, {
        cause: error,
      });
  }
}
