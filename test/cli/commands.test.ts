import { Writable } from "node:stream";
import { beforeEach, describe, expect, test } from "vitest";
import { EXIT_CODES, EXIT_OF_ERROR } from "../../src/cli/exit-codes.ts";
import { ERROR_CODES, type ErrorCode, TidemarkError } from "../../src/domain/errors.ts";
import * as sample from "../contract/admin-samples.ts";
import { FakeAdminApi } from "../contract/fake-admin-api.ts";
import { cli, NOW } from "./harness.ts";

let api: FakeAdminApi;

beforeEach(() => {
  api = new FakeAdminApi();
});

const now = { kind: "now" };
const tenMinutesAgo = { kind: "time", time: { sec: NOW.sec - 600, nsec: 0 } };
const app = { namespace: "prod", name: "shop" };
const uploads = { app, share: { name: "uploads" } };
const file = { ...uploads, path: Buffer.from("a/b.txt") };

/** Command lines and the request each must become. */
const requests: [string, string, unknown][] = [
  ["app create prod:shop --label tier=web --label a=", "createApp", { ...app, labels: { tier: "web", a: "" } }],
  ["app create shop --namespace prod", "createApp", { ...app, labels: {} }],
  ["app create --label tier=web --namespace prod shop", "createApp", { ...app, labels: { tier: "web" } }],
  ["app list", "listApps", { deleted: "without" }],
  [
    "app list --deleted --namespace prod --label a=b",
    "listApps",
    { namespace: "prod", labels: { a: "b" }, deleted: "only" },
  ],
  ["app list --all", "listApps", { deleted: "with" }],
  ["app rename prod:shop store", "updateApp", { app, name: "store" }],
  ["app rename prod:shop prod:store", "updateApp", { app, name: "store" }],
  ["app label prod:shop x=1 tier-", "updateApp", { app, labels: { "": "", x: "1" } }],
  ["app delete prod:shop", "deleteApp", { app }],
  ["app undelete prod:shop@001122 --name old", "undeleteApp", { app: { ...app, id: "001122" }, name: "old" }],
  ["share create prod:shop/uploads", "createShare", { app, name: "uploads", views: "root" }],
  ["share create prod:shop/uploads --views off", "createShare", { app, name: "uploads", views: "off" }],
  ["share list", "listShares", { deleted: "without" }],
  ["share list prod:shop --deleted", "listShares", { app, deleted: "only" }],
  ["share rename prod:shop/uploads files", "updateShare", { ...uploads, name: "files" }],
  ["share set prod:shop/uploads --views users", "updateShare", { ...uploads, views: "users" }],
  ["share delete prod:shop/uploads", "deleteShare", uploads],
  ["share undelete prod:shop/uploads", "undeleteShare", uploads],
  [
    "mount prod:shop/uploads mnt --persist",
    "mount",
    {
      ...uploads,
      target: "/home/ann/mnt",
      at: now,
      readOnly: false,
      persist: true,
      allowSuid: false,
      allowDevices: false,
      locks: "kernel",
    },
  ],
  [
    "mount prod:shop/uploads mnt --locks shared",
    "mount",
    {
      ...uploads,
      target: "/home/ann/mnt",
      at: now,
      readOnly: false,
      persist: false,
      allowSuid: false,
      allowDevices: false,
      locks: "shared",
    },
  ],
  [
    "mount prod:shop/uploads /past --at lsn:5 --suid --dev",
    "mount",
    {
      ...uploads,
      target: "/past",
      at: { kind: "lsn", lsn: 5 },
      readOnly: true,
      persist: false,
      allowSuid: true,
      allowDevices: true,
      locks: "kernel",
    },
  ],
  ["mount", "listMounts", undefined],
  ["umount mnt --lazy", "umount", { target: "/home/ann/mnt", lazy: true }],
  [
    "log prod:shop/uploads",
    "log",
    { path: { ...uploads, path: Buffer.alloc(0) }, order: "oldest-first", follow: false },
  ],
  [
    "log prod:shop/uploads --path a/b.txt --since lsn:5 --until snap:x --newest-first --limit 3",
    "log",
    {
      path: file,
      from: { kind: "lsn", lsn: 5 },
      to: { kind: "snapshot", name: "x" },
      order: "newest-first",
      countMax: 3,
      follow: false,
    },
  ],
  ["history prod:shop/uploads/a/b.txt --limit 2", "history", { path: file, countMax: 2 }],
  ["ls prod:shop/uploads/a/b.txt", "list", { path: file, at: now }],
  ["ls prod:shop/uploads/a/b.txt --at lsn:0", "list", { path: file, at: { kind: "lsn", lsn: 0 } }],
  [
    "cat prod:shop/uploads/a/b.txt --at before-upgrade",
    "read",
    { path: file, at: { kind: "snapshot", name: "before-upgrade" }, offset: 0n },
  ],
  ["diff prod:shop/uploads/a/b.txt --from lsn:1", "diff", { path: file, from: { kind: "lsn", lsn: 1 }, to: now }],
  [
    "find prod:shop *.env --deleted",
    "find",
    { path: { app, path: Buffer.alloc(0) }, pattern: Buffer.from("*.env"), deletedOnly: true },
  ],
  [
    "backup enable prod:shop --repo main --every 500ms --on-backlog stop",
    "enableBackup",
    { app, repository: "main", everyMs: 500, onBacklog: "stop" },
  ],
  ["backup disable prod:shop", "disableBackup", { app }],
  ["backup now prod:shop", "backupNow", { app }],
  ["backup status", "backupStatus", {}],
  ["backup status prod:shop", "backupStatus", { app }],
  ["retention show", "listRetention", {}],
  ["retention show prod:shop --plan", "planRetention", { app }],
  ["retention clear prod:shop", "clearRetention", { app }],
  ["repo list", "listRepositories", undefined],
  ["repo remove main", "removeRepository", { name: "main" }],
  ["snapshot create prod:shop x --sync", "createSnapshot", { app, name: "x", syncMounts: true }],
  ["snapshot list prod:shop", "listSnapshots", { app }],
  ["snapshot delete prod:shop x", "deleteSnapshot", { app, name: "x" }],
  [
    "restore prod:shop/uploads/a/b.txt --at lsn:1 --dry-run",
    "plan",
    { kind: "restore", source: file, at: { kind: "lsn", lsn: 1 }, mode: "mirror" },
  ],
  [
    "restore prod:shop/uploads/a/b.txt --at lsn:1 --keep-newer --to prod:shop/uploads/a/b.txt --yes",
    "execute",
    { kind: "restore", source: file, at: { kind: "lsn", lsn: 1 }, target: file, mode: "overlay" },
  ],
  ["undo prod:shop --yes", "execute", { kind: "undo", app }],
  ["undo prod:shop --restore r1 --dry-run", "plan", { kind: "undo", app, restoreId: "r1" }],
  ["undo prod:shop --list --limit 7", "listRestores", { app, countMax: 7 }],
];

