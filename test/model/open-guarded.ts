import type { AppId, MountId, ShareId } from "../../src/domain/ids.ts";
import type { MetadataApi, ReplyOf, Request, RequestContext } from "../../src/domain/metadata-api.ts";
import { TOKEN_OP_NAMES, type TokenId } from "../../src/domain/token.ts";
import { Engine } from "../../src/meta/engine.ts";
import { TokenGuard } from "../../src/meta/tokens/guard.ts";
import { TokenGrant } from "../../src/meta/tokens/token-grant.ts";
import type { Harness, OpenHarness } from "./harness.ts";
import { openEngine } from "./open-engine.ts";

const IDS = { id: "ab".repeat(16) as TokenId, appId: "01".repeat(16) as AppId, shareId: "02".repeat(16) as ShareId };

/** The engine behind a token that allows everything on the whole share: nobody should notice. Each mount has its own guard, as each session has. */
export const openGuarded: OpenHarness = async (options) => {
  if (openEngine === undefined) throw new Error("no engine");
  return guarded(await openEngine(options), options.clock);
};

function guarded(inner: Harness, clock: Parameters<OpenHarness>[0]["clock"]): Harness {
  const api = new GuardedMounts(inner, clock);
  return {
    api,
    root: inner.root,
    context: (overrides) => inner.context(overrides),
    attachMount: () => inner.attachMount(),
    lastLsn: () => inner.lastLsn(),
    settle: () => inner.settle(),
    reopen: async () => guarded(await inner.reopen(), clock),
    close: () => inner.close(),
    ...(inner.isReadable === undefined ? {} : { isReadable: (lsn) => inner.isReadable?.(lsn) ?? true }),
  };
}

class GuardedMounts implements MetadataApi {
  readonly #inner: Harness;
  readonly #guards = new Map<MountId, TokenGuard>();
  readonly #make: (mount: MountId) => TokenGuard;

  constructor(inner: Harness, clock: Parameters<OpenHarness>[0]["clock"]) {
    this.#inner = inner;
    const { api, root } = inner;
    if (!(api instanceof Engine)) throw new Error("not an engine");
    const { core } = api;
    this.#make = (mount) => {
      const rights = {
        root,
        wholeShare: true,
        ops: TOKEN_OP_NAMES,
        identity: { kind: "claimed", squashRoot: false },
      } as const;
      const life = { keyId: "", expiresAtSec: Number.MAX_SAFE_INTEGER, clock, onRelease: () => {} };
      const audit = { refused: () => {} } as never;
      return new TokenGuard({
        api,
        core,
        grant: new TokenGrant({ ...IDS, ...rights, ...life }),
        mount,
        audit,
        from: "a test",
      });
    };
    // A mount's guard is there before its first request: what it holds is noticed from then on.
    this.#guardOf(inner.context().actor.mountId);
  }

  execute<R extends Request>(request: R, context: RequestContext): ReplyOf<R> | Promise<ReplyOf<R>> {
    const { mountId } = context.actor;
    if (mountId === 0) return this.#inner.api.execute(request, context);
    return this.#guardOf(mountId).execute(request, context);
  }

  subscribe(listener: Parameters<MetadataApi["subscribe"]>[0]): () => void {
    return this.#inner.api.subscribe(listener);
  }

  close(): Promise<void> {
    return this.#inner.api.close();
  }

  #guardOf(mount: MountId): TokenGuard {
    let guard = this.#guards.get(mount);
    if (guard === undefined) {
      guard = this.#make(mount);
      this.#guards.set(mount, guard);
    }
    return guard;
  }
}
