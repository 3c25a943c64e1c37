import { createInterface } from "node:readline/promises";
import type { ExitName } from "./exit-codes.ts";
import type { Session } from "./session.ts";

/**
 * Asks before something is changed. Answers undefined for yes, else how to end. Without a terminal nobody can be asked: then it takes --yes.
 */
export async function confirm(
  session: Session,
  { question, yes }: { question: string; yes: boolean },
): Promise<ExitName | undefined> {
  if (yes) return undefined;
  const { stdin, stderr, signal } = session.environment;
  if (session.output.json || stdin.isTTY !== true || stderr.isTTY !== true) {
    session.output.note("Nothing was changed: there is no terminal to ask on. Say --yes to go on.");
    return "NOT_CONFIRMED";
  }
  const prompt = createInterface({ input: stdin, output: stderr });
  try {
    const answer = await prompt.question(`${question} [y/N] `, { signal });
    if (/^y(es)?$/i.test(answer.trim())) return undefined;
    session.output.note("Nothing was changed.");
    return "NOT_CONFIRMED";
  } catch (error) {
    if (signal.aborted) return "INTERRUPTED";
    throw error;
  } finally {
    prompt.close();
  }
}
