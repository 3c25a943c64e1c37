import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { GatewayProcessOptions } from "../../src/cli/gateway/run-gateway.ts";
import { TidemarkError } from "../../src/domain/errors.ts";
import { FakeAdminApi } from "../contract/fake-admin-api.ts";
import { type CliResult, cli } from "./harness.ts";

/** `mount --service`, as far as it is decided before a gateway runs, and the list of such mounts. */

let folder: string;
let data: string;
let target: string;
let token: string;
let ran: GatewayProcessOptions[];

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), "tidemark-remote-"));
  data = path.join(folder, "data");
  target = path.join(folder, "mnt");
  token = path.join(folder, "t");
  mkdirSync(target);
  writeFileSync(token, "aaaa.bbbb.cccc\n", { mode: 0o600 });
  ran = [];
});
afterEach(() => rmSync(folder, { recursive: true }));

/** In the foreground, so that nothing is started. */
function mount(...args: readonly string[]): Promise<CliResult> {
  const all = ["--data", data, "mount", "--foreground", "--service", "127.0.0.1:7400", ...args];
  const runGateway = async (options: GatewayProcessOptions): Promise<number> => {
    ran.push(options);
    return 0;
  };
  return cli(all, { uid: 0, environment: { runGateway } });
}

const states = (): string[] => {
  const mounts = path.join(data, "node/mounts");
  return existsSync(mounts) ? readdirSync(mounts).filter((name) => name.endsWith(".json")) : [];
};

describe("mount --service", () => {
  test("notes what is wanted for the gateway, without the token", async () => {
    const how = ["--soft", "30s", "--cache-bytes", "64m", "--locks", "shared", "--read-only"];
    const { code, stderr } = await mount("--token-file", token, "shop/files", target, ...how);
    expect([code, stderr]).toEqual([0, ""]);
    expect(ran).toMatchObject([{ dataFolder: data, tellsStart: false }]);
    const [file = ""] = states();
    const text = readFileSync(path.join(data, "node/mounts", file), "utf8");
    expect(text).not.toContain("bbbb");
    expect(JSON.parse(text)).toMatchObject({
      version: 1,
      id: file.slice(0, -5),
      mount: {
        service: "127.0.0.1:7400",
        tls: { kind: "plaintext" },
        tokenFile: token,
        share: { name: "files" },
        target,
        at: { kind: "now" },
        readOnly: true,
        locks: "shared",
        patience: { kind: "soft", timeoutMs: 30_000 },
        cacheBytes: 64 * 1024 * 1024,
      },
    });
  });

  test("takes hard, a gigabyte of cache and the kernel's locks for granted", async () => {
    await mount("--token-file", token, "shop/files", target, "--at", "snap:monday");
    const [file = ""] = states();
    expect(JSON.parse(readFileSync(path.join(data, "node/mounts", file), "utf8")).mount).toMatchObject({
      patience: { kind: "hard" },
      cacheBytes: 1024 ** 3,
      locks: "kernel",
      readOnly: true,
      at: { kind: "snapshot", name: "monday" },
    });
  });

  test.each([
    [2, "--token-file", []],
    [2, "a file", ["--token-file", "-"]],
    [2, "HOST:PORT", ["--token-file", "T", "--service", "nonsense"]],
    [2, "--hard or --soft", ["--token-file", "T", "--hard", "--soft", "5s"]],
    [2, "--soft", ["--token-file", "T", "--soft", "0s"]],
    [2, "16m", ["--token-file", "T", "--cache-bytes", "1m"]],
    [2, "kernel or shared", ["--token-file", "T", "--locks", "mine"]],
    [2, "--persist", ["--token-file", "T", "--persist"]],
    [2, "--tls-key", ["--token-file", "T", "--tls-cert", "c"]],
    [3, "token", ["--token-file", "none"]],
    [5, "node join", ["--token-file", "T", "--service", "10.0.0.1:7400"]],
  ])('exits with %i and says "%s" for what can\'t be meant', async (code, words, args) => {
    const result = await mount(...args.map((arg) => (arg === "T" ? token : arg)), "shop/files", target);
    expect([result.code, result.stderr]).toEqual([code, expect.stringContaining(words)]);
    expect([ran, states()]).toEqual([[], []]);
  });

  test("needs root, and says so before it looks at anything", async () => {
    const args = ["mount", "--service", "127.0.0.1:7400", "--token-file", "none", "shop/files", target];
    const { code, stderr } = await cli(["--data", data, ...args], { uid: 1000 });
    expect([code, stderr]).toEqual([6, expect.stringContaining("root")]);
  });
});

describe("the list of mounts", () => {
  test("has those whose gateways are gone, without a service on this machine", async () => {
    await mount("--token-file", token, "shop/files", target);
    const [file = ""] = states();
    const state = path.join(data, "node/mounts", file);
    writeFileSync(state, readFileSync(state, "utf8").replace(/"startTicks": "\d+"/, '"startTicks": "1"'));
    const api = new FakeAdminApi();
    api.stream = async function* () {
      yield await Promise.reject(new TidemarkError("UNAVAILABLE", "no service"));
    };
    const { code, stdout } = await cli(["--data", data, "--json", "mount"], { api });
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      share: "shop/files",
      target,
      service: "127.0.0.1:7400",
      state: "down",
      patience: "hard",
    });
    const plain = await cli(["--data", data, "mount"], { api });
    expect(plain.stdout.split("\t").slice(0, 3)).toEqual([target, "shop/files", "down"]);
    const umount = await cli(["--data", data, "umount", target], { api, uid: 0 });
    expect([umount.code, umount.stdout]).toEqual([0, expect.stringContaining("Unmounted shop/files")]);
    expect(states()).toEqual([]);
  });

  test("tells of a damaged state file, and goes on", async () => {
    mkdirSync(path.join(data, "node/mounts"), { recursive: true });
    writeFileSync(path.join(data, "node/mounts/x.json"), "{");
    const { code, stderr, stdout } = await cli(["--data", data, "mount"]);
    expect([code, stderr]).toEqual([0, expect.stringContaining("x.json is damaged")]);
    expect(stdout).not.toBe("");
  });
});
