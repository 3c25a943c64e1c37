"""free.py FOLDER MANIFEST: frees space on a full disk: removes every second file, truncates every tenth; each must succeed. Leaves what must
be there in MANIFEST."""

import hashlib
import json
import os
import sys

from common import finish

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

with open(manifest, "w", encoding="ascii") as file:
    json.dump(expected, file)
finish(files=len(expected) - 1)
