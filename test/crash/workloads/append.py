"""append.py FOLDER: a log that grows by O_APPEND through one descriptor and through new ones, a counter kept by rename, a lock file, a lock directory: what shows
at once when a change is lost or happens twice. Tells the count of its rounds now and then."""

import os
import sys

from common import check, finish, running, same, tell, timed

os.makedirs(sys.argv[1], exist_ok=True)
os.chdir(sys.argv[1])

ROUNDS_PER_FSYNC = 8
ROUNDS_PER_REPORT = 10
LINE_BYTES_MAX = 3000

lines = []
kept = os.open("kept.log", os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o644)
with open("counter", "x", encoding="ascii") as file:
    file.write("0")


def append_all(fd, data):
    same(timed(os.write, fd, data), len(data), "bytes written")


def count(number):
    """Reads the counter, and replaces it by the next: write beside, rename over."""
    with open("counter", encoding="ascii") as file:
        same(file.read(), str(number), "counter")
    fd = timed(os.open, "counter.new", os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    append_all(fd, str(number + 1).encode())
    os.close(fd)
    timed(os.rename, "counter.new", "counter")


def take_locks():
    """Raises when what must not be there is, or the other way round."""
    os.close(timed(os.open, "lock", os.O_CREAT | os.O_EXCL))
    timed(os.mkdir, "lock.d")
    timed(os.rmdir, "lock.d")
    timed(os.unlink, "lock")


number = 0
while running():
    line = (f"{number} " + "x" * (number * 7919 % LINE_BYTES_MAX) + "\n").encode()
    lines.append(line)
    append_all(kept, line)
    fd = timed(os.open, "reopened.log", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
    append_all(fd, line)
    if number % ROUNDS_PER_FSYNC == 0:
        timed(os.fsync, fd)
    os.close(fd)
    count(number)
    take_locks()
    number += 1
    if number % ROUNDS_PER_REPORT == 0:
        tell("progress", number)

os.fsync(kept)
expected = b"".join(lines)
for name in ("kept.log", "reopened.log"):
    with open(name, "rb") as file:
        found = file.read()
    same(len(found), len(expected), f"bytes of {name}")
    check(found == expected, f"{name} differs")
same(sorted(os.listdir(".")), ["counter", "kept.log", "reopened.log"], "names")
finish(rounds=number)
