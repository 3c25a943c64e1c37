import { lstatSync, readdirSync } from "node:fs";
import { dirname } from "node:path";
import type { ReadRequestAt } from "../../domain/admin-reading.ts";
import { TidemarkError } from "../../domain/errors.ts";
import { isDirectory, isRegular } from "../../domain/inode.ts";
import type { MomentRef, ResolvedMoment } from "../../domain/moment.ts";
import { formatSharePath, type SharePath } from "../../domain/share-path.ts";
import { AMBIGUOUS_NOTE, describeMoment } from "../commands/mount-commands.ts";
import { confirm } from "../confirm.ts";
import type { ExitName } from "../exit-codes.ts";
import { formatBytes, formatCount, plural } from "../output/human.ts";
import { ProgressBar } from "../output/progress-bar.ts";
import type { Session } from "../session.ts";
import { checkedTree } from "./checked-tree.ts";
import { nativeFiles } from "./native-files.ts";
import { showShortfalls } from "./show-shortfalls.ts";
import { type TreeResult, TreeThread } from "./tree-thread.ts";

export type OutsideTask = {
  readonly source: SharePath;
  readonly at: MomentRef;
  /** Absolute path; it becomes what the source was. */
  readonly target: string;
  readonly dryRun: boolean;
  readonly yes: boolean;
  /** Replace files that are there. */
  readonly force: boolean;
};

type Totals = { files: number; directories: number; others: number; bytes: bigint };

/**
 * Restores to a path of this machine, in this process: the service never touches paths outside its data folder. Counts first, shows what will and what can't
 * be restored, then writes. Ends with INCOMPLETE when something could not be restored.
 */
export async function restoreOutside(session: Session, task: OutsideTask): Promise<ExitName | undefined> {
  const { output } = session;
  checkTarget(task);
  const { reading } = await session.api();
  const at = await reading.resolveMoment({ app: task.source.app, at: task.at }, session.callOptions);
  if (at.ambiguous) output.note(AMBIGUOUS_NOTE);
  // One journal position for both passes, whatever happens in between.
  const where: ReadRequestAt = { path: task.source, at: { kind: "lsn", lsn: at.lsn } };
  const totals = await count(session, where);
  if (totals.directories === 0) refuseDirectory(task.target);
  await showPlan(session, { task, at, totals });
  if (task.dryRun) return undefined;
  if (task.force) {
    const question = `Files in ${task.target} that have the same names are replaced. Go on?`;
    const refused = await confirm(session, { question, yes: task.yes });
    if (refused !== undefined) return refused;
  }
  const written = await write(session, { task, where, totals });
  await showResult(session, task, written);
  return written.shortfalls.count > 0 ? "INCOMPLETE" : undefined;
}

/** The parent must be there; the target must not, or be an empty directory, or --force was said. */
function checkTarget({ target, force }: OutsideTask): void {
  if (lstatSync(dirname(target), { throwIfNoEntry: false })?.isDirectory() !== true) {
    throw new TidemarkError(
      "NOT_FOUND",
      `${dirname(target)} is not a directory: expected --to to name a new file or directory in one that exists`,
    );
  }
  const there = lstatSync(target, { throwIfNoEntry: false });
  if (there === undefined || force) return;
  if (there.isDirectory() && readdirSync(target).length === 0) return;
  throw new TidemarkError(
    "ALREADY_EXISTS",
    `${target} is there already: choose another place, or say --force to replace what has the same names`,
  );
}

/** A single file is given its name, not a directory to go into. */
function refuseDirectory(target: string): void {
  if (lstatSync(target, { throwIfNoEntry: false })?.isDirectory() !== true) return;
  const message = `${target} is a directory, and what is restored is a file: expected --to to name that file, as ${target}/NAME`;
  throw new TidemarkError("ALREADY_EXISTS", message);
}

async function count(session: Session, where: ReadRequestAt): Promise<Totals> {
  const totals: Totals = { files: 0, directories: 0, others: 0, bytes: 0n };
  const { reading } = await session.api();
  for await (const page of reading.exportTree({ ...where, content: false }, session.callOptions)) {
    for (const item of page) {
      if (item.kind !== "entry") continue;
      if (isDirectory(item.attributes.mode)) totals.directories += 1;
      else if (isRegular(item.attributes.mode)) totals.files += 1;
      else totals.others += 1;
      if (isRegular(item.attributes.mode) && item.linkedTo === undefined)
        totals.bytes += item.attributes.allocatedBytes;
    }
  }
  return totals;
}

