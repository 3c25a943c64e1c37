import { describeApp, isUnreadable } from "../../backup/describe-app.ts";
import { RepositoryApp } from "../../backup/repository-app.ts";
import type { Clock, Timestamp } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import type { Timers } from "../../base/timers.ts";
import { TidemarkError } from "../../domain/errors.ts";
import type { AppId, Lsn } from "../../domain/ids.ts";
import { type AppRef, formatAppRef } from "../../domain/share-path.ts";
import type { OpenApp } from "../../meta/open-app.ts";
import type { Apps } from "../../meta/reading/apps.ts";
import { mapBounded } from "../../repository/map-bounded.ts";
import type { Repository } from "../../repository/repository.ts";
import type { AppDescription, SealHead } from "../../repository/seal-head.ts";
import { plural } from "../output/human.ts";

/** What a repository says about one of its apps. */
export type DescribedApp = {
  readonly id: AppId;
  readonly namespace: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly createdAt: Timestamp;
  readonly deletedAt?: Timestamp;
  /** Up to where it is there; absent: its first backup was not finished. */
  readonly protected?: { readonly lsn: Lsn; readonly time: Timestamp };
};

/** What is to be said of a folder of an app under whose tag no key is. */
export const NO_KEY = "no key opens it: it was destroyed, or its key is lost";

/** Apps looked at in a repository at a time: each is a few round trips. */
const DESCRIBED_AT_ONCE = 8;

/** Apps of a repository kept open at a time: a command names one, `restore --to` another at most. */
const OPEN_MAX = 4;

export type RepositoryAppsParts = {
  readonly repository: Repository;
  readonly cacheFolder: string;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
  readonly signal?: AbortSignal;
};

/** The apps of a repository, opened when they are asked for. */
export class RepositoryApps implements Apps {
  readonly #parts: RepositoryAppsParts;
  readonly #open = new Map<AppId, RepositoryApp>();
  #described: Promise<readonly DescribedApp[]> | undefined;
  #leftOut = 0;

  constructor(parts: RepositoryAppsParts) {
    this.#parts = parts;
  }

  /** All of them, by namespace and name. Those of which nothing can be read are left out, with a warning. */
  all(): Promise<readonly DescribedApp[]> {
    this.#described ??= this.#describe();
    return this.#described;
  }

  /** How many `all` has left out. */
  async leftOut(): Promise<number> {
    await this.all();
    return this.#leftOut;
  }

  async find(ref: AppRef): Promise<OpenApp> {
    const described = await this.describe(ref);
    const before = this.#open.get(described.id);
    if (before !== undefined) return before.app;
    if (this.#open.size >= OPEN_MAX) throw new TidemarkError("FAILED_PRECONDITION", "too many apps at a time");
    const { repository, ...rest } = this.#parts;
    const opened = await RepositoryApp.open({ ...rest, app: await repository.openApp(described.id) });
    this.#open.set(described.id, opened);
    return opened.app;
  }

  nameOf(id: AppId): { readonly namespace: string; readonly name: string } {
    const open = this.#open.get(id);
    if (open === undefined) throw new TidemarkError("NOT_FOUND", `app ${id} is not open`);
    return open.description;
  }

  async close(): Promise<void> {
    for (const open of this.#open.values()) await open.close();
    await this.#parts.repository.store.close();
  }

  /** The app that is meant; one that is deleted needs no id when it is the only one of its name. Throws NOT_FOUND, INVALID_ARGUMENT. */
  async describe(ref: AppRef): Promise<DescribedApp> {
    const all = await this.all();
    const named = all.filter(({ namespace, name }) => namespace === ref.namespace && name === ref.name);
    const found = named.filter(({ id, deletedAt }) =>
      ref.id === undefined ? deletedAt === undefined : id.startsWith(ref.id),
    );
    // What is gone can only mean itself, if it is the only one: nobody should have to look up ids in a disaster.
    const [first, second] = found.length === 0 && ref.id === undefined ? named : found;
    if (first !== undefined && second === undefined) return first;
    const refs = named.map((app) => formatAppRef({ ...ref, id: app.id.slice(0, 8) })).join(", ");
    if (first !== undefined)
      throw new TidemarkError("INVALID_ARGUMENT", `"${formatAppRef(ref)}" means several apps: ${refs}`);
    const hint = named.length === 0 ? "see `tidemark repo apps`" : `there are ${refs}`;
    throw new TidemarkError("NOT_FOUND", `the repository has no app "${formatAppRef(ref)}": ${hint}`, {
      data: { missing: "app" },
    });
  }

  async #describe(): Promise<readonly DescribedApp[]> {
    const { repository, log } = this.#parts;
    let damagedCount = 0;
    const onDamaged = ({ tag }: { tag: string }): void => {
      damagedCount++;
      log.error("the key of an app in the repository is damaged", { tag });
    };
    const entries = await repository.apps(onDamaged);
    if (entries.length === 0 && damagedCount === 0) await this.#tellNone();
    const all = await mapBounded(entries, DESCRIBED_AT_ONCE, ({ appId }) => this.#describeOne(appId));
    const found = all.filter((described) => described !== undefined);
    this.#leftOut = damagedCount + all.length - found.length;
    return found.sort(byName);
  }

  async #tellNone(): Promise<void> {
    const { repository, log } = this.#parts;
    const { length } = await repository.appsWithoutKey();
    if (length === 0) log.error("The repository has no apps.");
    else log.error(`No app of the repository can be read: ${plural(length, "folder")} under apps/, ${NO_KEY}.`);
  }

  /** One that can't be read must not keep the others from being. */
  async #describeOne(id: AppId): Promise<DescribedApp | undefined> {
    const { repository, log } = this.#parts;
    try {
      const found = await describeApp(await repository.openApp(id));
      if (found !== undefined) return described(id, found.about, found.head);
      log.error(
        "nothing can be read of an app of the repository: its first backup was not finished, or it is damaged (`tidemark repo check` tells)",
        {
          app: id,
        },
      );
    } catch (error) {
      if (!isUnreadable(error)) throw error;
      log.error("an app of the repository can't be read: `tidemark repo check` tells more", { app: id, cause: error });
    }
    return undefined;
  }
}

function described(id: AppId, about: AppDescription, head: SealHead | undefined): DescribedApp {
  const { namespace, name, labels, created, deleted } = about;
  return {
    id,
    namespace,
    name,
    labels,
    createdAt: created,
    ...(deleted === null ? {} : { deletedAt: deleted }),
    ...(head === undefined ? {} : { protected: { lsn: head.to, time: head.lastTime } }),
  };
}

function byName(left: DescribedApp, right: DescribedApp): number {
  const [a, b] = [left, right].map(({ namespace, name, id }) => `${namespace}\0${name}\0${id}`);
  return (a ?? "") < (b ?? "") ? -1 : 1;
}
