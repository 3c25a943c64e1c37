/** The bench as a whole, on the smallest run there is: that it measures, and that it leaves nothing behind. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const MAIN = join(import.meta.dirname, "main.ts");
/** Compiling, mounting and cleaning up, on a machine that is busy with the other tests. */
const TEST_DURATION_MS_MAX = 120_000;

const hasCompiler = spawnSync("gcc", ["--version"]).status === 0;
const skip = !hasCompiler && process.env["CI"] === undefined;
if (skip) console.log("bench.test.ts is skipped: gcc is missing");

describe.skipIf(skip)("the bench", () => {
  let scratch = "";
  beforeAll(() => {
    scratch = mkdtempSync(join(tmpdir(), "bench-test-"));
  });
  afterAll(() => rmSync(scratch, { recursive: true }));

  function startBench(...args: string[]): ChildProcess {
    const common = ["--quick", "--targets", "plain,c", "--scratch", scratch];
    return spawn(process.execPath, [MAIN, ...common, ...args], { stdio: ["ignore", "pipe", "pipe"] });
  }

  function expectNothingLeft(): void {
    expect(readdirSync(scratch)).toEqual([]);
    expect(readFileSync("/proc/mounts", "utf8")).not.toContain(scratch);
  }

  test("measures rows, writes JSON and leaves nothing behind", { timeout: TEST_DURATION_MS_MAX }, async () => {
    const json = `${scratch}.json`;
    const bench = startBench("--rows", "create,sqlite-normal", "--json", json);
    const { output, status } = await ended(bench);
    const rows = JSON.parse(readFileSync(json, "utf8")).rows;
    rmSync(json);
    expect(status, output).toBe(0);
    expect(output).toContain("create + write 4 KiB + close");
    expect(rows.map((row: { id: string }) => row.id)).toEqual(["create", "sqlite-normal"]);
    expectNothingLeft();
  });

  test("Ctrl-C ends a long run, prints what there is and leaves nothing behind", {
    timeout: TEST_DURATION_MS_MAX,
  }, async () => {
    const bench = startBench("--rows", "create", "--rounds", "1000");
    const finished = ended(bench);
    bench.stderr?.on("data", (text: Buffer) => text.includes("round 2/") && bench.kill("SIGINT"));
    const { output, status } = await finished;
    expect(status, output).toBe(130);
    expect(output).toContain("interrupted");
    expect(output).toMatch(/create \+ write 4 KiB \+ close +\/s +\d/);
    expectNothingLeft();
  });
});

function ended(child: ChildProcess): Promise<{ output: string; status: number | null }> {
  const output: Buffer[] = [];
  child.stdout?.on("data", (data: Buffer) => output.push(data));
  child.stderr?.on("data", (data: Buffer) => output.push(data));
  return new Promise((resolve) => {
    child.once("close", (status) => resolve({ output: Buffer.concat(output).toString(), status }));
  });
}
