import { randomInt } from "node:crypto";
import { mkdir } from "node:fs/promises";
import path from "node:path";
import { writeWhole } from "../../base/durable-file.ts";
import type { AdminApi } from "../../domain/admin-api.ts";
import type { ExportItem } from "../../domain/admin-reading.ts";
import { textFromBytes } from "../../domain/byte-text.ts";
import { ERASED_BY_ORDER, TidemarkError } from "../../domain/errors.ts";
import { S_IFMT, S_IFREG } from "../../domain/inode.ts";
import type { MomentRef } from "../../domain/moment.ts";
import { formatUtcTime } from "../../domain/moment.ts";
import { type AppRef, parseAppRef, type SharePath } from "../../domain/share-path.ts";
import { fullName } from "../commands/app-commands.ts";
import { describeMoment } from "../commands/mount-commands.ts";
import type { ExitName } from "../exit-codes.ts";
import { formatBytes, formatCount, plural } from "../output/human.ts";
import { toJson } from "../output/json.ts";
import { ProgressBar } from "../output/progress-bar.ts";
import type { Session } from "../session.ts";
import { openRepositoryApps } from "./connect.ts";
import type { RepoOptions } from "./repo-options.ts";
import { repositoryApi } from "./repository-api.ts";
import { storeFailure } from "./store-failure.ts";

type DrillOptions = RepoOptions & { readonly app: string; readonly fileCountMax: number };

/** Differences that are told: with the first ones it is clear that something is wrong. */
const DIFFERENCES_MAX = 100;

type Entry = ExportItem & { readonly kind: "entry" };
type Sampled = { readonly share: string; readonly path: Buffer; readonly size: bigint };

/** What a drill did and found: kept in the data folder, as evidence. */
type Report = {
  readonly app: string;
  readonly repository: string;
  readonly startedAt: string;
  readonly moment: { readonly lsn: number; readonly time: string };
  nameCount: number;
  fileCount: number;
  byteCount: bigint;
  readonly differences: string[];
};

/** One drill: the app as the service has it, and as the repository alone gives it back, at the same moment. */
type Sides = { readonly live: AdminApi; readonly restored: AdminApi; readonly at: MomentRef; readonly app: AppRef };

/**
 * `drill`: compares every name with all its attributes, and a random sample of files byte for byte, between the live app and what is restored from the repository, at the newest moment that is protected. Both are as of one
 * LSN, so nothing needs to be stopped for it. Ends with DAMAGED when they differ.
 */
export async function drill(session: Session, options: DrillOptions): Promise<ExitName | undefined> {
  const live = await session.api();
  const app = parseAppRef(options.app);
  const opened = await openRepositoryApps(session, options);
  const bar = new ProgressBar({ output: session.output, clock: session.environment.clock });
  try {
    const described = await opened.apps.describe(app);
    const { protected: reached } = described;
    if (reached === undefined)
      throw new TidemarkError(
        "FAILED_PRECONDITION",
        `nothing of ${options.app} is protected yet: tidemark backup now ${options.app}`,
      );
    const report: Report = {
      app: `${described.namespace}:${described.name}`,
      repository: opened.parts.repository.id,
      startedAt: formatUtcTime(session.environment.clock.now()),
      moment: { lsn: reached.lsn, time: formatUtcTime(reached.time) },
      nameCount: 0,
      fileCount: 0,
      byteCount: 0n,
      differences: [],
    };
    const restored = repositoryApi(opened.apps, opened.parts);
    const sides: Sides = { live, restored, at: { kind: "lsn", lsn: reached.lsn }, app };
    await run(sides, report, { session, bar, fileCountMax: options.fileCountMax });
    bar.clear();
    const file = await keep(session.dataFolder, report);
    await tell(session, report, { file, app: fullName(described), moment: describeMoment(session, reached) });
    return report.differences.length > 0 ? "DAMAGED" : undefined;
  } catch (error) {
    throw storeFailure(error);
  } finally {
    bar.clear();
    await opened.apps.close();
  }
}

async function run(
  sides: Sides,
  report: Report,
  {
    session,
    bar,
    fileCountMax,
  }: { readonly session: Session; readonly bar: ProgressBar; readonly fileCountMax: number },
): Promise<void> {
  const sample: Sampled[] = [];
  let seen = 0;
  for (const share of await sharesOf(sides, session)) {
    await compareNames(
      sides,
      share,
      session,
      (entry) => {
        report.nameCount++;
        if (report.nameCount % 1000 === 0)
          bar.update({ fraction: undefined, text: `${formatCount(report.nameCount)} names compared` });
        if ((entry.attributes.mode & S_IFMT) !== S_IFREG || !entry.contentFollows) return;
        seen++;
        // Reservoir sampling: each file is as likely as any other, however many there are.
        const sampled = { share, path: entry.path, size: entry.attributes.size };
        if (sample.length < fileCountMax) sample.push(sampled);
        else {
          const at = randomInt(seen);
          if (at < fileCountMax) sample[at] = sampled;
        }
      },
      report.differences,
    );
  }
  for (const file of sample) {
    if (report.differences.length >= DIFFERENCES_MAX) return;
    bar.update({ fraction: report.fileCount / sample.length, text: textFromBytes(file.path) });
    await compareContent(sides, file, { session, report });
    report.fileCount++;
  }
}

