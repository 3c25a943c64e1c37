import {
  closeSync,
  createReadStream,
  fstatSync,
  fsyncSync,
  lstatSync,
  mkdtempSync,
  openSync,
  readdirSync,
  rmdirSync,
  statfsSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { addAbortSignal, type Readable } from "node:stream";
import { TarError } from "../../backup/tar/tar-error.ts";
import { readTar } from "../../backup/tar/tar-reader.ts";
import type { MountInfo } from "../../domain/admin-catalogue.ts";
import { TidemarkError } from "../../domain/errors.ts";
import type { Lsn, ShareId } from "../../domain/ids.ts";
import { formatSharePath, type SharePath, type ShareRef } from "../../domain/share-path.ts";
import { first } from "../commands/arguments.ts";
import type { ExitName } from "../exit-codes.ts";
import { formatBytes, formatCount, plural } from "../output/human.ts";
import { ProgressBar } from "../output/progress-bar.ts";
import type { Session } from "../session.ts";
import { ArchiveTree } from "./archive-tree.ts";
import { closeFolder, type Folder, InTheWayError, itself, namesOf, openFolder, openRoot } from "./folder-walk.ts";
import { idNames } from "./id-names.ts";
import { nativeFiles } from "./native-files.ts";
import { Shortfalls } from "./shortfalls.ts";
import { showShortfalls } from "./show-shortfalls.ts";

export type ImportTask = {
  /** A share, or a directory of one, which is made if it is absent (its parent must be there). */
  readonly target: SharePath;
  /** Absolute path of the archive; absent: standard input. */
  readonly input?: string;
  /** Also into a directory that has something in it. */
  readonly force: boolean;
};

/**
 * Unpacks an archive into a share, in this process: below a mount of the share if there is one, else through a mount of our own that is taken away again. The service itself never uses its mounts. Durable
 * when it answers. Ends with INCOMPLETE when something could not be made.
 */
export async function importArchive(session: Session, task: ImportTask): Promise<ExitName | undefined> {
  const { stdin } = session.environment;
  if (task.input === undefined && stdin.isTTY === true) {
    const message = "an archive is expected on standard input: redirect it (< FILE), or say --input FILE";
    throw new TidemarkError("INVALID_ARGUMENT", message);
  }
  const source = task.input === undefined ? stdin : openInput(task.input);
  const { reading } = await session.api();
  const root = { app: task.target.app, share: needShare(task.target), path: Buffer.alloc(0) };
  const found = await reading.resolve({ path: root, at: { kind: "now" } }, session.callOptions);
  const back = await placeToRestore(session, { target: task.target, before: found.at.lsn });
  const unpacking = { session, task, source, back };
  const mount = await findMount(session, found.shareId);
  if (mount !== undefined) return unpack({ ...unpacking, mountPoint: mount.target });
  return withMount(session, task.target, (mountPoint) => unpack({ ...unpacking, mountPoint }));
}

/** Opened before anything is done; read when it is wanted, so that failures come to the reader. */
function openInput(path: string): Readable {
  const fd = openThere(path);
  if (fstatSync(fd).isDirectory()) {
    closeSync(fd);
    throw new TidemarkError("INVALID_ARGUMENT", `${path} is a directory: expected a tar archive`);
  }
  return createReadStream(path, { fd });
}

function openThere(path: string): number {
  try {
    return openSync(path, "r");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== "ENOENT" && code !== "ENOTDIR") throw error;
    throw new TidemarkError("NOT_FOUND", `there is no file ${path}: expected a tar archive`, { cause: error });
  }
}

/** The command that takes an import back: of a directory that was not there before, its parent is what was. */
async function placeToRestore(
  session: Session,
  { target, before }: { target: SharePath; before: Lsn },
): Promise<WayBack> {
  const { reading } = await session.api();
  const at = { kind: "lsn", lsn: before } as const;
  try {
    await reading.resolve({ path: target, at }, session.callOptions);
    return { place: target, before };
  } catch (error) {
    if (!(error instanceof TidemarkError) || error.code !== "NOT_FOUND") throw error;
    const parent = target.path.subarray(0, Math.max(0, target.path.lastIndexOf(0x2f)));
    return { place: { ...target, path: parent }, before };
  }
}