describe("a command line becomes its request", () => {
  test("a repair asks before it changes something, and tells of what is lost by its exit code", async () => {
    const asked = await cli("backup repair prod:shop".split(" "), { api });
    expect(asked.code).toBe(EXIT_CODES.NOT_CONFIRMED.code);
    expect(api.calls.at(-1)?.request).toStrictEqual({ app, readPart: 0, dryRun: true });
    const done = await cli("backup repair prod:shop --read-data 10% --yes".split(" "), { api });
    expect(done.code).toBe(EXIT_CODES.DAMAGED.code);
    expect(done.stdout).toContain("Not everything could be repaired");
    expect(api.calls.at(-1)).toMatchObject({ method: "repairBackup", request: { app, readPart: 0.1, dryRun: false } });
  });

  test.each(requests)("%s", async (line, method, request) => {
    const result = await cli(line.split(" "), { api });
    expect(result.stderr).toMatch(/^(note: .*\n)?$/);
    expect(result.code).toBe(0);
    expect(api.calls.at(-1)?.method).toBe(method);
    expect(api.calls.at(-1)?.request).toStrictEqual(request);
  });

  test("with a moment of several words", async () => {
    await cli(["ls", "prod:shop/uploads/a/b.txt", "--at", "10m ago"], { api });
    expect(api.calls.at(-1)?.request).toStrictEqual({ path: file, at: tenMinutesAgo });
  });

  test("of the future is taken, with a note", async () => {
    const { code, stderr } = await cli(["ls", "prod:shop/uploads", "--at", "2030-01-01"], { api });
    expect({ code, stderr }).toEqual({ code: 0, stderr: 'note: "2030-01-01": that is in the future: this is now\n' });
  });

  test("in the zone of the person", async () => {
    await cli(["ls", "prod:shop/uploads/a/b.txt", "--at", "2026-11-20T10:00"], { api });
    const time = { sec: Date.parse("2026-11-20T09:00:00Z") / 1000, nsec: 0 };
    expect(api.calls.at(-1)?.request).toStrictEqual({ path: file, at: { kind: "time", time } });
  });

  test("and the journal is told which command it was", async () => {
    await cli(["app", "delete", "shop"], { api, uid: 1000 });
    expect(api.calls[0]?.options?.actor).toMatchObject({ mountId: 0, uid: 1000, pid: 77, label: "cli app delete" });
  });

  test("serve gets its options and no connection", async () => {
    const result = await cli(["serve", "--data", "d", "--history-bytes-max", "20g"]);
    expect(result.served).toEqual([
      { dataFolder: "/home/ann/d", logLevel: "info", historyBytesMax: 20n * 1024n ** 3n },
    ]);
    expect(result.socketPaths).toEqual([]);
  });
});

