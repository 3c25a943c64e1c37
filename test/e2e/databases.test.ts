import { spawn } from "node:child_process";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { TestService } from "./fixture.ts";
import { hasCommand, skipWithout } from "./requirements.ts";
import { run, shell } from "./run.ts";

const skipped = skipWithout("sqlite3", "su", "pg_config");

/** PostgreSQL's programs: Debian keeps them out of the path. */
const PG_BIN = hasCommand("initdb") ? "" : "$(pg_config --bindir)/";

/** Databases do thousands of fsyncs; on a loaded machine with a slow disk that takes its time. */
const SLOW_TEST_MS = 240_000;

describe.skipIf(skipped)("databases on a share", { timeout: SLOW_TEST_MS }, () => {
  let service: TestService;
  let mount: string;

  beforeAll(async () => {
    ({ service, mount } = await TestService.withShare());
  });
  afterAll(async () => service.dispose());

  test.each(["wal", "delete"])(
    "SQLite in %s mode passes integrity_check after concurrent writers and a killed one",
    async (mode) => {
      const database = `${mount}/${mode}.db`;
      await run("sqlite3", [database, `pragma journal_mode=${mode}; create table t(id integer primary key, a text);`]);
      const writer = `for i in $(seq 60); do sqlite3 -cmd '.timeout 20000' ${database} "insert into t(a) select hex(randomblob(50)) from (select 1 union select 2 union select 3)"; done`;
      await Promise.all([shell(writer), shell(writer)]);
      const killed = spawn(
        "sqlite3",
        [
          database,
          "with recursive n(i) as (select 1 union all select i+1 from n where i < 100000000) insert into t(a) select i from n;",
        ],
        { stdio: "ignore" },
      );
      await shell(
        `for i in $(seq 300); do [ -e ${database}-journal -o -s ${database}-wal ] && exit 0; sleep 0.02; done`,
      );
      killed.kill("SIGKILL");
      const { stdout } = await run("sqlite3", [database, "pragma integrity_check; select count(*) from t;"]);
      expect(stdout.trim().split("\n")).toEqual(["ok", "360"]);
    },
  );

  test("PostgreSQL runs pgbench on the share and recovers after being killed", async () => {
    const data = `${mount}/pg`;
    const port = 20_000 + (process.pid % 10_000);
    const asPostgres = (script: string) => run("su", ["postgres", "-s", "/bin/bash", "-c", `set -e; cd /; ${script}`]);
    await shell(
      `install -d -o postgres ${data} ${service.folder}/sock && chmod 755 ${service.folder} && chmod 711 ${service.folder}`,
    );
    const start = `${PG_BIN}pg_ctl -D ${data} -o '-p ${port} -k ${service.folder}/sock -c listen_addresses=' -l ${data}/log -w -t 60 start`;
    await asPostgres(`${PG_BIN}initdb -D ${data} -U postgres >/dev/null && ${start} >/dev/null`);
    const psql = `-h ${service.folder}/sock -p ${port} -U postgres`;
    await asPostgres(
      `${PG_BIN}pgbench ${psql} -i -s 2 -q postgres 2>/dev/null && ${PG_BIN}pgbench ${psql} -c 4 -T 5 postgres`,
    );
    await asPostgres(
      `${PG_BIN}psql ${psql} -qc "create table kept(a int); insert into kept select generate_series(1,500)" postgres`,
    );
    await shell(
      `pid=$(head -1 ${data}/postmaster.pid); children=$(pgrep -P $pid); kill -9 $pid; for p in $pid $children; do while kill -0 $p 2>/dev/null; do sleep 0.1; done; done`,
    );
    await asPostgres(`rm -f ${data}/postmaster.pid; ${start} >/dev/null`);
    const { stdout } = await asPostgres(
      `${PG_BIN}psql ${psql} -Atc 'select count(*) from kept; select count(*) = 200000 from pgbench_accounts' postgres`,
    );
    expect(stdout.trim().split("\n")).toEqual(["500", "t"]);
    await asPostgres(`${PG_BIN}pg_ctl -D ${data} -m fast -w stop >/dev/null`);
  });
});
