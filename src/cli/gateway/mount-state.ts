import { readdirSync, readFileSync, rmSync } from "node:fs";
import { writeWhole } from "../../base/durable-file.ts";
import { TidemarkError } from "../../domain/errors.ts";
import type { MomentRef } from "../../domain/moment.ts";
import type { SessionGrant } from "../../domain/session-api.ts";
import type { AppRef, ShareRef } from "../../domain/share-path.ts";
import type { Patience } from "../../rpc/session/session-client.ts";
import type { GatewayId, MountFiles } from "./mount-files.ts";
import type { ProcessIdentity } from "./process-identity.ts";

/** How the gateway proves which machine it is. */
export type GatewayTls =
  | { readonly kind: "plaintext" }
  | { readonly kind: "node"; readonly nodeFolder: string }
  | { readonly kind: "files"; readonly certFile: string; readonly keyFile: string; readonly caFile: string };

/** What somebody wants mounted. Never a token: only where it is. */
export type GatewayMount = {
  /** HOST:PORT. */
  readonly service: string;
  readonly tls: GatewayTls;
  readonly tokenFile: string;
  /** As it was typed. */
  readonly shareText: string;
  readonly app: AppRef;
  readonly share: ShareRef;
  /** Absolute, without symbolic links. */
  readonly target: string;
  readonly at: MomentRef;
  readonly readOnly: boolean;
  readonly suid: boolean;
  readonly dev: boolean;
  readonly locks: "kernel" | "shared";
  readonly patience: Patience;
  /** 0: none. */
  readonly cacheBytes: number;
};

/** What the service granted, as far as a process that goes on with it needs to know before it has reached the service. */
export type KeptGrant = Pick<
  SessionGrant,
  | "id"
  | "mountId"
  | "appId"
  | "shareId"
  | "source"
  | "root"
  | "at"
  | "readOnly"
  | "views"
  | "locks"
  | "leaseMs"
  | "checksAccess"
  | "viewSlots"
> & { /** How the kernel was mounted: whether it asks for opens. */ readonly asksOpens: boolean };

/** What outlives the processes of a gateway, so that the next goes on: a file of its own, 0600. `session` names a session, which without the token is of no use. */
export type MountState = {
  readonly version: 1;
  readonly id: GatewayId;
  readonly mount: GatewayMount;
  /** Seconds since 1970. */
  readonly sinceSec: number;
  /** Who serves it and keeps it mounted; before that, who makes it. While one of them lives, it is theirs. */
  readonly processes: readonly ProcessIdentity[];
  readonly session?: KeptGrant;
};

/** Keeps `state`: durable when this resolves. */
export async function writeMountState(files: MountFiles, state: MountState): Promise<void> {
  await writeWhole(files.stateOf(state.id), `${JSON.stringify(state, null, 1)}\n`);
}

/** The state of one mount; undefined when there is none. Throws DATA_DAMAGED for a file that is none of ours. */
export function readMountState(files: MountFiles, id: GatewayId): MountState | undefined {
  const path = files.stateOf(id);
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
  const state = parse(text);
  if (state !== undefined && state.version === 1 && state.id === id && typeof state.mount?.target === "string")
    return state;
  throw new TidemarkError(
    "DATA_DAMAGED",
    `${path} is damaged or of another version: unmount what it stands for, then delete it`,
  );
}

/** The states of all mounts that are kept, by their directory. Damaged ones are told to `onDamaged`. */
export function listMountStates(files: MountFiles, onDamaged: (error: Error) => void): MountState[] {
  let names: string[];
  try {
    names = readdirSync(files.folder);
  } catch (error) {
    // The data folder of a service is for root, and most have no remote mounts.
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "EACCES") return [];
    throw error;
  }
  const states: MountState[] = [];
  for (const name of names) {
    if (!name.endsWith(".json")) continue;
    try {
      const state = readMountState(files, name.slice(0, -5) as GatewayId);
      if (state !== undefined) states.push(state);
    } catch (error) {
      onDamaged(error as Error);
    }
  }
  return states.sort((left, right) => (left.mount.target < right.mount.target ? -1 : 1));
}

/** The mount is over: nothing of it stays but its log. */
export function forgetMount(files: MountFiles, id: GatewayId): void {
  rmSync(files.cacheOf(id), { recursive: true, force: true });
  rmSync(files.socketOf(id), { force: true });
  // Last: as long as it is there, the rest is found.
  rmSync(files.stateOf(id), { force: true });
}

/** What is kept of a grant. */
export function keptGrant(grant: SessionGrant, { asksOpens }: { readonly asksOpens: boolean }): KeptGrant {
  const { id, mountId, appId, shareId, source, root, at, readOnly, views, locks, leaseMs, viewSlots } = grant;
  const kept = { id, mountId, appId, shareId, source, root, at, readOnly, views, locks, leaseMs, viewSlots, asksOpens };
  return grant.checksAccess === undefined ? kept : { ...kept, checksAccess: grant.checksAccess };
}

function parse(text: string): MountState | undefined {
  try {
    return JSON.parse(text) as MountState;
  } catch {
    return undefined;
  }
}
