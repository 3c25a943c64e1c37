"""Holds things of a mount while its service is killed: says what it does, waits for a line, and then looks whether everything is as it was.

python3 holder.py DIRECTORY; each line of input is answered by a line "ok" or what is wrong.
"""
import fcntl
import mmap
import os
import sys

from kernel import forget_caches, lock, name_to_handle, open_by_handle
from lib import *


class Held:
    """Open files without names, a working directory without a name, handles, locks and a mapping."""

    def prepare(self):
        os.makedirs("a/b")
        make("a/b/named", b"named")
        self.orphan = os.open(make("orphan", b"content of an orphan"), os.O_RDWR)
        os.unlink("orphan")
        self.nameless = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o600)
        os.write(self.nameless, b"nameless")
        self.replaced = os.open(make("replaced", b"old"), os.O_RDONLY)
        os.rename(make("new", b"new"), "replaced")
        os.mkdir("gone")
        self.gone = os.open("gone", os.O_RDONLY | os.O_DIRECTORY)
        os.rmdir("gone")
        self.handle, self.directory = name_to_handle("a/b/named"), name_to_handle("a/b")
        self.locked = os.open(make("locked", b"x"), os.O_RDWR)
        lock(self.locked, fcntl.F_WRLCK)
        fcntl.flock(self.orphan, fcntl.LOCK_EX)
        self.mapped = os.open(make("mapped", bytes(8192)), os.O_RDWR)
        self.view = mmap.mmap(self.mapped, 8192)
        self.view[0:5] = b"dirty"
        self.top = os.open(".", os.O_RDONLY)
        self.listing = os.scandir(many())
        self.listed = [next(self.listing).name for _ in range(500)]
        self.round = 0

    def verify(self):
        self.round += 1
        equal(os.pread(self.orphan, 99, 0)[:7], b"content", "an unlinked file")
        os.pwrite(self.orphan, b"%04d" % self.round, 16)
        equal(os.pread(self.orphan, 4, 16), b"%04d" % self.round, "a write to it")
        equal((os.fstat(self.orphan).st_nlink, os.pread(self.nameless, 99, 0)), (0, b"nameless"), "a nameless file")
        equal((os.read(self.replaced, 99) or os.pread(self.replaced, 99, 0), slurp("replaced")), (b"old", b"new"), "a replaced file")
        equal((os.listdir(self.gone), os.fstat(self.gone).st_nlink), ([], 0), "a removed directory")
        expect("EAGAIN", as_user, 0, lambda: lock(os.open("locked", os.O_RDWR), fcntl.F_RDLCK))
        self.view[4096:4100] = b"%04d" % self.round
        self.view.flush()
        equal(os.pread(self.mapped, 4, 4096), b"%04d" % self.round, "a mapping")
        equal((self.view[0:5], slurp("mapped")[:5]), (b"dirty", b"dirty"), "what was dirty")
        forget_caches()
        for handle, flags in ((self.handle, os.O_RDONLY), (self.directory, os.O_RDONLY | os.O_DIRECTORY)):
            os.close(open_by_handle(self.top, handle, flags))
        if self.round == 1:
            self.listed += [entry.name for entry in self.listing]
            equal(sorted(self.listed), sorted(os.listdir("many")), "a listing that was under way")

    def finish(self):
        system("linkat", -100, f"/proc/self/fd/{self.nameless}".encode(), -100, b"kept", 0x400)
        equal(slurp("kept"), b"nameless", "a nameless file with a name")
        os.close(self.orphan)


def many():
    os.mkdir("many")
    for number in range(3000):
        os.mknod(f"many/{number}")
    return "many"


def serve():
    os.chdir(sys.argv[1])
    held = Held()
    for line in sys.stdin:
        try:
            getattr(held, line.strip())()
            print("ok", flush=True)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}".replace("\n", " "), flush=True)


serve()
