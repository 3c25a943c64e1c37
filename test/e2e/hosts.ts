import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { type RunOptions, type RunResult, run } from "./run.ts";

const MAIN = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));

/** How long a start may take on a loaded machine before the test says that it hangs. */
const START_TIMEOUT_MS = 60_000;

/** The port of the service in these tests. */
export const PORT = 7400;

/**
 * Several hosts on this machine: a network namespace for each, joined by a bridge. They share kernel, processes and files, so a host is no more than its network: what runs in it reaches the others by it alone.
 */
export class Hosts {
  readonly folder = mkdtempSync(path.join(tmpdir(), "tidemark-hosts-"));
  readonly hosts: Host[] = [];
  readonly #id = randomBytes(2).toString("hex");

  static async make(count: number): Promise<Hosts> {
    const hosts = new Hosts();
    try {
      await hosts.#make(count);
      return hosts;
    } catch (error) {
      await hosts.close();
      throw error;
    }
  }

  get bridge(): string {
    return `tmb${this.#id}`;
  }

  host(index: number): Host {
    const host = this.hosts[index];
    if (host === undefined) throw new Error(`there is no host ${index}`);
    return host;
  }

  async close(): Promise<void> {
    for (const host of this.hosts) await host.stop();
    for (const host of this.hosts) await run("ip", ["netns", "delete", host.namespace], { anyStatus: true });
    await run("ip", ["link", "delete", this.bridge], { anyStatus: true });
    rmSync(this.folder, { recursive: true, force: true });
  }

  async #make(count: number): Promise<void> {
    await ip("link", "add", this.bridge, "type", "bridge");
    await ip("link", "set", this.bridge, "up");
    for (let index = 0; index < count; index++) {
      const namespace = `tm${this.#id}-${index}`;
      const port = `tm${this.#id}p${index}`;
      const address = `10.77.${Number.parseInt(this.#id.slice(0, 2), 16)}.${index + 1}`;
      await ip("netns", "add", namespace);
      const host = new Host({ folder: path.join(this.folder, `host${index}`), namespace, port, address, hosts: this });
      this.hosts.push(host);
      await ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", namespace);
      await ip("link", "set", port, "master", this.bridge, "up");
      await ip("-n", namespace, "addr", "add", `${address}/24`, "dev", "eth0");
      await ip("-n", namespace, "link", "set", "lo", "up");
      await ip("-n", namespace, "link", "set", "eth0", "up");
    }
  }
}

type HostParts = {
  readonly folder: string;
  readonly namespace: string;
  /** The bridge's end of its cable. */
  readonly port: string;
  readonly address: string;
  readonly hosts: Hosts;
};

/** One host: its address, its data folder, and what runs on it. */
export class Host {
  readonly namespace: string;
  readonly address: string;
  readonly folder: string;
  readonly #parts: HostParts;
  readonly #mounts = new Set<string>();
  #service: ChildProcess | undefined;
  #log = "";

  constructor(parts: HostParts) {
    this.#parts = parts;
    this.namespace = parts.namespace;
    this.address = parts.address;
    this.folder = parts.folder;
    mkdirSync(this.folder, { recursive: true });
  }

  get data(): string {
    return path.join(this.folder, "data");
  }

  get log(): string {
    return this.#log;
  }

  /** Runs a command with this host's network. */
  async run(command: string, args: readonly string[], options: RunOptions = {}): Promise<RunResult> {
    return await run("nsenter", [`--net=/var/run/netns/${this.namespace}`, "--", command, ...args], options);
  }

  async cli(...args: readonly string[]): Promise<RunResult> {
    return await this.run(process.execPath, [MAIN, "--data", this.data, ...args]);
  }

  async cliFailure(...args: readonly string[]): Promise<RunResult> {
    return await this.run(process.execPath, [MAIN, "--data", this.data, ...args], { anyStatus: true });
  }

