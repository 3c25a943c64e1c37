"""locks.py FOLDER: holds flock and fcntl locks, lets two others wait for them and a third try them, and hands them over at the end."""

import fcntl
import mmap
import os
import signal
import sys
import time

from common import check, finish, outcome, running, same

os.makedirs(sys.argv[1], exist_ok=True)
os.chdir(sys.argv[1])

TRY_EVERY_S = 0.02
HAND_OVER_S = 30

released = mmap.mmap(-1, 1)
holder = os.getpid()


def whole(path):
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return fd


def part(path):
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.lockf(fd, fcntl.LOCK_EX, 100, 50)
    return fd


def wait_for(take, path):
    """A process that waits for a lock; ends with 0 if it got it after its release."""
    pid = os.fork()
    if pid != 0:
        return pid
    os.close(0)
    signal.alarm(0)
    take(path)
    os._exit(0 if released[0] == 1 else 1)


def try_locks():
    """A process that tries the locks again and again: none may be free before the release."""
    pid = os.fork()
    if pid != 0:
        return pid
    first, second = os.open("whole", os.O_RDWR), os.open("part", os.O_RDWR)
    while released[0] == 0:
        for attempt in (
            lambda: fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB),
            lambda: fcntl.lockf(second, fcntl.LOCK_SH | fcntl.LOCK_NB, 10, 120),
        ):
            failed = outcome(attempt)
            if failed not in ("EAGAIN", "EACCES") and released[0] == 0:
                print(f"locks.py: a held lock answered {failed}", file=sys.stderr, flush=True)
                os._exit(1)
        fcntl.lockf(second, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 500)
        fcntl.lockf(second, fcntl.LOCK_UN, 10, 500)
        time.sleep(TRY_EVERY_S)
    os._exit(0)


def still_waits(pid):
    return os.waitpid(pid, os.WNOHANG) == (0, 0)


first, second = whole("whole"), part("part")
waiters = [wait_for(whole, "whole"), wait_for(part, "part")]
trier = try_locks()
while running():
    for pid in (*waiters, trier):
        check(still_waits(pid), "a process that waits for a lock, or tries it, ended")
    time.sleep(TRY_EVERY_S)
released[0] = 1
same(os.waitpid(trier, 0)[1], 0, "status of the process that tries")
fcntl.flock(first, fcntl.LOCK_UN)
os.close(second)
signal.signal(signal.SIGALRM, lambda *_: check(False, "a waiter did not get its lock"))
signal.alarm(HAND_OVER_S)
for pid in waiters:
    same(os.waitpid(pid, 0)[1], 0, "status of a waiter")
finish(waiters=len(waiters))