async function sharesOf({ live, app, at }: Sides, session: Session): Promise<string[]> {
  const shares: string[] = [];
  for await (const page of live.reading.list({ path: { app, path: NO_PATH }, at }, session.callOptions))
    shares.push(...page.map(({ name }) => name.toString()));
  return shares;
}

/** Both trees in step: they come in the same order. */
async function compareNames(
  { live, restored, at, app }: Sides,
  share: string,
  session: Session,
  onEntry: (entry: Entry) => void,
  differences: string[],
): Promise<void> {
  const request = { path: { app, share: { name: share }, path: NO_PATH }, at, content: false };
  const left = entriesOf(live.reading.exportTree(request, session.callOptions));
  const right = entriesOf(restored.reading.exportTree(request, session.callOptions));
  try {
    for (;;) {
      const [one, two] = await Promise.all([left.next(), right.next()]);
      if (one.done === true && two.done === true) return;
      const entry = one.value ?? two.value;
      const name = `${share}/${textFromBytes(entry?.path ?? NO_PATH)}`;
      if (one.done === true || two.done === true || !one.value.path.equals(two.value.path)) {
        differences.push(`${name}: the trees have other names from here on`);
        return;
      }
      const before = toJson({ ...one.value, contentFollows: false });
      if (before !== toJson({ ...two.value, contentFollows: false }))
        differences.push(`${name}: its attributes differ`);
      if (differences.length >= DIFFERENCES_MAX) return;
      onEntry({ ...one.value, contentFollows: one.value.linkedTo === undefined });
    }
  } finally {
    await Promise.all([left.return(undefined), right.return(undefined)]);
  }
}

async function* entriesOf(pages: AsyncIterable<readonly ExportItem[]>): AsyncGenerator<Entry, undefined> {
  for await (const page of pages) for (const item of page) if (item.kind === "entry") yield item;
  return undefined;
}

async function compareContent(
  { live, restored, at, app }: Sides,
  { share, path: file, size }: Sampled,
  { session, report }: { readonly session: Session; readonly report: Report },
): Promise<void> {
  const path: SharePath = { app, share: { name: share }, path: file };
  const name = `${share}/${textFromBytes(file)}`;
  try {
    const left = bytesOf(live.reading.read({ path, at, offset: 0n }, session.callOptions));
    const right = bytesOf(restored.reading.read({ path, at, offset: 0n }, session.callOptions));
    for (let offset = 0n; ; ) {
      const [one, two] = await Promise.all([left(PIECE_BYTES), right(PIECE_BYTES)]);
      if (!one.equals(two)) {
        report.differences.push(`${name}: its bytes differ from ${offset} on`);
        return;
      }
      if (one.length === 0) break;
      offset += BigInt(one.length);
    }
    report.byteCount += size;
  } catch (error) {
    if (!(error instanceof TidemarkError) || error.code === "CANCELLED") throw error;
    // Both sides refuse it: nothing to compare.
    if (error.message.endsWith(ERASED_BY_ORDER)) return;
    report.differences.push(`${name}: ${error.message}`);
  }
}

const NO_PATH = Buffer.alloc(0);
const PIECE_BYTES = 1024 * 1024;

/** Takes so many bytes of a stream at a time; fewer at its end. */
function bytesOf(pieces: AsyncIterable<Buffer>): (count: number) => Promise<Buffer> {
  const iterator = pieces[Symbol.asyncIterator]();
  let held: Buffer[] = [];
  let heldBytes = 0;
  return async (count) => {
    while (heldBytes < count) {
      const next = await iterator.next();
      if (next.done === true) break;
      held.push(next.value);
      heldBytes += next.value.length;
    }
    const all = Buffer.concat(held);
    held = [all.subarray(count)];
    heldBytes = Math.max(0, all.length - count);
    return all.subarray(0, count);
  };
}

/** Beside the data folder's other things, never changed again. */
async function keep(dataFolder: string, report: Report): Promise<string> {
  const folder = path.join(dataFolder, "drills");
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const file = path.join(folder, `${report.startedAt.replace(/[:.]/g, "-")}-lsn${report.moment.lsn}.json`);
  await writeWhole(file, `${toJson(report)}\n`);
  return file;
}

async function tell(
  session: Session,
  report: Report,
  { file, app, moment }: { readonly file: string; readonly app: string; readonly moment: string },
): Promise<void> {
  const { output } = session;
  if (output.json) {
    await output.value({ ...report, report: file });
    return;
  }
  for (const difference of report.differences) await output.line(`${output.style("red", "differs")}: ${difference}`);
  const { nameCount, fileCount, byteCount, differences } = report;
  const verdict = differences.length === 0 ? "All equal" : `${plural(differences.length, "difference")}`;
  await output.line(
    `${app} at ${moment}, from the repository alone: ${plural(nameCount, "name")} with all attributes, ` +
      `${plural(fileCount, "file")} byte for byte (${formatBytes(byteCount)}). ${verdict}. Report: ${file}`,
  );
}
