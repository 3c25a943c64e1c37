"""verify.py FOLDER MANIFEST: compares a tree with a manifest, everything in both; ends with status 1 and the differences when there are any."""

import json
import os
import sys

from manifest import observe

root, manifest = sys.argv[1:3]
with open(manifest, encoding="ascii") as file:
    expected = json.load(file)
found = {}
for folder, folders, files in os.walk(root):
    for name in ("", *files, *(each for each in folders if os.path.islink(os.path.join(folder, each)))):
        path = os.path.normpath(os.path.join(folder, name))
        found["" if path == os.path.normpath(root) else os.path.relpath(path, root)] = observe(path)

differences = [f"{path}: only {'expected' if path in expected else 'found'}" for path in sorted(expected.keys() ^ found.keys())]
inodes = {}
for path in sorted(expected.keys() & found.keys()):
    wanted, seen = dict(expected[path]), dict(found[path])
    pair = wanted.pop("inode", None), seen.pop("inode", None)
    if pair[0] is not None and inodes.setdefault(pair[0], pair[1]) != pair[1]:
        differences.append(f"{path}: another inode than its other names")
    if wanted != seen:
        differences.append(f"{path}: found {seen}, wanted {wanted}")
for difference in differences[:20]:
    print(difference, file=sys.stderr)
print(len(found))
sys.exit(1 if differences else 0)
