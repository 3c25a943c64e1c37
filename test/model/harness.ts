import type { Clock } from "../../src/base/clock.ts";
import type { InodeId, Lsn, MountId } from "../../src/domain/ids.ts";
import type { MetadataApi, RequestContext } from "../../src/domain/metadata-api.ts";

/**
 * One opened metadata engine (or model) with one share, as the model test and the contract suite drive it.
 * Everything is of one app: LSNs count its records, and between requests nothing else adds any.
 */
export type Harness = {
  readonly api: MetadataApi;
  /** Root directory of the share; exists, empty, before the first request. Its number stays the same over `reopen`. */
  readonly root: InodeId;
  /**
   * The context of a new request through the harness's first mount: `actor.mountId` > 0, uid 0, gid 0, a `unique` not used before, `resent`
   * false; then `overrides`. The suites override `unique`, `resent`, and `actor` (uid, gid, and mount ids of `attachMount`).
   */
  context(overrides?: Partial<RequestContext>): RequestContext;
  /** Attaches one more mount of the share and answers its id. */
  attachMount(): MountId;
  /** LSN of the last record appended. */
  lastLsn(): Lsn;
  /** Resolves when background work has caught up (rows applied to the KV) and every cache that can be dropped is. */
  settle(): Promise<void>;
  /** Whether a past moment can still be read, after `settle` or `reopen`. Absent: all can. */
  isReadable?(lsn: Lsn): boolean;
  /**
   * Ends like `kill -9` (nothing flushed or closed in order, though memory and files are freed) and opens the same data again, with the
   * same clock and with the mounts that were attached (resumed: their kernels go on). This harness is not used afterwards.
   */
  reopen(): Promise<Harness>;
  /** Closes the engine in order and removes its data. */
  close(): Promise<void>;
};

/** Opens an empty share with one mount attached. `clock` is the engine's only source of time. */
export type OpenHarness = (options: { readonly clock: Clock }) => Promise<Harness>;
