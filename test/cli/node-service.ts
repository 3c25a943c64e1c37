import { randomBytes } from "node:crypto";
import path from "node:path";
import { Readable } from "node:stream";
import { type Clock, SystemClock } from "../../src/base/clock.ts";
import { type MemoryLog, memoryLog } from "../../src/base/log.ts";
import { SystemTimers, type Timers } from "../../src/base/timers.ts";
import type { ListenOptions } from "../../src/cli/service/listen-options.ts";
import { composeNetwork, type Network } from "../../src/cli/service/network.ts";
import type { NodeAuditLog } from "../../src/cli/service/node-audit.ts";
import type { AdminApi } from "../../src/domain/admin-api.ts";
import type { NodeInfo } from "../../src/domain/admin-nodes.ts";
import { DataFolder } from "../../src/journal/data-folder.ts";
import { RocksKv } from "../../src/kv/rocks-kv.ts";
import { MetadataService } from "../../src/meta/service.ts";
import { FakeAdminApi } from "../contract/fake-admin-api.ts";
import { type CliResult, cli } from "./harness.ts";

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
  /** What is in the audit log: "act" or "refused", who, what, why. */
  readonly audited: readonly string[];
  readonly #folder: DataFolder;
  readonly #kv: RocksKv;

  private constructor(
    parts: Pick<NodeService, "api" | "service" | "network" | "address" | "log" | "audited"> & {
      folder: DataFolder;
      kv: RocksKv;
    },
  ) {
    this.api = parts.api;
    this.service = parts.service;
    this.network = parts.network;
    this.address = parts.address;
    this.log = parts.log;
    this.audited = parts.audited;
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
    const audited: string[] = [];
    const audit: NodeAuditLog = {
      act: ({ who, what, why }) => audited.push(`act: ${who}, ${what}, ${why}`),
      refused: ({ who, what, why }) => audited.push(`refused: ${who}, ${what}, ${why}`),
    };
    const listen = { addresses: ["127.0.0.1:0"], plaintext: [], names: [] };
    try {
      const network = await composeNetwork({
        ...{ dataFolder, service, clock, timers, log, audit },
        listen: options.listen === undefined ? undefined : { ...listen, ...options.listen },
        restarted: options.restarted ?? false,
        sessionCount: (node) => (node === "web1" ? 2 : 0),
        machine: () => ({ hostName: "machine.example", addresses: ["192.0.2.7"] }),
      });
      const [bound] = await network.start();
      const api: AdminApi = Object.assign(new FakeAdminApi(), { nodes: network.admin });
      const address = bound === undefined ? "" : `127.0.0.1:${bound.port}`;
      return new NodeService({ api, service, network, address, log, audited, folder, kv });
    } catch (error) {
      await service.close();
      await kv.close();
      folder.close();
      throw error;
    }
  }

  async close(): Promise<void> {
    await this.network.stop();
    await this.service.close();
    await this.#kv.close();
    this.#folder.close();
  }
}

export type NodeCommandOptions = {
  /** The node on whose machine it is; absent: the service's. */
  readonly on?: string;
  readonly stdin?: string;
  readonly terminal?: boolean;
};

/** Commands on the service's machine or on that of a node, whose data folders are in `base`; with this machine's clock, which certificates go by. */
export function nodeCommands(now: () => { readonly base: string; readonly service: NodeService }): {
  tidemark(args: readonly string[], options?: NodeCommandOptions): Promise<CliResult>;
  nodes(): Promise<NodeInfo[]>;
} {
  const tidemark = (args: readonly string[], { on = "service", stdin, ...rest }: NodeCommandOptions = {}) => {
    const { base, service } = now();
    const given = stdin === undefined ? {} : { stdin: Readable.from([stdin]) };
    const environment = { clock: new SystemClock(), workingFolder: base, ...given };
    return cli([...args, "--data", path.join(base, on)], { api: service.api, environment, ...rest });
  };
  const nodes = async (): Promise<NodeInfo[]> => {
    const { stdout } = await tidemark(["node", "list", "--json"]);
    const lines = stdout.split("\n").filter((line) => line !== "");
    return lines.map((line) => JSON.parse(line) as NodeInfo);
  };
  return { tidemark, nodes };
}
