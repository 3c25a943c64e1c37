import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { run } from "../command.ts";
import { folderBytes, type Measured, measure } from "./measure.ts";
import type { BackupTool, Subject } from "./tool.ts";

/** Borg, a directory as repository, encrypted, defaults else (lz4). */
export class Borg implements BackupTool {
  readonly name = "borg";
  readonly #home: string;
  readonly #env: Record<string, string>;
  #archives = 0;

  constructor(home: string) {
    this.#home = home;
    this.#env = {
      BORG_PASSPHRASE: "bench",
      BORG_BASE_DIR: join(home, "base"),
      BORG_RELOCATED_REPO_ACCESS_IS_OK: "yes",
    };
  }

  async version(): Promise<string | undefined> {
    try {
      return (await run("borg", ["--version"])).stdout.trim();
    } catch {
      return undefined;
    }
  }

  async prepare(): Promise<void> {
    mkdirSync(join(this.#home, "base"), { recursive: true });
    for (const subject of ["tree", "big"] as const) {
      mkdirSync(this.root(subject), { recursive: true });
      await run("borg", ["init", "-e", "repokey", this.#repository(subject)], { env: this.#env });
    }
  }

  root(subject: Subject): string {
    return join(this.#home, "files", subject);
  }

  async settle(): Promise<void> {}
  async restart(): Promise<void> {}

  startUp(): Promise<Measured> {
    return measure("borg", ["--version"]);
  }

  backup(subject: Subject): Promise<Measured> {
    this.#archives += 1;
    return this.#measure(this.root(subject), "create", `${this.#repository(subject)}::a${this.#archives}`, ".");
  }

  async restoreFile(path: string, to: string): Promise<Measured> {
    return this.#measure(to, "extract", `${this.#repository("tree")}::${await this.#latest("tree")}`, path);
  }

  async restoreAll(to: string): Promise<Measured> {
    return this.#measure(to, "extract", `${this.#repository("tree")}::${await this.#latest("tree")}`);
  }

  repositoryBytes(subject: Subject): Promise<number> {
    return folderBytes(this.#repository(subject));
  }

  async close(): Promise<void> {}

  #repository(subject: Subject): string {
    return join(this.#home, `repository-${subject}`);
  }

  async #latest(subject: Subject): Promise<string> {
    const { stdout } = await run("borg", ["list", "--short", "--last", "1", this.#repository(subject)], {
      env: this.#env,
    });
    return stdout.trim();
  }

  #measure(cwd: string, ...args: string[]): Promise<Measured> {
    return measure("borg", args, { env: this.#env, cwd });
  }
}