describe("the data folder", () => {
  const socketOf = async (args: string[], options: Parameters<typeof cli>[1]) =>
    (await cli([...args, "app", "list"], options)).socketPaths;

  test("is --data before TIDEMARK_DATA", async () => {
    expect(await socketOf(["--data", "x"], { variables: { TIDEMARK_DATA: "/y" } })).toEqual(["/home/ann/x/admin.sock"]);
    expect(await socketOf([], { variables: { TIDEMARK_DATA: "/y" } })).toEqual(["/y/admin.sock"]);
  });

  test("is the system's for root and the person's own otherwise", async () => {
    expect(await socketOf([], { uid: 0 })).toEqual(["/var/lib/tidemark/admin.sock"]);
    expect(await socketOf([], { uid: 1000 })).toEqual(["/home/me/.local/share/tidemark/admin.sock"]);
  });

  test("may be said after the command", async () => {
    expect((await cli(["app", "list", "--data", "/z"])).socketPaths).toEqual(["/z/admin.sock"]);
  });
});

describe("output", () => {
  test("for programs is JSON, a value a line, bytes escaped and 64-bit numbers exact", async () => {
    const { stdout } = await cli(["ls", "shop/uploads", "--json"], { api });
    const lines = stdout.trimEnd().split("\n");
    expect(lines).toHaveLength(3);
    expect(lines[0]).toContain('"size":9223372036854775807');
    expect(JSON.parse(lines[0] ?? "")).toMatchObject({
      name: "a/\\xff\\xfe\\x0a",
      attributes: { atime: "1969-12-31T23:59:59.000000001Z" },
    });
  });

  test.each([
    ["app list"],
    ["share list"],
    ["mount"],
    ["log shop"],
    ["history shop/uploads/x"],
    ["diff shop --from lsn:1"],
    ["snapshot list shop"],
    ["undo shop --list"],
    ["status"],
    ["restore shop --at lsn:1 --dry-run"],
    ["restore shop --at lsn:1 --yes"],
    ["cat shop/uploads/x"],
    ["app create shop"],
  ])("of %s --json is JSON on every line", async (line) => {
    const { stdout, code } = await cli([...line.split(" "), "--json"], { api });
    expect(code).toBe(0);
    for (const each of stdout.trimEnd().split("\n")) expect(() => JSON.parse(each)).not.toThrow();
  });

  test("for a pipe is tab-separated, exact and without a head", async () => {
    const { stdout } = await cli(["ls", "shop/uploads"], { api });
    expect(stdout.split("\n")[0]?.split("\t")).toEqual([
      "-rwsrwsrwt",
      "65000",
      "4294967294",
      "4294967295",
      "9223372036854775807",
      "2026-11-18T11:06:40.999999999Z",
      "a/\\xff\\xfe\\x0a",
    ]);
  });

  test("for a terminal is a table with local times", async () => {
    const { stdout } = await cli(["ls", "shop/uploads"], { api, terminal: true });
    expect(stdout).toBe(
      [
        "MODE        LINKS         UID         GID      SIZE  MODIFIED                 NAME",
        ...Array.from(
          { length: 3 },
          () => "-rwsrwsrwt  65000  4294967294  4294967295  8.00 EiB  2026-11-18 12:06:40.999  a/\\xff\\xfe\\x0a",
        ),
        "",
      ].join("\n"),
    );
  });

  test("of cat is the bytes", async () => {
    expect((await cli(["cat", "shop/uploads/x"], { api })).bytes).toEqual(
      Buffer.from([0, 255, ...Buffer.from("text")]),
    );
  });

  test("of status tells a person what to look at", async () => {
    const { stdout } = await cli(["status"], { api, terminal: true });
    expect(stdout).toContain("ALARM 2026-11-18 12:06:40.999 DATA_DAMAGED segment 1");
    expect(stdout).toContain("not possible: /dev/fuse is absent");
    expect(stdout).toContain("lost: mounts would break");
  });

  test("stops quietly when its reader goes away", async () => {
    let taken = 0;
    const reader = new Writable({
      write(_chunk, _encoding, done) {
        taken += 1;
        done(taken > 1 ? Object.assign(new Error("write EPIPE"), { code: "EPIPE" }) : null);
      },
    });
    api.stream = async function* () {
      for (;;) yield [sample.ENTRY];
    };
    const { code, stderr } = await cli(["ls", "shop/uploads"], { api, stdout: reader });
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
  });
});

