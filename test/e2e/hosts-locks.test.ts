import { type ChildProcess, spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { type Host, Hosts } from "./hosts.ts";
import { skipWithout } from "./requirements.ts";
import { run } from "./run.ts";

const ALL = "list,read,create,append,write,delete,setattr,history";

describe.skipIf(skipWithout("ip", "nsenter", "flock"))("locks shared by hosts", () => {
  let hosts: Hosts;
  let service: Host;
  const mounts: string[] = [];
  const holders: ChildProcess[] = [];

  beforeAll(async () => {
    hosts = await Hosts.make(3);
    service = hosts.host(0);
    await service.serve();
    await service.cli("app", "create", "shop");
    await service.cli("share", "create", "shop/files");
    for (const index of [1, 2]) {
      const host = hosts.host(index);
      await host.join(service, `node${index}`);
      const token = await host.token(service, "shop/files", ALL);
      mounts.push(await host.mount(service, "shop/files", token, "--locks", "shared"));
    }
    writeFileSync(at(0, "file"), "x");
  }, 180_000);

  afterAll(async () => {
    for (const holder of holders) holder.kill("SIGKILL");
    await hosts?.close();
  });

  const at = (host: number, name: string): string => path.join(mounts[host] ?? "", name);

  /** Holds a lock on a host's file until it is told to let go. */
  async function hold(host: number): Promise<{ release(): Promise<void> }> {
    const child = spawn("flock", [at(host, "file"), "sh", "-c", "echo held; read line"], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    holders.push(child);
    await new Promise((resolve) => child.stdout.once("data", resolve));
    const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
    return {
      release: () => {
        child.stdin.end("\n");
        return ended;
      },
    };
  }

  const isFree = async (host: number): Promise<boolean> =>
    (await run("flock", ["--nonblock", at(host, "file"), "true"], { anyStatus: true })).status === 0;

  test("a lock of one host keeps the other out until it is given back, and a waiting host gets it then", async () => {
    const held = await hold(0);
    expect(await isFree(1)).toBe(false);
    const waiting = run("flock", [at(1, "file"), "echo", "got it"]);
    await held.release();
    expect((await waiting).stdout).toBe("got it\n");
    // The kernel says that a file was closed when it has time for it.
    await vi.waitFor(async () => expect(await isFree(0)).toBe(true));
  });

  test("a lock survives a kill -9 of its gateway, and of the service", async () => {
    const held = await hold(0);
    hosts.host(1).killGateways();
    expect(await isFree(1)).toBe(false);
    await service.killService();
    expect(await isFree(1)).toBe(false);
    await held.release();
    await vi.waitFor(async () => expect(await isFree(1)).toBe(true));
  }, 120_000);

  test("a node that is cut off for longer than its lease while it waits for a lock gets none; back again it waits on, and gets it", async () => {
    const held = await hold(1);
    const waiting = run("flock", [at(0, "file"), "echo", "got it"]);
    let over = false;
    void waiting.then(() => {
      over = true;
    });
    // What was asked before this is with the service by then.
    await run("stat", ["-f", mounts[0] ?? ""]);
    await hosts.host(1).cut();
    // A change of what the node has in its cache returns when its lease is over.
    await run("sh", ["-c", `echo changed > ${at(1, "file")}`]);
    await held.release();
    expect([await isFree(1), over]).toEqual([true, false]);
    await hosts.host(1).mend();
    expect((await waiting).stdout).toBe("got it\n");
    expect(await isFree(1)).toBe(true);
  }, 120_000);

  test("who gives up waiting on a node that is cut off leaves no lock behind", async () => {
    const held = await hold(1);
    const waiting = spawn("flock", [at(0, "file"), "true"], { stdio: "inherit" });
    const gone = new Promise<void>((resolve) => waiting.once("exit", () => resolve()));
    await expect
      .poll(() => readFileSync(`/proc/${waiting.pid}/wchan`, "utf8"), { timeout: 20_000 })
      .toMatch(/request_wait/);
    await run("stat", ["-f", mounts[0] ?? ""]);
    await hosts.host(1).cut();
    waiting.kill("SIGKILL");
    await gone;
    await hosts.host(1).mend();
    await run("stat", ["-f", mounts[0] ?? ""]);
    await held.release();
    expect([await isFree(0), await isFree(1)]).toEqual([true, true]);
  }, 120_000);

  test("a lock goes with a node that vanishes, after its lease, and that node can't go on as if it had it", async () => {
    const held = await hold(0);
    await hosts.host(1).cut();
    const { stdout } = await run("flock", [at(1, "file"), "sh", "-c", `echo mine > ${at(1, "file")}; echo got it`]);
    expect(stdout).toBe("got it\n");
    await hosts.host(1).mend();
    const result = await run("sh", ["-c", `echo stale > ${at(0, "file")}`], { anyStatus: true });
    expect(result.status).not.toBe(0);
    expect(readFileSync(at(1, "file"), "utf8")).toBe("mine\n");
    await held.release();
  }, 120_000);
});
