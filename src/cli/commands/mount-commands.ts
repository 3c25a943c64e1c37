import { existsSync, realpathSync } from "node:fs";
import { join } from "node:path";
import type { Command } from "commander";
import type { LocksOption, MountInfo } from "../../domain/admin-catalogue.ts";
import { TidemarkError } from "../../domain/errors.ts";
import type { RemoteMountInfo } from "../gateway/gateway-list.ts";
import { body, type CommandContext } from "../leaf.ts";
import type { Column, Style } from "../output/output.ts";
import type { Session } from "../session.ts";
import { readTokenFile } from "../token-file.ts";
import { needed, parseShare } from "./arguments.ts";
import type { RemoteMountOptions } from "./remote-mount-commands.ts";
import { sharePath } from "./share-commands.ts";

type MountOptions = RemoteMountOptions & {
  readonly at?: string;
  readonly readOnly?: boolean;
  readonly persist?: boolean;
  readonly suid?: boolean;
  readonly dev?: boolean;
  readonly locks?: string;
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
      .option("--dev", "let device nodes work there")
      .option("--locks <who>", "who keeps file locks: kernel, for this mount alone; shared, for all mounts with it")
      .option("--service <host:port>", "the share is of a service elsewhere; all that follows is for this")
      .option("--token-file <file>", "what allows it, from `token create`; read again when it is replaced")
      .option("--hard", "calls wait for the service as long as it takes (the default)")
      .option("--soft <span>", "calls fail when the service was away for so long, as 30s")
      .option(
        "--cache-bytes <size>",
        "what was read is kept on this machine's disk, up to so much; 0: not (default: 1g)",
      )
      .option("--foreground", "serve in this process, until Ctrl-C or umount")
      .option("--plaintext", "without TLS: at 127.0.0.1 or [::1] only")
      .option("--tls-cert <file>", "this machine's certificate, in place of the one it has from `node join`")
      .option("--tls-key <file>", "its key")
      .option("--tls-ca <file>", "the authority of the service's certificate"),
    context,
    async (session, [share, directory], options) => {
      if (share === undefined) return listMounts(session);
      if (directory === undefined)
        throw new TidemarkError("INVALID_ARGUMENT", "where to? expected: tidemark mount APP/SHARE DIRECTORY");
      if (options.service === undefined) return mount(session, { share, directory, options });
      refuseLocalOptions(options);
      const { mountRemote } = await import("./remote-mount-commands.ts");
      return mountRemote(session, { share, directory, options, locks: parseLocks(options.locks) });
    },
  );
  body<{ lazy?: boolean }>(
    program
      .command("umount <directory>")
      .description("end a mount, and that it is mounted again at the next start; NODE:/DIRECTORY: one of another node")
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
  const given = needed(directory);
  // As `mount` lists those of other nodes: "web1:/srv/uploads".
  const target = /^[^/]+:\//.test(given) ? given : session.machinePath(given);
  const request = { target, lazy: options.lazy === true };
  try {
    const remote = await import("./remote-mount-commands.ts");
    const elsewhere = await remote.umountRemote(session, request);
    if (elsewhere !== undefined) {
      const open = request.lazy ? " What is open on it can be used until it is closed." : "";
      await session.output.done(elsewhere, `Unmounted ${elsewhere.share} from ${elsewhere.target}.${open}`);
      return undefined;
    }
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
    locks: parseLocks(options.locks),
    ...(options.tokenFile === undefined ? {} : { token: await readTokenFile(session, options.tokenFile) }),
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

/** Nobody mounts it again by itself: there is no service on this machine that would. */
function refuseLocalOptions({ persist }: MountOptions): void {
  if (persist === true)
    throw new TidemarkError("INVALID_ARGUMENT", "--persist is for a share of this machine's own service");
}

function parseLocks(text = "kernel"): LocksOption {
  if (text === "kernel" || text === "shared") return text;
  throw new TidemarkError("INVALID_ARGUMENT", `"--locks ${text}" is unknown: expected kernel or shared`);
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
    {
      title: "MOUNT",
      human: (each) => (each.node === undefined ? each.target : `${each.node}:${each.target}`),
      style: () => "bold",
    },
    { title: "SHARE", human: (each) => sharePath(each.share) },
    { title: "STATE", human: (each) => each.state, style: stateStyle },
    {
      title: "OPTIONS",
      human: (each) => {
        const locks = each.locks === "shared" ? ["locks=shared"] : [];
        const token = each.tokenId === undefined ? [] : [`token=${each.tokenId.slice(0, 8)}`];
        return [each.readOnly ? "ro" : "rw", ...(each.persist ? ["persist"] : []), ...locks, ...token].join(",");
      },
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

/** A mount of this machine, whosever service it is of. */
type Listed = { readonly local: MountInfo } | { readonly remote: RemoteMountInfo };

async function listMounts(session: Session): Promise<undefined> {
  const remote = await import("./remote-mount-commands.ts");
  const elsewhere = await remote.remoteMounts(session);
  const local = mountColumns(session);
  const both = local.map(
    ({ title, human, plain, style }, index): Column<Listed> => ({
      title,
      human: (each) => ("local" in each ? human(each.local) : (remoteCells(each.remote)[index] ?? "")),
      plain: (each) => ("local" in each ? (plain ?? human)(each.local) : (remoteCells(each.remote)[index] ?? "")),
      style: (each) => ("local" in each ? style?.(each.local) : remoteStyle(each.remote, title)),
    }),
  );
  const remoteCells = (each: RemoteMountInfo): readonly string[] => {
    const at = each.at === undefined ? "" : `lsn:${each.at}`;
    return [
      each.target,
      each.share,
      remote.remoteState(session, each),
      remote.remoteOptions(each),
      at,
      each.reason ?? "",
    ];
  };
  const more: readonly Column<Listed>[] = [
    { title: "SERVICE", human: (each) => ("remote" in each ? each.remote.service : "") },
    { title: "CACHE", human: (each) => ("remote" in each ? remote.remoteCache(each.remote) : "") },
  ];
  // The message is last, as it may be long.
  const columns = elsewhere.length === 0 ? both : [...both.slice(0, -1), ...more, ...both.slice(-1)];
  await session.output.list(columns, allMounts(session, elsewhere), {
    empty: "Nothing is mounted. Mount a share: tidemark mount APP/SHARE DIRECTORY",
    json: (each) => ("local" in each ? each.local : each.remote),
  });
  return undefined;
}

/** This machine's service need not run where there are mounts of others. */
async function* allMounts(session: Session, elsewhere: readonly RemoteMountInfo[]): AsyncGenerator<readonly Listed[]> {
  if (elsewhere.length > 0) yield elsewhere.map((remote) => ({ remote }));
  try {
    for await (const page of (await session.api()).mounts.listMounts(session.callOptions))
      yield page.map((local) => ({ local }));
  } catch (error) {
    // A node without a service has mounts of other services, or none.
    const isNode = elsewhere.length > 0 || existsSync(join(session.dataFolder, "node"));
    if (!isNode || !(error instanceof TidemarkError) || error.code !== "UNAVAILABLE") throw error;
  }
}

function remoteStyle({ state }: RemoteMountInfo, title: string): Style | undefined {
  if (title === "MOUNT") return "bold";
  if (title !== "STATE") return undefined;
  if (state === "connected") return "green";
  return state === "down" || state === "refused" ? "red" : "yellow";
}
