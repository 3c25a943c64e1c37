import { createInterface } from "node:readline/promises";
import { Writable } from "node:stream";
import { TidemarkError } from "../domain/errors.ts";
import type { Session } from "./session.ts";

/** Where a passphrase comes from when nobody can be asked. */
export const PASSPHRASE_VARIABLE = "TIDEMARK_PASSPHRASE";

/** Fewer can be tried out. */
const PASSPHRASE_CHARS_MIN = 8;

/** The passphrase of a repository that is there: from the environment, else asked for without showing it. Throws INVALID_ARGUMENT when there is neither. */
export async function askPassphrase(session: Session, what: string): Promise<string> {
  const given = session.environment.variables[PASSPHRASE_VARIABLE] ?? "";
  if (given !== "") return given;
  checkTerminal(session, `${what} needs its key: --key-file FILE, or the passphrase in ${PASSPHRASE_VARIABLE}`);
  const [passphrase = ""] = await hidden(session, [`Passphrase of ${what}: `]);
  return passphrase;
}

/** A new passphrase, asked for twice. Throws INVALID_ARGUMENT when they differ, or when it is too short. */
export async function askNewPassphrase(session: Session, variable = PASSPHRASE_VARIABLE): Promise<string> {
  const given = session.environment.variables[variable] ?? "";
  if (given !== "") return checkLength(given);
  checkTerminal(session, `a key is needed: --key-file FILE makes one, or give a passphrase in ${variable}`);
  const [first = "", second] = await hidden(session, ["New passphrase: ", "Once more: "]);
  if (first === second) return checkLength(first);
  throw new TidemarkError("INVALID_ARGUMENT", "the two passphrases differ: nothing was changed");
}

function checkLength(passphrase: string): string {
  if ([...passphrase].length >= PASSPHRASE_CHARS_MIN) return passphrase;
  throw new TidemarkError("INVALID_ARGUMENT", `a passphrase has at least ${PASSPHRASE_CHARS_MIN} characters`);
}

function checkTerminal({ environment, output }: Session, otherwise: string): void {
  if (environment.stdin.isTTY === true && environment.stderr.isTTY === true && !output.json) return;
  throw new TidemarkError("INVALID_ARGUMENT", otherwise);
}

/** Lines from the terminal that aren't shown. Readline edits in raw mode, where the terminal echoes nothing, and its own echo goes nowhere. */
async function hidden(session: Session, questions: readonly string[]): Promise<string[]> {
  const { stdin, signal } = session.environment;
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() });
  const prompt = createInterface({ input: stdin, output: nowhere, terminal: true, historySize: 0 });
  const lines = prompt[Symbol.asyncIterator]();
  const interrupted = new Promise<never>((_, reject) => {
    const end = (): void => reject(new TidemarkError("CANCELLED", "interrupted"));
    prompt.once("SIGINT", end);
    signal.addEventListener("abort", end);
    if (signal.aborted) end();
  });
  const answers: string[] = [];
  try {
    for (const question of questions) {
      session.output.error(question);
      const line = await Promise.race([lines.next(), interrupted]);
      session.output.error("\n");
      if (line.done === true) throw new TidemarkError("CANCELLED", "interrupted");
      answers.push(line.value);
    }
    return answers;
  } finally {
    prompt.close();
  }
}
