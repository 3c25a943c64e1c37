import { randomBytes } from "node:crypto";
import path from "node:path";
import { type Clock, SystemClock } from "../../src/base/clock.ts";
import { type MemoryLog, memoryLog } from "../../src/base/log.ts";
import { SystemTimers, type Timers } from "../../src/base/timers.ts";
import type { ListenOptions } from "../../src/cli/service/listen-options.ts";
import { composeNetwork, type Network } from "../../src/cli/service/network.ts";
import type { NodeAct } from "../../src/cli/service/node-joins.ts";
import type { AdminApi } from "../../src/domain/admin-api.ts";
import { DataFolder } from "../../src/journal/data-folder.ts";
import { RocksKv } from "../../src/kv/rocks-kv.ts";
import { MetadataService } from "../../src/meta/service.ts";
import { FakeAdminApi } from "../contract/fake-admin-api.ts";

/** `listen`: undefined: it does not listen; else what differs from a free port of 127.0.0.1. */
export type NodeServiceOptions = {
  readonly listen?: Partial<ListenOptions> | undefined;
  readonly restarted?: boolean;
  readonly clock?: Clock;
  readonly timers?: Timers;
};

/** A service that listens for nodes on loopback, without mounts and without a socket, for tests of what the commands do with nodes: everything else is real. */
export class NodeService {
  readonly api: AdminApi;
  readonly service: MetadataService;
  readonly network: Network;
  /** "127.0.0.1:PORT"; empty when it does not listen. */
  readonly address: string;
  readonly log: MemoryLog;
  readonly acts: readonly NodeAct[];
  readonly #folder: DataFolder;
  readonly #kv: RocksKv;

  private constructor(
    parts: Pick<NodeService, "api" | "service" | "network" | "address" | "log" | "acts"> & {
      folder: DataFolder;
      kv: RocksKv;
    },
  ) {
    this.api = parts.api;
    this.service = parts.service;
    this.network = parts.network;
    this.address = parts.address;
    this.log = parts.log;
    this.acts = parts.acts;
    this.#folder = parts.folder;
    this.#kv = parts.kv;
  }

  static async open(dataFolder: string, options: NodeServiceOptions = { listen: {} }): Promise<NodeService> {
    const { clock = new SystemClock(), timers = new SystemTimers() } = options;
    const log = memoryLog();
    const folder = await DataFolder.open({ path: dataFolder, clock, log });
    const kv = await RocksKv.open({ directory: path.join(dataFolder, "kv"), missing: "create" });
    const newId = (): string => randomBytes(16).toString("hex");
    const service = await MetadataService.open({ folder: dataFolder, kv, clock, log, newId });
    const acts: NodeAct[] = [];
    const listen = { addresses: ["127.0.0.1:0"], plaintext: [], names: [] };
    const network = await composeNetwork({
      ...{ dataFolder, service, clock, timers, log },
      listen: options.listen === undefined ? undefined : { ...listen, ...options.listen },
      restarted: options.restarted ?? false,
      sessionCount: (node) => (node === "web1" ? 2 : 0),
      onAct: (act) => acts.push(act),
      machine: () => ({ hostName: "machine.example", addresses: ["192.0.2.7"] }),
    });
    const [bound] = await network.start();
    const api: AdminApi = Object.assign(new FakeAdminApi(), { nodes: network.admin });
    const address = bound === undefined ? "" : `127.0.0.1:${bound.port}`;
    return new NodeService({ api, service, network, address, log, acts, folder, kv });
  }

  async close(): Promise<void> {
    await this.network.stop();
    await this.service.close();
    await this.#kv.close();
    this.#folder.close();
  }
}
