import { randomBytes } from "node:crypto";
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import type { Timers } from "../../base/timers.ts";
import type { DataFolder } from "../../journal/data-folder.ts";
import { Audit } from "../../meta/audit.ts";
import type { MetadataService } from "../../meta/service.ts";
import { TokenAdmin } from "../../meta/tokens/token-admin.ts";
import { Tokens } from "../../meta/tokens/tokens.ts";

export type ComposeTokensParts = {
  readonly service: MetadataService;
  readonly folder: DataFolder;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
};

/** What decides about tokens in a service, and keeps its audit log. */
export type ComposedTokens = {
  readonly tokens: Tokens;
  readonly audit: Audit;
  /** TokenApi and AuditApi. */
  readonly admin: TokenAdmin;
  stop(): void;
};

/** The tokens of a service. Keys are made when the first token is. */
export async function composeTokens(parts: ComposeTokensParts): Promise<ComposedTokens> {
  const { service, folder, clock, timers, log } = parts;
  const { core } = service.system;
  const audit = new Audit({ core, clock, timers, log });
  const newId = () => randomBytes(16).toString("hex");
  const shared = { core, audit, clock, timers, log, newId };
  const tokens = await Tokens.open({ ...shared, dataFolder: folder.path, serviceId: folder.id });
  return {
    tokens,
    audit,
    admin: new TokenAdmin(service, { tokens, audit }),
    stop: () => {
      tokens.close();
      audit.close();
    },
  };
}
