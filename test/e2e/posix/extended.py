"""Extended attributes and POSIX access control lists."""
import os
import stat
import struct
import subprocess

from lib import *

CREATE, REPLACE = os.XATTR_CREATE, os.XATTR_REPLACE
ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"


def run(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"{' '.join(command)}: {done.stderr}")
    return done.stdout


def acl(path, *options):
    """The list as getfacl shows it, without comments."""
    return run("getfacl", "-cnpE", *(options or ["-a"]), path).split()


def setfacl(*arguments):
    run("setfacl", *arguments)


@check
def attributes_are_kept_in_all_namespaces():
    make("f")
    os.mkdir("d")
    for path in ("f", "d"):
        for name in ("user.colour", "trusted.secret", "security.label", "user." + "n" * 250):
            os.setxattr(path, name, b"value")
            equal(os.getxattr(path, name), b"value", name)
        equal(sorted(name for name in os.listxattr(path) if not name.startswith("security.s")),
              sorted(["security.label", "trusted.secret", "user.colour", "user." + "n" * 250]), "list")
    os.setxattr("f", "user.colour", b"")
    equal(os.getxattr("f", "user.colour"), b"", "empty value")
    odd = bytes(range(256)) * 3
    os.setxattr("f", b"user.\xff\n odd", odd)
    equal(os.getxattr("f", b"user.\xff\n odd"), odd, "any bytes")
    os.removexattr("f", "user.colour")
    table([
        ("ENODATA", os.getxattr, "f", "user.colour"), ("ENODATA", os.removexattr, "f", "user.colour"),
        ("ENODATA", lambda: os.setxattr("f", "user.none", b"", REPLACE)), ("EEXIST", lambda: os.setxattr("f", "trusted.secret", b"", CREATE)),
        ("OK", lambda: os.setxattr("f", "user.none", b"", CREATE)), ("OK", lambda: os.setxattr("f", "user.none", b"2", REPLACE)),
        ("ENOTSUP", os.setxattr, "f", "nonsense.x", b""), ("ENOTSUP", os.getxattr, "f", "nonsense.x"), ("ENOTSUP", os.setxattr, "f", "plain", b""),
        ("ERANGE", os.setxattr, "f", "user." + "n" * 251, b""), ("E2BIG", os.setxattr, "f", "user.big", bytes(65_537)),
        ("EINVAL", os.setxattr, "f", "user.", b""), ("ENOENT", os.getxattr, "absent", "user.x"),
        ("EINVAL", lambda: os.setxattr("f", "user.x", b"", 8)),
    ])


@check
def attributes_of_64_kib_and_many_fit():
    make("f")
    big = os.urandom(65_536)
    if outcome(os.setxattr, "f", "user.big", big) != "OK":
        return "this file system has smaller attributes"
    equal(os.getxattr("f", "user.big"), big, "largest value")
    for number in range(400):
        os.setxattr("f", f"user.{number:0100}", str(number).encode())
    equal(len(os.listxattr("f")), 401, "names")
    equal(os.getxattr("f", f"user.{399:0100}"), b"399", "value")
    short = ctypes.create_string_buffer(100)
    expect("ERANGE", system, "getxattr", b"f", b"user.big", short, 100)
    equal(system("getxattr", b"f", b"user.big", None, 0), 65_536, "size asked for")
    expect("ERANGE", system, "listxattr", b"f", short, 100)


@check
def attributes_touch_ctime_and_go_with_rename():
    make("f")
    changes({"f": "c"}, os.setxattr, "f", "user.x", b"1")
    changes({"f": ""}, os.getxattr, "f", "user.x")
    changes({"f": "c"}, os.removexattr, "f", "user.x")
    os.setxattr("f", "user.x", b"1")
    os.link("f", "g")
    os.rename("f", "h")
    equal(os.getxattr("g", "user.x"), b"1", "the other link")


