"""rewrite.py FILE BYTES TIMES SECONDS: writes a file of BYTES anew, TIMES times, waiting while the disk is full, but for no longer than SECONDS in a row."""

import os
import sys
import time

from common import check, finish, outcome

PIECE_BYTES = 250_000
RETRY_S = 0.1

path, size, times, patience = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
longest = refused = 0
for version in range(times):
    data = os.urandom(PIECE_BYTES) * (size // PIECE_BYTES)
    fds, done, since = [], 0, time.monotonic()
    while done < len(data):

        def write_on():
            global done
            if not fds:
                fds.append(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644))
            done += os.pwrite(fds[0], data[done : done + PIECE_BYTES], done)

        failed = outcome(write_on)
        check(failed in (None, "ENOSPC"), f"write: {failed}")
        if failed is None:
            since = time.monotonic()
            continue
        refused += 1
        longest = max(longest, time.monotonic() - since)
        check(longest < patience, f"no space for {longest:.0f} s, version {version}, byte {done}")
        time.sleep(RETRY_S)
    os.close(fds[0])
    with open(path, "rb") as file:
        check(file.read() == data, f"version {version} differs")
finish(refused=refused, longest=round(longest, 1))
