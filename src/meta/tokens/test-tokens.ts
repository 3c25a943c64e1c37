import { randomBytes } from "node:crypto";
import { MemoryLog } from "../../base/log.ts";
import { ManualTimers } from "../../base/timers.ts";
import type { InodeId, MountId } from "../../domain/ids.ts";
import type { Request, RequestContext } from "../../domain/metadata-api.ts";
import type { Peer } from "../../domain/session-api.ts";
import type { TokenIdentity, TokenOp, TokenRights } from "../../domain/token.ts";
import { Audit, type ListedAudit } from "../audit.ts";
import { all, type TestApp, TestApps } from "../reading/test-app.ts";
import type { ShareRow } from "../shares.ts";
import { TokenGuard } from "./guard.ts";
import { Tokens } from "./tokens.ts";

export const SERVICE_ID = "5e".repeat(16);
export const MOUNT = 7 as MountId;
export const LOCAL_PEER: Peer = { node: "", certificateThumbprint: "", address: "10.0.0.2:40000" };

export type Wanted = {
  readonly ops: readonly TokenOp[];
  readonly root?: InodeId;
  readonly identity?: TokenIdentity;
  readonly mount?: MountId;
  readonly lifetimeMs?: number;
  /** For the app, not for its share. */
  readonly wholeApp?: boolean;
};

/** For tests: an app with a share, and the tokens and the audit log of a service. The clock stands still until it is stepped. */
export class TokenFixture {
  readonly apps: TestApps;
  readonly app: TestApp;
  readonly system: TestApp;
  readonly share: ShareRow;
  readonly timers = new ManualTimers();
  readonly log = new MemoryLog();
  audit: Audit;
  tokens: Tokens;

  private constructor(apps: TestApps, parts: { app: TestApp; system: TestApp; audit: Audit; tokens: Tokens }) {
    this.apps = apps;
    this.app = parts.app;
    this.system = parts.system;
    this.audit = parts.audit;
    this.tokens = parts.tokens;
    this.share = parts.app.share("files");
    this.app.app.engine.attachMount(MOUNT, { resumed: false });
  }

  static async open(): Promise<TokenFixture> {
    const apps = await TestApps.open();
    const app = await apps.app("shop");
    const system = await apps.app("system");
    const holder: { fixture?: TokenFixture } = {};
    const timers = new ManualTimers();
    const parts = await TokenFixture.parts(apps, system, timers);
    const fixture = new TokenFixture(apps, { app, system, ...parts });
    holder.fixture = fixture;
    Object.assign(fixture, { timers });
    return fixture;
  }

  static async parts(
    apps: TestApps,
    system: TestApp,
    timers: ManualTimers,
    serviceId = SERVICE_ID,
  ): Promise<{ audit: Audit; tokens: Tokens }> {
    const { core } = system.app;
    const shared = { core, clock: apps.clock, timers, log: new MemoryLog() };
    const audit = new Audit(shared);
    const newId = () => randomBytes(16).toString("hex");
    return { audit, tokens: await Tokens.open({ ...shared, audit, newId, serviceId, dataFolder: apps.folder }) };
  }

  get root(): InodeId {
    return this.share.root;
  }

  get exchange() {
    return { appId: this.app.app.id, shareId: this.share.id, shareRoot: this.share.root, peer: LOCAL_PEER };
  }

  rights({ ops, root, identity = { kind: "claimed", squashRoot: false }, wholeApp = false }: Wanted): TokenRights {
    return {
      appId: this.app.app.id,
      ...(wholeApp ? {} : { shareId: this.share.id }),
      ...(root === undefined ? {} : { root }),
      ops,
      identity,
    };
  }

  /** The text of a token. */
  async token(wanted: Wanted): Promise<string> {
    const { lifetimeMs = 3_600_000 } = wanted;
    return (await this.tokens.create(this.rights(wanted), { lifetimeMs })).token;
  }

  async guard(wanted: Wanted): Promise<TokenGuard> {
    const grant = await this.tokens.exchange(await this.token(wanted), this.exchange);
    const { engine, core } = this.app.app;
    const mount = wanted.mount ?? MOUNT;
    return new TokenGuard({ api: engine, core, grant, mount, audit: this.audit, from: "a test" });
  }

  async audited(): Promise<ListedAudit[]> {
    return all(this.audit.list({ refusedOnly: false }));
  }

  async close(): Promise<void> {
    this.tokens.close();
    await this.apps.close();
  }
}

/** Who asks, through the guard's mount. */
export function asks(uid = 0, gid = 0, mount: MountId = MOUNT): RequestContext {
  return { actor: { mountId: mount, uid, gid, pid: 1, label: "" }, unique: 0, resent: false };
}

/** The errno's name that a request is refused with; "ok" when it is carried out. */
export async function outcome(guard: TokenGuard, request: Request, context: RequestContext = asks()): Promise<string> {
  try {
    await guard.execute(request, context);
    return "ok";
  } catch (error) {
    const { code } = error as { code?: string };
    if (code === undefined) throw error;
    return code;
  }
}
