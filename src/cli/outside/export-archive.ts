import { closeSync, fsyncSync, lstatSync, openSync, renameSync, rmSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { tarBytes } from "../../backup/tar/tar-writer.ts";
import type { Pages } from "../../domain/admin-call.ts";
import type { ExportItem, ReadingApi } from "../../domain/admin-reading.ts";
import { textFromBytes } from "../../domain/byte-text.ts";
import { TidemarkError } from "../../domain/errors.ts";
import { isDirectory, isRegular, S_IFMT, S_IFSOCK } from "../../domain/inode.ts";
import type { MomentRef, ResolvedMoment } from "../../domain/moment.ts";
import { formatSharePath, type SharePath } from "../../domain/share-path.ts";
import { AMBIGUOUS_NOTE, describeMoment } from "../commands/mount-commands.ts";
import type { ExitName } from "../exit-codes.ts";
import { formatBytes, formatCount, plural } from "../output/human.ts";
import { OutputClosedError } from "../output/output.ts";
import { ProgressBar } from "../output/progress-bar.ts";
import type { Session } from "../session.ts";
import { checkedTree } from "./checked-tree.ts";

export type ExportTask = {
  /** Where the tree is read: of the service, or of a repository. */
  readonly reading: ReadingApi;
  /** A share, a directory or a file. */
  readonly source: SharePath;
  readonly at: MomentRef;
  /** Absolute path of the archive; absent: standard output. */
  readonly output?: string;
  /** Replace the archive if it is there. */
  readonly force: boolean;
};

type Totals = { files: number; directories: number; others: number };

/** So many notes of files that are not in the archive as they were are shown one by one. */
const NOTES_SHOWN_MAX = 1000;

/**
 * Writes a tree as it was at one moment as a tar archive, without holding more than a piece of it. The same moment makes the same bytes. Ends with INCOMPLETE when the archive has
 * not all of it: sockets, content that is damaged. A file appears under its name when it is whole and on the disk.
 */
export async function exportArchive(session: Session, task: ExportTask): Promise<ExitName | undefined> {
  const { output } = session;
  if (task.output === undefined && (output.isTerminal || session.environment.stdout.isTTY === true)) {
    const message = "an archive is no text for a terminal: redirect it (> FILE), or say --output FILE";
    throw new TidemarkError("INVALID_ARGUMENT", message);
  }
  const at = await task.reading.resolveMoment({ app: task.source.app, at: task.at }, session.callOptions);
  if (at.ambiguous) output.note(AMBIGUOUS_NOTE);
  const notes = new Notes(session);
  const totals: Totals = { files: 0, directories: 0, others: 0 };
  const where = { path: task.source, at: { kind: "lsn", lsn: at.lsn } as const };
  const pages = checkedTree(task.reading.exportTree({ ...where, content: true, ranges: true }, session.callOptions));
  const archive = tarBytes(counted(pages, totals), {
    rootName: rootName(task.source),
    note: (path, reason) => notes.add(path, reason),
  });
  const bytes = await written(session, task, archive);
  await showResult(session, { task, at, totals, bytes, notes });
  return notes.count > 0 ? "INCOMPLETE" : undefined;
}

/** What a single file is called: its last name. */
function rootName({ path }: SharePath): Buffer {
  return path.subarray(path.lastIndexOf(0x2f) + 1);
}

async function* counted(pages: Pages<ExportItem>, totals: Totals): AsyncGenerator<readonly ExportItem[]> {
  for await (const page of pages) {
    for (const item of page) {
      // Sockets are left out of the archive.
      if (item.kind !== "entry" || (item.attributes.mode & S_IFMT) === S_IFSOCK) continue;
      if (isDirectory(item.attributes.mode)) totals.directories += 1;
      else if (isRegular(item.attributes.mode)) totals.files += 1;
      else totals.others += 1;
    }
    yield page;
  }
}

/** Answers how many bytes the archive has. */
async function written(session: Session, task: ExportTask, archive: AsyncIterable<Buffer>): Promise<bigint> {
  const file = task.output === undefined ? undefined : new ArchiveFile(task.output, task.force);
  const bar = new ProgressBar({ output: session.output, clock: session.environment.clock });
  let bytes = 0n;
  try {
    for await (const piece of archive) {
      if (file === undefined) await session.output.write(piece);
      else file.write(piece);
      bytes += BigInt(piece.length);
      bar.update({ fraction: undefined, text: `${formatBytes(bytes)} written` });
    }
    file?.finish();
    return bytes;
  } catch (error) {
    file?.abandon();
    const isWanted = !(error instanceof OutputClosedError);
    if (file === undefined && bytes > 0n && isWanted) session.output.note("The archive is incomplete.");
    throw error;
  } finally {
    bar.clear();
  }
}

/** An archive that has its name only when it is whole. Before, it is beside it. */
class ArchiveFile {
  readonly #path: string;
  readonly #partial: string;
  readonly #fd: number;
  readonly #force: boolean;
  #open = true;

  constructor(path: string, force: boolean) {
    this.#path = path;
    this.#force = force;
    this.#partial = `${path}.partial`;
    if (!force) refuseTaken(path);
    try {
      this.#fd = openSync(this.#partial, "wx");
    } catch (error) {
      refuseFolder(path, error);
      if (!isTaken(error)) throw error;
      const message = `${this.#partial} is there: another export writes it, or one was cut off and left it; remove it then`;
      throw new TidemarkError("ALREADY_EXISTS", message, { cause: error });
    }
  }

  write(piece: Buffer): void {
    for (let done = 0; done < piece.length; ) done += writeSync(this.#fd, piece, done);
  }

  finish(): void {
    fsyncSync(this.#fd);
    closeSync(this.#fd);
    this.#open = false;
    if (!this.#force) refuseTaken(this.#path);
    renameSync(this.#partial, this.#path);
    const folder = openSync(dirname(this.#path), "r");
    try {
      fsyncSync(folder);
    } finally {
      closeSync(folder);
    }
  }

  abandon(): void {
    if (this.#open) closeSync(this.#fd);
    rmSync(this.#partial, { force: true });
  }
}

/** Throws NOT_FOUND if that was why the file can't be made. */
function refuseFolder(path: string, cause: unknown): void {
  const { code } = cause as NodeJS.ErrnoException;
  if (code !== "ENOENT" && code !== "ENOTDIR") return;
  const message = `${dirname(path)} is not a directory: expected --output to name a new file in one that exists`;
  throw new TidemarkError("NOT_FOUND", message, { cause });
}

function refuseTaken(path: string): void {
  if (lstatSync(path, { throwIfNoEntry: false }) === undefined) return;
  throw new TidemarkError(
    "ALREADY_EXISTS",
    `${path} is there already: choose another name, or say --force to replace it`,
  );
}

function isTaken(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "EEXIST";
}

/** What the archive has not as it was. */
class Notes {
  readonly listed: { readonly path: Buffer; readonly reason: string }[] = [];
  #count = 0;
  readonly #session: Session;

  constructor(session: Session) {
    this.#session = session;
  }

  get count(): number {
    return this.#count;
  }

  add(path: Buffer, reason: string): void {
    this.#count += 1;
    if (this.#count > NOTES_SHOWN_MAX) return;
    this.listed.push({ path, reason });
    if (this.#session.output.json) return;
    this.#session.output.note(`${path.length === 0 ? "." : textFromBytes(path)}: ${reason}`);
  }
}

async function showResult(
  session: Session,
  {
    task,
    at,
    totals,
    bytes,
    notes,
  }: { task: ExportTask; at: ResolvedMoment; totals: Totals; bytes: bigint; notes: Notes },
): Promise<void> {
  const { output } = session;
  if (notes.count > notes.listed.length) output.note(`... and ${formatCount(notes.count - notes.listed.length)} more`);
  if (output.json && task.output !== undefined) {
    const source = formatSharePath(task.source);
    const shortfalls = { shortfallCount: notes.count, shortfalls: notes.listed };
    await output.value({ event: "done", source, at, output: task.output, ...totals, bytes, ...shortfalls });
    return;
  }
  const names = totals.files + totals.directories + totals.others;
  const where = task.output === undefined ? "" : ` to ${task.output}`;
  // Standard output is the archive's, or of a person who wants to see nothing but what is wrong there.
  output.note(
    `Exported ${plural(names, "name")} of ${formatSharePath(task.source)} as of ${describeMoment(session, at)}${where}: ${formatBytes(bytes)}.`,
  );
}
