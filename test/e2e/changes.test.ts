import { type ChildProcess, spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Random } from "../model/random.ts";
import { freePort } from "../support/test-tool.ts";
import { TestService } from "./fixture.ts";
import { skipWithout } from "./requirements.ts";
import { shell } from "./run.ts";

const skipped = skipWithout();

/** Run with SEED to play one run again. */
const SEED = Number(process.env["SEED"] ?? Math.floor(Math.random() * 2 ** 32));

const MAIN = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));

type Line = {
  readonly lsn?: number;
  readonly op?: string;
  readonly paths?: string[];
  readonly cursor?: { readonly lsn: number };
  readonly app?: string;
};

/** A program that follows the feed, and keeps nothing but what it has read whole lines of. */
class Follower {
  readonly seen: Line[] = [];
  cursor = 0;
  #child: ChildProcess | undefined;
  #waiters: (() => void)[] = [];
  readonly #args: readonly string[];

  constructor(args: readonly string[]) {
    this.#args = args;
  }

  start(): void {
    const args = [MAIN, ...this.#args, "changes", "shop/files", "--follow", "--json", "--from", `lsn:${this.cursor}`];
    const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "ignore"] });
    this.#child = child;
    createInterface({ input: child.stdout }).on("line", (text) => {
      // What a dead process left in the pipe counts for nothing: its successor reads it again.
      if (this.#child === child) this.#take(text);
    });
  }

  async kill(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child === undefined) return;
    const ended = new Promise((resolve) => child.once("close", resolve));
    child.kill("SIGKILL");
    await ended;
  }

  /** Resolves when it has come as far as `lsn`. */
  async reached(lsn: number): Promise<void> {
    while (this.cursor < lsn) await new Promise<void>((resolve) => this.#waiters.push(resolve));
  }

  /** Resolves when there was anything new. */
  async moved(): Promise<void> {
    await this.reached(this.cursor + 1);
  }

  #take(text: string): void {
    const line = parsed(text);
    // The line that was being written when it was killed.
    if (line === undefined) return;
    if (line.lsn !== undefined) this.seen.push(line);
    this.cursor = line.lsn ?? line.cursor?.lsn ?? this.cursor;
    for (const waiter of this.#waiters.splice(0)) waiter();
  }
}

function parsed(text: string): Line | undefined {
  try {
    return JSON.parse(text) as Line;
  } catch {
    return undefined;
  }
}

