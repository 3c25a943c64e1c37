"""Content: holes, allocation, copies, appending writes, limits, nameless files."""
import ctypes
import errno
import os
import random
import resource
import signal

from lib import *

KEEP_SIZE, PUNCH_HOLE, COLLAPSE, ZERO_RANGE, INSERT = 1, 2, 8, 16, 32
MIB = 1 << 20


def fallocate(handle, mode, offset, length):
    system("fallocate", handle, mode, ctypes.c_long(offset), ctypes.c_long(length))


def open_new(path, content=b"", flags=os.O_RDWR):
    make(path, content)
    return os.open(path, flags)


@check
def fallocate_has_the_modes_of_a_journal():
    handle = open_new("f", b"x" * 10_000)
    fallocate(handle, 0, 5_000, 10_000)
    equal((os.fstat(handle).st_size, os.pread(handle, 20_000, 0)), (15_000, b"x" * 10_000 + bytes(5_000)), "allocate")
    fallocate(handle, KEEP_SIZE, 0, 50_000)
    equal(os.fstat(handle).st_size, 15_000, "keep size")
    fallocate(handle, PUNCH_HOLE | KEEP_SIZE, 100, 300)
    equal(os.pread(handle, 500, 0), b"x" * 100 + bytes(300) + b"x" * 100, "punch a hole")
    fallocate(handle, PUNCH_HOLE | KEEP_SIZE, 14_000, 9_000)
    equal(os.fstat(handle).st_size, 15_000, "punch past the end")
    fallocate(handle, ZERO_RANGE | KEEP_SIZE, 9_000, 20_000)
    equal((os.fstat(handle).st_size, os.pread(handle, 2_000, 8_999)[:3]), (15_000, b"x\0\0"), "zero a range")
    fallocate(handle, ZERO_RANGE, 14_000, 6_000)
    equal(os.fstat(handle).st_size, 20_000, "zero a range and grow")
    reading, directory = os.open("f", os.O_RDONLY), os.open(".", os.O_RDONLY)
    table([
        ("EINVAL", fallocate, handle, 0, 0, 0), ("EINVAL", fallocate, handle, 0, -1, 5), ("EINVAL", fallocate, handle, 0, 0, -5),
        ("ENOTSUP", fallocate, handle, PUNCH_HOLE, 0, 5), ("EBADF", fallocate, reading, 0, 0, 5),
        ("EFBIG", fallocate, handle, 0, 2**63 - 10, 100), ("EBADF", fallocate, directory, 0, 0, 5),
    ])
    # ext4 shifts data with these two; here they are not there, as on most file systems, and programs do without.
    found = {outcome(fallocate, handle, mode, 0, 4096) for mode in (COLLAPSE, INSERT)}
    true(found <= {"ENOTSUP", "OK"}, f"collapse and insert: {found}")
    for each in (handle, reading, directory):
        os.close(each)


@check
def holes_are_found_where_they_are():
    handle = open_new("f")
    os.pwrite(handle, b"a" * 4096, 0)
    os.pwrite(handle, b"b" * 4096, 1 * MIB)
    os.pwrite(handle, b"c" * 4096, 200 * MIB)
    os.ftruncate(handle, 300 * MIB)
    data, hole = [], []
    at = 0
    while True:
        try:
            at = os.lseek(handle, at, os.SEEK_DATA)
            data.append(at)
            at = os.lseek(handle, at, os.SEEK_HOLE)
            hole.append(at)
        except OSError as error:
            equal(error.errno, errno.ENXIO, "at the end")
            break
    equal((data, hole), ([0, MIB, 200 * MIB], [4096, MIB + 4096, 200 * MIB + 4096]), "data and holes")
    table([
        ("ENXIO", os.lseek, handle, 300 * MIB, os.SEEK_DATA), ("ENXIO", os.lseek, handle, 300 * MIB, os.SEEK_HOLE),
        ("ENXIO", os.lseek, handle, 201 * MIB, os.SEEK_DATA), ("ENXIO", os.lseek, handle, 2**62, os.SEEK_HOLE),
    ])
    equal(os.lseek(handle, 250 * MIB, os.SEEK_HOLE), 250 * MIB, "a hole inside of a hole")
    equal(os.lseek(handle, -5, os.SEEK_END), 300 * MIB - 5, "from the end")
    os.ftruncate(handle, 0)
    expect("ENXIO", os.lseek, handle, 0, os.SEEK_DATA)
    os.close(handle)


@check
def copy_file_range_copies_within_and_between_files():
    content = bytes(random.Random(1).randbytes(3 * MIB + 77))
    source, target = open_new("s", content), open_new("t", b"t" * 100)
    copied = 0
    while copied < len(content):
        copied += os.copy_file_range(source, target, len(content) - copied, copied, 50 + copied)
    equal(slurp("t"), b"t" * 50 + content, "copy")
    equal(os.copy_file_range(source, target, 1000, len(content), 0), 0, "at the end of the source")
    equal(os.copy_file_range(source, target, 1000, len(content) - 10, 0), 10, "over the end of the source")
    equal(os.copy_file_range(source, source, 1000, 0, 2 * MIB), 1000, "within one file")
    equal(os.pread(source, 1000, 2 * MIB), content[:1000], "within one file")
    os.pwrite(source, b"NEW", 0)
    equal(os.pread(target, 3, 50), content[:3], "the copy keeps its bytes")
    os.ftruncate(target, 0)
    os.ftruncate(source, 100 * MIB)
    os.copy_file_range(source, target, 50 * MIB, 20 * MIB, 0)
    equal((os.fstat(target).st_size, os.pread(target, 10, 30 * MIB)), (50 * MIB, bytes(10)), "a hole")
    reading = os.open("t", os.O_RDONLY)
    table([
        ("EINVAL", os.copy_file_range, source, source, 100, 0, 50), ("EBADF", os.copy_file_range, source, reading, 10, 0, 0),
        ("EISDIR", os.copy_file_range, os.open(".", os.O_RDONLY), target, 10, 0, 0),
    ])
    for each in (source, target, reading):
        os.close(each)


