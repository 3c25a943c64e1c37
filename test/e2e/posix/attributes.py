"""Attributes: mode, owner, times, size; who may change them, and what a change does to the others."""
import os
import stat

from lib import *


def utimes(path, atime, mtime):
    os.utime(path, ns=(atime, mtime), follow_symlinks=False)


def text(path):
    return slurp(path).decode()


def append(path):
    with open(path, "ab") as file:
        file.write(b"x")


@check
def chmod_sets_all_twelve_bits_and_ctime():
    make("f")
    os.mkdir("d")
    for mode in (0, 0o777, 0o4755, 0o2755, 0o1777, 0o7777, 0o640):
        for path in ("f", "d"):
            os.chmod(path, mode)
            equal(mode_of(path), mode, path)
    changes({"f": "c"}, os.chmod, "f", 0o600)
    changes({"f": "c"}, os.chmod, "f", 0o600)
    handle = os.open("f", os.O_RDONLY)
    os.fchmod(handle, 0o604)
    equal(mode_of("f"), 0o604, "fchmod")
    os.close(handle)
    os.symlink("f", "l")
    os.chmod("l", 0o644)
    equal((mode_of("f"), mode_of("l")), (0o644, 0o777), "through a link")
    table([("ENOENT", os.chmod, "absent", 0), ("ENOTDIR", os.chmod, "f/x", 0), ("ENAMETOOLONG", os.chmod, "x" * 256, 0)])


@check
def chmod_is_for_the_owner_and_strangers_lose_set_group_id():
    make("f")
    os.chown("f", ALICE, TEAM)
    expect("EPERM", as_user, BOB, os.chmod, "f", 0o777)
    as_user(ALICE, os.chmod, "f", 0o2755)
    equal(mode_of("f"), 0o755, "set-group-id by an owner who is not in the group")
    as_user(ALICE, lambda: os.chmod("f", 0o2755), groups=[TEAM])
    equal(mode_of("f"), 0o2755, "set-group-id by a member")


@check
def chown_changes_owners_and_ctime():
    make("f")
    os.symlink("f", "l")
    changes({"f": "c", "l": ""}, os.chown, "f", ALICE, TEAM)
    equal((os.stat("f").st_uid, os.stat("f").st_gid), (ALICE, TEAM), "both")
    os.chown("f", -1, BOB)
    os.chown("f", BOB, -1)
    equal((os.stat("f").st_uid, os.stat("f").st_gid), (BOB, BOB), "one at a time")
    changes({"f": "", "l": "c"}, os.lchown, "l", ALICE, ALICE)
    equal((os.lstat("l").st_uid, os.stat("f").st_uid), (ALICE, BOB), "of a link")
    os.chown("f", 2**32 - 2, 2**32 - 2)
    equal((os.stat("f").st_uid, os.stat("f").st_gid), (2**32 - 2, 2**32 - 2), "largest ids")


@check
def chown_by_others_is_limited_to_groups_of_the_owner():
    make("f")
    os.chown("f", ALICE, ALICE)
    table([
        ("EPERM", lambda: as_user(ALICE, os.chown, "f", BOB, -1)), ("EPERM", lambda: as_user(ALICE, os.chown, "f", -1, TEAM)),
        ("EPERM", lambda: as_user(BOB, os.chown, "f", BOB, BOB)), ("OK", lambda: as_user(ALICE, os.chown, "f", ALICE, -1)),
        ("OK", lambda: as_user(ALICE, os.chown, "f", -1, TEAM, groups=[TEAM])),
    ])
    equal(os.stat("f").st_gid, TEAM, "group")


@check
def chown_takes_set_user_id_and_set_group_id_away():
    for owner, call in (("root", lambda: os.chown("f", ALICE, ALICE)), ("alice", lambda: as_user(ALICE, os.chown, "f", -1, TEAM, groups=[TEAM]))):
        make("f")
        os.chown("f", ALICE, ALICE)
        os.chmod("f", 0o6755)
        call()
        equal(mode_of("f"), 0o755, f"by {owner}")
    os.chmod("f", 0o6744)
    os.chown("f", BOB, -1)
    equal(mode_of("f") & 0o4000, 0, "set-user-id without group execution")
    os.mkdir("d")
    os.chmod("d", 0o6777)
    os.chown("d", ALICE, ALICE)
    equal(mode_of("d"), 0o6777, "of a directory")


