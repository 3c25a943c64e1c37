"""Names: making, linking and removing, with their errors and what they do to times and link counts."""
import os
import socket
import stat

from lib import *

LONG = "x" * 255
TOO_LONG = "x" * 256


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
