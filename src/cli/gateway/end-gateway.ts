import { existsSync } from "node:fs";
import type { Clock } from "../../base/clock.ts";
import type { Timers } from "../../base/timers.ts";
import { unmountFuse } from "../../gateway/fuse/mount.ts";
import { gatewayId, MountFiles } from "./mount-files.ts";
import { forgetMount, type MountState, readMountState } from "./mount-state.ts";
import { isAlive } from "./process-identity.ts";

/** After the kernel has unmounted, the gateway says goodbye to the service, if that is there. */
const END_MS_MAX = 10_000;
const LOOK_MS = 50;

/** The mount on `target` (as the mount table has it) whose service is elsewhere; undefined: there is none. Throws DATA_DAMAGED. */
export function findGateway(dataFolder: string, target: string): MountState | undefined {
  return readMountState(new MountFiles(dataFolder), gatewayId(target));
}

/**
 * Ends a mount: unmounts, as `unmountFuse` does and throws, and waits for its gateway to be gone. With `lazy` what is open on it can be used until it is closed, and that is not waited for. What a
 * dead gateway left is taken away.
 */
export async function endGateway(
  dataFolder: string,
  state: MountState,
  { lazy, clock, timers }: { readonly lazy: boolean; readonly clock: Clock; readonly timers: Timers },
): Promise<void> {
  const files = new MountFiles(dataFolder);
  await unmountFuse(state.mount.target, { lazy });
  const lives = (): boolean => existsSync(files.stateOf(state.id)) && state.processes.some(isAlive);
  const untilMs = clock.monotonicMs() + END_MS_MAX;
  while (!lazy && lives() && clock.monotonicMs() < untilMs) await timers.wait(LOOK_MS);
  if (!state.processes.some(isAlive)) forgetMount(files, state.id);
}
