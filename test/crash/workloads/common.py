"""What the workloads share. Each works in a folder of the share until its standard input is closed, checks the result of every call against what it
knows, then ends with one line of JSON and status 0; or says what was wrong and ends with status 1."""

import ctypes
import errno
import json
import os
import select
import sys
import time

# Longer calls are reported: the test finds the outages among them.
STALL_NS = 50_000_000
STALLS_MAX = 10_000

stalls = []
libc = ctypes.CDLL(None, use_errno=True)
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
libc.renameat2.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]

libc.linkat.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_int]

AT_FDCWD = -100
AT_SYMLINK_FOLLOW = 0x400
RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
PUNCH_HOLE_KEEP_SIZE = 3


def running():
    """Whether the test still wants work."""
    return not select.select([0], [], [], 0)[0]


def timed(call, *args):
    """Calls, and notes when it took long."""
    start = time.monotonic_ns()
    try:
        return call(*args)
    finally:
        took = time.monotonic_ns() - start
        if took >= STALL_NS and len(stalls) < STALLS_MAX:
            stalls.append([start, took])


def check(holds, what):
    if holds:
        return
    print(f"{os.path.basename(sys.argv[0])}: {what}", file=sys.stderr, flush=True)
    sys.exit(1)


def same(found, wanted, what):
    check(found == wanted, f"{what}: found {str(found)[:300]}, wanted {str(wanted)[:300]}")


def tell(fact, number):
    """Tells the test something while the work goes on."""
    print(fact, number, flush=True)


def finish(**facts):
    print(json.dumps({**facts, "stalls": stalls}), flush=True)


def native(result):
    """The result of a libc call; raises OSError as Python's own calls do."""
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def fallocate(fd, mode, offset, length):
    return native(libc.fallocate(fd, mode, offset, length))


def renameat2(old, new, flags):
    return native(libc.renameat2(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags))


def link_unnamed(fd, path):
    """Gives a name to what O_TMPFILE made; Python's own `link` doesn't follow."""
    return native(libc.linkat(AT_FDCWD, os.fsencode(f"/proc/self/fd/{fd}"), AT_FDCWD, os.fsencode(path), AT_SYMLINK_FOLLOW))


def outcome(call, *args, **named):
    """The name of the errno a call failed with, or None."""
    try:
        call(*args, **named)
        return None
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error.errno))
