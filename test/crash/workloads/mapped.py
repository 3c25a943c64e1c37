"""mapped.py FOLDER: what stays open while the service comes and goes: a mapped file read page by page, a mapped file written, a listing read slowly, a working
directory, an unlinked file."""

import mmap
import os
import random
import sys

from common import check, finish, running, same

os.makedirs(sys.argv[1], exist_ok=True)
os.chdir(sys.argv[1])

PAGE = 4096
PAGES = 4096
NAMES = 3000
ROUNDS_PER_NAME = 3


def page(number, version=0):
    return f"{number}:{version};".encode().ljust(16, b".") * (PAGE // 16)


with open("read", "xb") as file:
    for number in range(PAGES):
        file.write(page(number))
read_fd = os.open("read", os.O_RDONLY)
read_map = mmap.mmap(read_fd, 0, mmap.MAP_SHARED, mmap.PROT_READ)

written_fd = os.open("written", os.O_RDWR | os.O_CREAT | os.O_EXCL)
os.ftruncate(written_fd, 64 * PAGE)
written_map = mmap.mmap(written_fd, 0)
versions = [0] * 64
for number in range(64):
    written_map[number * PAGE : (number + 1) * PAGE] = page(number)

unlinked = os.open("unlinked", os.O_RDWR | os.O_CREAT | os.O_EXCL)
os.unlink("unlinked")
unlinked_bytes = bytearray()

os.mkdir("names")
for number in range(NAMES):
    os.close(os.open(f"names/{number}", os.O_CREAT | os.O_EXCL))
os.chdir("names")
here = os.stat(".").st_ino
listing = os.scandir(".")
listed = []
random.seed(7)
rounds = 0
while running():
    # Pages are dropped here and in the kernel, so that the service is asked again.
    if rounds % 64 == 0:
        read_map.madvise(mmap.MADV_DONTNEED)
        os.posix_fadvise(read_fd, 0, 0, os.POSIX_FADV_DONTNEED)
    number = random.randrange(PAGES)
    same(read_map[number * PAGE : (number + 1) * PAGE], page(number), f"page {number} of the mapped file")
    number = random.randrange(64)
    same(written_map[number * PAGE : (number + 1) * PAGE], page(number, versions[number]), f"written page {number}")
    versions[number] += 1
    written_map[number * PAGE : (number + 1) * PAGE] = page(number, versions[number])
    if rounds % 32 == 0:
        written_map.flush()
    if len(unlinked_bytes) < 1 << 20:
        same(os.pwrite(unlinked, page(rounds)[:100], len(unlinked_bytes)), 100, "bytes written to the unlinked file")
        unlinked_bytes += page(rounds)[:100]
    if rounds % 16 == 0:
        os.posix_fadvise(unlinked, 0, 0, os.POSIX_FADV_DONTNEED)
        check(os.pread(unlinked, 1 << 21, 0) == unlinked_bytes, "the unlinked file differs")
        same(os.fstat(unlinked).st_nlink, 0, "links of the unlinked file")
    same(os.stat(".").st_ino, here, "inode of the working directory")
    if rounds % ROUNDS_PER_NAME == 0:
        listed.extend(entry.name for entry in [next(listing, None)] if entry is not None)
    rounds += 1

listed.extend(entry.name for entry in listing)
same(sorted(listed, key=int), [str(number) for number in range(NAMES)], "names listed")
written_map.flush()
written_map.close()
os.fsync(written_fd)
for number in range(64):
    same(os.pread(written_fd, PAGE, number * PAGE), page(number, versions[number]), f"written page {number} at the end")
finish(rounds=rounds)
