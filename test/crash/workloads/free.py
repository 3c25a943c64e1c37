"""free.py FOLDER MANIFEST: frees space on a full disk: removes every second file, truncates every tenth; each must succeed. Then writes until new data is taken again. Leaves
what must be there in MANIFEST."""

import hashlib
import json
import os
import sys
import time

from common import check, finish, outcome

WAIT_S = 90
RETRY_S = 0.2
NEW_BYTES = 20_000_000
PIECE_BYTES = 100_000

root, manifest = sys.argv[1:3]
os.chdir(root)
with open(manifest, encoding="ascii") as file:
    expected = json.load(file)
names = [name for name in expected if name]
empty = hashlib.sha256(b"").hexdigest()
for index, name in enumerate(names):
    if index % 2 == 0:
        os.unlink(name)
        del expected[name]
    elif index % 10 == 1:
        os.truncate(name, 0)
        expected[name] |= {"size": 0, "sha256": empty}

started = time.monotonic()
data = bytes(range(250)) * (NEW_BYTES // 250)
done = 0
while done < len(data):
    def append():
        global done
        fd = os.open("again", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
        try:
            done += os.write(fd, data[done : done + PIECE_BYTES])
        finally:
            os.close(fd)

    failed = outcome(append)
    check(failed in (None, "ENOSPC"), f"append: {failed}")
    if failed is not None:
        check(time.monotonic() - started < WAIT_S, "the space does not come back")
        time.sleep(RETRY_S)
expected["again"] = {"kind": "file", "links": 1, "mode": 0o644, "size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "xattrs": {}}
with open(manifest, "w", encoding="ascii") as file:
    json.dump(expected, file)
finish(seconds=round(time.monotonic() - started, 1))
