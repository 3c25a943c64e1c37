"""Works on a share until its standard input ends, with a model of its own folder beside it: whatever the file system says differently is a failure. Prints the model at the end, as JSON.

Arguments: mount point, number of this worker, seed.
"""
import json
import os
import random
import select
import sys

mount, number, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
rng = random.Random(seed)
own = os.path.join(mount, f"own{number}")
shared = os.path.join(mount, "shared-log")
os.mkdir(own)
model = {}
lines = 0


def path(name):
    return os.path.join(own, name)


def check(name):
    with open(path(name), "rb") as file:
        found = file.read()
    if found != model[name]:
        raise SystemExit(f"worker {number}: {name} has {len(found)} bytes, {len(model[name])} were acknowledged: {found[:60]!r} instead of {model[name][:60]!r}")


def create():
    name = f"f{rng.randrange(40)}"
    data = rng.randbytes(rng.randrange(1, 200_000 if rng.random() < 0.1 else 2_000))
    with open(path(name), "wb") as file:
        file.write(data)
        if rng.random() < 0.3:
            file.flush()
            os.fsync(file.fileno())
    model[name] = data


def append():
    name = rng.choice(list(model))
    data = rng.randbytes(rng.randrange(1, 500))
    with open(path(name), "ab") as file:
        file.write(data)
    model[name] += data


def rename():
    source, target = rng.choice(list(model)), f"f{rng.randrange(40)}"
    os.rename(path(source), path(target))
    model[target] = model.pop(source)


def unlink():
    name = rng.choice(list(model))
    os.unlink(path(name))
    del model[name]


def truncate():
    name = rng.choice(list(model))
    size = rng.randrange(0, 3_000)
    os.truncate(path(name), size)
    model[name] = model[name][:size].ljust(size, b"\0")


def log():
    global lines
    lines += 1
    with open(shared, "ab", buffering=0) as file:
        # 32 bytes: the kernel may cut a write in two where a page ends.
        file.write(f"worker {number} line {lines}".ljust(31).encode() + b"\n")


def listing():
    found = sorted(os.listdir(own))
    if found != sorted(model):
        raise SystemExit(f"worker {number}: listed {found}, expected {sorted(model)}")


while not select.select([sys.stdin], [], [], 0)[0]:
    step = rng.choice([create, create, append, append, rename, unlink, truncate, log, listing])
    if not model and step not in (create, log, listing):
        continue
    step()
    if model and rng.random() < 0.2:
        check(rng.choice(list(model)))
for each in model:
    check(each)
print(json.dumps({"files": {name: data.hex() for name, data in model.items()}, "lines": lines}))
