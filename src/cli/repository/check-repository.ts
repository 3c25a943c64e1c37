import { checkApp } from "../../backup/check/check-app.ts";
import type { CheckCounts, Finding, TouchedFile } from "../../backup/check/finding.ts";
import { touchedFiles } from "../../backup/check/touched-files.ts";
import { unsealedEpoch } from "../../backup/check/unsealed-epoch.ts";
import { textFromBytes } from "../../domain/byte-text.ts";
import type { AppId } from "../../domain/ids.ts";
import { formatUtcTime } from "../../domain/moment.ts";
import { parseAppRef } from "../../domain/share-path.ts";
import { SystemTurns } from "../../meta/reading/turns.ts";
import type { Repository } from "../../repository/repository.ts";
import type { ExitName } from "../exit-codes.ts";
import { formatBytes, formatCount, plural } from "../output/human.ts";
import { ProgressBar } from "../output/progress-bar.ts";
import type { Session } from "../session.ts";
import { openRepositoryApps } from "./connect.ts";
import { randomFraction } from "./random-fraction.ts";
import { parsePart } from "./read-part.ts";
import type { RepoOptions } from "./repo-options.ts";
import { type DescribedApp, NO_KEY, type RepositoryApps, type RepositoryAppsParts } from "./repository-apps.ts";
import { storeFailure } from "./store-failure.ts";

type CheckOptions = RepoOptions & { readonly app?: string; readonly readData?: string | true };

/** Versions of files that are listed for one app: more say the same. */
const FILES_SHOWN_MAX = 1000;

/** Of them on a terminal: the rest would push everything else off it. */
const FILES_ON_TERMINAL_MAX = 20;

type Opened = { readonly apps: RepositoryApps; readonly parts: RepositoryAppsParts };

/** What came of one app, for programs. */
type Result = {
  readonly app: string;
  readonly counts: CheckCounts;
  readonly findings: readonly Finding[];
  readonly files: readonly { readonly path: string; readonly since: string; readonly until: string }[];
  /** What may be wrong, and is no finding, since it may as well be in order. */
  readonly notes: readonly string[];
  /** Whether the repository tells what it is. */
  readonly isReadable: boolean;
};

/** One app to be checked. Without `described` nothing tells what it is. */
type Subject = { readonly id: AppId; readonly described?: DescribedApp };

/**
 * `repo check`: ends with DAMAGED when something that was protected can't be restored, and INCOMPLETE when of an app there is nothing that could be checked.
 */
export async function checkRepository(session: Session, options: CheckOptions): Promise<ExitName | undefined> {
  const readPart = parsePart(options.readData);
  const opened = await openRepositoryApps(session, options);
  const { repository } = opened.parts;
  try {
    const wanted =
      options.app === undefined ? undefined : asSubject(await opened.apps.describe(parseAppRef(options.app)));
    let damaged = false;
    const entries = await repository.apps(({ error }) => {
      damaged = true;
      session.output.note(error.message);
    });
    const described = (await opened.apps.all()).map(asSubject);
    const known = new Set(described.map(({ id }) => id));
    const leftOut = entries.filter(({ appId }) => !known.has(appId)).map(({ appId }): Subject => ({ id: appId }));
    const subjects = wanted === undefined ? [...described, ...leftOut] : [wanted];
    let isIncomplete = false;
    for (const subject of subjects) {
      const result = await checkOne(session, opened, { subject, readPart });
      const isDamaged = result.findings.some(({ severity }) => severity === "damage");
      damaged ||= isDamaged;
      isIncomplete ||= subject.described === undefined && !isDamaged;
      await tell(session, result);
    }
    const strayCount = wanted === undefined ? await tellStrays(session, repository) : 0;
    // Of a destroyed app nothing is to be checked. But if that is all there is, nothing was.
    if (entries.length === 0 && strayCount > 0) isIncomplete = true;
    return damaged ? "DAMAGED" : isIncomplete ? "INCOMPLETE" : undefined;
  } catch (error) {
    throw storeFailure(error);
  } finally {
    await opened.apps.close();
  }
}

function asSubject(described: DescribedApp): Subject {
  return { id: described.id, described };
}

/** Folders of apps that no key goes with; how many there are. */
async function tellStrays({ output }: Session, repository: Repository): Promise<number> {
  const folders = await repository.appsWithoutKey();
  for (const object of folders) {
    const finding: Finding = { severity: "warning", object, message: `${object}: ${NO_KEY}` };
    if (output.json) await output.value({ app: null, counts: null, findings: [finding], files: [], notes: [] });
    else await output.line(`${output.style("yellow", "warning")}: ${finding.message}`);
  }
  return folders.length;
}

async function checkOne(
  session: Session,
  { apps, parts }: Opened,
  { subject, readPart }: { readonly subject: Subject; readonly readPart: number },
): Promise<Result> {
  const { clock, signal } = session.environment;
  const { id, described } = subject;
  const name = described === undefined ? `app ${id}` : `${described.namespace}:${described.name}`;
  const bar = new ProgressBar({ output: session.output, clock });
  const findings: Finding[] = [];
  try {
    const app = await parts.repository.openApp(id);
    const { counts, lostData } = await checkApp({
      app,
      readPart,
      random: randomFraction,
      onFinding: (finding) => findings.push(finding),
      onProgress: (step) => bar.update({ fraction: undefined, text: `${name}: ${step}` }),
      signal,
    });
    const files: TouchedFile[] = [];
    if (lostData.size > 0 && described !== undefined) {
      bar.update({ fraction: undefined, text: `${name}: looking for the files that are concerned` });
      const { core } = await apps.find({ ...described, id });
      for await (const file of touchedFiles(core, lostData, new SystemTurns())) {
        files.push(file);
        if (files.length === FILES_SHOWN_MAX) break;
      }
    }
    const unsealed = described === undefined ? undefined : await unsealedEpoch(app);
    const notes = unsealed === undefined ? [] : [unsealed];
    return { app: name, isReadable: described !== undefined, counts, findings, files: files.map(shown), notes };
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
  const { app, counts, findings, files, notes } = result;
  for (const { severity, message } of findings)
    await output.line(`${output.style(severity === "damage" ? "red" : "yellow", severity)}: ${message}`);
  if (files.length > 0) {
    await output.line(
      `These versions of files can't be restored whole${files.length === FILES_SHOWN_MAX ? " (the first of them)" : ""}:`,
    );
    const listed = output.isTerminal ? files.slice(0, FILES_ON_TERMINAL_MAX) : files;
    for (const { path, since, until } of listed) await output.line(`  ${path}  from ${since} to ${until}`);
    if (listed.length < files.length)
      await output.line(`  ... and ${formatCount(files.length - listed.length)} more (--json lists them)`);
  }
  for (const note of notes) await output.line(`${output.style("yellow", "warning")}: ${note}`);
  await output.line(`${app}: ${summary(counts)}. ${verdict(result)}`);
  if (result.isReadable && findings.some(({ severity }) => severity === "damage"))
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

function verdict({ findings, notes, isReadable }: Result): string {
  const damages = findings.filter(({ severity }) => severity === "damage").length;
  if (damages > 0) return `${plural(damages, "damage", "damages")} found`;
  if (!isReadable) return "There is nothing to check";
  return findings.length > 0 || notes.length > 0 ? "Nothing is damaged" : "All well";
}