/** A mount of the share as it is now, which can be written to and is seen from here. */
async function findMount(session: Session, share: ShareId): Promise<MountInfo | undefined> {
  const { mounts } = await session.api();
  return first(
    mounts.listMounts(session.callOptions),
    (each) =>
      each.share.id === share &&
      each.at === undefined &&
      !each.readOnly &&
      each.state === "active" &&
      isSeen(each.target),
  );
}

/** linux/magic.h: FUSE_SUPER_MAGIC; and the number that the root of every FUSE mount has. */
const FUSE_MAGIC = 0x65735546;
const FUSE_ROOT_INO = 1;

/** Whether a mount is what has this path in our process too: the service may be in another mount namespace (a container), where the path is another directory. */
function isSeen(target: string): boolean {
  try {
    return statfsSync(target).type === FUSE_MAGIC && lstatSync(target).ino === FUSE_ROOT_INO;
  } catch {
    return false;
  }
}

/** Does `work` with a mount of the share that nobody else sees. */
async function withMount<T>(session: Session, target: SharePath, work: (mountPoint: string) => Promise<T>): Promise<T> {
  const { mounts } = await session.api();
  // Only its owner may enter what mkdtemp makes.
  const folder = mkdtempSync(join(session.environment.variables["TMPDIR"] ?? tmpdir(), "tidemark-import-"));
  try {
    const request = { app: target.app, share: needShare(target), target: folder, at: { kind: "now" } as const };
    const options = {
      readOnly: false,
      persist: false,
      allowSuid: false,
      allowDevices: false,
      locks: "kernel",
    } as const;
    await mounts.mount({ ...request, ...options }, session.callOptions);
    try {
      if (!isSeen(folder)) {
        const message = `the service mounts the share at ${folder}, but it is not seen from here: run this where the service runs, or with its mounts`;
        throw new TidemarkError("FAILED_PRECONDITION", message);
      }
      return await work(folder);
    } finally {
      // Also after an interruption, which is what the session's own options would stop this for.
      const { actor } = session.callOptions;
      await mounts.umount({ target: folder, lazy: true }, actor === undefined ? {} : { actor });
    }
  } finally {
    rmdirSync(folder);
  }
}

function needShare({ share }: SharePath): ShareRef {
  if (share === undefined) throw new TidemarkError("INVALID_ARGUMENT", "an archive is unpacked into a share");
  return share;
}

type WayBack = {
  readonly place: SharePath;
  /** The moment before anything is written. */
  readonly before: Lsn;
};

type Unpacking = {
  readonly session: Session;
  readonly task: ImportTask;
  readonly source: Readable;
  readonly mountPoint: string;
  readonly back: WayBack;
};

async function unpack(unpacking: Unpacking): Promise<ExitName | undefined> {
  const { session, task, mountPoint, back } = unpacking;
  const root = openTarget(mountPoint, task);
  try {
    const shortfalls = new Shortfalls();
    const user = session.environment.process;
    const tree = new ArchiveTree({ native: nativeFiles(), shortfalls, user }, root);
    if (user.uid !== 0) {
      session.output.note("Without root, owners and groups are yours, and devices and some attributes can't be made.");
    }
    try {
      await read(unpacking, { tree, shortfalls });
    } catch (error) {
      const { files, directories, others, links } = tree.fileCounts;
      const made = files + directories + others + links;
      if (made > 0) {
        session.output.note(`${plural(made, "name")} had been unpacked when it ended. ${wayBack(back)}`);
      }
      throw error;
    }
    fsyncSync(root.fd);
    await showResult(session, { task, tree, shortfalls, back });
    return shortfalls.count > 0 ? "INCOMPLETE" : undefined;
  } finally {
    closeFolder(root);
  }
}

