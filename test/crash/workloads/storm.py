"""storm.py FOLDER MANIFEST SEED: random operations on names, attributes and contents; a model in memory says what each must answer. At the end writes what must be
there to MANIFEST, outside of the share, for verify.py."""

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
    outcome,
    renameat2,
    running,
    same,
)
from manifest import describe

FOLDERS = 6
NAMES = 30
FILE_BYTES_MAX = 300_000
WRITE_BYTES_MAX = 40_000
OPEN_MAX = 12
XATTRS = ["user.a", "user.b", "trusted.c", "security.d"]

root, manifest, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
os.umask(0o022)
os.makedirs(root, exist_ok=True)
os.chdir(root)
rng = random.Random(seed)


class Node:
    """What an inode must be."""

    def __init__(self, kind, mode, target=None):
        self.kind, self.mode, self.target = kind, mode, target
        self.data, self.xattrs, self.links, self.mtime = bytearray(), {}, 1, None


tree = {}  # folder -> name -> Node
open_files = []  # (fd, Node), of files that may have no name any more
counts = {}


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


def missing(parent):
    return None if parent in tree else "ENOENT"


def put(parent, name, node):
    tree[parent][name] = node


def take(parent, name):
    node = tree[parent].pop(name)
    node.links -= 1


def make_folder():
    name = folder()
    same(outcome(os.mkdir, name, 0o755), "EEXIST" if name in tree else None, f"mkdir {name}")
    tree.setdefault(name, {})


def remove_folder():
    name = folder()
    if rng.random() < 0.8 and tree.get(name):
        return
    wanted = "ENOENT" if name not in tree else "ENOTEMPTY" if tree[name] else None
    same(outcome(os.rmdir, name), wanted, f"rmdir {name}")
    if wanted is None:
        del tree[name]


def create():
    parent, name, path, node = place()
    wanted = missing(parent) or ("EEXIST" if node else None)
    mode = rng.choice([0o600, 0o644, 0o755, 0o4755])
    fds = []
    same(outcome(lambda: fds.append(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, mode))), wanted, f"create {path}")
    if wanted is not None:
        return
    node = Node("file", mode & ~0o022)
    put(parent, name, node)
    overwrite(fds[0], node, 0)
    keep_open(fds[0], node)


def keep_open(fd, node):
    open_files.append((fd, node))
    while len(open_files) > OPEN_MAX:
        os.close(open_files.pop(rng.randrange(len(open_files)))[0])


def overwrite(fd, node, offset):
    data = rng.randbytes(rng.randrange(1, WRITE_BYTES_MAX))
    same(os.pwrite(fd, data, offset), len(data), "pwrite")
    node.data.extend(bytes(max(0, offset - len(node.data))))
    node.data[offset : offset + len(data)] = data


def write_open():
    if not open_files:
        return
    fd, node = rng.choice(open_files)
    overwrite(fd, node, rng.randrange(max(1, min(len(node.data) + 5000, FILE_BYTES_MAX - WRITE_BYTES_MAX))))
    if rng.random() < 0.1:
        os.fsync(fd)


def append():
    found = existing("file")
    if found is None or len(found[3].data) > FILE_BYTES_MAX:
        return
    data = rng.randbytes(rng.randrange(1, 3000))
    fd = os.open(found[2], os.O_WRONLY | os.O_APPEND)
    same(os.write(fd, data), len(data), "append")
    os.close(fd)
    found[3].data.extend(data)