/** What no file outside a share can have, on this machine and as this user. */
function limitations(session: Session): string[] {
  const list = [
    "change times (ctime) and birth times are those of now; a view shows the exact ones",
    "inode numbers are new",
  ];
  if (session.environment.process.uid !== 0) {
    list.push(
      "without root, owners and groups are yours, and device nodes, trusted and security attributes can't be made",
    );
  }
  return list;
}

async function showPlan(
  session: Session,
  { task, at, totals }: { task: OutsideTask; at: ResolvedMoment; totals: Totals },
): Promise<void> {
  const { output } = session;
  const notRestored = limitations(session);
  if (output.json) {
    await output.value({
      event: "plan",
      source: formatSharePath(task.source),
      at,
      target: task.target,
      ...totals,
      limitations: notRestored,
    });
    return;
  }
  const parts = [
    plural(totals.files, "file"),
    plural(totals.directories, "directory", "directories"),
    plural(totals.others, "other"),
  ];
  await output.line(`${formatSharePath(task.source)} as of ${describeMoment(session, at)} → ${task.target}`);
  await output.line(`${parts.join(", ")}, about ${formatBytes(totals.bytes)}.`);
  for (const limitation of notRestored) await output.line(`Not restored: ${limitation}.`);
}

async function write(
  session: Session,
  { task, where, totals }: { task: OutsideTask; where: ReadRequestAt; totals: Totals },
): Promise<TreeResult> {
  const { reading } = await session.api();
  // Here already, so that a machine without them is told so.
  nativeFiles();
  const { uid, gid } = session.environment.process;
  const writer = new TreeThread({ target: Buffer.from(task.target), replace: task.force, user: { uid, gid } });
  const bar = new ProgressBar({ output: session.output, clock: session.environment.clock });
  const expected = totals.files + totals.directories + totals.others;
  let entryCount = 0;
  try {
    for await (const page of checkedTree(reading.exportTree({ ...where, content: true }, session.callOptions))) {
      for (const item of page) {
        if (item.kind === "entry") entryCount += 1;
        if (item.kind !== "ranges") await writer.accept(item);
      }
      bar.update({
        fraction: progress(writer, { entryCount, expected, totals }),
        text: progressText(writer, entryCount, expected),
      });
    }
    return await writer.finish();
  } catch (error) {
    await writer.abandon();
    session.output.note(`${task.target} is incomplete.`);
    throw error;
  } finally {
    bar.clear();
    await writer.close();
  }
}

/** By bytes and by names, whichever is behind: many small files and few large ones both move. */
function progress(
  writer: TreeThread,
  { entryCount, expected, totals }: { entryCount: number; expected: number; totals: Totals },
): number {
  const byNames = expected === 0 ? 1 : entryCount / expected;
  return totals.bytes === 0n ? byNames : Math.min(byNames, Number(writer.contentBytes) / Number(totals.bytes));
}

function progressText(writer: TreeThread, entryCount: number, expected: number): string {
  return `${formatCount(entryCount)} of ${formatCount(expected)}, ${formatBytes(writer.contentBytes)}`;
}

async function showResult(
  session: Session,
  task: OutsideTask,
  { contentBytes, fileCounts, shortfalls }: TreeResult,
): Promise<void> {
  const { output } = session;
  const listed = shortfalls.listed.map(({ path, ...rest }) => ({ path, ...rest }));
  if (output.json) {
    await output.value({
      event: "done",
      target: task.target,
      ...fileCounts,
      bytes: contentBytes,
      shortfallCount: shortfalls.count,
      shortfalls: listed,
    });
    return;
  }
  const sum = fileCounts.files + fileCounts.directories + fileCounts.others + fileCounts.links;
  await output.line(`Restored ${plural(sum, "name")} and ${formatBytes(contentBytes)} to ${task.target}.`);
  showShortfalls(output, shortfalls, "restored");
}
