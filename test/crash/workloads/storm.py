"""storm.py MODE FOLDER MANIFEST SEED: random operations on names, attributes and contents; a model in memory says what each must answer.

MODE work: until standard input is closed. At the end writes what must be there to MANIFEST, outside of the share, for verify.py.
MODE power: the same, but ends quietly when the disk under the service is gone; tells how many of its calls changed something, and at each fsync how many of them
must survive.
MODE a file with the journal's records of such a run, [[operation, bytes written], ...]: makes no calls. Checks that the records are what the calls had to make, writes
what must be there after them to MANIFEST, and says how many calls that is."""

import errno
import json
import os
import random
import stat
import sys

from common import (
    PUNCH_HOLE_KEEP_SIZE,
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    check,
    fallocate,
    finish,
    link_unnamed,
    renameat2,
    running,
    same,
    tell,
)
from manifest import describe

FOLDERS = 6
NAMES = 30
FILE_BYTES_MAX = 300_000
WRITE_BYTES_MAX = 40_000
OPEN_MAX = 12
XATTRS = ["user.a", "user.b", "trusted.c", "security.d"]
CALLS_PER_REPORT = 20
GONE = ("EIO", "ENOTCONN", "ECONNABORTED")


class Enough(Exception):
    """There are no more records."""


class PowerLost(Exception):
    """The disk is gone."""


# What each call is in the journal.
OPERATION = {
    "mkdir": "MKDIR", "rmdir": "RMDIR", "unlink": "UNLINK", "symlink": "SYMLINK", "mkfifo": "MKNOD", "hard_link": "LINK", "link_unnamed": "LINK",
    "make_unnamed": "TMPFILE", "open": "CREATE", "pwrite": "WRITE", "write": "WRITE", "truncate": "SETATTR", "chmod": "SETATTR", "fallocate": "FALLOCATE",
    "copy_file_range": "COPY_RANGE", "renameat2": "RENAME", "setxattr": "SETXATTR", "removexattr": "REMOVEXATTR",
}  # fmt: skip


class Share:
    """The calls, and how many of them changed something."""

    def __init__(self, mode):
        self.power = mode == "power"
        self.live = not mode.startswith("/")
        self.calls = 0
        self.records = []
        if not self.live:
            with open(mode, encoding="ascii") as file:
                self.records = json.load(file)[::-1]

    def change(self, wanted, call, *args, asks=True):
        """A call that must fail with the errno `wanted`, or with None succeed. Answers its result. `asks`: the kernel asks the file system."""
        result = None
        if self.live:
            result, found = self.run(call, args)
            check(found == wanted, f"{call.__name__}{str(args)[:200]}: found {found}, wanted {wanted}")
        elif wanted is None and asks:
            self.next_record(call)
        if wanted is None:
            self.count()
        return result

    def write(self, data, node, offset, call, *args):
        """Writes to a file and to its node. The kernel makes several requests of a write when it likes: the last of them may be missing in a journal."""
        if self.live:
            written, found = self.run(call, args)
            if self.power and found is None and written < len(data):
                raise PowerLost
            check((written, found) == (len(data), None), f"{call.__name__}: found {written}, {found}, wanted {len(data)}")
        done = 0
        while done < len(data):
            length = len(data) if self.live else self.next_record(call)
            node.data.extend(bytes(max(0, offset - len(node.data))))
            node.data[offset + done : offset + done + length] = data[done : done + length]
            done += length
        self.count()

    def next_record(self, call):
        if not self.records:
            raise Enough
        operation, length = self.records.pop()
        same(operation, OPERATION[call.__name__], f"record of call {self.calls + 1}")
        return length

    def count(self):
        self.calls += 1
        if self.live and self.calls % CALLS_PER_REPORT == 0:
            tell("progress", self.calls)

    def look(self, call, *args, wanted=None):
        """A call that changes nothing: not made in a replay."""
        if not self.live:
            return None
        result, found = self.run(call, args)
        check(found == wanted, f"{call.__name__}{str(args)[:200]}: found {found}, wanted {wanted}")
        return result

    def see(self, call, *args, wanted):
        """Looks, and compares the answer."""
        found = self.look(call, *args)
        if self.live:
            check(found == wanted, f"{call.__name__}{str(args)[:200]}: found {str(found)[:200]}, wanted {str(wanted)[:200]}")

    def sync(self, fd):
        before = self.calls
        self.look(os.fsync, fd)
        if self.live:
            tell("synced", before)

    def run(self, call, args):
        try:
            return call(*args), None
        except OSError as error:
            name = errno.errorcode.get(error.errno, str(error.errno))
            if self.power and name in GONE:
                raise PowerLost from error
            return None, name