function wayBack({ place, before }: WayBack): string {
  return `To take it back: tidemark restore ${formatSharePath(place)} --at lsn:${before}`;
}

/** The directory to unpack to: reached without following a link, made if only the last name is missing, and empty unless --force was said. */
function openTarget(mountPoint: string, { target, force }: ImportTask): Folder {
  const shown = formatSharePath(target);
  let folder = openRoot(mountPoint);
  try {
    const names = namesOf(target.path);
    for (const [index, name] of names.entries()) {
      const next = openFolder(folder, name, { make: index === names.length - 1 });
      closeFolder(folder);
      folder = next;
    }
    // The views of the past are no contents.
    if (!force && readdirSync(itself(folder)).some((name) => name !== ".tidemark")) {
      const message = `${shown} has something in it: choose a directory that is empty or absent, or say --force to replace what has the same names`;
      throw new TidemarkError("ALREADY_EXISTS", message);
    }
    // From here on the names of an archive count from it.
    return { fd: folder.fd, path: Buffer.alloc(0) };
  } catch (error) {
    closeFolder(folder);
    if (error instanceof TarError || error instanceof InTheWayError)
      throw new TidemarkError("FAILED_PRECONDITION", `${shown}: ${error.message}`, { cause: error });
    if (error instanceof Error && "code" in error && error.code === "ENOENT")
      throw new TidemarkError("NOT_FOUND", `the directory of ${shown} is not there: make it first`, { cause: error });
    throw error;
  }
}

async function read(
  { session, source }: Unpacking,
  { tree, shortfalls }: { tree: ArchiveTree; shortfalls: Shortfalls },
): Promise<void> {
  const { signal } = session.callOptions;
  const bar = new ProgressBar({ output: session.output, clock: session.environment.clock });
  const note = (path: Buffer, reason: string): void => shortfalls.add({ path, part: "file", reason });
  try {
    for await (const item of readTar(addAbortSignal(signal, source), { note, lookup: idNames() })) {
      tree.accept(item);
      const { files, directories, others, links } = tree.fileCounts;
      const text = `${formatCount(files + directories + others + links)} names, ${formatBytes(tree.contentBytes)}`;
      bar.update({ fraction: undefined, text });
    }
    tree.finish();
  } catch (error) {
    tree.abandon();
    throw asArchiveError(error);
  } finally {
    bar.clear();
  }
}

function asArchiveError(error: unknown): unknown {
  if (!(error instanceof TarError)) return error;
  switch (error.code) {
    case "TAR_DAMAGED":
      return new TidemarkError("DATA_DAMAGED", error.message, { cause: error });
    case "TAR_REFUSED":
      return new TidemarkError("INVALID_ARGUMENT", `the archive is refused: ${error.message}`, { cause: error });
    case "TAR_UNSUPPORTED":
      return new TidemarkError("UNSUPPORTED", error.message, { cause: error });
  }
}

async function showResult(
  session: Session,
  { task, tree, shortfalls, back }: { task: ImportTask; tree: ArchiveTree; shortfalls: Shortfalls; back: WayBack },
): Promise<void> {
  const { output } = session;
  const { contentBytes, fileCounts } = tree;
  const target = formatSharePath(task.target);
  if (output.json) {
    const listed = { shortfallCount: shortfalls.count, shortfalls: shortfalls.listed };
    await output.value({ event: "done", target, ...fileCounts, bytes: contentBytes, before: back.before, ...listed });
    return;
  }
  const sum = fileCounts.files + fileCounts.directories + fileCounts.others + fileCounts.links;
  await output.line(`Imported ${plural(sum, "name")} and ${formatBytes(contentBytes)} into ${target}.`);
  await output.line(wayBack(back));
  showShortfalls(output, shortfalls, "unpacked");
}