describe.skipIf(skipped)("the change feed of a service", { timeout: 180_000 }, () => {
  let service: TestService;
  let mount: string;
  let address: string;

  beforeAll(async () => {
    address = `127.0.0.1:${await freePort()}`;
    ({ service, mount } = await TestService.withShare({ serveArgs: ["--listen-plaintext", address] }));
  });
  afterAll(async () => service.dispose());

  async function lines(...args: readonly string[]): Promise<Line[]> {
    const { stdout } = await service.cli("changes", ...args, "--json");
    return stdout
      .trim()
      .split("\n")
      .map((text) => JSON.parse(text) as Line);
  }

  test("a follower that is killed and goes on has every record once, though the service dies too", async () => {
    console.log(`SEED=${SEED}`);
    const random = new Random(SEED);
    const follower = new Follower(["--data", service.dataFolder]);
    follower.start();
    for (let round = 0; round < 6; round++) {
      const work = shell(
        `mkdir -p ${mount}/r${round} && cd ${mount}/r${round} && for i in $(seq 60); do echo $i > f$i; mv f$i g$i; done; rm -r ${mount}/r${round}; touch ${mount}/after${round}; sync ${mount}/after${round}`,
      );
      for (let left = random.below(3); left > 0; left--) {
        await follower.moved();
        await follower.kill();
        follower.start();
      }
      if (random.oneIn(2)) process.kill(service.servicePid, "SIGKILL");
      await work;
    }
    const last = await service.lastLsn();
    await shell(`touch ${mount}/end && sync ${mount}/end`);
    await follower.reached(last);
    await follower.kill();
    const all = (await lines("shop/files")).filter(({ lsn }) => lsn !== undefined);
    expect(follower.seen.filter(({ lsn = 0 }) => lsn <= last)).toEqual(all.filter(({ lsn = 0 }) => lsn <= last));
    expect(all.length).toBeGreaterThan(6 * 60 * 3);
  });

  test("a range ends with the cursor to go on from; filters leave the cursor right", async () => {
    const range = await lines("shop", "--from", "lsn:10", "--to", "lsn:20");
    expect(range.filter(({ lsn }) => lsn !== undefined).map(({ lsn }) => lsn)).toEqual([
      11, 12, 13, 14, 15, 16, 17, 18, 19, 20,
    ]);
    const filtered = await lines("shop", "--share", "files", "--path", "nowhere", "--op", "write", "--to", "lsn:20");
    expect(filtered).toEqual([expect.objectContaining({ cursor: expect.objectContaining({ lsn: 20 }) as object })]);
    const { stderr } = await service.cli("changes", "shop", "--to", "lsn:20");
    expect(stderr).toContain("Next: --from lsn:20");
    const beyond = await service.cliWith({ anyStatus: true }, "changes", "shop", "--from", "lsn:99999999");
    expect([beyond.status, beyond.stderr]).toEqual([5, expect.stringContaining("begin again") as string]);
  });

  test("over the network a token decides: what it is for, how deep, and how long", async () => {
    await shell(
      `mkdir -p ${mount}/a/public && echo 1 > ${mount}/a/public/seen && echo 1 > ${mount}/a/unseen && mv ${mount}/a/unseen ${mount}/a/public/came && sync ${mount}/a`,
    );
    const token = async (name: string, ...args: readonly string[]): Promise<string[]> => {
      const file = path.join(service.folder, name);
      writeFileSync(file, (await service.cli("token", "create", "shop/files", ...args)).stdout, { mode: 0o600 });
      return ["--service", address, "--plaintext", "--token-file", file];
    };
    const whole = await token("whole", "--ops", "history");
    expect(await lines("shop/files", ...whole)).toEqual(await lines("shop/files"));
    const part = await token("part", "--ops", "history", "--path", "/a/public");
    const seen = (await lines("shop/files", ...part)).filter(({ lsn }) => lsn !== undefined);
    expect(new Set(seen.flatMap(({ paths = [] }) => paths))).toEqual(new Set(["seen"]));
    expect(JSON.stringify(seen)).not.toContain("unseen");
    const { stdout } = await service.cli("delta", "shop/files", "--from", "lsn:5", "--paths", ...part);
    expect(stdout.trim().split("\n").sort()).toEqual([".", "came", "seen"]);
    const other = await token("other", "--ops", "read,list");
    const refused = await service.cliWith({ anyStatus: true }, "changes", "shop/files", ...other);
    expect([refused.status, refused.stderr]).toEqual([6, expect.stringContaining("history") as string]);
    const app = await service.cliWith({ anyStatus: true }, "changes", "shop", ...whole);
    expect([app.status, app.stderr]).toEqual([6, expect.stringContaining("whole app") as string]);
    const following = service.cliWith({ anyStatus: true }, "changes", "shop/files", "--follow", ...whole);
    await service.cli("token", "revoke", "--app", "shop");
    const ended = await following;
    expect([ended.status, ended.stderr]).toEqual([6, expect.stringContaining("revoked") as string]);
  });

  test("a deleted app still has its feed", async () => {
    const before = await lines("shop/files");
    await service.umount(mount);
    const { app = "", cursor } = before.at(-1) ?? {};
    await service.cli("app", "delete", "shop");
    const after = await lines(`shop@${app.slice(0, 12)}/files`, "--to", `lsn:${cursor?.lsn}`);
    expect(after).toEqual(before);
    expect(after.length).toBeGreaterThan(1);
  });
});
