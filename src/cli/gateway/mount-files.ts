import { createHash } from "node:crypto";
import { mkdirSync } from "node:fs";
import { basename, join } from "node:path";

/** Names one mount of this machine: from its directory, so that what is mounted there again finds what was kept. */
export type GatewayId = string & { readonly brand: "GatewayId" };

/** Where a machine keeps what has to do with services elsewhere: <data>/node, 0700. The certificate that it proves itself with is there too (src/rpc/tls/node-folder.ts). */
export class MountFiles {
  readonly nodeFolder: string;
  /** One file for each mount, beside it its socket and log. */
  readonly folder: string;
  /** A folder for each mount's read cache. */
  readonly cacheFolder: string;

  constructor(dataFolder: string) {
    this.nodeFolder = join(dataFolder, "node");
    this.folder = join(this.nodeFolder, "mounts");
    this.cacheFolder = join(this.nodeFolder, "cache");
  }

  /** Makes the folders that are not there. Throws errors of node:fs. */
  make(): void {
    for (const folder of [this.folder, this.cacheFolder]) mkdirSync(folder, { recursive: true, mode: 0o700 });
  }

  stateOf(id: GatewayId): string {
    return join(this.folder, `${id}.json`);
  }

  /** Where the gateway says how it is. */
  socketOf(id: GatewayId): string {
    return join(this.folder, `${id}.sock`);
  }

  /** Where its start says how it went. */
  startSocketOf(id: GatewayId): string {
    return join(this.folder, `${id}.start`);
  }

  logOf(id: GatewayId): string {
    return join(this.folder, `${id}.log`);
  }

  cacheOf(id: GatewayId): string {
    return join(this.cacheFolder, id);
  }
}

/** The name of the mount on `target` (an absolute path without symbolic links): something to recognise it by, and 64 bits of its hash. */
export function gatewayId(target: string): GatewayId {
  const readable = basename(target)
    .replace(/[^A-Za-z0-9_-]/g, "_")
    .slice(0, 32);
  const hash = createHash("sha256").update(target).digest("hex").slice(0, 16);
  return `${readable === "" ? "root" : readable}-${hash}` as GatewayId;
}
