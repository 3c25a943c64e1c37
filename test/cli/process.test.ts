import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { AdminServer } from "../../src/rpc/admin-server.ts";
import * as sample from "../contract/admin-samples.ts";
import { FakeAdminApi } from "../contract/fake-admin-api.ts";

/** The command as people run it: a process of its own, against a service in this one. */

let folder: string;
let command: string;
let server: AdminServer;
let api: FakeAdminApi;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "tidemark-process-"));
  command = join(folder, "linked");
  symlinkSync(join(import.meta.dirname, "../../bin/tidemark"), command);
  api = new FakeAdminApi();
  server = await AdminServer.listen({ api, socketPath: join(folder, "admin.sock"), onDefect: () => {} });
});

afterAll(async () => {
  await server.close({ graceMs: 100 });
  rmSync(folder, { recursive: true });
});

type Ended = { readonly code: number | null; readonly stdout: string; readonly stderr: string };

function start(args: readonly string[], dataFolder = folder): ChildProcess & { readonly result: Promise<Ended> } {
  const child = spawn(command, args, { env: { PATH: process.env["PATH"] ?? "", TIDEMARK_DATA: dataFolder }, cwd: "/" });
  const chunks = { stdout: [] as Buffer[], stderr: [] as Buffer[] };
  child.stdout.on("data", (chunk: Buffer) => chunks.stdout.push(chunk));
  child.stderr.on("data", (chunk: Buffer) => chunks.stderr.push(chunk));
  const result = once(child, "close").then(([code]): Ended => {
    const [stdout, stderr] = [Buffer.concat(chunks.stdout).toString(), Buffer.concat(chunks.stderr).toString()];
    return { code: code as number | null, stdout, stderr };
  });
  return Object.assign(child, { result });
}

test("works through a symbolic link, from any folder", async () => {
  const { code, stdout, stderr } = await start(["snapshot", "list", "shop"]).result;
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  expect(stdout.split("\t")[0]).toBe("a");
});

test("says its version", async () => {
  expect(await start(["--version"]).result).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/),
  });
});

test("says what to do when no service runs, without a trace", async () => {
  const { code, stderr } = await start(["status"], join(folder, "nothing")).result;
  expect(code).toBe(4);
  expect(stderr).toMatch(/^tidemark: .*no service.*tidemark serve.*\n$/);
});

test("a result larger than a pipe arrives whole", async () => {
  api.stream = async function* () {
    for (let index = 0; index < 50; index += 1) yield Array.from({ length: 1000 }, () => sample.ENTRY);
  };
  const { code, stdout } = await start(["ls", "shop/uploads"]).result;
  expect(code).toBe(0);
  expect(stdout.split("\n")).toHaveLength(50_001);
});

test("a reader that goes away ends it quietly, and the call with it", async () => {
  const cancelled = Promise.withResolvers<void>();
  api.stream = async function* (options) {
    options?.signal?.addEventListener("abort", () => cancelled.resolve());
    for (;;) yield Array.from({ length: 1000 }, () => sample.ENTRY);
  };
  const child = start(["ls", "shop/uploads"]);
  child.stdout?.once("data", () => child.stdout?.destroy());
  await cancelled.promise;
  const [code] = await once(child, "exit");
  expect(code).toBe(0);
});

test("Ctrl-C ends what would not end by itself, quietly", async () => {
  api.stream = async function* (options) {
    yield sample.LOG_RECORDS;
    await new Promise((resolve) => options?.signal?.addEventListener("abort", resolve));
  };
  const child = start(["log", "shop", "--follow"]);
  child.stdout?.once("data", () => child.kill("SIGINT"));
  const { code, stderr } = await child.result;
  expect({ code, stderr }).toEqual({ code: 130, stderr: "" });
});