describe("exit codes", () => {
  test.each(Object.keys(ERROR_CODES) as ErrorCode[])(
    "%s ends with the code of the table and its message",
    async (code) => {
      api.fail = new TidemarkError(code, "what was wrong");
      const result = await cli(["app", "list"], { api });
      expect(result.code).toBe(EXIT_CODES[EXIT_OF_ERROR[code]].code);
      expect(result.stderr).toBe("tidemark: what was wrong\n");
      expect(result.stdout).toBe("");
    },
  );

  test("a backup that is enabled and fails at once is a conflict, and nobody says that nothing is protected", async () => {
    const [, backup] = sample.BACKUPS;
    if (backup === undefined) throw new Error("no sample");
    const failed = async () => ({ ...backup, state: "failed", message: "another history" }) as const;
    const backups = { ...api.backups, enableBackup: failed, disableBackup: failed };
    const enabled = await cli(["backup", "enable", "shop", "--repo", "main"], { api: { ...api, backups } });
    expect(enabled.code).toBe(EXIT_CODES.CONFLICT.code);
    expect(enabled.stderr).toContain("note: the backup has failed: another history");
    const disabled = await cli(["backup", "disable", "shop"], { api: { ...api, backups } });
    expect(disabled.code).toBe(0);
    expect(disabled.stdout + disabled.stderr).toContain("How far it is protected isn't known here");
  });

  test("errors are JSON with --json", async () => {
    api.fail = new TidemarkError("NOT_FOUND", "no such app", { data: { name: "x" } });
    const { stderr } = await cli(["app", "list", "--json"], { api });
    expect(JSON.parse(stderr)).toEqual({ error: { code: "NOT_FOUND", message: "no such app", data: { name: "x" } } });
  });

  test("a command line that is wrong is JSON with --json too", async () => {
    const { code, stderr } = await cli(["ls", "--json"], { api });
    expect(code).toBe(EXIT_CODES.USAGE.code);
    expect(JSON.parse(stderr)).toEqual({
      error: { code: "INVALID_ARGUMENT", message: "missing required argument 'path'", data: {} },
    });
  });

  test.each([
    [["nonsense"], "unknown command 'nonsense'"],
    [["ls"], "missing required argument 'path'"],
    [["ls", "a/b", "extra"], "too many arguments"],
    [["ls", "a/b", "--bad"], "unknown option '--bad'"],
    [["restore", "a/b"], "required option '--at <moment>' not specified"],
    [["ls", "a/b", "--at", "sometime soon"], "is not a moment"],
    [["log", "a/b", "--limit", "0"], "--limit"],
    [["log", "a", "--follow", "--until", "now"], "--follow"],
    [["cat", "shop"], "names an app only"],
    [["app", "rename", "shop", "prod:store"], "without a namespace"],
    [["share", "create", "shop"], "does not name a share"],
    [["app", "create", "a@001122"], "gets its own id"],
    [["app", "create", "shop", "--label", "x"], "is not a label"],
    [["mount", "a/b"], "where to"],
    [["share", "create", "a/b", "--views", "all"], "expected off, root, users"],
    [["serve", "--history-bytes-max", "lots"], "is not a size"],
    [["restore", "a/b", "--at", "now", "--force"], "--force is for"],
    [["--data", "", "app", "list"], "data folder"],
  ])("%j is a usage error with what was expected", async (args, message) => {
    const result = await cli(args, { api });
    expect(result.code).toBe(EXIT_CODES.USAGE.code);
    expect(result.stderr).toContain(message);
    expect(result.stderr).not.toMatch(/\n\s+at /);
    expect(api.calls).toEqual([]);
  });

  test("help and version are no errors", async () => {
    expect(await cli(["--version"])).toMatchObject({ code: 0, stdout: "9.8.7\n" });
    expect(await cli(["restore", "--help"])).toMatchObject({ code: 0, stderr: "" });
  });

  test("an interruption says nothing", async () => {
    const controller = new AbortController();
    api.stream = async function* () {
      controller.abort();
      yield sample.LOG_RECORDS;
      throw new TidemarkError("CANCELLED", "the call was interrupted");
    };
    const result = await cli(["log", "shop", "--follow"], { api, signal: controller.signal });
    expect(result).toMatchObject({ code: 130, stderr: "" });
  });
});

