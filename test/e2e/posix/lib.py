"""What the checks of POSIX behaviour share. Each check runs in a new directory; a program's output is one JSON line for each check.

Run by hand: python3 names.py DIRECTORY [word of a check's name]. Expectations are those of Linux on ext4: where that is not so, the check says why.
"""
import ctypes
import errno
import json
import os
import shutil
import stat
import sys
import time
import traceback

CHECKS = []

# People that are not root, and a group that the first one is in beside his own.
ALICE, BOB, TEAM = 61001, 61002, 61100

libc = ctypes.CDLL(None, use_errno=True)


class Failed(Exception):
    pass


def check(function):
    """Registers a check: its name is the behaviour."""
    CHECKS.append(function)
    return function


def equal(found, wanted, what=""):
    if found != wanted:
        raise Failed(f"{what or 'value'}: found {found!r}, expected {wanted!r}")


def true(value, what):
    if not value:
        raise Failed(what)


def outcome(call, *args, **named):
    """Name of the errno a call fails with, or "OK"."""
    try:
        call(*args, **named)
        return "OK"
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error.errno))


def expect(wanted, call, *args, **named):
    found = outcome(call, *args, **named)
    if found != wanted:
        label = getattr(call, "__name__", str(call))
        raise Failed(f"{label}{args}: {found}, expected {wanted}")


def table(rows):
    """Rows of (errno, call, arguments...): all are tried, all that differ are told."""
    wrong = []
    for wanted, call, *args in rows:
        try:
            expect(wanted, call, *args)
        except Failed as error:
            wrong.append(str(error))
    if wrong:
        raise Failed("; ".join(wrong))


def system(name, *args):
    """Calls a function of libc, raising OSError."""
    result = getattr(libc, name)(*args)
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)
    return result


def as_user(uid, call, *args, gid=None, groups=()):
    """Runs a call in a child process with another user's rights, and answers what it answers; an OSError is raised here."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            os.setgroups(list(groups))
            os.setgid(uid if gid is None else gid)
            os.setuid(uid)
            try:
                result = {"value": call(*args)}
            except OSError as error:
                result = {"errno": error.errno}
            except BaseException:
                result = {"failed": traceback.format_exc()}
            os.write(writing, json.dumps(result).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as answers:
        result = json.loads(answers.read() or b'{"failed": "the child ended without an answer"}')
    os.waitpid(child, 0)
    if "errno" in result:
        raise OSError(result["errno"], os.strerror(result["errno"]))
    if "failed" in result:
        raise Failed(result["failed"])
    return result["value"]


def in_child(call):
    """Starts a call in a child process; answers its process id."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            call()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return child


def ended_well(*children):
    for child in children:
        _, status = os.waitpid(child, 0)
        equal(status, 0, "exit status of a child")


def make(path, content=b"", mode=0o644):
    """Makes a file with exactly these permission bits."""
    with open(path, "wb") as file:
        file.write(content)
    os.chmod(path, mode)
    return path


def slurp(path):
    with open(path, "rb") as file:
        return file.read()


def mode_of(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


def opened(path, flags, mode=0o644):
    """open(2) and close(2)."""
    os.close(os.open(path, flags, mode))


def tick():
    """Lets the file system's clock move on (ext4's goes in steps of 4 ms)."""
    time.sleep(0.006)


class Times:
    """Notes times of some files, to see which of them a call changes: Times("a", "b").after(call) answers {"a": "mc", "b": ""}."""

    def __init__(self, *paths):
        self.paths = paths

    def after(self, call, *args, **named):
        tick()
        before = {path: os.lstat(path) for path in self.paths}
        call(*args, **named)
        changed = {}
        for path in self.paths:
            now = os.lstat(path)
            letters = ""
            for letter, field in (("m", "st_mtime_ns"), ("c", "st_ctime_ns")):
                if getattr(now, field) != getattr(before[path], field):
                    letters += letter
            changed[path] = letters
        return changed


def changes(wanted, call, *args, **named):
    equal(Times(*wanted).after(call, *args, **named), wanted, f"times after {getattr(call, '__name__', call)}")


def main():
    top, only = sys.argv[1], sys.argv[2:]
    os.umask(0o022)
    for function in CHECKS:
        name = function.__name__.replace("_", " ")
        if only and not any(word in name for word in only):
            continue
        directory = os.path.join(top, f"{os.path.basename(sys.argv[0])[:-3]}-{function.__name__[:60]}")
        shutil.rmtree(directory, ignore_errors=True)
        os.mkdir(directory)
        os.chmod(directory, 0o777)
        os.chdir(directory)
        started = time.monotonic()
        result = {"name": name}
        try:
            result["skipped"] = function() or ""
        except Failed as error:
            result["failed"] = str(error)
        except BaseException:
            result["failed"] = traceback.format_exc(limit=-4)
        os.chdir("/")
        result["seconds"] = round(time.monotonic() - started, 2)
        shutil.rmtree(directory, ignore_errors=True)
        print(json.dumps(result), flush=True)
