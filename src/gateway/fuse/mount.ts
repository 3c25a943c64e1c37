import { spawn } from "node:child_process";
import { closeSync, fstatSync, writeFileSync } from "node:fs";
import { realpath, stat, statfs } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { TidemarkError } from "../../domain/errors.ts";
import type { InFlightMarks, Resume } from "./connection.ts";
import { type FuseDeviceIo, openFuseDevice } from "./device.ts";
import { type InitFlagName, type InitOptions, type NegotiatedInit, performInit } from "./init.ts";
import { FILE_SYSTEM_TYPE, type MountEntry, mountAt, mountContaining, readMountTable } from "./mount-table.ts";

export type MountOptions = {
  /** Directory to mount on. */
  readonly target: string;
  /** What the mount table shows as the source: "app/share". */
  readonly source: string;
  readonly readOnly: boolean;
  /** Let set-user-id programs, and device nodes, work. Bits and nodes are stored all the same. */
  readonly suid: boolean;
  readonly dev: boolean;
  readonly locks: "kernel" | "service";
  /** As in InitOptions. */
  readonly pages?: "explicit" | "follow-attributes";
  /** As in InitOptions. */
  readonly access?: "kernel" | "service";
  /** INIT flags not to negotiate though the kernel has them: tests what happens on older kernels. */
  readonly without?: readonly InitFlagName[];
};

/** A mount that was made and initialised. Its descriptor belongs to the caller; the mount dies with the last copy of it. */
export type Mounted = {
  readonly fd: number;
  /** The target without symbolic links, as the mount table has it. Empty for a descriptor mounted by somebody else. */
  readonly target: string;
  readonly negotiated: NegotiatedInit;
  /** Number of its connection in the kernel; -1 when unknown. */
  readonly deviceMinor: number;
  /** For the connection that serves it, when there is a supervisor: see ConnectionOptions. */
  readonly marks?: InFlightMarks;
  readonly resume?: Resume;
};

/** mount(8) and umount(8) touch only the kernel here; this long without an end means that something is stuck. */
const COMMAND_TIMEOUT_MS = 30_000;

/** A live mount answers a stat at once. */
const STAT_TIMEOUT_MS = 5_000;

/** A mount point of this form is a descriptor that somebody else has opened and mounted, and handed to this process. */
const DESCRIPTOR_PATH = /^\/dev\/fd\/(\d{1,9})$/;

/**
 * Mounts a new FUSE connection on `options.target` and answers its INIT. A mount point that a crashed process left dead is unmounted first.
 * Throws TidemarkError: PERMISSION_DENIED (not root), UNSUPPORTED (no device), NOT_FOUND or INVALID_ARGUMENT (the target), ALREADY_EXISTS (something is mounted
 * there), FAILED_PRECONDITION (inside another Tidemark mount, or mount(8) refused). Nothing is left behind then.
 */
export async function mountFuse(
  options: MountOptions,
  device: { io: FuseDeviceIo; nonBlocking: boolean },
): Promise<Mounted> {
  const adopted = DESCRIPTOR_PATH.exec(options.target)?.[1];
  if (adopted !== undefined) return adoptMountedDescriptor(Number(adopted), device.io, options);
  requireRoot(options.target, process.getuid?.());
  const target = await prepareTarget(options.target);
  const fd = openFuseDevice({ nonBlocking: device.nonBlocking });
  let mounted = false;
  try {
    await mountCommand(fd, target, options);
    mounted = true;
    const negotiated = performInit(fd, device.io, options);
    const deviceMinor = mountAt(readMountTable(), target)?.deviceMinor ?? -1;
    raiseReadahead(deviceMinor);
    return { fd, target, negotiated, deviceMinor };
  } catch (error) {
    closeSync(fd);
    if (mounted) await unmountFuse(target, { lazy: true });
    throw error;
  }
}

