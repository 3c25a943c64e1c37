import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough, Writable } from "node:stream";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { END, entry, file, itemsOf, member, root } from "../../src/backup/tar/tar-fixture.ts";
import { EXIT_CODES } from "../../src/cli/exit-codes.ts";
import { run } from "../../src/cli/run.ts";
import type { ExportItem } from "../../src/domain/admin-reading.ts";
import { TidemarkError } from "../../src/domain/errors.ts";
import { S_IFSOCK } from "../../src/domain/inode.ts";
import * as sample from "../contract/admin-samples.ts";
import { FakeAdminApi } from "../contract/fake-admin-api.ts";
import { cli, makeEnvironment } from "./harness.ts";

let folder: string;
let api: FakeAdminApi;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "tidemark-export-"));
  api = new FakeAdminApi();
});

afterEach(() => rmSync(folder, { recursive: true, force: true }));

const TREE = [root(), ...file("a", [[0, "hello"]])];

function exporting(items: readonly ExportItem[], args: readonly string[] = [], terminal = false) {
  api.stream = async function* () {
    yield items;
  };
  return cli(["export", "shop/uploads", ...args], { api, terminal });
}

const names = async (bytes: Buffer): Promise<string[]> =>
  (await itemsOf(bytes)).items.filter((item) => item.kind === "entry").map(({ path }) => path.toString());

describe("export", () => {
  test("writes the archive to standard output, and what it did to standard error", async () => {
    const { code, bytes, stderr } = await exporting(TREE);
    expect(code).toBe(EXIT_CODES.OK.code);
    expect(await names(bytes)).toEqual(["", "a"]);
    expect(stderr).toContain("Exported 2 names of shop/uploads as of");
  });

  test("reads one journal position, with content and ranges", async () => {
    await exporting(TREE, ["--at", "10m ago"]);
    expect(api.calls.map(({ method }) => method)).toEqual(["resolveMoment", "exportTree"]);
    const at = { kind: "lsn", lsn: sample.RESOLVED.lsn };
    expect(api.calls[1]?.request).toMatchObject({ at, content: true, ranges: true });
  });

  test("refuses a terminal, and formats there are not", async () => {
    const refused = await exporting(TREE, [], true);
    expect(refused.code).toBe(EXIT_CODES.USAGE.code);
    expect(refused.stderr).toContain("--output FILE");
    expect(refused.bytes.length).toBe(0);
    expect((await exporting(TREE, ["--format", "zip"])).stderr).toContain("expected tar");
    expect((await cli(["export", "shop"], { api })).stderr).toContain("names an app only");
  });

  test("to a file says so, also as JSON; the file is there when it is whole", async () => {
    const output = join(folder, "x.tar");
    const { stdout, code } = await exporting(TREE, ["--output", output, "--json"], true);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ event: "done", output, files: 1, directories: 1, shortfallCount: 0 });
    expect(await names(readFileSync(output))).toEqual(["", "a"]);
    expect(readdirSync(folder)).toEqual(["x.tar"]);
  });

  test("says what is wrong with a file in a directory that is not there", async () => {
    const { code, stderr } = await exporting(TREE, ["--output", join(folder, "none/x.tar")]);
    expect(code).toBe(EXIT_CODES.NOT_FOUND.code);
    expect(stderr).toContain(`${join(folder, "none")} is not a directory: expected --output`);
  });

  test("replaces a file only with --force, and not by an archive that fails", async () => {
    const output = join(folder, "x.tar");
    writeFileSync(output, "precious");
    const taken = await exporting(TREE, ["--output", output]);
    expect(taken.code).toBe(EXIT_CODES.CONFLICT.code);
    expect(taken.stderr).toContain("--force");
    api.stream = async function* () {
      yield TREE;
      throw new TidemarkError("UNAVAILABLE", "the service went away");
    };
    const failed = await cli(["export", "shop/uploads", "--output", output, "--force"], { api });
    expect(failed.code).toBe(EXIT_CODES.UNREACHABLE.code);
    expect(readFileSync(output, "utf8")).toBe("precious");
    expect(readdirSync(folder)).toEqual(["x.tar"]);
    expect((await exporting(TREE, ["--output", output, "--force"])).code).toBe(0);
    expect(statSync(output).size).toBeGreaterThan(1024);
  });

  test("says what the archive has not, and ends with INCOMPLETE", async () => {
    const damaged = file("bad", [[0, "x"]]).map((item) =>
      item.kind === "end" ? { ...item, complete: false, message: "a block is gone" } : item,
    );
    const { code, stderr, bytes } = await exporting([root(), entry("sock", S_IFSOCK | 0o755), ...damaged]);
    expect(code).toBe(EXIT_CODES.INCOMPLETE.code);
    expect(stderr).toContain("sock: a socket");
    expect(stderr).toContain("bad: a block is gone; the archive has zeros there");
    expect(await names(bytes)).toEqual(["", "bad"]);
  });

  test("of a tree that breaks off says that the archive is incomplete", async () => {
    api.stream = async function* () {
      yield TREE;
      throw new TidemarkError("UNAVAILABLE", "the service went away");
    };
    const { code, stderr } = await cli(["export", "shop/uploads"], { api });
    expect(code).toBe(EXIT_CODES.UNREACHABLE.code);
    expect(stderr).toContain("the service went away");
  });

  test("ends quietly when its reader goes away", async () => {
    let written = 0;
    const gone = new Writable({
      write: (chunk: Buffer, _, done) => {
        written += chunk.length;
        done(written > 100_000 ? Object.assign(new Error("EPIPE"), { code: "EPIPE" }) : undefined);
      },
    });
    api.stream = async function* () {
      yield [root()];
      for (let index = 0; ; index += 1) yield file(`f${index}`, [[0, Buffer.alloc(50_000)]]);
    };
    const { code, stderr } = await cli(["export", "shop/uploads"], { api, stdout: gone });
    expect(code).toBe(0);
    expect(stderr).not.toContain("defect");
  });
});

