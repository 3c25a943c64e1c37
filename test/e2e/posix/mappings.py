"""Content through mappings, direct and cached access at once."""
import mmap
import os
import random

from data import KEEP_SIZE, MIB, PUNCH_HOLE, fallocate, open_new
from lib import *

CHECKS.clear()


@check
def shrinking_and_growing_leaves_zeros():
    handle = open_new("f", b"x" * 20_000)
    view = mmap.mmap(handle, 20_000)
    os.ftruncate(handle, 5_001)
    os.ftruncate(handle, 20_000)
    equal(os.pread(handle, 20_000, 0), b"x" * 5_001 + bytes(14_999), "read")
    equal(view[:], b"x" * 5_001 + bytes(14_999), "mapped")
    os.pwrite(handle, b"y", 30_000)
    equal(os.pread(handle, 99_999, 19_999), bytes(10_001) + b"y", "a gap")
    view.close()
    os.close(handle)


@check
def shared_mappings_are_one_memory_and_reach_the_file():
    handle = open_new("f", bytes(64 * 4096))

    def child(letter, parity):
        view = mmap.mmap(handle, 64 * 4096)
        for page in range(parity, 64, 2):
            view[page * 4096:page * 4096 + 10] = letter * 10
        view.flush()
        view.close()

    ended_well(in_child(lambda: child(b"a", 0)), in_child(lambda: child(b"b", 1)))
    equal({os.pread(handle, 10, page * 4096) for page in range(0, 64, 2)}, {b"a" * 10}, "even pages")
    equal({os.pread(handle, 10, page * 4096) for page in range(1, 64, 2)}, {b"b" * 10}, "odd pages")
    view = mmap.mmap(handle, 64 * 4096)
    os.pwrite(handle, b"written", 5)
    equal(view[5:12], b"written", "a write is seen in the mapping")
    view[4096:4099] = b"map"
    equal(os.pread(handle, 3, 4096), b"map", "the mapping is seen by a read")
    os.ftruncate(handle, 4096)
    view.close()
    os.ftruncate(handle, 2 * 4096)
    equal(os.pread(handle, 3, 4096), bytes(3), "cut off under a mapping")
    copy = open_new("copy")
    view = mmap.mmap(handle, 4096)
    view[0:5] = b"dirty"
    os.copy_file_range(handle, copy, 4096, 0, 0)
    equal(os.pread(copy, 5, 0), b"dirty", "a copy sees what only the mapping has")
    view.close()
    os.unlink("f")
    view = mmap.mmap(handle, 4096)
    view[0:7] = b"nowhere"
    view.flush()
    equal(os.pread(handle, 7, 0), b"nowhere", "a mapping of a file without a name")
    view.close()
    os.close(handle)
    os.close(copy)


@check
def a_mapping_touches_mtime_when_it_is_written_back():
    handle = open_new("f", bytes(4096))
    view = mmap.mmap(handle, 4096)

    def write():
        view[0] = 1
        view.flush()

    changes({"f": "mc"}, write)
    view.close()
    os.close(handle)


@check
def direct_and_cached_access_agree():
    content = random.Random(2).randbytes(4 * MIB)
    buffer = mmap.mmap(-1, len(content))
    buffer[:] = content
    direct = os.open("f", os.O_RDWR | os.O_CREAT | os.O_DIRECT)
    equal(os.pwritev(direct, [buffer], 0), len(content), "direct write")
    equal(slurp("f"), content, "cached read of a direct write")
    with open("f", "r+b") as cached:
        cached.seek(MIB - 5)
        cached.write(b"0123456789")
    back = mmap.mmap(-1, 2 * MIB)
    equal(os.preadv(direct, [back], 0), 2 * MIB, "direct read")
    equal(back[MIB - 5:MIB + 5], b"0123456789", "direct read of a cached write")
    view = mmap.mmap(os.open("f", os.O_RDWR), 4096)
    view[0:4] = b"mapd"
    os.preadv(direct, [back], 0)
    equal(back[:4], b"mapd", "direct read of a mapping")
    buffer[0:4] = b"drct"
    os.pwritev(direct, [memoryview(buffer)[:4096]], 0)
    equal(view[0:4], b"drct", "a mapping of a direct write")
    os.ftruncate(direct, 4 * MIB - 100)
    equal(os.preadv(direct, [back], 3 * MIB), MIB - 100, "direct read to the end")
    os.close(direct)


@check
def random_reads_and_writes_agree_with_memory():
    """What fsx does, in small: each step is compared with a copy in memory."""
    seed = int(os.environ.get("SEED", random.randrange(2**32)))
    chance, size = random.Random(seed), 600_000
    handle, model = os.open("f", os.O_RDWR | os.O_CREAT), bytearray()
    for step in range(600):
        what = f"seed {seed}, step {step}"
        offset, length = chance.randrange(size), chance.randrange(1, 100_000)
        match chance.randrange(8):
            case 0 | 1:
                data = chance.randbytes(length)
                os.pwrite(handle, data, offset)
                model.extend(bytes(max(0, offset - len(model))))
                model[offset:offset + length] = data
            case 2:
                os.ftruncate(handle, offset)
                model = model[:offset] + bytes(max(0, offset - len(model)))
            case 3:
                fallocate(handle, PUNCH_HOLE | KEEP_SIZE, offset, length)
                end = min(len(model), offset + length)
                model[offset:end] = bytes(max(0, end - offset))
            case 4 if model:
                view = mmap.mmap(handle, len(model))
                end = min(len(model), offset + length)
                if offset < end:
                    model[offset:end] = view[offset:end] = chance.randbytes(end - offset)
                view.close()
            case 5:
                target = chance.randrange(size)
                length = min(length, abs(target - offset), max(0, len(model) - offset))
                if length > 0:
                    equal(os.copy_file_range(handle, handle, length, offset, target), length, what)
                    model.extend(bytes(max(0, target - len(model))))
                    model[target:target + length] = model[offset:offset + length]
            case _:
                equal(os.pread(handle, length, offset), bytes(model[offset:offset + length]), what)
        equal(os.fstat(handle).st_size, len(model), what)
    equal(slurp("f"), bytes(model), f"seed {seed}, the whole")
    os.close(handle)


if __name__ == "__main__":
    main()