@check
def sizes_reach_to_the_largest_offset():
    handle = open_new("f")
    largest = 2**63 - 1
    if outcome(os.ftruncate, handle, largest) == "EFBIG":
        return "this file system has smaller files"
    equal(os.fstat(handle).st_size, largest, "size")
    os.pwrite(handle, b"end", largest - 4096)
    equal(os.pread(handle, 5, largest - 4097), b"\0end\0", "near the end")
    table([("EINVAL", os.pwrite, handle, b"x", largest), ("EINVAL", os.pread, handle, 1, -1)])
    equal(os.pread(handle, 3, largest - 3), bytes(3), "at the end")
    os.ftruncate(handle, 3)
    os.ftruncate(handle, largest)
    equal(os.pread(handle, 5, largest - 4097), bytes(5), "nothing is left after shrinking")
    os.close(handle)


@check
def a_file_size_limit_is_kept():
    def child():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        handle = open_new("f")
        equal(os.pwrite(handle, b"x" * 20_000, 5_000), 5_000, "a write that reaches the limit")
        expect("EFBIG", os.pwrite, handle, b"x", 10_000)
        expect("EFBIG", os.ftruncate, handle, 10_001)

    ended_well(in_child(child))


@check
def appending_by_several_processes_loses_nothing():
    lines, writers = 300, 4
    make("log")

    def child(number):
        handle = os.open("log", os.O_WRONLY | os.O_APPEND)
        for line in range(lines):
            os.write(handle, f"{number} {line} {'x' * (line * 7 % 200)}\n".encode())

    ended_well(*[in_child(lambda number=number: child(number)) for number in range(writers)])
    seen = {number: 0 for number in range(writers)}
    for line in slurp("log").decode().splitlines():
        number, count, fill = line.split(" ")
        equal((int(count), len(fill)), (seen[int(number)], int(count) * 7 % 200), "line")
        seen[int(number)] += 1
    equal(set(seen.values()), {lines}, "lines of each writer")
    handle = os.open("log", os.O_RDWR | os.O_APPEND)
    size = os.fstat(handle).st_size
    os.pwrite(handle, b"end", 0)
    equal(os.pread(handle, 3, size), b"end", "pwrite appends too (Linux)")
    os.close(handle)


def link_open(handle, path):
    """Gives an open file a name (AT_SYMLINK_FOLLOW)."""
    system("linkat", -100, f"/proc/self/fd/{handle}".encode(), -100, path.encode(), 0x400)


@check
def nameless_files_live_until_closed_or_linked():
    handle = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o640)
    os.write(handle, b"nameless")
    equal((os.fstat(handle).st_nlink, os.listdir(".")), (0, []), "before it has a name")
    link_open(handle, "named")
    equal((os.fstat(handle).st_nlink, slurp("named"), mode_of("named")), (1, b"nameless", 0o640), "with a name")
    os.close(handle)
    equal(slurp("named"), b"nameless", "after the close")
    handle = os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_EXCL, 0o600)
    expect("ENOENT", link_open, handle, "never")
    os.close(handle)
    handle = os.open("named", os.O_RDWR)
    os.unlink("named")
    os.write(handle, b"still")
    equal((os.pread(handle, 20, 0), os.fstat(handle).st_nlink), (b"stilless", 0), "unlinked while open")
    expect("ENOENT", link_open, handle, "again")
    os.ftruncate(handle, 2)
    os.fchmod(handle, 0o600)
    os.setxattr(handle, b"user.x", b"1")
    equal((os.fstat(handle).st_size, os.getxattr(handle, b"user.x")), (2, b"1"), "changes of a file without a name")
    os.close(handle)


@check
def space_of_a_file_comes_back_when_its_last_name_and_handle_are_gone():
    def used():
        space = os.statvfs(".")
        return (space.f_blocks - space.f_bfree) * space.f_frsize

    def comes_back(what):
        deadline = time.monotonic() + 20
        while used() - before > 5 * MIB:
            true(time.monotonic() < deadline, f"{what}: {used() - before} bytes are still used")
            time.sleep(0.02)

    before = used()
    handle = open_new("f")
    os.write(handle, os.urandom(20 * MIB))
    os.link("f", "g")
    os.unlink("f")
    os.unlink("g")
    if used() - before < 15 * MIB:
        return "this file system allocates later"
    os.close(handle)
    comes_back("unlinked while open")
    handle = os.open(".", os.O_TMPFILE | os.O_RDWR)
    os.write(handle, os.urandom(20 * MIB))
    os.close(handle)
    comes_back("nameless")
    make("h", os.urandom(20 * MIB))
    os.rename(make("small"), "h")
    comes_back("replaced")


if __name__ == "__main__":
    main()