@check
def writing_takes_set_user_id_away_unless_by_root():
    def overwrite():
        handle = os.open("f", os.O_WRONLY)
        os.pwrite(handle, b"y", 0)
        os.close(handle)

    def shorten():
        os.truncate("f", 1)

    def reopen():
        opened("f", os.O_WRONLY | os.O_TRUNC)

    def allocate():
        handle = os.open("f", os.O_WRONLY)
        os.posix_fallocate(handle, 0, 9000)
        os.close(handle)

    def copy():
        source, target = os.open("source", os.O_RDONLY), os.open("f", os.O_WRONLY)
        os.copy_file_range(source, target, 5, 0, 0)
        os.close(source)
        os.close(target)

    make("source", b"12345", 0o666)
    for call in (overwrite, append_f, shorten, reopen, allocate, copy):
        make("f", b"content", 0o6777)
        as_user(ALICE, call)
        equal(mode_of("f"), 0o777, f"{call.__name__} by a user")
        make("f", b"content", 0o6777)
        call()
        equal(mode_of("f"), 0o6777, f"{call.__name__} by root")


def append_f():
    append("f")


@check
def times_can_be_set_to_the_nanosecond_and_far_away():
    make("f")
    os.symlink("f", "l")
    os.mkdir("d")
    for path in ("f", "l", "d"):
        for atime, mtime in ((1, 2), (1_234_567_890_123_456_789, 999_999_999), (-1_000_000_001, -2_000_000_000_999_999_999), (15_000_000_000_000_000_007, 0)):
            utimes(path, atime, mtime)
            equal((os.lstat(path).st_atime_ns, os.lstat(path).st_mtime_ns), (atime, mtime), path)
    changes({"f": "c", "l": ""}, utimes, "f", 5, os.stat("f").st_mtime_ns)
    NOW, OMIT = (1 << 30) - 1, (1 << 30) - 2

    def utimensat(path, atime, mtime):
        import ctypes
        pairs = (ctypes.c_long * 4)(*atime, *mtime)
        system("utimensat", -100, path.encode(), pairs, 0)

    utimes("f", 7, 8)
    utimensat("f", (0, OMIT), (9, 9))
    equal((os.stat("f").st_atime_ns, os.stat("f").st_mtime_ns), (7, 9_000_000_009), "atime omitted")
    utimensat("f", (9, 9), (0, OMIT))
    equal((os.stat("f").st_atime_ns, os.stat("f").st_mtime_ns), (9_000_000_009, 9_000_000_009), "mtime omitted")
    changes({"f": ""}, utimensat, "f", (0, OMIT), (0, OMIT))
    utimensat("f", (0, NOW), (0, NOW))
    found = os.stat("f")
    true(found.st_mtime_ns == found.st_ctime_ns == found.st_atime_ns, "now is one time for all three")


@check
def times_are_set_by_the_owner_and_touched_by_writers():
    make("f", mode=0o666)
    os.chown("f", ALICE, ALICE)
    table([
        ("OK", lambda: as_user(BOB, os.utime, "f")), ("EPERM", lambda: as_user(BOB, utimes, "f", 1, 1)),
        ("OK", lambda: as_user(ALICE, utimes, "f", 1, 1)),
    ])
    os.chmod("f", 0o644)
    expect("EACCES", as_user, BOB, os.utime, "f")


@check
def content_changes_touch_mtime_and_ctime():
    make("f", b"0123456789")
    handle = os.open("f", os.O_RDWR)
    table([
        ("OK", lambda: changes({"f": "mc"}, os.pwrite, handle, b"x", 0)),
        ("OK", lambda: changes({"f": "mc"}, os.ftruncate, handle, 3)),
        ("OK", lambda: changes({"f": "mc"}, os.ftruncate, handle, 30)),
        ("OK", lambda: changes({"f": "mc"}, os.ftruncate, handle, 30)),
        ("OK", lambda: changes({"f": "mc"}, os.truncate, "f", 12)),
        ("OK", lambda: changes({"f": "mc"}, opened, "f", os.O_WRONLY | os.O_TRUNC)),
        ("OK", lambda: changes({"f": "mc"}, opened, "f", os.O_WRONLY | os.O_TRUNC)),
        ("OK", lambda: changes({"f": "mc"}, os.posix_fallocate, handle, 0, 100)),
        ("OK", lambda: changes({"f": ""}, os.pread, handle, 10, 0)),
        ("OK", lambda: changes({"f": ""}, os.fsync, handle)),
        ("OK", lambda: changes({"f": ""}, os.pwrite, handle, b"", 0)),
    ])
    os.close(handle)
    changes({"f": ""}, opened, "f", os.O_RDWR)
    changes({"f": ""}, opened, "f", os.O_RDWR | os.O_CREAT)
    equal(os.stat("f").st_size, 100, "size")


