"""sqlite.py FOLDER: one process writes transactions to a database in WAL mode, another reads them; each commit must be there, once, and nothing else."""

import os
import sqlite3
import sys

from common import check, finish, running, same, timed

os.makedirs(sys.argv[1], exist_ok=True)
os.chdir(sys.argv[1])
FILE = "data.db"
ROWS = 3
BUSY_S = 60


def connect():
    database = sqlite3.connect(FILE, timeout=BUSY_S, isolation_level=None)
    database.execute("pragma synchronous = full")
    return database


def read_on(parent):
    """Reads until the parent is done: complete transactions only, never fewer than before."""
    database = connect()
    seen = 0
    while os.getppid() == parent:
        count, total, largest = database.execute("select count(*), coalesce(sum(n), 0), coalesce(max(n), 0) from t").fetchone()
        check(count % ROWS == 0 and count >= seen, f"{count} rows after {seen}")
        same((total, largest), (count * (count + 1) // 2, count), "sum and largest of the rows")
        seen = count
        if os.path.exists("done"):
            sys.exit(0)
    sys.exit(1)


database = connect()
same(database.execute("pragma journal_mode = wal").fetchone()[0], "wal", "journal mode")
database.execute("create table t(n integer primary key, data text)")
me = os.getpid()
reader = os.fork()
if reader == 0:
    read_on(me)
commits = 0
while running():
    rows = [(commits * ROWS + row + 1, "x" * (commits % 500)) for row in range(ROWS)]
    database.execute("begin immediate")
    database.executemany("insert into t values (?, ?)", rows)
    timed(database.execute, "commit")
    commits += 1
with open("done", "x", encoding="ascii"):
    pass
same(os.waitpid(reader, 0)[1], 0, "status of the reader")
same(database.execute("pragma integrity_check").fetchone()[0], "ok", "integrity")
same(database.execute("select count(*), max(n) from t").fetchone(), (commits * ROWS, commits * ROWS or None), "rows")
database.close()
finish(commits=commits)
