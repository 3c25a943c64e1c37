import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { ChangesPage, DeltaEntry, DeltaName, ShareDeltaPage } from "../../src/domain/admin-changes.ts";
import { TidemarkError } from "../../src/domain/errors.ts";
import { inodeId, lsn } from "../../src/domain/ids.ts";
import { APP_ID, ATTRIBUTES, RESOLVED } from "../contract/admin-samples.ts";
import { CHANGE_RECORDS } from "../contract/changes-samples.ts";
import { FakeAdminApi } from "../contract/fake-admin-api.ts";
import { cli } from "./harness.ts";

const TIME = { sec: 1_795_000_000, nsec: 0 };
const page = (cursor: number, records: ChangesPage["records"] = []): ChangesPage => ({
  appId: APP_ID,
  records,
  cursor: { lsn: lsn(cursor), time: TIME },
  durableLsn: lsn(99),
});

/** An API whose feed has these pages; an error in their place is thrown. */
function feedOf(...steps: readonly (ChangesPage | Error)[]): FakeAdminApi {
  const api = new FakeAdminApi();
  const left = [...steps];
  api.stream = async function* () {
    for (let step = left.shift(); step !== undefined; step = left.shift()) {
      if (step instanceof Error) throw step;
      yield step;
    }
  };
  return api;
}

test("changes asks for what was typed", async () => {
  const api = feedOf(page(7));
  await cli(
    [
      "changes",
      "prod:shop",
      "--share",
      "uploads",
      "--path",
      "a\\xffb",
      "--from",
      "lsn:100",
      "--to",
      "now",
      "--op",
      "write",
      "--op",
      "RENAME",
    ],
    { api },
  );
  expect(api.calls[0]).toMatchObject({
    method: "changes",
    request: {
      path: {
        app: { namespace: "prod", name: "shop" },
        share: { name: "uploads" },
        path: Buffer.from([0x61, 0xff, 0x62]),
      },
      from: { kind: "lsn", lsn: 100 },
      to: { kind: "now" },
      operations: ["WRITE", "RENAME"],
      follow: false,
    },
  });
});

test("changes writes a line of JSON for each record, and the cursor in the last one", async () => {
  const [first, second] = CHANGE_RECORDS;
  if (first === undefined || second === undefined) throw new Error("no samples");
  const result = await cli(["changes", "shop", "--json"], {
    api: feedOf(page(4, [first]), page(6), page(9, [second]), page(12)),
  });
  const lines = result.stdout
    .trim()
    .split("\n")
    .map((text) => JSON.parse(text) as Record<string, unknown>);
  expect(lines).toHaveLength(3);
  expect(lines[0]).toMatchObject({ op: "RENAME", paths: ["a/\\xff\\xfe\\x0a", ""], crossing: "left" });
  expect(result.stdout).toContain('"sizeBefore":9223372036854775807');
  expect(lines[2]).toEqual({ cursor: { lsn: 12, time: "2026-11-18T11:06:40Z" }, app: APP_ID });
  expect([result.code, result.stderr]).toEqual([0, ""]);
});

test("changes tells people the cursor on standard error, also when it was interrupted", async () => {
  const [first] = CHANGE_RECORDS;
  if (first === undefined) throw new Error("no samples");
  const whole = await cli(["changes", "shop"], { api: feedOf(page(4, [first])) });
  expect(whole.stderr).toBe("Next: --from lsn:4\n");
  expect(whole.stdout.split("\t").slice(2, 4)).toEqual(["RENAME", String(2 ** 40 - 1)]);
  const cut = await cli(["changes", "shop"], {
    api: feedOf(page(4, [first]), new TidemarkError("CANCELLED", "the call was interrupted")),
  });
  expect(cut.code).toBe(130);
  expect(cut.stderr).toContain("Next: --from lsn:4");
});

test("a followed feed goes on from its cursor, of the same app, when the service comes back; heartbeats tell the cursor", async () => {
  const [first] = CHANGE_RECORDS;
  if (first === undefined) throw new Error("no samples");
  const gone = new TidemarkError("UNAVAILABLE", "gone");
  const api = feedOf(page(4, [first]), page(6), page(6), gone, page(8), new TidemarkError("CANCELLED", "enough"));
  const result = await cli(["changes", "shop", "--follow", "--json"], { api });
  const asked = api.calls.filter(({ method }) => method === "changes").map(({ request }) => request);
  expect(asked[1]).toMatchObject({
    path: { app: { name: "shop", id: APP_ID } },
    from: { kind: "lsn", lsn: 6 },
    fromTime: TIME,
    follow: true,
  });
  const cursors = result.stdout
    .trim()
    .split("\n")
    .map((text) => (JSON.parse(text) as { cursor?: { lsn: number } }).cursor?.lsn);
  expect([...new Set(cursors)].slice(0, 3)).toEqual([undefined, 6, 8]);
});

test("changes and delta refuse what can't be meant", async () => {
  for (const args of [
    ["changes", "shop", "--follow", "--to", "now"],
    ["changes", "shop/uploads", "--share", "files"],
    ["changes", "shop", "--path", "a"],
    ["changes", "shop", "--token-file", "t"],
    ["changes", "shop", "--service", "127.0.0.1:1"],
    ["delta", "shop", "--from", "lsn:1"],
    ["delta", "shop/uploads"],
    ["delta", "shop/uploads", "--from", "lsn:1", "--paths", "--deleted"],
    ["delta", "shop/uploads", "--from", "lsn:1", "-0"],
    ["delta", "shop/uploads", "--from", "lsn:1", "--paths", "--json"],
  ])
    expect((await cli(args)).code, args.join(" ")).toBe(2);
});

