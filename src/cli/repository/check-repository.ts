import { checkApp } from "../../backup/check/check-app.ts";
import type { CheckCounts, Finding, TouchedFile } from "../../backup/check/finding.ts";
import { touchedFiles } from "../../backup/check/touched-files.ts";
import { textFromBytes } from "../../domain/byte-text.ts";
import { formatUtcTime } from "../../domain/moment.ts";
import { parseAppRef } from "../../domain/share-path.ts";
import { SystemTurns } from "../../meta/reading/turns.ts";
import type { ExitName } from "../exit-codes.ts";
import { formatBytes, formatCount, plural } from "../output/human.ts";
import { ProgressBar } from "../output/progress-bar.ts";
import type { Session } from "../session.ts";
import { openRepositoryApps } from "./connect.ts";
import { randomFraction } from "./random-fraction.ts";
import { parsePart } from "./read-part.ts";
import type { RepoOptions } from "./repo-options.ts";
import type { DescribedApp, RepositoryApps, RepositoryAppsParts } from "./repository-apps.ts";
import { storeFailure } from "./store-failure.ts";

type CheckOptions = RepoOptions & { readonly app?: string; readonly readData?: string | true };

/** Versions of files that are listed for one app: more say the same. */
const FILES_SHOWN_MAX = 1000;

type Opened = { readonly apps: RepositoryApps; readonly parts: RepositoryAppsParts };

/** What came of one app, for programs. */
type Result = {
  readonly app: string;
  readonly counts: CheckCounts;
  readonly findings: readonly Finding[];
  readonly files: readonly { readonly path: string; readonly since: string; readonly until: string }[];
};

/** `repo check`: ends with DAMAGED when something that was protected can't be restored. */
export async function checkRepository(session: Session, options: CheckOptions): Promise<ExitName | undefined> {
  const readPart = parsePart(options.readData);
  const opened = await openRepositoryApps(session, options);
  try {
    const all = await opened.apps.all();
    const wanted = options.app === undefined ? all : [await opened.apps.describe(parseAppRef(options.app))];
    let damaged = false;
    await opened.parts.repository.apps(({ error }) => {
      damaged = true;
      session.output.note(error.message);
    });
    for (const app of wanted) {
      const result = await checkOne(session, opened, { app, readPart });
      damaged ||= result.findings.some(({ severity }) => severity === "damage");
      await tell(session, result);
    }
    return damaged ? "DAMAGED" : undefined;
  } catch (error) {
    throw storeFailure(error);
  } finally {
    await opened.apps.close();
  }
}

async function checkOne(
  session: Session,
  { apps, parts }: Opened,
  { app, readPart }: { readonly app: DescribedApp; readonly readPart: number },
): Promise<Result> {
  const { clock, signal } = session.environment;
  const name = `${app.namespace}:${app.name}`;
  const bar = new ProgressBar({ output: session.output, clock });
  const findings: Finding[] = [];
  try {
    const { counts, lostData } = await checkApp({
      app: await parts.repository.openApp(app.id),
      readPart,
      random: randomFraction,
      onFinding: (finding) => findings.push(finding),
      onProgress: (step) => bar.update({ fraction: undefined, text: `${name}: ${step}` }),
      signal,
    });
    const files: TouchedFile[] = [];
    if (lostData.size > 0) {
      bar.update({ fraction: undefined, text: `${name}: looking for the files that are concerned` });
      const { core } = await apps.find({ ...app, id: app.id });
      for await (const file of touchedFiles(core, lostData, new SystemTurns())) {
        files.push(file);
        if (files.length === FILES_SHOWN_MAX) break;
      }
    }
    return { app: name, counts, findings, files: files.map(shown) };
  } finally {
    bar.clear();
  }
}

function shown({ path, since, until }: TouchedFile): Result["files"][number] {
  const text = (moment: TouchedFile["since"]): string =>
    moment.time === undefined ? `lsn:${moment.lsn}` : formatUtcTime(moment.time);
  return { path: textFromBytes(path), since: text(since), until: until === undefined ? "now" : text(until) };
}

async function tell(session: Session, result: Result): Promise<void> {
  const { output } = session;
  if (output.json) {
    await output.value(result);
    return;
  }
  const { app, counts, findings, files } = result;
  for (const { severity, message } of findings)
    await output.line(`${output.style(severity === "damage" ? "red" : "yellow", severity)}: ${message}`);
  if (files.length > 0) {
    await output.line(
      `These versions of files can't be restored whole${files.length === FILES_SHOWN_MAX ? " (the first of them)" : ""}:`,
    );
    for (const { path, since, until } of files) await output.line(`  ${path}  from ${since} to ${until}`);
  }
  await output.line(`${app}: ${summary(counts)}. ${verdict(findings)}`);
  if (findings.some(({ severity }) => severity === "damage"))
    output.note(`The service that ships it may still have what is lost: tidemark backup repair ${app}`);
}

function summary(counts: CheckCounts): string {
  const { sealCount, checkpointCount, runCount, packCount, packBytes, packsRead, bytesRead, unnamedPackCount } = counts;
  const read =
    packsRead === 0 ? "contents not read" : `${formatCount(packsRead)} of them read (${formatBytes(bytesRead)})`;
  const unnamed = unnamedPackCount === 0 ? "" : `, ${formatCount(unnamedPackCount)} that nothing names`;
  return (
    `${plural(sealCount, "seal")}, ${plural(checkpointCount, "checkpoint")}, ${plural(runCount, "run")}, ` +
    `${plural(packCount, "pack")} (${formatBytes(packBytes)}${unnamed}; ${read})`
  );
}

function verdict(findings: readonly Finding[]): string {
  const damages = findings.filter(({ severity }) => severity === "damage").length;
  if (damages > 0) return `${plural(damages, "damage", "damages")} found`;
  return findings.length > 0 ? "Nothing is damaged" : "All well";
}
