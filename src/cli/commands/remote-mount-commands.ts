import { realpathSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { SystemTimers } from "../../base/timers.ts";
import { TidemarkError } from "../../domain/errors.ts";
import { requireRoot } from "../../gateway/fuse/mount.ts";
import { mountAt, readMountTable } from "../../gateway/fuse/mount-table.ts";
import type { Patience } from "../../rpc/session/session-client.ts";
import { isLoopback, parseNetworkAddress } from "../../rpc/tls/network-address.ts";
import { NodeFolder } from "../../rpc/tls/node-folder.ts";
import { EXIT_CODES, type ExitName } from "../exit-codes.ts";
import { endGateway, findGateway } from "../gateway/end-gateway.ts";
import { listGateways, type RemoteMountInfo } from "../gateway/gateway-list.ts";
import { MountFiles } from "../gateway/mount-files.ts";
import type { GatewayMount, GatewayTls } from "../gateway/mount-state.ts";
import { prepareGateway, startGateway } from "../gateway/start-gateway.ts";
import { formatBytes } from "../output/human.ts";
import type { Session } from "../session.ts";
import { readTokenFile } from "../token-file.ts";
import { parseBytes, parseShare, parseSpan } from "./arguments.ts";
import { type TlsOptions, tlsFiles } from "./tls-options.ts";

/** Options of `tidemark mount` for a share whose service is elsewhere. */
export type RemoteMountOptions = TlsOptions & {
  readonly service?: string;
  readonly tokenFile?: string;
  readonly hard?: boolean;
  readonly soft?: string;
  readonly cacheBytes?: string;
  readonly foreground?: boolean;
  readonly plaintext?: boolean;
};

/** What both kinds of mount have. */
export type RemoteMountTask = {
  readonly share: string;
  readonly directory: string;
  readonly options: RemoteMountOptions & {
    readonly at?: string;
    readonly readOnly?: boolean;
    readonly suid?: boolean;
    readonly dev?: boolean;
  };
  readonly locks: "kernel" | "shared";
};

/** Without --cache-bytes. */
const CACHE_BYTES = 1024n ** 3n;
/** Smaller ones keep too little to be worth the questions (CACHE_BYTES_MIN of src/gateway/cache/read-cache.ts). */
const CACHE_BYTES_LEAST = 16n * 1024n * 1024n;

/** A soft mount gives up after so long: not within a moment's trouble of the network, and not later than anybody would wait. */
const SOFT_MS = { leastMs: 1_000, mostMs: 3_600_000 };

/** `mount --service`: starts a gateway of this machine's own, in the background unless told otherwise. Answers how the process ends. */
export async function mountRemote(session: Session, task: RemoteMountTask): Promise<ExitName | undefined> {
  const { environment, output } = session;
  const mount = parseTask(session, task);
  requireRoot(mount.target, environment.process.uid);
  await readTokenFile(session, mount.tokenFile);
  const start = {
    dataFolder: session.dataFolder,
    mount,
    nowSec: environment.clock.now().sec,
    pid: environment.process.pid,
    logLevel: "info" as const,
  };
  if (task.options.foreground === true) {
    const id = await prepareGateway(start);
    const code = await environment.runGateway({
      dataFolder: start.dataFolder,
      id,
      logLevel: "info",
      tellsStart: false,
    });
    return exitName(code);
  }
  const { variables, signal } = environment;
  const { id, logFile, report } = await startGateway(start, { variables, signal });
  const how = [...(report.readOnly ? ["read-only"] : []), mount.patience.kind];
  const made = {
    id,
    share: mount.shareText,
    target: mount.target,
    service: mount.service,
    readOnly: report.readOnly,
    log: logFile,
  };
  await output.done(
    made,
    `Mounted ${mount.shareText} of ${mount.service} at ${mount.target}, ${how.join(", ")}. Its log: ${logFile}`,
  );
  return undefined;
}

function parseTask(session: Session, { share, directory, options, locks }: RemoteMountTask): GatewayMount {
  const { service, tokenFile, cacheBytes } = options;
  if (service === undefined)
    throw new TidemarkError("INVALID_ARGUMENT", "which service? expected: --service HOST:PORT");
  if (tokenFile === undefined)
    throw new TidemarkError(
      "INVALID_ARGUMENT",
      "a service elsewhere wants a token: expected --token-file FILE, with what `tidemark token create` printed there",
    );
  if (tokenFile === "-")
    throw new TidemarkError(
      "INVALID_ARGUMENT",
      "--token-file must be a file: it is read again, as long as the mount lives",
    );
  const at = session.moment(options.at);
  return {
    service,
    tls: tlsOf(session, service, options),
    tokenFile: session.machinePath(tokenFile),
    shareText: share,
    ...parseShare(share),
    target: mountPoint(session.machinePath(directory)),
    at,
    readOnly: options.readOnly === true || at.kind !== "now",
    suid: options.suid === true,
    dev: options.dev === true,
    locks,
    patience: patienceOf(options),
    cacheBytes: Number(cacheBytes === undefined ? CACHE_BYTES : parseCacheBytes(cacheBytes)),
  };
}

function tlsOf(session: Session, service: string, options: RemoteMountOptions): GatewayTls {
  const { host } = parseNetworkAddress("--service", service);
  const files = tlsFiles(options, (file) => session.machinePath(file));
  if (files !== undefined) return { kind: "files", ...files };
  const { nodeFolder } = new MountFiles(session.dataFolder);
  const folder = new NodeFolder(nodeFolder);
  if (options.plaintext === true || (isLoopback(host) && !folder.hasJoined)) return { kind: "plaintext" };
  folder.checkJoined();
  return { kind: "node", nodeFolder };
}

function patienceOf({ hard, soft }: RemoteMountOptions): Patience {
  if (soft === undefined) return { kind: "hard" };
  if (hard === true) throw new TidemarkError("INVALID_ARGUMENT", "a mount is either --hard or --soft");
  return { kind: "soft", timeoutMs: parseSpan("--soft", soft, SOFT_MS) };
}

function parseCacheBytes(text: string): bigint {
  const bytes = parseBytes("--cache-bytes", text);
  if (bytes === 0n || (bytes >= CACHE_BYTES_LEAST && bytes <= BigInt(Number.MAX_SAFE_INTEGER))) return bytes;
  throw new TidemarkError("INVALID_ARGUMENT", `--cache-bytes "${text}": expected 16m or more, or 0 for none`);
}

/** A directory without symbolic links, as the mount table has it. One that is a mount already is not looked at: its service may be away. */
export function mountPoint(path: string): string {
  const direct = join(real(dirname(path)), basename(path));
  return mountAt(readMountTable(), direct) === undefined ? real(direct) : direct;
}

function real(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

function exitName(code: number): ExitName {
  const found = Object.entries(EXIT_CODES).find(([, exit]) => exit.code === code);
  return (found?.[0] ?? "FAILURE") as ExitName;
}

/** The mounts of this machine whose services are elsewhere. */
export async function remoteMounts(session: Session): Promise<RemoteMountInfo[]> {
  const onDamaged = (error: Error): void => session.output.note(`note: ${error.message}`);
  return await listGateways(session.dataFolder, { timers: new SystemTimers(), onDamaged });
}

/** Ends the mount on `directory` if its service is elsewhere; undefined when it is none. Throws as `unmountFuse`. */
export async function umountRemote(
  session: Session,
  { target: given, lazy }: { readonly target: string; readonly lazy: boolean },
): Promise<{ readonly share: string; readonly target: string } | undefined> {
  const target = mountPoint(given);
  const state = findGateway(session.dataFolder, target);
  if (state === undefined) return undefined;
  await endGateway(session.dataFolder, state, { lazy, clock: session.environment.clock, timers: new SystemTimers() });
  return { share: state.mount.shareText, target };
}

/** How a mount's connection is, for a table. */
export function remoteState(session: Session, { state, stateSinceSec }: RemoteMountInfo): string {
  return state === "connected" || state === "down" || state === "starting"
    ? state
    : `${state} since ${session.time({ sec: stateSinceSec, nsec: 0 }).slice(0, 19)}`;
}

/** Its options as the other mounts' are shown. */
export function remoteOptions({ readOnly, locks, patience }: RemoteMountInfo): string {
  const soft = patience === "hard" ? "hard" : `soft=${patience.softMs / 1000}s`;
  return [readOnly ? "ro" : "rw", soft, ...(locks === "shared" ? ["locks=shared"] : [])].join(",");
}

/** How full its read cache is, and what part of larger reads it has answered. */
export function remoteCache({ cache }: RemoteMountInfo): string {
  if (cache === undefined) return "";
  const asked = cache.hitBytes + cache.missBytes;
  const hits = asked === 0 ? "" : `, ${Math.round((100 * cache.hitBytes) / asked)} % hits`;
  return `${formatBytes(cache.bytes)} of ${formatBytes(cache.bytesMax)}${hits}`;
}