share = Share(sys.argv[1])
root, manifest, seed = sys.argv[2], sys.argv[3], int(sys.argv[4])
rng = random.Random(seed)


class Node:
    """What an inode must be."""

    def __init__(self, kind, mode, target=None):
        self.kind, self.mode, self.target = kind, mode, target
        self.data, self.xattrs, self.links = bytearray(), {}, 1


tree = {}  # folder -> name -> Node
open_files = []  # (fd, Node), of files that may have no name any more


def folder():
    return f"d{rng.randrange(FOLDERS)}"


def place():
    """A folder, a name, the path, and the node that is there."""
    parent, name = folder(), f"n{rng.randrange(NAMES)}"
    return parent, name, f"{parent}/{name}", tree.get(parent, {}).get(name)


def existing(kind=None):
    """As `place`, of something that is there."""
    places = [(p, n, f"{p}/{n}", node) for p, names in tree.items() for n, node in names.items() if kind in (None, node.kind)]
    return rng.choice(places) if places else None


def taken(parent, node):
    """The errno of making a name where `node` may be."""
    if parent not in tree:
        return "ENOENT"
    return "EEXIST" if node else None


def put(parent, name, node):
    tree[parent][name] = node


def take(parent, name):
    tree[parent].pop(name).links -= 1


def make_folder():
    name = folder()
    share.change("EEXIST" if name in tree else None, os.mkdir, name, 0o755)
    tree.setdefault(name, {})


def remove_folder():
    name = folder()
    if rng.random() < 0.8 and tree.get(name):
        return
    wanted = "ENOENT" if name not in tree else "ENOTEMPTY" if tree[name] else None
    share.change(wanted, os.rmdir, name)
    if wanted is None:
        del tree[name]


def create():
    parent, name, path, node = place()
    wanted = taken(parent, node)
    mode = rng.choice([0o600, 0o644, 0o755, 0o4755])
    fd = share.change(wanted, os.open, path, os.O_CREAT | os.O_EXCL | os.O_RDWR, mode)
    if wanted is not None:
        return
    node = Node("file", mode & ~0o022)
    put(parent, name, node)
    keep_open(fd, node)
    overwrite(fd, node, 0)


def keep_open(fd, node):
    open_files.insert(0, (fd, node))
    while len(open_files) > OPEN_MAX:
        share.look(os.close, open_files.pop(1 + rng.randrange(len(open_files) - 1))[0])


def overwrite(fd, node, offset):
    data = rng.randbytes(rng.randrange(1, WRITE_BYTES_MAX))
    share.write(data, node, offset, os.pwrite, fd, data, offset)


def write_open():
    if not open_files:
        return
    fd, node = rng.choice(open_files)
    overwrite(fd, node, rng.randrange(max(1, min(len(node.data) + 5000, FILE_BYTES_MAX - WRITE_BYTES_MAX))))
    if rng.random() < 0.04:
        share.sync(fd)


def append():
    found = existing("file")
    if found is None or len(found[3].data) > FILE_BYTES_MAX:
        return
    data = rng.randbytes(rng.randrange(1, 3000))
    fd = share.look(os.open, found[2], os.O_WRONLY | os.O_APPEND)
    share.write(data, found[3], len(found[3].data), os.write, fd, data)
    share.look(os.close, fd)