@check
def namespaces_have_their_rules():
    make("f", mode=0o666)
    make("closed", mode=0o600)
    os.symlink("f", "l")
    os.mkfifo("p")
    os.setxattr("f", "trusted.t", b"1")
    os.setxattr("f", "user.u", b"1")
    os.mkdir("sticky")
    os.chmod("sticky", 0o1777)
    table([
        ("EPERM", lambda: as_user(ALICE, os.setxattr, "f", "trusted.x", b"")), ("ENODATA", lambda: as_user(ALICE, as_text, "f", "trusted.t")),
        ("OK", lambda: as_user(ALICE, os.setxattr, "f", "user.x", b"")), ("EACCES", lambda: as_user(ALICE, os.setxattr, "closed", "user.x", b"")),
        ("EACCES", lambda: as_user(ALICE, as_text, "closed", "user.x")), ("EPERM", lambda: os.setxattr("l", "user.x", b"", follow_symlinks=False)),
        ("EPERM", os.setxattr, "p", "user.x", b""), ("OK", lambda: os.setxattr("l", "trusted.x", b"1", follow_symlinks=False)),
        ("EPERM", lambda: as_user(ALICE, os.setxattr, "sticky", "user.x", b"")),
    ])
    equal(os.getxattr("l", "trusted.x", follow_symlinks=False), b"1", "of a symbolic link")
    names = as_user(ALICE, os.listxattr, "f")
    true("user.u" in names, f"list for others: {names}")


def as_text(path, name):
    return os.getxattr(path, name).decode()


@check
def file_capabilities_go_when_the_file_is_written():
    capability = struct.pack("<IIIII", 0x02000000, 1 << 10, 0, 0, 0)
    for change in (lambda: os.truncate("f", 3), lambda: os.chown("f", ALICE, ALICE), write):
        make("f", b"program", 0o755)
        os.setxattr("f", "security.capability", capability)
        change()
        equal("security.capability" in os.listxattr("f"), False, "still there")
    make("f", b"program", 0o755)
    os.setxattr("f", "security.capability", capability)
    os.chmod("f", 0o700)
    equal(os.getxattr("f", "security.capability"), capability, "after chmod")


def write():
    with open("f", "r+b") as file:
        file.write(b"x")


@check
def access_lists_and_modes_stay_in_step():
    make("f", mode=0o640)
    equal(acl("f"), ["user::rw-", "group::r--", "other::---"], "without a list")
    setfacl("-m", f"u:{ALICE}:rwx,g:{TEAM}:r", "f")
    equal(acl("f"), ["user::rw-", f"user:{ALICE}:rwx", "group::r--", f"group:{TEAM}:r--", "mask::rwx", "other::---"], "with")
    equal(mode_of("f"), 0o670, "the mask is the group bits")
    os.chmod("f", 0o604)
    equal(acl("f"), ["user::rw-", f"user:{ALICE}:rwx", "group::r--", f"group:{TEAM}:r--", "mask::---", "other::r--"], "chmod sets the mask")
    os.chmod("f", 0o640)
    setfacl("-x", f"u:{ALICE},g:{TEAM},m", "f")
    equal((ACCESS in os.listxattr("f"), mode_of("f")), (False, 0o640), "a list that says no more than the mode")
    setfacl("-m", f"u:{ALICE}:r", "f")
    changes({"f": "c"}, setfacl, "-m", f"u:{BOB}:r", "f")
    setfacl("-b", "f")
    equal(ACCESS in os.listxattr("f"), False, "removed")
    expect("ENODATA", os.getxattr, "f", ACCESS)
    expect("EACCES", os.setxattr, "f", DEFAULT, struct.pack("<IHHIHHIHHI", 2, 1, 6, 2**32 - 1, 4, 4, 2**32 - 1, 32, 0, 2**32 - 1))
    for bad in (b"", b"xx", struct.pack("<I", 1), struct.pack("<IHHI", 2, 1, 6, 0), struct.pack("<IHHI", 2, 0x99, 6, 0)):
        true(outcome(os.setxattr, "f", ACCESS, bad) in ("EINVAL", "ENOTSUP", "OK"), f"a malformed list {bad}")
    equal(mode_of("f"), 0o640, "after malformed lists")


