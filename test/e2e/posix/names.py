"""Names: making, linking, moving and removing, with their errors and what they do to times and link counts."""
import ctypes
import os
import socket
import stat

from lib import *

LONG = "x" * 255
TOO_LONG = "x" * 256
NOREPLACE, EXCHANGE, WHITEOUT = 1, 2, 4


def renameat2(old, new, flags):
    system("renameat2", -100, os.fsencode(old), -100, os.fsencode(new), ctypes.c_uint(flags))


def creat(path):
    opened(path, os.O_CREAT | os.O_WRONLY)


def exclusive(path):
    opened(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)


def fifo(path):
    os.mkfifo(path)


def node(path):
    os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))


def symlink(path):
    os.symlink("target", path)


def bind(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)


def link(path):
    os.link("file", path)


MAKERS = (creat, exclusive, os.mkdir, fifo, node, symlink, bind, link)


def scene():
    make("file")
    os.mkdir("dir")
    os.symlink("loop", "loop")
    os.symlink("nowhere/x", "dangling")


@check
def making_a_name_fails_as_everywhere():
    scene()
    for maker in MAKERS:
        wanted = "EADDRINUSE" if maker is bind else "EEXIST"
        table([
            (wanted, maker, "dir") if maker is not creat else ("EISDIR", maker, "dir"),
            *([] if maker is creat else [(wanted, maker, "file"), (wanted, maker, "loop")]),
            ("ENOTDIR", maker, "file/x"),
            ("ENOENT", maker, "absent/x"),
            *([] if maker is creat else [("ENOENT", maker, "absent/x/")]),
            ("ELOOP", maker, "loop/x"),
            *([] if maker is bind else [("ENAMETOOLONG", maker, TOO_LONG), ("ENAMETOOLONG", maker, "dir/" + "y/" * 3000)]),
        ])


@check
def names_of_255_bytes_and_any_bytes_work():
    scene()
    for maker in MAKERS:
        if maker is bind:
            continue
        maker(LONG)
        os.lstat(LONG)
        (os.rmdir if maker is os.mkdir else os.unlink)(LONG)
    odd = [bytes([byte]) + b"-" for byte in range(1, 256) if byte != 0x2f] + [b"\xff\xfe", b"a\nb", "é".encode(), b"..."]
    os.mkdir("odd")
    for name in odd:
        make(b"odd/" + name, name)
    equal(sorted(os.listdir(b"odd")), sorted(odd), "names")
    for name in odd:
        equal(slurp(b"odd/" + name), name)


@check
def making_a_name_changes_the_times_of_its_directory():
    scene()
    for maker in MAKERS:
        wanted = {"dir": "mc", "file": "c" if maker is link else ""}
        changes(wanted, maker, "dir/new")
        (os.rmdir if maker is os.mkdir else os.unlink)("dir/new")
        Times("dir").after(lambda: outcome(maker, "dir/absent/new"))


@check
def a_failed_call_changes_no_times():
    scene()
    make("dir/there")
    for maker in MAKERS:
        if maker is not creat:
            changes({"dir": "", "dir/there": "", "file": ""}, outcome, maker, "dir/there")
    changes({"dir": "", "file": ""}, outcome, os.rename, "file", "dir/absent/x")
    changes({"dir": "", "file": ""}, outcome, os.rmdir, "dir")
    changes({"dir": ""}, outcome, os.unlink, "dir")


@check
def new_files_have_the_type_mode_and_owner_asked_for():
    old = os.umask(0o027)
    try:
        os.mkdir("d", 0o7777)
        equal(mode_of("d"), 0o1750, "mkdir ignores set-user-id and set-group-id")
        os.mkfifo("p", 0o666)
        equal(mode_of("p"), 0o640, "mkfifo")
        opened("f", os.O_CREAT | os.O_WRONLY, 0o6777)
        equal(mode_of("f"), 0o6750, "open")
        os.mknod("b", stat.S_IFBLK | 0o660, os.makedev(259, 70000))
        made = os.stat("b")
        equal((stat.S_IFMT(made.st_mode), os.major(made.st_rdev), os.minor(made.st_rdev)), (stat.S_IFBLK, 259, 70000), "device")
        os.mknod("r", stat.S_IFREG | 0o644)
        true(stat.S_ISREG(os.stat("r").st_mode), "mknod makes regular files")
        bind("s")
        true(stat.S_ISSOCK(os.stat("s").st_mode), "bind makes a socket")
        os.symlink("x" * 4095, "l")
        equal((os.readlink("l"), os.lstat("l").st_size), ("x" * 4095, 4095), "longest target")
    finally:
        os.umask(old)
    table([("ENAMETOOLONG", os.symlink, "x" * 4096, "m"), ("ENOENT", os.symlink, "", "m")])
    os.chmod(".", 0o777)
    as_user(ALICE, creat, "mine", gid=TEAM)
    equal((os.stat("mine").st_uid, os.stat("mine").st_gid), (ALICE, TEAM), "owner")
    expect("EPERM", as_user, ALICE, node, "device")
    as_user(ALICE, fifo, "pipe")


