"""Names that move: rename and renameat2, with what they do to times, link counts and open files."""
import ctypes
import os
import stat

from lib import *
from names import TOO_LONG, creat, scene

CHECKS.clear()

NOREPLACE, EXCHANGE, WHITEOUT = 1, 2, 4


def renameat2(old, new, flags):
    system("renameat2", -100, os.fsencode(old), -100, os.fsencode(new), ctypes.c_uint(flags))


@check
def link_counts_are_right_after_every_change():
    os.mkdir("a")
    equal(os.stat("a").st_nlink, 2, "new directory")
    os.mkdir("a/b")
    os.mkdir("a/c")
    make("a/f")
    equal(os.stat("a").st_nlink, 4, "with two directories")
    os.mkdir("z")
    os.rename("a/b", "z/b")
    equal((os.stat("a").st_nlink, os.stat("z").st_nlink), (3, 3), "one moved away")
    os.mkdir("z/victim")
    os.rename("a/c", "z/victim")
    equal((os.stat("a").st_nlink, os.stat("z").st_nlink), (2, 4), "moved over an empty one")
    renameat2("a/f", "z/b", EXCHANGE)
    equal((os.stat("a").st_nlink, os.stat("z").st_nlink), (3, 3), "exchanged with a file")
    for number in range(50):
        os.link("z/b", f"z/link{number}")
    equal(os.stat("z/b").st_nlink, 51, "hard links")
    for number in range(50):
        os.unlink(f"z/link{number}")
    equal(os.stat("z/b").st_nlink, 1, "hard links removed")
    make("z/over")
    os.link("z/over", "z/keep")
    os.rename("z/b", "z/over")
    equal((os.stat("z/keep").st_nlink, os.stat("z/over").st_nlink), (1, 1), "renamed over one of two links")


@check
def rename_fails_as_everywhere():
    scene()
    os.makedirs("dir/sub/deep")
    os.mkdir("empty")
    make("full")
    table([
        ("ENOENT", os.rename, "absent", "x"), ("ENOENT", os.rename, "file", "absent/x"),
        ("ENOTDIR", os.rename, "file", "full/x"), ("ENOTDIR", os.rename, "full/x", "y"),
        ("EISDIR", os.rename, "file", "empty"), ("ENOTDIR", os.rename, "empty", "file"),
        ("ENOTEMPTY", os.rename, "empty", "dir"), ("EINVAL", os.rename, "dir", "dir/sub/x"),
        ("EINVAL", os.rename, "dir", "dir/x"), ("ENOTEMPTY", os.rename, "dir/sub/deep", "dir"),
        ("ENAMETOOLONG", os.rename, "file", TOO_LONG), ("ENAMETOOLONG", os.rename, TOO_LONG, "x"),
        ("ELOOP", os.rename, "loop/x", "y"), ("ELOOP", os.rename, "file", "loop/x"),
        ("EBUSY", os.rename, "dir/.", "x"), ("EBUSY", os.rename, "dir/..", "x"), ("EBUSY", os.rename, "file", "dir/.."),
        ("EXDEV", os.rename, "file", "/dev/shm/tidemark-posix-never"),
        ("EEXIST", renameat2, "file", "full", NOREPLACE), ("EEXIST", renameat2, "file", "dir", NOREPLACE),
        ("ENOENT", renameat2, "file", "absent", EXCHANGE), ("EINVAL", renameat2, "dir", "dir/sub", EXCHANGE),
        ("EINVAL", renameat2, "dir/sub/deep", "dir", EXCHANGE), ("EINVAL", renameat2, "file", "full", EXCHANGE | NOREPLACE),
        ("EINVAL", renameat2, "file", "full", EXCHANGE | WHITEOUT), ("EINVAL", renameat2, "file", "full", 8),
        ("OK", renameat2, "file", "fresh", NOREPLACE),
    ])


@check
def rename_moves_and_touches_what_it_should():
    os.mkdir("a")
    os.mkdir("b")
    make("a/f", b"one")
    make("b/g", b"two")
    inode = os.stat("a/f").st_ino
    changes({"a": "mc", "b": "mc"}, os.rename, "a/f", "b/f")
    equal(os.stat("b/f").st_ino, inode, "inode number")
    tick()
    before = os.stat("b/f").st_ctime_ns
    tick()
    os.rename("b/f", "b/h")
    true(os.stat("b/h").st_ctime_ns > before, "ctime of what moved")
    keep = os.open("b/g", os.O_RDONLY)
    os.rename("b/h", "b/g")
    equal((slurp("b/g"), os.read(keep, 9), os.fstat(keep).st_nlink), (b"one", b"two", 0), "renamed over an open file")
    os.close(keep)
    os.link("b/g", "b/same")
    os.rename("b/g", "b/same")
    equal(sorted(os.listdir("b")), ["g", "same"], "two links of one file stay")
    os.mkdir("a/sub")
    make("a/sub/x")
    os.rename("a/sub", "b/sub")
    equal(os.stat("b/sub/..").st_ino, os.stat("b").st_ino, "..")
    handle = os.open("b/sub", os.O_RDONLY | os.O_DIRECTORY)
    os.rename("b/sub", "a/back")
    equal(os.listdir(handle), ["x"], "an open directory moved")
    os.close(handle)


@check
def exchange_and_whiteout_do_as_the_manual_says():
    make("f", b"file")
    os.mkdir("d")
    make("d/in")
    inode = os.stat("f").st_ino
    renameat2("f", "d", EXCHANGE)
    equal((os.listdir("f"), slurp("d"), os.stat("d").st_ino), (["in"], b"file", inode), "exchanged")
    renameat2("d", "moved", WHITEOUT)
    left = os.lstat("d")
    equal((stat.S_ISCHR(left.st_mode), left.st_rdev, slurp("moved")), (True, 0, b"file"), "whiteout")
    make("other")
    renameat2("moved", "other", WHITEOUT)
    equal((slurp("other"), os.lstat("moved").st_rdev), (b"file", 0), "whiteout with a target")


@check
def a_sticky_directory_protects_names_of_others():
    os.mkdir("s")
    os.chmod("s", 0o1777)
    as_user(ALICE, creat, "s/alice")
    as_user(ALICE, os.mkdir, "s/dir")
    as_user(BOB, creat, "s/bob")
    table([
        ("EPERM", lambda: as_user(BOB, os.unlink, "s/alice")),
        ("EPERM", lambda: as_user(BOB, os.rmdir, "s/dir")),
        ("EPERM", lambda: as_user(BOB, os.rename, "s/alice", "s/x")),
        ("EPERM", lambda: as_user(BOB, os.rename, "s/bob", "s/alice")),
        ("OK", lambda: as_user(ALICE, os.rename, "s/alice", "s/renamed")),
        ("OK", lambda: as_user(ALICE, os.rmdir, "s/dir")),
        ("OK", lambda: as_user(ALICE, os.unlink, "s/renamed")),
    ])
    os.chown("s", BOB, BOB)
    as_user(ALICE, creat, "s/alice")
    as_user(BOB, os.unlink, "s/alice")


if __name__ == "__main__":
    main()