def truncate():
    found = existing("file")
    if found is None:
        return
    size = rng.randrange(FILE_BYTES_MAX // 4) if rng.random() < 0.7 else 0
    os.truncate(found[2], size)
    data = found[3].data
    del data[size:]
    data.extend(bytes(size - len(data)))


def punch():
    if not open_files:
        return
    fd, node = rng.choice(open_files)
    start, length = rng.randrange(100_000), rng.randrange(1, 50_000)
    fallocate(fd, PUNCH_HOLE_KEEP_SIZE, start, length)
    end = min(start + length, len(node.data))
    if end > start:
        node.data[start:end] = bytes(end - start)


def copy_range():
    if len(open_files) < 2:
        return
    (source_fd, source), (target_fd, target) = rng.sample(open_files, 2)
    if source is target:
        return
    start, to, length = rng.randrange(50_000), rng.randrange(50_000), rng.randrange(1, 50_000)
    copied = os.copy_file_range(source_fd, target_fd, length, start, to)
    data = source.data[start : start + length]
    same(copied, len(data), "copy_file_range")
    if data:
        target.data.extend(bytes(max(0, to - len(target.data))))
        target.data[to : to + len(data)] = data


def read_back():
    found = existing("file")
    if found is None:
        return
    fd = os.open(found[2], os.O_RDONLY)
    if rng.random() < 0.5:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    check(os.pread(fd, FILE_BYTES_MAX * 2, 0) == found[3].data, f"content of {found[2]}")
    os.close(fd)


def link():
    source, (parent, name, path, node) = existing(), place()
    if source is None:
        return
    wanted = missing(parent) or ("EEXIST" if node else None)
    same(outcome(os.link, source[2], path, follow_symlinks=False), wanted, f"link {source[2]} {path}")
    if wanted is None:
        source[3].links += 1
        put(parent, name, source[3])


def make_symlink():
    parent, name, path, node = place()
    wanted = missing(parent) or ("EEXIST" if node else None)
    target = "x" * rng.randrange(1, 300)
    same(outcome(os.symlink, target, path), wanted, f"symlink {path}")
    if wanted is None:
        put(parent, name, Node("link", 0o777, target))


def make_fifo():
    parent, name, path, node = place()
    wanted = missing(parent) or ("EEXIST" if node else None)
    same(outcome(os.mkfifo, path, 0o640), wanted, f"mkfifo {path}")
    if wanted is None:
        put(parent, name, Node("fifo", 0o640))


def unnamed_then_linked():
    parent, name, path, node = place()
    if missing(parent):
        return
    fd = os.open(parent, os.O_TMPFILE | os.O_RDWR, 0o600)
    made = Node("file", 0o600)
    made.links = 0
    overwrite(fd, made, 0)
    wanted = "EEXIST" if node else None
    same(outcome(link_unnamed, fd, path), wanted, f"link of an O_TMPFILE to {path}")
    if wanted is None:
        made.links = 1
        put(parent, name, made)
    keep_open(fd, made)


def unlink():
    parent, name, path, node = place()
    same(outcome(os.unlink, path), None if node else "ENOENT", f"unlink {path}")
    if node:
        take(parent, name)


def rename():
    source, (parent, name, path, node) = existing(), place()
    if source is None:
        return
    flags = rng.choice([0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE])
    wanted = missing(parent)
    if wanted is None and flags == RENAME_NOREPLACE and node:
        wanted = "EEXIST"
    if wanted is None and flags == RENAME_EXCHANGE and not node:
        wanted = "ENOENT"
    same(outcome(renameat2, source[2], path, flags), wanted, f"rename {source[2]} {path} {flags}")
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
    flags = rng.choice([0, os.XATTR_CREATE, os.XATTR_REPLACE])
    wanted = None
    if flags == os.XATTR_CREATE and name in xattrs:
        wanted = "EEXIST"
    if flags == os.XATTR_REPLACE and name not in xattrs:
        wanted = "ENODATA"
    same(outcome(os.setxattr, found[2], name, value, flags), wanted, f"setxattr {found[2]} {name} {flags}")
    if wanted is None:
        xattrs[name] = value


def remove_xattr():
    found = existing("file")
    if found is None:
        return
    name = rng.choice(XATTRS)
    wanted = None if name in found[3].xattrs else "ENODATA"
    same(outcome(os.removexattr, found[2], name), wanted, f"removexattr {found[2]} {name}")
    found[3].xattrs.pop(name, None)


def chmod():
    found = existing("file")
    if found is not None:
        found[3].mode = rng.choice([0o600, 0o644, 0o711, 0o2755])
        os.chmod(found[2], found[3].mode)


def look():
    parent, _, path, node = place()
    if node is None:
        return same(outcome(os.lstat, path), "ENOENT", f"lstat {path}")
    found = os.lstat(path)
    same(found.st_nlink, node.links, f"links of {path}")
    same(stat.S_IMODE(found.st_mode) & 0o777, node.mode & 0o777, f"mode of {path}")
    if node.kind == "file":
        same(found.st_size, len(node.data), f"size of {path}")
        same(sorted(os.listxattr(path)), sorted(node.xattrs), f"xattrs of {path}")
    if node.kind == "link":
        same(os.readlink(path), node.target, f"target of {path}")
    return None


def list_folder():
    name = folder()
    if name in tree:
        same(sorted(os.listdir(name)), sorted(tree[name]), f"names in {name}")
        same(os.stat(name).st_nlink, 2, f"links of {name}")


OPERATIONS = [
    (create, 10), (write_open, 8), (append, 6), (truncate, 3), (punch, 2), (copy_range, 3), (read_back, 5), (link, 4), (make_symlink, 3), (make_fifo, 1),
    (unnamed_then_linked, 2), (unlink, 7), (rename, 8), (set_xattr, 5), (remove_xattr, 3), (chmod, 2), (look, 6), (list_folder, 1), (make_folder, 1),
    (remove_folder, 1),
]  # fmt: skip

total = 0
while running():
    operation = rng.choices([each for each, _ in OPERATIONS], [weight for _, weight in OPERATIONS])[0]
    operation()
    counts[operation.__name__] = counts.get(operation.__name__, 0) + 1
    total += 1

for fd, node in open_files:
    check(os.pread(fd, FILE_BYTES_MAX * 2, 0) == node.data, "content of an open file")
    same(os.fstat(fd).st_nlink, node.links, "links of an open file")
    os.close(fd)
for names in tree.values():
    for node in names.values():
        node.id = id(node)
expected = {"": {"kind": "folder", "links": 2 + len(tree)}}
for parent, names in tree.items():
    expected[parent] = {"kind": "folder", "links": 2}
    for name, node in names.items():
        expected[f"{parent}/{name}"] = describe(node)
with open(manifest, "w", encoding="ascii") as file:
    json.dump(expected, file)
finish(operations=total)