describe("a log that is followed", () => {
  const gone = new TidemarkError("UNAVAILABLE", "no service is running");

  test("goes on after a restart of the service, where it was", async () => {
    let calls = 0;
    api.stream = async function* () {
      calls += 1;
      if (calls > 1) return;
      yield sample.LOG_RECORDS;
      throw gone;
    };
    const { code, socketPaths } = await cli(["log", "shop", "--follow"], { api });
    expect(code).toBe(0);
    expect(socketPaths).toHaveLength(2);
    expect(api.calls.at(-1)?.request).toMatchObject({ from: { kind: "lsn", lsn: sample.LOG_RECORDS.at(-1)?.lsn } });
  });

  test("ends when the service does not come back", async () => {
    api.stream = async function* () {
      yield sample.LOG_RECORDS;
      api.fail = gone;
      throw gone;
    };
    const { code } = await cli(["log", "shop", "--follow"], { api });
    expect(code).toBe(EXIT_CODES.UNREACHABLE.code);
    expect(api.calls.map(({ method }) => method)).toEqual(["log", ...Array<string>(3).fill("serviceStatus")]);
  });
});

describe("restore inside shares", () => {
  const line = ["restore", "shop/uploads", "--at", "lsn:1"];
  const methods = (): string[] => api.calls.map(({ method }) => method);

  test("without a terminal and without --yes changes nothing", async () => {
    const { code, stderr } = await cli(line, { api });
    expect(code).toBe(EXIT_CODES.NOT_CONFIRMED.code);
    expect(stderr).toContain("--yes");
    expect(methods()).toEqual(["plan"]);
  });

  test("asks on a terminal, after the plan", async () => {
    const { code, stdout } = await cli(line, { api, terminal: true, answer: "y" });
    expect(code).toBe(0);
    expect(methods()).toEqual(["plan", "execute"]);
    expect(stdout).toContain("~ uploads/a/\\xff\\xfe\\x0a");
    expect(stdout).toContain("also at a/\\xff\\xfe\\x0a, b");
    expect(stdout).toContain("- uploads/");
    expect(stdout).toContain("Note: ctime is now.");
    expect(stdout).toContain("To take it back: tidemark undo shop --restore r1");
  });

  test.each(["n", "", "yesterday"])("takes the answer '%s' for no", async (answer) => {
    const { code } = await cli(line, { api, terminal: true, answer });
    expect(code).toBe(EXIT_CODES.NOT_CONFIRMED.code);
    expect(methods()).toEqual(["plan"]);
  });

  test("has nothing to ask when nothing differs", async () => {
    const [, last] = sample.PLAN;
    api.stream = async function* () {
      if (last?.kind !== "summary") throw new Error("sample");
      yield {
        kind: "summary",
        summary: { ...last.summary, counts: { create: 0, link: 0, change: 0, delete: 0, replace: 0, share: 0 } },
      };
    };
    const { code, stdout } = await cli(line, { api });
    expect(code).toBe(0);
    expect(stdout).toContain("there is nothing to do");
    expect(methods()).toEqual(["plan"]);
  });
});
