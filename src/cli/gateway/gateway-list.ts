import type { Timers } from "../../base/timers.ts";
import { LIVE, type Lsn } from "../../domain/ids.ts";
import { FILE_SYSTEM_TYPE, mountAt, readMountTable } from "../../gateway/fuse/mount-table.ts";
import { askStatus, type GatewayStatus } from "./gateway-status.ts";
import { MountFiles } from "./mount-files.ts";
import { listMountStates, type MountState } from "./mount-state.ts";
import { isAlive } from "./process-identity.ts";

/**
 * How a mount of this machine is whose service is elsewhere. connected, reconnecting, refused: as its session. starting: it is being made, or its process is being replaced. stopping: unmounted, and
 * used until the last file on it is closed. down: its processes are gone (a crash of both, a restart of the machine): mount it again, or umount it.
 */
export type RemoteMountState = "connected" | "reconnecting" | "refused" | "starting" | "stopping" | "down";

export type RemoteMountInfo = {
  /** As it was typed. */
  readonly share: string;
  readonly target: string;
  /** HOST:PORT. */
  readonly service: string;
  readonly at?: Lsn;
  readonly readOnly: boolean;
  readonly locks: "kernel" | "shared";
  /** "hard", or after how many milliseconds without the service calls fail. */
  readonly patience: "hard" | { readonly softMs: number };
  readonly state: RemoteMountState;
  /** Seconds since 1970. */
  readonly stateSinceSec: number;
  readonly reason?: string;
  readonly cache?: NonNullable<GatewayStatus["cache"]>;
  readonly restartCount?: number;
  readonly log: string;
};

/** The mounts of this machine whose services are elsewhere, by directory. Touches none of them: they may hang. Damaged state files are told to `onDamaged`. */
export async function listGateways(
  dataFolder: string,
  { timers, onDamaged }: { readonly timers: Timers; readonly onDamaged: (error: Error) => void },
): Promise<RemoteMountInfo[]> {
  const files = new MountFiles(dataFolder);
  const table = readMountTable();
  const states = listMountStates(files, onDamaged);
  return await Promise.all(
    states.map(async (state) => {
      const status = await askStatus(files.socketOf(state.id), timers);
      const isMounted = mountAt(table, state.mount.target)?.fileSystem === FILE_SYSTEM_TYPE;
      return describe(state, { status, isMounted, log: files.logOf(state.id) });
    }),
  );
}

type Seen = { readonly status: GatewayStatus | undefined; readonly isMounted: boolean; readonly log: string };

function describe(
  { mount, session, sinceSec, processes }: MountState,
  { status, isMounted, log }: Seen,
): RemoteMountInfo {
  const { shareText, target, service, patience } = mount;
  const at = session === undefined || session.at === LIVE ? undefined : session.at;
  const how = {
    share: shareText,
    target,
    service,
    ...(at === undefined ? {} : { at }),
    readOnly: session?.readOnly ?? mount.readOnly,
    locks: session?.locks ?? mount.locks,
    patience: patience.kind === "hard" ? "hard" : { softMs: patience.timeoutMs },
    log,
  } as const;
  if (status === undefined) {
    const state = processes.some(isAlive) ? "starting" : "down";
    return { ...how, state, stateSinceSec: sinceSec };
  }
  const { session: said, cache, restartCount } = status;
  return {
    ...how,
    state: isMounted ? said.kind : "stopping",
    stateSinceSec: said.sinceSec,
    ...(said.kind === "refused" ? { reason: said.reason } : {}),
    ...(cache === undefined ? {} : { cache }),
    restartCount,
  };
}