test("a service elsewhere is asked under the token in the file, and only with TLS or on loopback", async () => {
  const folder = mkdtempSync(join(tmpdir(), "tidemark-token-"));
  try {
    const file = join(folder, "t");
    writeFileSync(file, "a.b.c\n", { mode: 0o600 });
    const off = await cli([
      "changes",
      "shop/files",
      "--service",
      "192.0.2.1:7400",
      "--plaintext",
      "--token-file",
      file,
    ]);
    expect([off.code, off.stderr]).toEqual([2, expect.stringContaining("not on this machine") as string]);
    const incomplete = await cli([
      "delta",
      "shop/files",
      "--from",
      "lsn:1",
      "--service",
      "h:1",
      "--tls-cert",
      "c",
      "--token-file",
      file,
    ]);
    expect([incomplete.code, incomplete.stderr]).toEqual([2, expect.stringContaining("take all three") as string]);
    expect(off.stderr + incomplete.stderr).not.toContain("a.b.c");
  } finally {
    rmSync(folder, { recursive: true });
  }
});

const DIRECTORY = { ...ATTRIBUTES, mode: 0o040755 };
const FILE = { ...ATTRIBUTES, mode: 0o100644 };

function entry(kind: DeltaEntry["kind"], after: DeltaEntry["after"], ...names: readonly DeltaName[]): DeltaEntry {
  const there = after === undefined ? {} : { after };
  return {
    ino: inodeId(9),
    kind,
    continues: false,
    names,
    changes: [],
    target: Buffer.alloc(0),
    extents: [],
    ...there,
  };
}

const kept = (path: string): DeltaName => ({ state: "kept", parent: inodeId(2), path: Buffer.from(path, "latin1") });
const added = (path: string): DeltaName => ({ state: "added", parent: inodeId(2), path: Buffer.from(path, "latin1") });
const removed = (path: string, now: "nothing" | "other" | "no-directory"): DeltaName => ({
  state: "removed",
  parent: inodeId(2),
  path: Buffer.from(path, "latin1"),
  now,
});

function deltaOf(...entries: readonly DeltaEntry[]): FakeAdminApi {
  const api = new FakeAdminApi();
  const pages: ShareDeltaPage[] = entries.map((each) => ({
    appId: APP_ID,
    from: RESOLVED,
    to: RESOLVED,
    foundIn: "journal",
    entries: [each],
  }));
  api.stream = async function* () {
    yield* pages;
  };
  return api;
}

const LISTED = [
  entry("changed", DIRECTORY, kept("")),
  entry("changed", FILE, kept("a\xff"), added("link"), removed("gone-link", "nothing")),
  entry("changed", DIRECTORY, added("new-name"), removed("old-name", "other")),
  entry("created", DIRECTORY, added("dir")),
  entry("deleted", undefined, removed("dead/below", "no-directory"), removed("dead", "nothing")),
];

test.each([
  ["--files-from0", ".\0a\xff\0link\0gone-link\0new-name\0dir\0dead\0"],
  ["--paths", ".\na\xff\nlink\nnew-name\ndir\n"],
  ["--paths -0 --trees", "a\xff\0link\0new-name\0dir\0"],
  ["--deleted", "gone-link\ndead\n"],
])("delta %s writes paths as bytes", async (options, expected) => {
  const api = deltaOf(...LISTED);
  const result = await cli(["delta", "shop/uploads", "--from", "lsn:5", ...options.split(" ")], { api });
  expect(result.bytes.toString("latin1")).toBe(expected);
  expect(result.stderr).toContain(`Next: --from lsn:${RESOLVED.lsn}\n`);
  expect(api.calls[0]?.request).toMatchObject({ byPath: true, from: { kind: "lsn", lsn: 5 }, to: { kind: "now" } });
});

test("a path with a newline is only written where it can't be taken for two", async () => {
  const api = (): FakeAdminApi => deltaOf(entry("created", FILE, added("a\nb")));
  const lines = await cli(["delta", "shop/uploads", "--from", "lsn:5", "--paths"], { api: api() });
  expect([lines.code, lines.stdout]).toEqual([2, ""]);
  expect(lines.stderr).toContain("use -0");
  expect((await cli(["delta", "shop/uploads", "--from", "lsn:5", "--paths", "-0"], { api: api() })).stdout).toBe(
    "a\nb\0",
  );
});

test("delta shows people what was renamed, and programs everything, with the moment to go on from", async () => {
  const api = (): FakeAdminApi => deltaOf(entry("changed", FILE, added("new"), removed("old", "nothing")));
  const table = await cli(["delta", "shop/uploads", "--from", "lsn:5"], { api: api(), terminal: true });
  expect(table.stdout).toMatch(/^R .*old → new$/m);
  const json = await cli(["delta", "shop/uploads", "--from", "lsn:5", "--json"], { api: api() });
  const [first, last] = json.stdout
    .trim()
    .split("\n")
    .map((text) => JSON.parse(text) as unknown);
  expect(first).toMatchObject({
    kind: "changed",
    names: [
      { state: "added", path: "new" },
      { state: "removed", path: "old", now: "nothing" },
    ],
  });
  expect(last).toMatchObject({ to: { lsn: RESOLVED.lsn }, foundIn: "journal", app: APP_ID });
  expect(json.stderr).toContain("more than once");
});
