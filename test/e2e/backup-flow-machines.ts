import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, readdirSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { vi } from "vitest";
import type { BackupStatus } from "../../src/domain/admin-backup.ts";
import { TestService } from "./fixture.ts";
import { type RunResult, run, shell } from "./run.ts";

const MAIN = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));

/** Everything rsync can see: bytes, modes, owners, times, links, devices, ACLs, xattrs. Prints what differs. */
const DIFFERENCES = "rsync -aHAXnci --delete";

/** Kind, link count and target of every name but the directories', whose link counts and sizes are up to the file system. */
const LINKS = "find . ! -type d -printf '%P %y %n %s %l\\n' | sort";

/** How long something may take to become protected on a loaded machine, the longest wait between two tries of a store included. */
const PROTECTED_MS_MAX = 120_000;

/** Where a repository is, and what a machine needs to reach it. */
export type Place = { readonly address: string; readonly env: Readonly<Record<string, string>> };

/** The machine that is backed up: a service with share "shop/files" mounted, and a repository. */
export class BackedUpMachine {
  readonly service: TestService;
  readonly mount: string;
  readonly place: Place;
  /** The user's copy of the key, outside of the data folder. */
  readonly keyFile: string;

  private constructor(service: TestService, mount: string, place: Place, keyFile: string) {
    this.service = service;
    this.mount = mount;
    this.place = place;
    this.keyFile = keyFile;
  }

  /** Starts it, and makes the repository; the app isn't backed up yet. `place` gets the scratch folder. */
  static async start(place: (folder: string) => Place, serveArgs: readonly string[] = []): Promise<BackedUpMachine> {
    const { service, mount } = await TestService.withShare({ serveArgs });
    const machine = new BackedUpMachine(service, mount, place(service.folder), path.join(service.folder, "user.key"));
    const { address, env } = machine.place;
    await service.cliWith({ env }, "repo", "init", address, "--key-file", machine.keyFile);
    return machine;
  }

  async status(): Promise<BackupStatus> {
    return this.service.json<BackupStatus>("backup", "status");
  }

  /** Waits until everything until now is protected, without asking for it to be shipped; answers the newest LSN. */
  async untilProtected(): Promise<number> {
    const wanted = await this.service.lastLsn();
    await vi.waitFor(
      async () => {
        const { protected: reached, state, message } = await this.status();
        const lsn = reached?.lsn ?? 0;
        if (lsn < wanted) throw new Error(`lsn ${lsn} of ${wanted} is protected (${state} ${message ?? ""})`);
      },
      { timeout: PROTECTED_MS_MAX, interval: 300 },
    );
    return wanted;
  }

  /** A command `tidemark repo ...` on another machine: with the address, the credentials and the user's key, and nothing else. */
  elsewhere(...args: readonly string[]): Promise<RunResult> {
    return run(process.execPath, [MAIN, ...this.#elsewhereArgs(args)], { env: this.#elsewhereEnv });
  }

  /** As `elsewhere`, with other variables; it may fail. */
  elsewhereTry(env: Readonly<Record<string, string>>, ...args: readonly string[]): Promise<RunResult> {
    const options = { env: { ...this.#elsewhereEnv, ...env }, anyStatus: true };
    return run(process.execPath, [MAIN, ...this.#elsewhereArgs(args)], options);
  }

  /** A service on a new data folder that was recovered from the repository, not started yet. */
  async recover(name: string, ...args: readonly string[]): Promise<TestService> {
    const dataFolder = path.join(this.service.folder, name);
    await this.elsewhere("recover", "--into", dataFolder, ...args);
    return new TestService({ dataFolder });
  }

  /** Begins as `recover` does, and kills it as soon as so many files are in the new data folder; true if it had not ended by then. */
  async recoverKilled(name: string, fileCount: number): Promise<boolean> {
    const dataFolder = path.join(this.service.folder, name);
    const args = this.#elsewhereArgs(["recover", "--into", dataFolder]);
    const child = spawn(process.execPath, [MAIN, ...args], {
      stdio: "ignore",
      env: { ...process.env, ...this.#elsewhereEnv },
    });
    const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
    while (child.exitCode === null && filesBelow(dataFolder) < fileCount)
      await new Promise((resolve) => setTimeout(resolve, 5));
    child.kill("SIGKILL");
    await ended;
    return child.signalCode === "SIGKILL";
  }

  /** `repo mount` of the share on another machine, for as long as `use` takes; it is ended by Ctrl-C. */
  async mountElsewhere(at: string | undefined, use: (mount: string) => Promise<void>): Promise<void> {
    const target = path.join(this.service.folder, "repo-mount");
    mkdirSync(target, { recursive: true });
    const when = at === undefined ? [] : ["--at", at];
    const child = spawn(process.execPath, [MAIN, ...this.#elsewhereArgs(["mount", "shop/files", target, ...when])], {
      env: { ...process.env, ...this.#elsewhereEnv },
    });
    const ended = new Promise<number | null>((resolve) => child.once("exit", (code) => resolve(code)));
    try {
      await untilMounted(child);
      await use(target);
    } finally {
      child.kill("SIGINT");
    }
    const code = await ended;
    if (code !== 0) throw new Error(`repo mount ended with ${code}`);
  }

  #elsewhereArgs(args: readonly string[]): readonly string[] {
    return ["--data", path.join(this.service.folder, "no-data-folder"), "repo", ...args];
  }

  get #elsewhereEnv(): Record<string, string> {
    const { address, env } = this.place;
    const cache = path.join(this.service.folder, "cache-elsewhere");
    return { ...env, TIDEMARK_REPO: address, TIDEMARK_KEY_FILE: this.keyFile, XDG_CACHE_HOME: cache };
  }
}

/** What differs between two trees, for rsync and for tar, which also sees which names are links of one file; empty when nothing does. */
export async function differences(original: string, other: string): Promise<string> {
  const { stdout } = await shell(`
    ${DIFFERENCES} ${original}/ ${other}/
    tar -C ${original} --numeric-owner -cf - . | tar -C ${other} --numeric-owner --compare -f - 2>&1 || true
    diff <(cd ${original} && ${LINKS}) <(cd ${other} && ${LINKS}) || true`);
  return stdout;
}

/** Takes a copy of a tree that is at rest, on a file system that isn't ours. */
export async function copyTree(from: string, to: string): Promise<void> {
  await shell(`rsync -aHAXS ${from}/ ${to}/`);
}

function filesBelow(folder: string): number {
  try {
    return readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()).length;
  } catch {
    // Not there yet, or a folder in it went away meanwhile.
    return 0;
  }
}

function untilMounted(child: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    let said = "";
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      said += text;
    });
    child.stdout?.once("data", () => resolve());
    child.once("exit", (code) => reject(new Error(`repo mount ended with ${code}: ${said}`)));
  });
}
