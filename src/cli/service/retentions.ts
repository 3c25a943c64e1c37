import { type Clock, compareTimestamps, type Timestamp } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import { type CallOptions, PAGE_ITEMS_MAX, type Pages } from "../../domain/admin-call.ts";
import {
  FORECAST_MOMENTS_MAX,
  type RetentionApi,
  type RetentionForecast,
  type RetentionStatus,
} from "../../domain/admin-retention.ts";
import { TidemarkError } from "../../domain/errors.ts";
import type { Lsn } from "../../domain/ids.ts";
import { checkPolicy, type RetentionPolicy } from "../../domain/retention.ts";
import { type AppRef, formatAppRef } from "../../domain/share-path.ts";
import { contextOf } from "../../meta/catalogue-api.ts";
import { type OpenApp, SERVICE_CONTEXT } from "../../meta/open-app.ts";
import { timeOfLsn } from "../../meta/reading/time.ts";
import type { MetadataService } from "../../meta/service.ts";
import { gridRows } from "../../meta/space/grid.ts";
import type { SpaceKeeper } from "../../meta/space/space-keeper.ts";
import { TrustedTime } from "../../meta/space/trusted-time.ts";

/** How often it is noted how late it is: what a start compares the wall clock with. */
const NOTE_SEC = 3600;

export type RetentionsParts = {
  readonly service: MetadataService;
  /** Asked for when it is needed: it is made with this. */
  readonly keeper: () => Pick<SpaceKeeper, "retentionChanged" | "planRetention">;
  readonly clock: Clock;
  readonly log: Log;
};

/** How long the past of each app is kept: in the catalogue, applied by the space keeper. */
export class Retentions implements RetentionApi {
  readonly #parts: RetentionsParts;
  readonly #time: TrustedTime;
  #noted: Timestamp | undefined;

  constructor(parts: RetentionsParts) {
    this.#parts = parts;
    this.#noted = parts.service.catalogue.retentionClock();
    this.#time = new TrustedTime({ clock: parts.clock, log: parts.log, noted: this.#noted });
  }

  /** For the space keeper. */
  policyOf(app: OpenApp): RetentionPolicy | undefined {
    return this.#parts.service.catalogue.retention(app.id)?.policy;
  }

  /** How late it is, for what goes by age. Noted once an hour. */
  now(): Timestamp {
    const now = this.#time.now();
    const isDue = this.#noted === undefined || now.sec - this.#noted.sec >= NOTE_SEC;
    if (isDue || (this.#noted !== undefined && compareTimestamps(now, this.#noted) < 0)) this.#note(now);
    return now;
  }

  async setRetention(
    request: { app: AppRef; policy: RetentionPolicy },
    options?: CallOptions,
  ): Promise<RetentionStatus> {
    const { service, keeper, clock } = this.#parts;
    checkPolicy(request.policy);
    const app = service.find(request.app);
    // Who says how long things are kept has looked at the date. But the time is that of all apps.
    if (options?.underToken !== true) {
      this.#time.believe();
      this.#note(clock.now());
    }
    service.catalogue.setRetention(app.id, request.policy, contextOf(options));
    await service.syncCatalogue();
    keeper().retentionChanged();
    return this.#status(app);
  }

  async clearRetention(request: { app: AppRef }, options?: CallOptions): Promise<RetentionStatus> {
    const { service } = this.#parts;
    const app = service.find(request.app);
    service.catalogue.clearRetention(app.id, contextOf(options));
    await service.syncCatalogue();
    return this.#status(app);
  }

  async planRetention(request: { app: AppRef; policy?: RetentionPolicy }): Promise<RetentionForecast> {
    const { service, keeper } = this.#parts;
    const app = service.find(request.app);
    const policy = request.policy ?? this.policyOf(app);
    if (policy === undefined) {
      const message = `app "${formatAppRef(service.nameOf(app.id))}" has no policy of retention: everything is kept`;
      throw new TidemarkError("FAILED_PRECONDITION", message);
    }
    checkPolicy(policy);
    const plan = await keeper().planRetention(app, { policy, now: this.now() });
    const moments = [...plan.kept].reverse();
    return {
      app: { id: app.id, ...service.nameOf(app.id) },
      policy,
      before: await floorOf(app),
      after: { floor: plan.floor, ...(plan.floorTime === undefined ? {} : { floorTime: plan.floorTime }) },
      removedCount: plan.removed.length,
      momentCount: moments.length,
      moments: moments.slice(0, FORECAST_MOMENTS_MAX),
    };
  }

  async *listRetention(request: { app?: AppRef }): Pages<RetentionStatus> {
    const { service } = this.#parts;
    const apps = request.app === undefined ? service.openApps() : [service.find(request.app)];
    const all: RetentionStatus[] = [];
    for (const app of apps) all.push(await this.#status(app));
    all.sort((left, right) => (sortKey(left) < sortKey(right) ? -1 : 1));
    for (let at = 0; at < all.length; at += PAGE_ITEMS_MAX) yield all.slice(at, at + PAGE_ITEMS_MAX);
  }

  async #status(app: OpenApp): Promise<RetentionStatus> {
    const { service } = this.#parts;
    const policy = this.policyOf(app);
    return {
      app: { id: app.id, ...service.nameOf(app.id) },
      ...(policy === undefined ? {} : { policy }),
      ...(await floorOf(app)),
      momentCount: gridRows(app.store).length,
    };
  }

  #note(now: Timestamp): void {
    this.#parts.service.catalogue.noteRetentionClock(now, SERVICE_CONTEXT);
    this.#noted = now;
  }
}

async function floorOf(app: OpenApp): Promise<{ floor: Lsn; floorTime?: Timestamp }> {
  const { floor } = app.core.moments;
  const floorTime = await timeOfLsn(app.core, floor);
  return floorTime === undefined ? { floor } : { floor, floorTime };
}

function sortKey({ app }: RetentionStatus): string {
  return `${app.namespace}\0${app.name}\0${app.id}`;
}
