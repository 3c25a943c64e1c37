import { hostname } from "node:os";
import type { RepositoryReference } from "../../backup/archive-file.ts";
import type { SealShipped, ShipBackend, ShipStarted, ShipTarget } from "../../backup/ship-backend.ts";
import { shippedMark } from "../../backup/ship-index.ts";
import { ShipWorkerPool } from "../../backup/ship-worker-pool.ts";
import { Shipper, type ShipperOptions, type ShipperStatus } from "../../backup/shipper.ts";
import { present } from "../../base/assert.ts";
import type { Clock } from "../../base/clock.ts";
import type { Log } from "../../base/log.ts";
import type { Timers } from "../../base/timers.ts";
import { openBlobs } from "../../blob/open-blobs.ts";
import type { Environment } from "../../blob/s3-credentials.ts";
import type { Lsn } from "../../domain/ids.ts";
import type { KvStore } from "../../kv/kv-store.ts";
import type { RocksKv } from "../../kv/rocks-kv.ts";
import type { DiskSpace, OpenApp } from "../../meta/open-app.ts";
import { journalFolder, type MetadataService } from "../../meta/service.ts";
import { Repository } from "../../repository/repository.ts";
import type { AppDescription } from "../../repository/seal-head.ts";
import { type KnownRepository, openingSecret } from "../repository/known-repositories.ts";
import { randomFraction } from "../repository/random-fraction.ts";
import type { AppShipper, OpenedShipper, Shippers, ShipTerms } from "./app-shipper.ts";

export type RepositoryShippersParts = {
  readonly dataFolder: string;
  /** The data folder's id: who ships, for people who look at a repository. */
  readonly serviceId: string;
  readonly service: MetadataService;
  readonly kv: RocksKv;
  /** Opens what is remembered of repositories (`openShipIndex`). */
  readonly openIndex: () => Promise<KvStore>;
  readonly diskSpace: () => DiskSpace & { readonly reserveBytes: bigint };
  /** Where credentials of S3 are looked for that a repository has not. */
  readonly environment: Environment;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
};

/** What opens a repository: all but what it is called here. */
type Opening = Pick<KnownRepository, "location" | "credentials" | "secret" | "atVersionMs">;

type Machinery = { readonly index: KvStore; readonly pool: ShipWorkerPool };

/** Shippers over real repositories; their heavy work runs in worker threads. A repository is opened once for all apps that go there. */
export class RepositoryShippers implements Shippers {
  readonly #parts: RepositoryShippersParts;
  readonly #open = new Map<string, Promise<Repository>>();
  #machinery: Promise<Machinery> | undefined;
  #index: KvStore | undefined;

  constructor(parts: RepositoryShippersParts) {
    this.#parts = parts;
  }

  /** Opens what shipping needs on this machine, before it is asked for. Throws what `openIndex` throws; it is tried again when it is needed. */
  async prepare(): Promise<void> {
    await this.#ready();
  }

  async open(app: OpenApp, { repository: known, everyMs, onBacklog }: ShipTerms): Promise<OpenedShipper> {
    const { dataFolder, serviceId, diskSpace, environment, clock, timers, log } = this.#parts;
    const { index, pool } = await this.#ready();
    const repository = await this.#repository(known);
    const { tag, keys } = await repository.createApp(app.id);
    const { location, credentials } = known;
    const backend = new CountingBackend(
      pool.backend({
        appId: app.id,
        slot: app.slot,
        folder: journalFolder(dataFolder, app.id),
        store: {
          address: location.url,
          s3: { endpoint: location.endpoint, region: location.region, credentials },
          environment,
        },
        keys: keys.material(),
        lockDays: repository.lockDays,
        writer: { host: hostname(), service: serviceId },
      }),
    );
    const shipper = new CountingShipper(backend, {
      app,
      everyMs,
      onBacklog,
      describe: () => this.#describe(app),
      shippedMark: shippedMark(index, tag),
      clock,
      timers,
      log,
      random: randomFraction,
      diskState: diskSpace,
    });
    return { shipper, tag };
  }

  protectedLsn(tag: string): Lsn {
    return this.#index === undefined ? (0 as Lsn) : shippedMark(this.#index, tag);
  }

  /** A repository for its maintenance, opened once for all. */
  repository(known: KnownRepository): Promise<Repository> {
    return this.#repository(known);
  }

