import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { run } from "../command.ts";
import { folderBytes, type Measured, measure } from "./measure.ts";
import type { BackupTool, Subject } from "./tool.ts";

/** restic, a directory as repository, defaults. */
export class Restic implements BackupTool {
  readonly name = "restic";
  readonly #home: string;
  readonly #env: Record<string, string>;

  constructor(home: string) {
    this.#home = home;
    this.#env = { RESTIC_PASSWORD: "bench", RESTIC_CACHE_DIR: join(home, "cache") };
  }

  async version(): Promise<string | undefined> {
    try {
      return (await run("restic", ["version"])).stdout.split(" ").slice(0, 2).join(" ");
    } catch {
      return undefined;
    }
  }

  async prepare(): Promise<void> {
    for (const subject of ["tree", "big"] as const) {
      mkdirSync(this.root(subject), { recursive: true });
      await run("restic", ["init", "-r", this.#repository(subject)], { env: this.#env });
    }
  }

  root(subject: Subject): string {
    return join(this.#home, "files", subject);
  }

  async settle(): Promise<void> {}
  async restart(): Promise<void> {}

  startUp(): Promise<Measured> {
    return measure("restic", ["version"]);
  }

  backup(subject: Subject): Promise<Measured> {
    return this.#measure("-q", "-r", this.#repository(subject), "backup", this.root(subject));
  }

  restoreFile(path: string, to: string): Promise<Measured> {
    const include = ["--include", join(this.root("tree"), path)];
    return this.#measure("-q", "-r", this.#repository("tree"), "restore", "latest", "--target", to, ...include);
  }

  restoreAll(to: string): Promise<Measured> {
    return this.#measure("-q", "-r", this.#repository("tree"), "restore", "latest", "--target", to);
  }

  repositoryBytes(subject: Subject): Promise<number> {
    return folderBytes(this.#repository(subject));
  }

  async close(): Promise<void> {}

  #repository(subject: Subject): string {
    return join(this.#home, `repository-${subject}`);
  }

  #measure(...args: string[]): Promise<Measured> {
    return measure("restic", args, { env: this.#env });
  }
}