  /** A command that goes on until it is stopped. `output`: what it has written so far. */
  start(...args: readonly string[]): { readonly output: string; stop(): Promise<void> } {
    const command = [
      `--net=/var/run/netns/${this.namespace}`,
      "--",
      process.execPath,
      MAIN,
      "--data",
      this.data,
      ...args,
    ];
    const child = spawn("nsenter", command, { stdio: ["ignore", "pipe", "inherit"] });
    const started = { output: "", stop: () => endOf(child) };
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      started.output += text;
    });
    return started;
  }

  /** The cable is cut: nothing comes, nothing goes, and nobody is told. */
  async cut(): Promise<void> {
    await ip("link", "set", this.#parts.port, "nomaster");
  }

  async mend(): Promise<void> {
    await ip("link", "set", this.#parts.port, "master", this.#parts.hosts.bridge);
  }

  /** `tidemark serve` on this host, for the others. */
  async serve(...args: readonly string[]): Promise<void> {
    const listen = ["--listen", `${this.address}:${PORT}`, ...args];
    const command = [process.execPath, MAIN, "--data", this.data, "serve", ...listen];
    const child = spawn("nsenter", [`--net=/var/run/netns/${this.namespace}`, "--", ...command], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    this.#service = child;
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`the service did not start:\n${this.#log}`)), START_TIMEOUT_MS);
      const mark = this.#log.length;
      child.stderr?.setEncoding("utf8").on("data", (text: string) => {
        this.#log += text;
        if (this.#log.indexOf('"msg":"serving"', mark) === -1) return;
        clearTimeout(timer);
        resolve();
      });
      child.once("exit", (code) => {
        clearTimeout(timer);
        reject(new Error(`the service ended with ${code}:\n${this.#log}`));
      });
    });
  }

  /** Kills the service process (not its supervisor, which starts the next). */
  async killService(): Promise<void> {
    const [pid] = await childrenOf(this.#service?.pid ?? 0);
    if (pid !== undefined) process.kill(pid, "SIGKILL");
  }

  /** Becomes a node of the service of `other`. */
  async join(other: Host, name: string): Promise<void> {
    const { stdout } = await other.cli("node", "invite", name);
    const ticket = path.join(this.folder, "ticket");
    writeFileSync(ticket, stdout, { mode: 0o600 });
    await this.cli("node", "join", `${other.address}:${PORT}`, "--ticket", ticket);
  }

  /** A file with a token of the service of `other`. */
  async token(other: Host, share: string, ops: string, ...args: readonly string[]): Promise<string> {
    const { stdout } = await other.cli("token", "create", share, "--ops", ops, ...args);
    const file = path.join(this.folder, `token-${randomBytes(3).toString("hex")}`);
    writeFileSync(file, stdout, { mode: 0o600 });
    return file;
  }

  /** Mounts a share of the service of `other`; answers where. */
  async mount(other: Host, share: string, token: string, ...args: readonly string[]): Promise<string> {
    const target = path.join(this.folder, `mnt${this.#mounts.size}`);
    mkdirSync(target, { recursive: true });
    await this.cli("mount", "--service", `${other.address}:${PORT}`, "--token-file", token, share, target, ...args);
    this.#mounts.add(target);
    return target;
  }

  async umount(target: string): Promise<void> {
    await this.cli("umount", target);
    this.#mounts.delete(target);
  }

  /** Kills the processes that serve this host's mounts; their supervisors start the next ones. */
  killGateways(): void {
    const pids = readdirSync("/proc").filter((name) => /^[0-9]+$/.test(name) && this.#isGateway(name));
    if (pids.length === 0) throw new Error(`no gateway of ${this.data} runs`);
    for (const pid of pids) process.kill(Number(pid), "SIGKILL");
  }

  #isGateway(pid: string): boolean {
    try {
      const options = readFileSync(`/proc/${pid}/environ`, "latin1");
      return (
        readFileSync(`/proc/${pid}/cmdline`, "latin1").includes("gateway-main.ts") && options.includes(`${this.data}"`)
      );
    } catch {
      // It has ended meanwhile.
      return false;
    }
  }

  async stop(): Promise<void> {
    await this.mend().catch(() => {});
    for (const target of this.#mounts) {
      await run("umount", ["-l", target], { anyStatus: true });
    }
    const child = this.#service;
    this.#service = undefined;
    if (child !== undefined) await endOf(child);
  }
}

/** nsenter becomes the command it runs: this is the command itself, or the service's supervisor. */
async function endOf(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGTERM");
  await ended;
}

async function ip(...args: readonly string[]): Promise<void> {
  await run("ip", [...args]);
}

async function childrenOf(pid: number): Promise<number[]> {
  const { stdout } = await run("pgrep", ["-P", String(pid)], { anyStatus: true });
  return stdout.split("\n").filter(Boolean).map(Number);
}