@check
def birth_time_stays():
    make("f")
    found = as_statx("f")
    tick()
    append("f")
    os.chmod("f", 0o600)
    os.rename("f", "g")
    equal(as_statx("g"), found, "birth time")
    true(abs(found[0] - os.stat("g").st_ctime) < 60, "birth time is about now")


def as_statx(path):
    """Seconds and nanoseconds of stx_btime (linux/stat.h)."""
    import ctypes
    import struct
    buffer = ctypes.create_string_buffer(256)
    system("statx", -100, path.encode(), 0, 0xfff, buffer)
    true(struct.unpack_from("I", buffer, 0)[0] & 0x800, "statx answers a birth time")
    return struct.unpack_from("qI", buffer, 80)


@check
def truncate_fails_as_everywhere():
    make("f")
    os.mkdir("d")
    os.mkfifo("p")
    os.symlink("nowhere", "dangling")
    table([
        ("EISDIR", os.truncate, "d", 0), ("EINVAL", os.truncate, "p", 0), ("EINVAL", os.truncate, "f", -1),
        ("ENOENT", os.truncate, "dangling", 0), ("ENOTDIR", os.truncate, "f/x", 0), ("ENOENT", os.truncate, "absent", 0),
        ("OK", os.truncate, "f", 2**40), ("OK", os.truncate, "f", 5),
    ])
    equal(slurp("f"), bytes(5), "zeros")
    reading = os.open("f", os.O_RDONLY)
    expect("EINVAL", os.ftruncate, reading, 0)
    os.close(reading)
    os.chmod("f", 0o444)
    expect("EACCES", as_user, ALICE, os.truncate, "f", 0)


@check
def open_fails_as_everywhere():
    make("f")
    os.mkdir("d")
    os.symlink("f", "l")
    os.symlink("loop", "loop")
    os.mkfifo("p")
    table([
        ("ENOENT", opened, "absent", os.O_RDONLY), ("EISDIR", opened, "d", os.O_WRONLY), ("EISDIR", opened, "d", os.O_RDWR),
        ("ENOTDIR", opened, "f", os.O_RDONLY | os.O_DIRECTORY), ("ELOOP", opened, "l", os.O_RDONLY | os.O_NOFOLLOW),
        ("ELOOP", opened, "loop", os.O_RDONLY), ("EEXIST", opened, "l", os.O_CREAT | os.O_EXCL | os.O_WRONLY),
        ("ENXIO", opened, "p", os.O_WRONLY | os.O_NONBLOCK), ("OK", opened, "p", os.O_RDONLY | os.O_NONBLOCK),
        ("OK", opened, "l", os.O_RDONLY), ("OK", opened, "d", os.O_RDONLY | os.O_DIRECTORY),
    ])
    for mode, wanted in ((0o400, "OK EACCES EACCES"), (0o200, "EACCES OK EACCES"), (0o600, "OK OK OK"), (0, "EACCES EACCES EACCES")):
        make("mine", mode=mode)
        os.chown("mine", ALICE, ALICE)
        found = [outcome(as_user, ALICE, opened, "mine", flags) for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR)]
        equal(" ".join(found), wanted, f"mode {mode:o}")
        os.unlink("mine")
    make("group", mode=0o060)
    os.chown("group", BOB, TEAM)
    table([
        ("OK", lambda: as_user(ALICE, lambda: opened("group", os.O_RDWR), groups=[TEAM])),
        ("EACCES", lambda: as_user(ALICE, opened, "group", os.O_RDONLY)), ("EACCES", lambda: as_user(BOB, opened, "group", os.O_RDONLY)),
    ])


@check
def blocks_and_sizes_are_told_truly():
    make("f", b"x" * 10_000)
    os.truncate("f", 2**33)
    found = os.stat("f")
    equal(found.st_size, 2**33, "size")
    true(found.st_blocks * 512 < 2**20, f"a sparse file has few blocks: {found.st_blocks}")
    true(found.st_blocks * 512 >= 8192, f"and those it has: {found.st_blocks}")
    space = os.statvfs(".")
    true(space.f_namemax == 255 and space.f_blocks >= space.f_bfree >= space.f_bavail > 0, f"statvfs: {space}")


if __name__ == "__main__":
    main()