/** Throws PERMISSION_DENIED when a user can't mount there: mount(8) obeys root only, without a line in fstab. A descriptor that is mounted already needs no privilege. */
export function requireRoot(target: string, uid: number | undefined): void {
  if (uid === 0 || DESCRIPTOR_PATH.test(target)) return;
  throw new TidemarkError("PERMISSION_DENIED", `mounting needs root: this process is of user ${uid}`);
}

/** Takes over a descriptor that somebody else has mounted (a mount point given as /dev/fd/N) and answers its INIT. */
export function adoptMountedDescriptor(fd: number, io: FuseDeviceIo, options: InitOptions): Mounted {
  let device = false;
  try {
    device = fstatSync(fd).isCharacterDevice();
  } catch (cause) {
    throw new TidemarkError("INVALID_ARGUMENT", `/dev/fd/${fd} is not open`, { cause });
  }
  if (!device) throw new TidemarkError("INVALID_ARGUMENT", `/dev/fd/${fd} is not a FUSE descriptor`);
  return { fd, target: "", negotiated: performInit(fd, io, options), deviceMinor: -1 };
}

async function mountCommand(fd: number, target: string, options: MountOptions): Promise<void> {
  const settings = [
    `fd=3,rootmode=40000,user_id=0,group_id=0,allow_other`,
    ...(options.access === "service" ? [] : ["default_permissions"]),
    options.readOnly ? "ro" : "rw",
    options.suid ? "suid" : "nosuid",
    options.dev ? "dev" : "nodev",
  ];
  // -i: no mount.fuse helper. A source that starts with "-" would be an option.
  const args = ["-i", "-t", FILE_SYSTEM_TYPE, "-o", settings.join(","), "--", options.source, target];
  const result = await run("mount", args, fd);
  if (result.status !== 0) {
    throw new TidemarkError("FAILED_PRECONDITION", `cannot mount on "${target}": ${result.message}`);
  }
}

/**
 * Unmounts `target`. Busy (files open, a working directory inside): with `lazy` it disappears from the tree now and ends when the last user is
 * gone, without it throws FAILED_PRECONDITION. Not mounted: does nothing. The target must be as `Mounted.target` has it.
 */
export async function unmountFuse(target: string, options: { lazy: boolean }): Promise<void> {
  if (mountAt(readMountTable(), target) === undefined) return;
  const plain = await run("umount", ["-i", "-c", "--", target]);
  if (plain.status === 0) return;
  if (!options.lazy) throw new TidemarkError("FAILED_PRECONDITION", `cannot unmount "${target}": ${plain.message}`);
  const lazy = await run("umount", ["-i", "-c", "-l", "--", target]);
  if (lazy.status !== 0 && mountAt(readMountTable(), target) !== undefined) {
    throw new TidemarkError("FAILED_PRECONDITION", `cannot unmount "${target}": ${lazy.message}`);
  }
}

/**
 * Ends a connection in the kernel: everything that waits on it fails, the mount is dead. Uses the control file system where it is mounted, else
 * umount2(MNT_FORCE), which also unmounts if nobody uses the mount. The descriptor then reads ECONNABORTED or ENODEV.
 */
export async function abortMount(mount: { readonly target: string; readonly deviceMinor: number }): Promise<void> {
  try {
    writeFileSync(`/sys/fs/fuse/connections/${mount.deviceMinor}/abort`, "1");
  } catch {
    // The status says whether it was busy; aborted it is in any case.
    await run("umount", ["-i", "-c", "-f", "--", mount.target]);
  }
}

/** Read-ahead of our mounts: the kernel offers 128 KiB in INIT and takes no more there; one READ may have 1 MiB. */
const READAHEAD_KIB = 1024;

/** Sets the read-ahead of a mount. A mount whose setting can't be changed reads in smaller pieces, nothing else. */
function raiseReadahead(deviceMinor: number): void {
  try {
    writeFileSync(`/sys/class/bdi/0:${deviceMinor}/read_ahead_kb`, String(READAHEAD_KIB));
  } catch {
    // Without sysfs, or with it read-only (containers): see above.
  }
}

