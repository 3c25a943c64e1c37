"""Changes through one mount of a share, looks through another as soon as the call has returned:
python3 coherent.py FIRST SECOND SEED STEPS WRITER

Several run at once in the same directory. Each has names of his own, so that every look has one right answer; but all look at all names, so that every change concerns both kernels. Says what was
seen that should not have been, as JSON: {} if nothing.
"""
import collections
import json
import os
import random
import sys

FIRST, SECOND, SEED, STEPS, WRITER = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
NAMES = [f"{WRITER}-{number}" for number in range(4)]


def wrong(mount, files):
    """What is not on the mount as it should be: `files` has the content of those that are there."""
    for name in NAMES:
        try:
            file = os.open(f"{mount}/{name}", os.O_RDONLY)
        except FileNotFoundError:
            if name in files:
                yield "a name is missing"
            continue
        if name not in files:
            yield "a name is still there"
        elif os.fstat(file).st_size != len(files[name]):
            yield "another size"
        elif os.read(file, 100_000) != files[name]:
            yield "other content"
        os.close(file)
    if {name for name in os.listdir(mount) if name in NAMES} != set(files):
        yield "another listing"


def change(mount, files, chance):
    """Changes something at random and answers what."""
    name, other = chance.sample(NAMES, 2)
    act = chance.choice(["write", "write", "unlink", "rename", "rename", "patch", "truncate"])
    if act == "write" or name not in files:
        files[name] = chance.randbytes(chance.randrange(1, 9000))
        with open(f"{mount}/{name}", "wb", buffering=0) as file:
            file.write(files[name])
        return "write"
    if act == "unlink":
        os.unlink(f"{mount}/{name}")
        del files[name]
    elif act == "rename":
        os.rename(f"{mount}/{name}", f"{mount}/{other}")
        files[other] = files.pop(name)
    elif act == "patch":
        at, data = chance.randrange(len(files[name]) + 1), chance.randbytes(100)
        with open(f"{mount}/{name}", "r+b", buffering=0) as file:
            file.seek(at)
            file.write(data)
        files[name] = files[name][:at] + data + files[name][at + len(data) :]
    else:
        size = chance.randrange(12_000)
        os.truncate(f"{mount}/{name}", size)
        files[name] = files[name][:size].ljust(size, b"\0")
    return act


def look_around(mount):
    for name in os.listdir(mount):
        try:
            os.lstat(f"{mount}/{name}")
        except FileNotFoundError:
            pass


def main():
    chance, files, seen = random.Random(SEED), {}, collections.Counter()
    for _ in range(STEPS):
        here, there = chance.sample([FIRST, SECOND], 2)
        act = change(here, files, chance)
        seen.update(f"{act}: {what}" for what in wrong(there, files))
        if chance.random() < 0.3:
            look_around(here)
    print(json.dumps(seen))


main()
