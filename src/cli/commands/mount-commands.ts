import { realpathSync } from "node:fs";
import type { Command } from "commander";
import type { MountInfo } from "../../domain/admin-catalogue.ts";
import { TidemarkError } from "../../domain/errors.ts";
import { body, type CommandContext } from "../leaf.ts";
import type { Column, Style } from "../output/output.ts";
import type { Session } from "../session.ts";
import { needed, parseShare } from "./arguments.ts";
import { sharePath } from "./share-commands.ts";

type MountOptions = {
  readonly at?: string;
  readonly readOnly?: boolean;
  readonly persist?: boolean;
  readonly suid?: boolean;
  readonly dev?: boolean;
};

/** tidemark mount and umount. */
export function addMountCommands(program: Command, context: CommandContext): void {
  body<MountOptions>(
    program
      .command("mount [app/share] [directory]")
      .description("mount a share, or with --at a view of it; without arguments: list mounts")
      .option("--at <moment>", "a view as of then, read-only")
      .option("--read-only", "allow no changes through this mount")
      .option("--persist", "mount it again whenever the service starts")
      .option("--suid", "let set-user-id bits work there")
      .option("--dev", "let device nodes work there"),
    context,
    async (session, [share, directory], options) => {
      if (share === undefined) return listMounts(session);
      if (directory === undefined)
        throw new TidemarkError("INVALID_ARGUMENT", "where to? expected: tidemark mount APP/SHARE DIRECTORY");
      return mount(session, { share, directory, options });
    },
  );
  body<{ lazy?: boolean }>(
    program
      .command("umount <directory>")
      .description("end a mount, and that it is mounted again at the next start")
      .option("--lazy", "even while files are open on it: they can be used until they are closed"),
    context,
    umount,
  );
}

async function umount(
  session: Session,
  [directory]: readonly string[],
  options: { lazy?: boolean },
): Promise<undefined> {
  const request = { target: session.machinePath(needed(directory)), lazy: options.lazy === true };
  try {
    const ended = await end(session, request);
    const open = request.lazy ? " What is open on it can be used until it is closed." : "";
    await session.output.done(ended, `Unmounted ${sharePath(ended.share)} from ${ended.target}.${open}`);
    return undefined;
  } catch (error) {
    if (error instanceof TidemarkError && /is busy/.test(error.message))
      session.output.note(`note: "fuser -vm ${request.target}" shows who uses it; --lazy unmounts it all the same`);
    throw error;
  }
}

/** The real path is asked for only when the path as given is not known: looking at a mount that nobody serves would wait. */
async function end(session: Session, request: { target: string; lazy: boolean }): Promise<MountInfo> {
  const { mounts } = await session.api();
  try {
    return await mounts.umount(request, session.callOptions);
  } catch (error) {
    const target = realPath(request.target);
    if (!(error instanceof TidemarkError) || error.code !== "NOT_FOUND" || target === request.target) throw error;
    return mounts.umount({ ...request, target }, session.callOptions);
  }
}

/** Without symbolic links, as the kernel lists mounts; as it is when it can't be looked at. */
function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

async function mount(
  session: Session,
  { share, directory, options }: { share: string; directory: string; options: MountOptions },
): Promise<undefined> {
  const at = session.moment(options.at);
  const request = {
    ...parseShare(share),
    target: realPath(session.machinePath(directory)),
    at,
    readOnly: options.readOnly === true || at.kind !== "now",
    persist: options.persist === true,
    allowSuid: options.suid === true,
    allowDevices: options.dev === true,
  };
  const made = await (await session.api()).mounts.mount(request, session.callOptions);
  if (made.at?.ambiguous === true) session.output.note(AMBIGUOUS_NOTE);
  const how =
    made.at === undefined
      ? made.readOnly
        ? ", read-only"
        : ""
      : ` as of ${describeMoment(session, made.at)}, read-only`;
  await session.output.done(made, `Mounted ${sharePath(made.share)} at ${made.target}${how}.`);
  return undefined;
}

/** Said when a time meant two places in the journal. */
export const AMBIGUOUS_NOTE = "note: the clock stood at that time more than once; the latest time it did was taken";

/** A resolved moment for people: its time and LSN. */
export function describeMoment(session: Session, at: { lsn: number; time?: { sec: number; nsec: number } }): string {
  return at.time === undefined ? `lsn:${at.lsn} (before the first change)` : `${session.time(at.time)} (lsn:${at.lsn})`;
}

/** The columns of a list of mounts, which `status` shows too. */
export function mountColumns(session: Session): Column<MountInfo>[] {
  return [
    { title: "MOUNT", human: (each) => each.target, style: () => "bold" },
    { title: "SHARE", human: (each) => sharePath(each.share) },
    { title: "STATE", human: (each) => each.state, style: stateStyle },
    {
      title: "OPTIONS",
      human: (each) => [each.readOnly ? "ro" : "rw", ...(each.persist ? ["persist"] : [])].join(","),
    },
    {
      title: "AS OF",
      human: ({ at }) => (at === undefined ? "" : describeMoment(session, at)),
      plain: ({ at }) => (at === undefined ? "" : `lsn:${at.lsn}`),
    },
    { title: "", human: (each) => each.message ?? "" },
  ];
}

function stateStyle({ state }: MountInfo): Style {
  if (state === "active") return "green";
  return state === "down" ? "red" : "yellow";
}

async function listMounts(session: Session): Promise<undefined> {
  const pages = (await session.api()).mounts.listMounts(session.callOptions);
  await session.output.list(mountColumns(session), pages, {
    empty: "Nothing is mounted. Mount a share: tidemark mount APP/SHARE DIRECTORY",
  });
  return undefined;
}
