import type { MountId } from "../../src/domain/ids.ts";
import type { RequestContext } from "../../src/domain/metadata-api.ts";

/** Makes `Harness.context` for a mount: numbers go on in one sequence, so keep the factory over `reopen`, as the kernel does. */
export function contextFactory(mountId: MountId): (overrides?: Partial<RequestContext>) => RequestContext {
  let unique = 0;
  return (overrides = {}) => {
    // The kernel counts its requests in steps of two: the lowest bit marks interrupts.
    unique += 2;
    return { actor: { mountId, uid: 0, gid: 0, pid: 1, label: "" }, unique, resent: false, ...overrides };
  };
}
