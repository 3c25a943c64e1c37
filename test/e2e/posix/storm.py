"""Changes names and files of one directory at random, as fast as it can: python3 storm.py DIRECTORY SEED STEPS WRITER.

Several run at once, on several mounts, so most calls may find that another was faster; but no call may fail in any other way.
"""
import errno
import os
import random
import shutil
import sys

NAMES = [f"n{number}" for number in range(24)]
EXPECTED = {errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY, errno.EISDIR, errno.ENOTDIR, errno.ESTALE, errno.ELOOP, errno.EINVAL, errno.EPERM}


def write(path, chance):
    with open(path, "r+b" if chance.random() < 0.5 else "wb") as file:
        file.seek(chance.randrange(20_000))
        file.write(chance.randbytes(chance.randrange(1, 9000)))


def step(chance, writer):
    first, second = chance.choice(NAMES), chance.choice(NAMES)
    match chance.randrange(14):
        case 0 | 1:
            os.close(os.open(first, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        case 2 | 3 | 4:
            os.rename(first, second)
        case 5:
            os.unlink(first)
        case 6:
            os.mkdir(first)
        case 7:
            os.rmdir(first)
        case 8:
            os.link(first, second)
        case 9:
            os.symlink(second, first)
        case 10:
            write(first, chance)
        case 11:
            os.chmod(first, chance.choice([0o600, 0o644, 0o755]))
        case 12:
            # A program that saves: a temporary file over the old one.
            with open(f"{writer}.tmp", "wb") as file:
                file.write(chance.randbytes(chance.randrange(5000)))
            os.rename(f"{writer}.tmp", first)
        case 13:
            for name in os.listdir("."):
                os.lstat(name)
            with open(first, "rb") as file:
                file.read()


def main():
    directory, seed, steps, writer = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    os.chdir(directory)
    chance = random.Random(seed)
    log = os.open("log", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    for number in range(steps):
        try:
            step(chance, writer)
        except OSError as error:
            if error.errno not in EXPECTED:
                sys.exit(f"seed {seed}, step {number}: {error}")
        if number % 10 == 0:
            os.write(log, f"{writer} {number}\n".encode())
    shutil.rmtree(f"{writer}.tmp", ignore_errors=True)


main()