def truncate():
    found = existing("file")
    if found is None:
        return
    size = rng.randrange(FILE_BYTES_MAX // 4) if rng.random() < 0.7 else 0
    share.change(None, os.truncate, found[2], size)
    data = found[3].data
    del data[size:]
    data.extend(bytes(size - len(data)))


def punch():
    if not open_files:
        return
    fd, node = rng.choice(open_files)
    start, length = rng.randrange(100_000), rng.randrange(1, 50_000)
    share.change(None, fallocate, fd, PUNCH_HOLE_KEEP_SIZE, start, length)
    end = min(start + length, len(node.data))
    if end > start:
        node.data[start:end] = bytes(end - start)


def copy_range():
    if len(open_files) < 2:
        return
    (source_fd, source), (target_fd, target) = rng.sample(open_files, 2)
    start, to, length = rng.randrange(50_000), rng.randrange(50_000), rng.randrange(1, 50_000)
    data = source.data[start : start + length]
    if source is target or not data:
        return
    copied = share.change(None, os.copy_file_range, source_fd, target_fd, length, start, to)
    check(copied in (None, len(data)), "a short copy")
    target.data.extend(bytes(max(0, to - len(target.data))))
    target.data[to : to + len(data)] = data


def read_back():
    found, drop = existing("file"), rng.random() < 0.5
    if found is None:
        return
    fd = share.look(os.open, found[2], os.O_RDONLY)
    if drop:
        share.look(os.posix_fadvise, fd, 0, 0, os.POSIX_FADV_DONTNEED)
    share.see(whole, fd, wanted=bytes(found[3].data))
    share.look(os.close, fd)


def whole(fd):
    """All bytes of a file. A read that meets an error after some bytes answers those first."""
    data = b""
    while piece := os.pread(fd, FILE_BYTES_MAX * 2, len(data)):
        data += piece
    return data


def link():
    source, (parent, name, path, node) = existing(), place()
    if source is None:
        return
    wanted = taken(parent, node)
    share.change(wanted, hard_link, source[2], path)
    if wanted is None:
        source[3].links += 1
        put(parent, name, source[3])


def hard_link(old, new):
    os.link(old, new, follow_symlinks=False)


def make_symlink():
    parent, name, path, node = place()
    wanted, target = taken(parent, node), "x" * rng.randrange(1, 300)
    share.change(wanted, os.symlink, target, path)
    if wanted is None:
        put(parent, name, Node("link", 0o777, target))


def make_fifo():
    parent, name, path, node = place()
    wanted = taken(parent, node)
    share.change(wanted, os.mkfifo, path, 0o640)
    if wanted is None:
        put(parent, name, Node("fifo", 0o640))


def unnamed_then_linked():
    parent, name, path, node = place()
    if parent not in tree:
        return
    fd = share.change(None, make_unnamed, parent)
    made = Node("file", 0o600)
    made.links = 0
    keep_open(fd, made)
    overwrite(fd, made, 0)
    wanted = taken(parent, node)
    share.change(wanted, link_unnamed, fd, path)
    if wanted is None:
        made.links = 1
        put(parent, name, made)


def make_unnamed(parent):
    return os.open(parent, os.O_TMPFILE | os.O_RDWR, 0o600)


def unlink():
    parent, name, path, node = place()
    share.change(None if node else "ENOENT", os.unlink, path)
    if node:
        take(parent, name)


def rename():
    source, (parent, name, path, node) = existing(), place()
    flags = rng.choice([0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE])
    if source is None:
        return
    wanted = None if parent in tree else "ENOENT"
    if wanted is None and flags == RENAME_NOREPLACE and node:
        wanted = "EEXIST"
    if wanted is None and flags == RENAME_EXCHANGE and not node:
        wanted = "ENOENT"
    # Two names of one file: nothing happens, and the kernel doesn't ask.
    share.change(wanted, renameat2, source[2], path, flags, asks=node is not source[3])
    if wanted is not None or node is source[3]:
        return
    if flags == RENAME_EXCHANGE:
        put(source[0], source[1], node)
    else:
        if node:
            take(parent, name)
        del tree[source[0]][source[1]]
    put(parent, name, source[3])


def set_xattr():
    found = existing("file")
    if found is None:
        return
    xattrs, name, value = found[3].xattrs, rng.choice(XATTRS), rng.randbytes(rng.randrange(1, 200))
    flags, wanted = rng.choice([0, os.XATTR_CREATE, os.XATTR_REPLACE]), None
    if flags == os.XATTR_CREATE and name in xattrs:
        wanted = "EEXIST"
    if flags == os.XATTR_REPLACE and name not in xattrs:
        wanted = "ENODATA"
    share.change(wanted, os.setxattr, found[2], name, value, flags)
    if wanted is None:
        xattrs[name] = value


def remove_xattr():
    found = existing("file")
    if found is None:
        return
    name = rng.choice(XATTRS)
    share.change(None if name in found[3].xattrs else "ENODATA", os.removexattr, found[2], name)
    found[3].xattrs.pop(name, None)


def chmod():
    found, mode = existing("file"), rng.choice([0o600, 0o644, 0o711, 0o2755])
    if found is not None:
        share.change(None, os.chmod, found[2], mode)
        found[3].mode = mode


def look():
    _, _, path, node = place()
    if node is None:
        share.look(os.lstat, path, wanted="ENOENT")
        return
    share.see(links_and_mode, path, wanted=(node.links, node.mode & 0o777))
    if node.kind == "file":
        share.see(os.path.getsize, path, wanted=len(node.data))
        share.see(sorted_xattrs, path, wanted=sorted(node.xattrs))
    if node.kind == "link":
        share.see(os.readlink, path, wanted=node.target)


def links_and_mode(path):
    found = os.lstat(path)
    return found.st_nlink, stat.S_IMODE(found.st_mode) & 0o777


def sorted_xattrs(path):
    return sorted(os.listxattr(path))


def list_folder():
    name = folder()
    if name in tree:
        share.see(sorted_names, name, wanted=sorted(tree[name]))
        share.see(links_and_mode, name, wanted=(2, 0o755))


def sorted_names(path):
    return sorted(os.listdir(path))


OPERATIONS = [
    (create, 10), (write_open, 8), (append, 6), (truncate, 3), (punch, 2), (copy_range, 3), (read_back, 5), (link, 4), (make_symlink, 3), (make_fifo, 1),
    (unnamed_then_linked, 2), (unlink, 7), (rename, 8), (set_xattr, 5), (remove_xattr, 3), (chmod, 2), (look, 6), (list_folder, 1), (make_folder, 1),
    (remove_folder, 1),
]  # fmt: skip


def work():
    """Random operations, as long as there is to be work. Answers how many."""
    total = 0
    share.change(None, os.mkdir, root, 0o755)
    share.look(os.chdir, root)
    while not share.live or running():
        operation = rng.choices([each for each, _ in OPERATIONS], [weight for _, weight in OPERATIONS])[0]
        operation()
        total += 1
    return total


def write_manifest():
    expected = {"": {"kind": "folder", "links": 2 + len(tree)}}
    for parent, names in tree.items():
        expected[parent] = {"kind": "folder", "links": 2}
        for name, node in names.items():
            expected[f"{parent}/{name}"] = describe(node)
    with open(manifest, "w", encoding="ascii") as file:
        json.dump(expected, file)


os.umask(0o022)
if share.live:
    tell("pid", os.getpid())
try:
    operations = work()
    for fd, node in open_files:
        share.see(whole, fd, wanted=bytes(node.data))
        same(os.fstat(fd).st_nlink, node.links, "links of an open file")
    write_manifest()
    finish(operations=operations, calls=share.calls)
except Enough:
    write_manifest()
    finish(calls=share.calls)
except PowerLost:
    finish(calls=share.calls)