@check
def a_set_group_id_directory_hands_down_its_group():
    os.mkdir("d")
    os.chown("d", 0, TEAM)
    os.chmod("d", 0o2777)
    os.mkdir("d/sub")
    equal((os.stat("d/sub").st_gid, mode_of("d/sub")), (TEAM, 0o2755), "directory")
    make("d/file")
    equal(os.stat("d/file").st_gid, TEAM, "file")
    os.symlink("x", "d/link")
    equal(os.lstat("d/link").st_gid, TEAM, "symbolic link")
    # A stranger to the group must not make set-group-id programs of it; a member may.
    as_user(ALICE, opened, "d/stranger", os.O_CREAT | os.O_WRONLY, 0o2775)
    equal(mode_of("d/stranger") & 0o2000, 0, "a stranger's set-group-id")
    as_user(BOB, lambda: opened("d/member", os.O_CREAT | os.O_WRONLY, 0o2775), groups=[TEAM])
    equal(mode_of("d/member") & 0o2000, 0o2000, "a member's set-group-id")


@check
def removing_fails_as_everywhere():
    scene()
    make("dir/inner")
    os.mkdir("empty")
    table([
        ("ENOENT", os.unlink, "absent"), ("ENOENT", os.rmdir, "absent"),
        ("EISDIR", os.unlink, "empty"), ("ENOTDIR", os.rmdir, "file"),
        ("ENOTEMPTY", os.rmdir, "dir"), ("EINVAL", os.rmdir, "empty/."),
        ("ENOTEMPTY", os.rmdir, "dir/.."), ("ENOTDIR", os.unlink, "file/x"),
        ("ELOOP", os.unlink, "loop/x"), ("ENAMETOOLONG", os.unlink, TOO_LONG),
        ("ENAMETOOLONG", os.rmdir, TOO_LONG), ("ENOTDIR", os.rmdir, "dangling"),
        ("ENOENT", os.stat, "dangling"), ("ELOOP", os.stat, "loop"),
    ])
    changes({"dir": "mc"}, os.unlink, "dir/inner")
    os.mkdir("dir/inner")
    changes({"dir": "mc"}, os.rmdir, "dir/inner")
    os.link("file", "second")
    changes({"file": "c"}, os.unlink, "second")
    equal(os.stat("file").st_nlink, 1, "links")


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


@check
def permission_bits_decide_about_names():
    os.mkdir("d")
    make("d/f")
    os.chmod("d", 0o755)
    table([
        ("EACCES", lambda: as_user(ALICE, creat, "d/x")), ("EACCES", lambda: as_user(ALICE, os.unlink, "d/f")),
        ("EACCES", lambda: as_user(ALICE, os.rename, "d/f", "d/g")), ("EACCES", lambda: as_user(ALICE, os.mkdir, "d/x")),
        ("EACCES", lambda: as_user(ALICE, os.symlink, "t", "d/x")), ("OK", lambda: as_user(ALICE, os.stat, "d/f") and None),
    ])
    os.chmod("d", 0o711)
    table([("EACCES", lambda: as_user(ALICE, os.listdir, "d")), ("OK", lambda: as_user(ALICE, slurp_text, "d/f"))])
    os.chmod("d", 0o744)
    table([("EACCES", lambda: as_user(ALICE, slurp_text, "d/f")), ("OK", lambda: as_user(ALICE, os.listdir, "d"))])
    # The owner's bits count for the owner, even if others have more.
    os.chown("d", ALICE, ALICE)
    os.chmod("d", 0o077)
    expect("EACCES", as_user, ALICE, os.listdir, "d")
    as_user(BOB, os.listdir, "d")


def slurp_text(path):
    return slurp(path).decode()


@check
def a_removed_directory_takes_no_new_names():
    os.mkdir("d")
    handle = os.open("d", os.O_RDONLY | os.O_DIRECTORY)
    os.rmdir("d")
    make("f")
    table([
        ("ENOENT", lambda: os.mkdir("x", dir_fd=handle)), ("ENOENT", lambda: os.open("x", os.O_CREAT | os.O_WRONLY, dir_fd=handle)),
        ("ENOENT", lambda: os.symlink("t", "x", dir_fd=handle)), ("ENOENT", lambda: os.link("f", "x", dst_dir_fd=handle)),
        ("ENOENT", lambda: os.rename("f", "x", dst_dir_fd=handle)), ("ENOENT", lambda: os.stat("x", dir_fd=handle)),
    ])
    equal((os.listdir(handle), os.fstat(handle).st_nlink), ([], 0), "what is left of it")
    os.close(handle)


if __name__ == "__main__":
    main()
