import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { TestService } from "./fixture.ts";
import { type RunResult, run } from "./run.ts";

const MAIN = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));

/** A line of `tidemark mount --json` for a mount whose service is elsewhere. */
export type ListedMount = {
  readonly share: string;
  readonly target: string;
  readonly service: string;
  readonly state: string;
  readonly reason?: string;
  readonly restartCount?: number;
  readonly cache?: { readonly bytes: number; readonly hitBytes: number; readonly missBytes: number };
  readonly log: string;
};

/** What a token of these tests allows. */
const ALL = "list,read,create,append,write,delete,setattr,history";

/** A service that listens on this machine, and a "node" that is only another data folder. */
export class GatewayFixture {
  readonly service: TestService;
  readonly port: number;
  readonly nodeFolder: string;
  readonly #mounts = new Set<string>();

  private constructor(service: TestService, port: number) {
    this.service = service;
    this.port = port;
    this.nodeFolder = path.join(service.folder, "node-data");
  }

  /** With app "shop" and share "files". */
  static async open(): Promise<GatewayFixture> {
    const port = await freePort();
    const service = new TestService({ serveArgs: ["--listen-plaintext", `127.0.0.1:${port}`] });
    await service.start();
    await service.cli("app", "create", "shop");
    await service.cli("share", "create", "shop/files");
    return new GatewayFixture(service, port);
  }

  get address(): string {
    return `127.0.0.1:${this.port}`;
  }

  /** Makes a token and puts it into a file, in place of the one that may be there. */
  async token(name = "token", ...args: readonly string[]): Promise<string> {
    const { stdout } = await this.service.cli("token", "create", "shop/files", "--ops", ALL, ...args);
    const file = path.join(this.service.folder, name);
    rmSync(file, { force: true });
    writeFileSync(file, stdout, { mode: 0o600 });
    return file;
  }

  /** Mounts the share on a directory of the scratch folder. */
  async mount(name: string, tokenFile: string, ...args: readonly string[]): Promise<string> {
    const target = path.join(this.service.folder, name);
    // A mount that somebody left dead there can't be looked at.
    if (!this.#mounts.has(target)) mkdirSync(target, { recursive: true });
    this.#mounts.add(target);
    await this.cli("mount", "--service", this.address, "--token-file", tokenFile, "shop/files", target, ...args);
    return target;
  }

  /** As somebody on the node. */
  cli(...args: readonly string[]): Promise<RunResult> {
    return run(process.execPath, [MAIN, "--data", this.nodeFolder, ...args]);
  }

  cliFailure(...args: readonly string[]): Promise<RunResult> {
    return run(process.execPath, [MAIN, "--data", this.nodeFolder, ...args], { anyStatus: true });
  }

  async listed(): Promise<ListedMount[]> {
    const { stdout } = await this.cliFailure("--json", "mount");
    return stdout
      .split("\n")
      .filter((line) => line.startsWith("{"))
      .map((line) => JSON.parse(line) as ListedMount);
  }

  async stateOf(target: string): Promise<string | undefined> {
    return (await this.listed()).find((mount) => mount.target === target)?.state;
  }

  /** The supervisor and the child that serve a mount. */
  pidsOf(target: string): { readonly supervisor: number; readonly child: number } {
    for (const name of readdirSync(path.join(this.nodeFolder, "node/mounts"))) {
      if (!name.endsWith(".json")) continue;
      const state = JSON.parse(readFileSync(path.join(this.nodeFolder, "node/mounts", name), "utf8"));
      const [supervisor, child] = state.processes as readonly { pid: number }[];
      if (state.mount.target === target) return { supervisor: supervisor?.pid ?? 0, child: child?.pid ?? 0 };
    }
    return { supervisor: 0, child: 0 };
  }

  /** What the gateway of a mount has logged. */
  async logOf(target: string): Promise<string> {
    const log = (await this.listed()).find((mount) => mount.target === target)?.log;
    return log === undefined ? "" : readFileSync(log, "utf8");
  }

  async dispose(): Promise<void> {
    for (const target of this.#mounts) {
      const { supervisor, child } = this.pidsOf(target);
      for (const pid of [supervisor, child]) if (pid > 0) kill(pid);
      await run("umount", ["-l", target], { anyStatus: true });
    }
    await this.service.dispose();
  }
}

/** Kills a process if it is there. */
export function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It has ended by itself.
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", () => resolve()));
  const address = server.address();
  await new Promise<void>((resolve) => server.close(() => resolve()));
  return typeof address === "object" && address !== null ? address.port : 0;
}