/** The Tidemark mounts whose server is gone (every access says ENOTCONN), of those for which `ours` holds. */
export async function findDeadMounts(ours: (entry: MountEntry) => boolean): Promise<MountEntry[]> {
  const dead: MountEntry[] = [];
  for (const entry of readMountTable()) {
    if (entry.fileSystem === FILE_SYSTEM_TYPE && ours(entry) && (await probe(entry.target)) === "dead")
      dead.push(entry);
  }
  return dead;
}

/** Resolves and checks the target; recovers a dead mount on it. */
async function prepareTarget(given: string): Promise<string> {
  const target = await resolveTarget(resolve(given));
  let table = readMountTable();
  const there = mountAt(table, target);
  if (there !== undefined && target !== "/") {
    if (there.fileSystem !== FILE_SYSTEM_TYPE || (await probe(target)) !== "dead") {
      throw new TidemarkError(
        "ALREADY_EXISTS",
        `"${target}" is a mount point already (${there.fileSystem}, ${there.source})`,
      );
    }
    await unmountFuse(target, { lazy: true });
    table = readMountTable();
  }
  const around = mountContaining(table, target);
  if (around?.fileSystem === FILE_SYSTEM_TYPE) {
    throw new TidemarkError(
      "FAILED_PRECONDITION",
      `"${target}" lies inside the Tidemark mount "${around.target}": mount outside of it`,
    );
  }
  const attributes = await stat(target);
  if (!attributes.isDirectory())
    throw new TidemarkError("INVALID_ARGUMENT", `mount point "${target}" is not a directory`);
  return target;
}

/** The path without symbolic links. The last component may be a dead mount point, which cannot be looked at. */
async function resolveTarget(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === "ENOTCONN" && path !== "/") return join(await realpath(dirname(path)), basename(path));
    if (code === "ENOENT")
      throw new TidemarkError("NOT_FOUND", `mount point "${path}" does not exist: create the directory first`, {
        cause: error,
      });
    if (code === "ENOTDIR")
      throw new TidemarkError("INVALID_ARGUMENT", `mount point "${path}" is not a directory`, { cause: error });
    throw new TidemarkError("FAILED_PRECONDITION", `mount point "${path}": ${code ?? String(error)}`, { cause: error });
  }
}

/** Whether the server of the mount at `target` is there. A server that hangs counts as alive. */
async function probe(target: string): Promise<"alive" | "dead"> {
  const timeout = new Promise<"alive">((done) => {
    AbortSignal.timeout(STAT_TIMEOUT_MS).addEventListener("abort", () => done("alive"), { once: true });
  });
  // Not stat: a kernel answers that from what it has cached, also for a server that is gone.
  const look = statfs(target).then(
    (): "alive" => "alive",
    (error: NodeJS.ErrnoException): "alive" | "dead" =>
      error.code === "ENOTCONN" || error.code === "ECONNABORTED" ? "dead" : "alive",
  );
  return await Promise.race([look, timeout]);
}

/** Runs a command, with `fd` as its descriptor 3. Throws UNSUPPORTED when there is no such command. */
async function run(
  command: string,
  args: readonly string[],
  fd?: number,
): Promise<{ status: number | null; message: string }> {
  return await new Promise((done, failed) => {
    const child = spawn(command, args, {
      stdio: ["ignore", "ignore", "pipe", ...(fd === undefined ? [] : [fd])],
      timeout: COMMAND_TIMEOUT_MS,
      killSignal: "SIGKILL",
    });
    let message = "";
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      message = (message + text).slice(0, 4096);
    });
    child.once("error", (cause) =>
      failed(new TidemarkError("UNSUPPORTED", `cannot run ${command}(8): ${cause.message}`, { cause })),
    );
    child.once("close", (status) =>
      done({ status, message: message.trim() || `${command} ended with status ${status}` }),
    );
  });
}
