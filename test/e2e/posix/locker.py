"""Takes and gives back locks of files, one command a line, answered by a line: "ok", the name of an errno, or what was asked for.

python3 locker.py DIRECTORY. Commands: KIND MODE FILE [START LENGTH], with KIND posix, ofd or flock, and MODE sh, ex, un (without waiting) or wait-sh, wait-ex;
get FILE START LENGTH; open, close or reopen FILE; fork FILE (a child that holds the file open until "end"); waiting modes answer "waits" at once; "state" answers "waits" while all do, and "result" how the
oldest ended.
"""
import errno
import fcntl
import os
import struct
import sys
import threading

FLOCK = struct.Struct("hhqqi4x")
F_OFD_SETLK, F_OFD_SETLKW = 37, 38
TYPES = {"sh": fcntl.F_RDLCK, "ex": fcntl.F_WRLCK, "un": fcntl.F_UNLCK}
FLOCKS = {"sh": fcntl.LOCK_SH, "ex": fcntl.LOCK_EX, "un": fcntl.LOCK_UN}

# Python calls the number by its other name.
NAMES = {**errno.errorcode, errno.EDEADLK: "EDEADLK"}

files = {}
waits = []
children = []


def opened(name):
    if name not in files:
        files[name] = os.open(name, os.O_RDWR | os.O_CREAT, 0o644)
    return files[name]


def take(kind, mode, name, start=0, length=0):
    fd, wait = opened(name), mode.startswith("wait-")
    mode = mode.removeprefix("wait-")
    if kind == "flock":
        fcntl.flock(fd, FLOCKS[mode] | (0 if wait or mode == "un" else fcntl.LOCK_NB))
        return
    lock = FLOCK.pack(TYPES[mode], os.SEEK_SET, int(start), int(length), 0)
    if kind == "posix":
        fcntl.fcntl(fd, fcntl.F_SETLKW if wait else fcntl.F_SETLK, lock)
    else:
        fcntl.fcntl(fd, F_OFD_SETLKW if wait else F_OFD_SETLK, lock)


def outcome(act, *arguments):
    try:
        act(*arguments)
        return "ok"
    except OSError as error:
        return NAMES.get(error.errno, str(error.errno))


class Wait(threading.Thread):
    """Waits for a lock; `answer` says how that ended."""

    def __init__(self, words):
        super().__init__(daemon=True)
        self.words = words

    def run(self):
        self.answer = outcome(take, *self.words)


def get(name, start, length):
    asked = FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, int(start), int(length), 0)
    kind, _, start, length, pid = FLOCK.unpack(fcntl.fcntl(opened(name), fcntl.F_GETLK, asked))
    return "free" if kind == fcntl.F_UNLCK else f"{['sh', 'ex'][kind]} {start} {length} {pid}"


def fork(name):
    fd, (reader, writer) = opened(name), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writer)
        os.close(0)
        os.read(reader, 1)
        os._exit(0 if fd else 1)
    os.close(reader)
    children.append((pid, writer))


def end():
    for pid, writer in children:
        os.close(writer)
        os.waitpid(pid, 0)
    children.clear()


def answer(words):
    command = words[0]
    if command in ("posix", "ofd", "flock"):
        if not words[1].startswith("wait-"):
            return outcome(take, *words)
        waits.append(Wait(words))
        waits[-1].start()
        return "waits"
    if command == "state":
        return "waits" if all(wait.is_alive() for wait in waits) else "done"
    if command == "result":
        wait = waits.pop(0)
        wait.join()
        return wait.answer
    if command == "get":
        return get(*words[1:])
    if command == "open":
        opened(words[1])
    elif command == "close":
        os.close(files.pop(words[1]))
    elif command == "reopen":
        os.close(os.open(words[1], os.O_RDONLY))
    elif command == "fork":
        fork(words[1])
    elif command == "end":
        end()
    elif command == "write":
        os.write(opened(words[1]), words[2].encode())
    elif command == "pid":
        return str(os.getpid())
    return "ok"


os.chdir(sys.argv[1])
for line in sys.stdin:
    try:
        print(answer(line.split()), flush=True)
    except OSError as error:
        print(NAMES.get(error.errno, str(error.errno)), flush=True)
