"""fill.py FOLDER MANIFEST: fills the disk under a share until nothing more can be written, and writes what must be there to MANIFEST; a refused call must be ENOSPC, and
must have changed nothing. Ends with what it counted."""

import json
import os
import random
import sys

from common import check, finish, outcome, same
from manifest import content

FILES_MAX = 100_000
FILE_BYTES = 700_000
PIECE_BYTES = 100_000
SMALL_BYTES = 1000
REFUSED_ENOUGH = 20

root, manifest = sys.argv[1:3]
rng = random.Random(1)
os.makedirs(root, exist_ok=True)
os.chdir(root)
files = {}  # name -> bytes
refused = 0


def write(name, data):
    """Makes a file of what can be written; a piece that is refused ends it. Answers whether everything was taken."""
    global refused
    fds = []
    failed = outcome(lambda: fds.append(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)))
    check(failed in (None, "ENOSPC"), f"open {name}: {failed}")
    if failed is not None:
        refused += 1
        return False
    files[name] = bytearray()
    for start in range(0, len(data), PIECE_BYTES):
        piece, written = data[start : start + PIECE_BYTES], []
        failed = outcome(lambda: written.append(os.write(fds[0], piece)))
        check(failed in (None, "ENOSPC"), f"write {name}: {failed}")
        files[name] += piece[: written[0] if written else 0]
        if failed is not None or written[0] < len(piece):
            refused += 1
            break
    same(os.fstat(fds[0]).st_size, len(files[name]), f"size of {name}")
    os.close(fds[0])
    return len(files[name]) == len(data)


number = 0
while refused < REFUSED_ENOUGH and number < FILES_MAX:
    # At the end small ones take what the large ones left.
    write(f"f{number}", rng.randbytes(FILE_BYTES if refused == 0 else SMALL_BYTES))
    number += 1
check(refused >= REFUSED_ENOUGH, "the disk does not fill")
for call, *args in (os.mkdir, "made"), (os.symlink, "x", "link"), (os.mkfifo, "pipe"):
    check(outcome(call, *args) in (None, "ENOSPC"), f"{call.__name__} on a full disk")
for name in ("made", "link", "pipe"):
    if os.path.lexists(name):
        os.rmdir(name) if name == "made" else os.unlink(name)

expected = {"": {"kind": "folder", "links": 2}}
for name, data in files.items():
    expected[name] = {"kind": "file", "links": 1, "mode": 0o644, **content(data, {})}
with open(manifest, "w", encoding="ascii") as file:
    json.dump(expected, file)
finish(files=len(files), bytes=sum(len(data) for data in files.values()))