  /** What is remembered of repositories. */
  async index(): Promise<KvStore> {
    return (await this.#ready()).index;
  }

  async check(opening: Opening): Promise<string> {
    const repository = await openKnown(opening, this.#parts);
    await repository.store.close();
    return repository.id;
  }

  forget(name: string): void {
    const open = this.#open.get(name);
    this.#open.delete(name);
    open?.then((repository) => repository.store.close()).catch(() => {});
  }

  async close(): Promise<void> {
    const machinery = await this.#machinery?.catch(() => undefined);
    await machinery?.pool.close();
    for (const name of [...this.#open.keys()]) this.forget(name);
    await machinery?.index.close();
  }

  /** A service that ships nothing has none of it. */
  #ready(): Promise<Machinery> {
    this.#machinery ??= this.#make().catch((error: unknown) => {
      this.#machinery = undefined;
      throw error;
    });
    return this.#machinery;
  }

  async #make(): Promise<Machinery> {
    const { kv, log, openIndex } = this.#parts;
    const index = await openIndex();
    this.#index = index;
    return { index, pool: new ShipWorkerPool({ kv, index, log, random: randomFraction }) };
  }

  #repository(known: KnownRepository): Promise<Repository> {
    const open = this.#open.get(known.name) ?? openKnown(known, this.#parts);
    this.#open.set(known.name, open);
    open.catch(() => {
      if (this.#open.get(known.name) === open) this.#open.delete(known.name);
    });
    return open;
  }

  #describe(app: OpenApp): AppDescription {
    const row = present(this.#parts.service.catalogue.app(app.id), "an app of the catalogue");
    const { namespace, name, labels, createdAt, deletedAt } = row;
    return { namespace, name, labels, created: createdAt, deleted: deletedAt ?? null };
  }
}

/** Counts what is sent. */
class CountingBackend implements ShipBackend {
  readonly #backend: ShipBackend;
  sentBytes = 0n;

  constructor(backend: ShipBackend) {
    this.#backend = backend;
  }

  start(target: ShipTarget): Promise<ShipStarted> {
    return this.#backend.start(target);
  }

  ship(target: ShipTarget, onShipped: (shipped: SealShipped) => void): Promise<void> {
    return this.#backend.ship(target, (shipped) => {
      this.sentBytes += BigInt(shipped.uploadedBytes);
      onShipped(shipped);
    });
  }

  checkpoint(options: Parameters<ShipBackend["checkpoint"]>[0]): Promise<boolean> {
    return this.#backend.checkpoint(options);
  }

  repair(request: Parameters<ShipBackend["repair"]>[0]): ReturnType<ShipBackend["repair"]> {
    return this.#backend.repair(request);
  }

  abort(): void {
    this.#backend.abort();
  }

  close(): Promise<void> {
    return this.#backend.close();
  }
}

class CountingShipper extends Shipper implements AppShipper {
  readonly #backend: CountingBackend;

  constructor(backend: CountingBackend, options: Omit<ShipperOptions, "backend">) {
    super({ ...options, backend });
    this.#backend = backend;
  }

  override status(): ShipperStatus & { readonly sentBytes: bigint } {
    return { ...super.status(), sentBytes: this.#backend.sentBytes };
  }
}

type OpenParts = Pick<RepositoryShippersParts, "environment" | "clock" | "timers" | "log">;

/** Opens a repository with what a data folder keeps of it. */
export async function openKnown(
  { location, credentials, secret, atVersionMs }: Opening,
  { environment, clock, timers, log }: OpenParts,
): Promise<Repository> {
  const { url, endpoint, region } = location;
  const store = await openBlobs(url, {
    create: false,
    s3: { endpoint, region, credentials, atVersionTimeMs: atVersionMs },
    environment,
    clock,
    timers,
    random: randomFraction,
    log,
  });
  try {
    return await Repository.open({ store, secret: openingSecret(secret) });
  } catch (error) {
    await store.close();
    throw error;
  }
}

/** Opens the repository of an app that was recovered and not brought in whole: what `recover` was given. */
export function openReference(reference: RepositoryReference, parts: OpenParts): Promise<Repository> {
  return openKnown(reference as unknown as KnownRepository, parts);
}
