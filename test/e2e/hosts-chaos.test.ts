import { type ChildProcess, spawn } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Random } from "../model/random.ts";
import { Hosts } from "./hosts.ts";
import { skipWithout } from "./requirements.ts";

const ALL = "list,read,create,append,write,delete,setattr,history";
const WORKER = fileURLToPath(new URL("./hosts-worker.py", import.meta.url));

/** Misfortunes, one after the other: CHAOS_ROUNDS=50 for a night. */
const ROUNDS = Number(process.env["CHAOS_ROUNDS"] ?? 5);
const SEED = Number(process.env["SEED"] ?? Math.floor(Math.random() * 2 ** 31));

/** Between misfortunes, and how long a cable is out: some shorter than a lease, some longer. */
const PAUSE_MS = 2_000;
const CUTS_MS = [500, 3_000, 12_000];

type Model = { readonly files: Readonly<Record<string, string>>; readonly lines: number };

describe.skipIf(skipWithout("ip", "nsenter", "python3"))("three hosts at work on one share", () => {
  let hosts: Hosts;
  const mounts: string[] = [];
  const children: ChildProcess[] = [];

  beforeAll(async () => {
    hosts = await Hosts.make(3);
    const service = hosts.host(0);
    await service.serve();
    await service.cli("app", "create", "shop");
    await service.cli("share", "create", "shop/files");
    for (const index of [1, 2]) {
      const host = hosts.host(index);
      await host.join(service, `node${index}`);
      mounts.push(await host.mount(service, "shop/files", await host.token(service, "shop/files", ALL)));
    }
    const local = path.join(service.folder, "mnt");
    mkdirSync(local);
    await service.cli("mount", "shop/files", local);
    mounts.push(local);
  }, 180_000);

  afterAll(async () => {
    for (const child of children) child.kill("SIGKILL");
    await hosts
      ?.host(0)
      .cli("umount", "--lazy", mounts[2] ?? "")
      .catch(() => {});
    await hosts?.close();
  }, 120_000);

  test(
    "go on through partitions and kills of service and gateways: nothing acknowledged is lost, and all see the same",
    async () => {
      console.log(`SEED=${SEED} CHAOS_ROUNDS=${ROUNDS}`);
      const random = new Random(SEED);
      const workers = mounts.map((mount, number) => work(mount, number, SEED + number));
      for (let round = 0; round < ROUNDS; round++) {
        await pause(PAUSE_MS);
        await misfortune(random.below(3), random);
      }
      await pause(PAUSE_MS);
      const models = await Promise.all(workers.map((worker) => worker.finish()));
      for (const [number, model] of models.entries()) for (const mount of mounts) compare(mount, number, model);
      const log = readFileSync(path.join(mounts[0] ?? "", "shared-log"), "utf8")
        .trimEnd()
        .split(/ *\n/);
      const expected = models.flatMap(({ lines }, number) =>
        Array.from({ length: lines }, (_, line) => `worker ${number} line ${line + 1}`),
      );
      expect(log.toSorted()).toEqual(expected.toSorted());
    },
    120_000 + ROUNDS * 30_000,
  );

  async function misfortune(kind: number, random: Random): Promise<void> {
    const host = hosts.host(1 + random.below(2));
    if (kind === 0) return await hosts.host(0).killService();
    if (kind === 1) return host.killGateways();
    await host.cut();
    await pause(CUTS_MS[random.below(CUTS_MS.length)] ?? 0);
    await host.mend();
  }

  function work(mount: string, number: number, seed: number): { finish(): Promise<Model> } {
    const child = spawn("python3", [WORKER, mount, String(number), String(seed)], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    children.push(child);
    let output = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      output += text;
    });
    const ended = new Promise<number | null>((resolve) => child.once("close", resolve));
    return {
      finish: async () => {
        child.stdin.on("error", () => {});
        child.stdin.end();
        expect(await ended).toBe(0);
        return JSON.parse(output) as Model;
      },
    };
  }
});

function compare(mount: string, number: number, model: Model): void {
  const folder = path.join(mount, `own${number}`);
  expect(readdirSync(folder).toSorted()).toEqual(Object.keys(model.files).toSorted());
  for (const [name, content] of Object.entries(model.files))
    expect(readFileSync(path.join(folder, name)).equals(Buffer.from(content, "hex")), `${folder}/${name}`).toBe(true);
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