describe("import", () => {
  async function importing(archive: Buffer, { args = [], isTTY = false }: { args?: string[]; isTTY?: boolean } = {}) {
    const errors: Buffer[] = [];
    const stderr = new Writable({
      write: (chunk: Buffer, _, done) => {
        errors.push(chunk);
        done();
      },
    });
    const stdin = Object.assign(new PassThrough(), { isTTY });
    stdin.end(archive);
    const environment = makeEnvironment({
      stdin,
      stderr,
      variables: { TMPDIR: folder },
      connect: async () => ({ api, close: () => {} }),
    });
    const code = await run(["import", "shop/uploads", ...args], environment);
    return { code, stderr: Buffer.concat(errors).toString() };
  }

  const ARCHIVE = Buffer.concat([member("d/a", { content: "hello" }), END]);

  test("refuses a terminal", async () => {
    const { code, stderr } = await importing(ARCHIVE, { isTTY: true });
    expect(code).toBe(EXIT_CODES.USAGE.code);
    expect(stderr).toContain("--input FILE");
    expect(api.calls).toEqual([]);
  });

  test("of a file that is not there, or is a directory, changes nothing", async () => {
    const missing = await importing(ARCHIVE, { args: ["--input", join(folder, "missing")] });
    expect(missing.code).toBe(EXIT_CODES.NOT_FOUND.code);
    expect(missing.stderr).toContain(`there is no file ${join(folder, "missing")}: expected a tar archive`);
    const directory = await importing(ARCHIVE, { args: ["--input", folder] });
    expect(directory.code).toBe(EXIT_CODES.USAGE.code);
    expect(api.calls).toEqual([]);
  });

  test("never writes into a directory that only has the name of a mount, and takes its own mount away again", async () => {
    const place = join(folder, "place");
    mkdirSync(place);
    api.stream = async function* () {
      const [mount] = sample.MOUNTS;
      if (mount === undefined) return;
      const { at: _, ...live } = mount;
      const share = { ...live.share, id: sample.RESOLVED_PATH.shareId };
      yield [{ ...live, share, target: place, readOnly: false, state: "active" }];
    };
    const { code, stderr } = await importing(ARCHIVE);
    expect(code).toBe(EXIT_CODES.CONFLICT.code);
    expect(stderr).toContain("not seen from here");
    expect(readdirSync(place)).toEqual([]);
    expect(readdirSync(folder)).toEqual(["place"]);
    const methods = api.calls.map(({ method }) => method);
    expect(methods).toEqual(["resolve", "resolve", "listMounts", "mount", "umount"]);
  });
});