@check
def access_lists_decide_about_access():
    make("f", b"secret", 0o600)
    make("g", b"secret", 0o644)
    setfacl("-m", f"u:{ALICE}:r", "f")
    setfacl("-m", f"u:{BOB}:-,g:{TEAM}:-", "g")
    table([
        ("OK", lambda: as_user(ALICE, text, "f")), ("EACCES", lambda: as_user(BOB, text, "f")),
        ("EACCES", lambda: as_user(ALICE, opened, "f", os.O_WRONLY)), ("EACCES", lambda: as_user(BOB, text, "g")),
        ("OK", lambda: as_user(ALICE, text, "g")), ("EACCES", lambda: as_user(ALICE, lambda: text("g"), groups=[TEAM])),
    ])
    os.chmod("f", 0o600)
    expect("EACCES", as_user, ALICE, text, "f")
    os.chmod("f", 0o640)
    as_user(ALICE, text, "f")
    os.mkdir("d", 0o700)
    make("d/f", b"in")
    setfacl("-m", f"u:{ALICE}:x", "d")
    table([("OK", lambda: as_user(ALICE, text, "d/f")), ("EACCES", lambda: as_user(ALICE, os.listdir, "d"))])
    expect("EPERM", as_user, ALICE, lambda: os.setxattr("f", ACCESS, os.getxattr("g", ACCESS)))


def text(path):
    return slurp(path).decode()


@check
def new_names_inherit_the_default_list():
    os.mkdir("d", 0o755)
    setfacl("-d", "-m", f"u::rwx,g::rx,o::-,u:{ALICE}:rwx,g:{TEAM}:rx", "d")
    default = ["user::rwx", f"user:{ALICE}:rwx", "group::r-x", f"group:{TEAM}:r-x", "mask::rwx", "other::---"]
    equal(acl("d", "-d"), default, "default list")
    old = os.umask(0o077)
    opened("d/f", os.O_CREAT | os.O_WRONLY, 0o666)
    os.mkdir("d/sub", 0o777)
    os.mkfifo("d/p", 0o666)
    os.symlink("f", "d/l")
    os.umask(old)
    equal((mode_of("d/f"), mode_of("d/sub"), mode_of("d/p")), (0o660, 0o770, 0o660), "the list replaces the umask")
    equal(acl("d/f"), ["user::rw-", f"user:{ALICE}:rwx", "group::r-x", f"group:{TEAM}:r-x", "mask::rw-", "other::---"], "file")
    equal(acl("d/sub"), default, "directory")
    equal(acl("d/sub", "-d"), default, "default list of the directory")
    handle = os.open("d", os.O_TMPFILE | os.O_RDWR, 0o600)
    equal(stat.S_IMODE(os.fstat(handle).st_mode), 0o600, "nameless file")
    os.close(handle)
    os.mkdir("m", 0o755)
    setfacl("-d", "-m", "u::rwx,g::rx,o::r", "m")
    opened("m/f", os.O_CREAT | os.O_WRONLY, 0o666)
    equal((mode_of("m/f"), ACCESS in os.listxattr("m/f")), (0o644, False), "a list of three entries is a mode")
    setfacl("-k", "d")
    equal(DEFAULT in os.listxattr("d"), False, "removed")
    os.mkdir("d/plain")
    equal(mode_of("d/plain"), 0o755, "then the umask counts")


@check
def setting_a_list_takes_set_group_id_from_strangers():
    for groups, wanted in (([], 0o0650), ([TEAM], 0o2650)):
        make("f")
        os.chown("f", ALICE, TEAM)
        os.chmod("f", 0o2650)
        as_user(ALICE, lambda: setfacl("-m", f"u:{BOB}:r", "f"), groups=groups)
        equal(mode_of("f"), wanted, f"groups {groups}")
        os.unlink("f")


if __name__ == "__main__":
    main()
