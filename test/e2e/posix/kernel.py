"""What stands between a program and the file system: locks, watches, handles, devices, open files without names, busy directories."""
import ctypes
import fcntl
import os
import select
import shutil
import stat
import struct
import subprocess
import threading

from lib import *

OFD_GETLK, OFD_SETLK = 36, 37
FIBMAP, FS_IOC_GETFLAGS, FIONREAD, FICLONE = 1, 0x80086601, 0x541B, 0x40049409


def lock(handle, kind, start=0, length=0, command=fcntl.F_SETLK):
    fcntl.fcntl(handle, command, struct.pack("hhqqi", kind, os.SEEK_SET, start, length, 0))


def try_in_child(call):
    """Outcome of a call in another process."""
    return outcome(as_user, 0, call)


@check
def posix_locks_keep_other_processes_out():
    make("f", bytes(100))
    handle = os.open("f", os.O_RDWR)
    lock(handle, fcntl.F_WRLCK, 10, 10)
    table([
        ("EAGAIN", try_raise, lambda: lock(os.open("f", os.O_RDWR), fcntl.F_WRLCK, 15, 1)),
        ("EAGAIN", try_raise, lambda: lock(os.open("f", os.O_RDWR), fcntl.F_RDLCK, 19, 50)),
        ("OK", try_raise, lambda: lock(os.open("f", os.O_RDWR), fcntl.F_WRLCK, 20, 50)),
        ("EBADF", try_raise, lambda: lock(os.open("f", os.O_RDONLY), fcntl.F_WRLCK, 50, 1)),
    ])
    # Closing any descriptor of the file lets the process's locks go (POSIX).
    os.close(os.open("f", os.O_RDONLY))
    equal(try_in_child(lambda: lock(os.open("f", os.O_RDWR), fcntl.F_WRLCK)), "OK", "after a close")
    lock(handle, fcntl.F_WRLCK)
    reading, writing = os.pipe()

    def waiter():
        other = os.open("f", os.O_RDWR)
        os.write(writing, b"w")
        lock(other, fcntl.F_WRLCK, command=fcntl.F_SETLKW)
        os.write(writing, b"g")

    child = in_child(waiter)
    equal(os.read(reading, 1), b"w", "waiting")
    equal(select.select([reading], [], [], 0.05)[0], [], "still waiting")
    lock(handle, fcntl.F_UNLCK)
    equal(os.read(reading, 1), b"g", "granted")
    ended_well(child)
    os.close(handle)


def try_raise(call):
    as_user(0, call)


@check
def open_file_description_locks_and_flock_belong_to_the_open_file():
    make("f", bytes(100))
    first, second = os.open("f", os.O_RDWR), os.open("f", os.O_RDWR)
    lock(first, fcntl.F_WRLCK, 0, 10, OFD_SETLK)
    table([("EAGAIN", lock, second, fcntl.F_WRLCK, 5, 1, OFD_SETLK), ("OK", lock, second, fcntl.F_WRLCK, 10, 1, OFD_SETLK)])
    os.close(first)
    lock(second, fcntl.F_WRLCK, 0, 10, OFD_SETLK)
    first = os.open("f", os.O_RDWR)
    fcntl.flock(first, fcntl.LOCK_EX)
    expect("EAGAIN", fcntl.flock, second, fcntl.LOCK_EX | fcntl.LOCK_NB)
    expect("EAGAIN", fcntl.flock, second, fcntl.LOCK_SH | fcntl.LOCK_NB)
    fcntl.flock(first, fcntl.LOCK_SH)
    expect("OK", fcntl.flock, second, fcntl.LOCK_SH | fcntl.LOCK_NB)
    os.close(first)
    expect("OK", fcntl.flock, second, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(second)


@check
def inotify_tells_what_happens():
    os.mkdir("d")
    watch = system("inotify_init1", os.O_NONBLOCK)
    system("inotify_add_watch", watch, b"d", 0xFFF)
    make("d/f", b"x")
    os.rename("d/f", "d/g")
    os.unlink("d/g")
    os.mkdir("d/sub")
    events = []
    data = os.read(watch, 65_536)
    while data:
        _, mask, _, length = struct.unpack_from("iIII", data)
        events.append((mask & 0x40000FFF, data[16:16 + length].rstrip(b"\0").decode()))
        data = data[16 + length:]
    os.close(watch)
    wanted = [(0x100, "f"), (0x20, "f"), (0x2, "f"), (0x8, "f"), (0x4, "f"), (0x40, "f"), (0x80, "g"), (0x200, "g"), (0x40000100, "sub")]
    equal([event for event in events if event in wanted], wanted, f"events {events}")


@check
def poll_and_ioctl_are_answered():
    handle = os.open(make("f", b"12345"), os.O_RDWR)
    poller = select.poll()
    poller.register(handle, select.POLLIN | select.POLLOUT)
    equal(poller.poll(0), [(handle, select.POLLIN | select.POLLOUT)], "a file is always ready")
    os.read(handle, 2)
    answer = bytearray(4)
    fcntl.ioctl(handle, FIONREAD, answer)
    equal(struct.unpack("i", answer)[0], 3, "bytes left")
    other = os.open(make("g"), os.O_RDWR)
    true(outcome(fcntl.ioctl, other, FICLONE, handle) in ("ENOTSUP", "ENOTTY"), "no reflinks")
    table([("ENOTTY", fcntl.ioctl, handle, 0x1234, bytes(8)), ("ENOTTY", fcntl.ioctl, os.open(".", os.O_RDONLY), 0x1234, bytes(8))])
    true(outcome(fcntl.ioctl, handle, FIBMAP, bytes(4)) in ("EINVAL", "ENOTTY", "OK"), "no blocks")
    os.close(handle)


@check
def handles_find_files_by_number():
    os.makedirs("a/b")
    make("a/b/f", b"by handle")
    mount = os.open(".", os.O_RDONLY)
    handle = name_to_handle("a/b/f")
    shutil.move("a/b/f", "g")
    forget_caches()
    opened_handle = open_by_handle(mount, handle)
    equal(os.read(opened_handle, 20), b"by handle", "after a rename, with cold caches")
    os.close(opened_handle)
    directory = name_to_handle("a/b")
    forget_caches()
    found = open_by_handle(mount, directory, os.O_RDONLY | os.O_DIRECTORY)
    equal(os.stat("..", dir_fd=found).st_ino, os.stat("a").st_ino, "..")
    true(os.readlink(f"/proc/self/fd/{found}").endswith("a/b"), "its path")
    os.close(found)
    equal(os.listdir("a"), ["b"], "the root is as it was")
    os.unlink("g")
    forget_caches()
    expect("ESTALE", open_by_handle, mount, handle)
    make("new", b"another")
    expect("ESTALE", open_by_handle, mount, handle)
    top = name_to_handle("..")
    os.close(open_by_handle(mount, top, os.O_RDONLY | os.O_DIRECTORY))
    os.close(mount)


def name_to_handle(path):
    buffer, mount = ctypes.create_string_buffer(struct.pack("I", 128), 136), ctypes.c_int()
    system("name_to_handle_at", -100, path.encode(), buffer, ctypes.byref(mount), 0)
    return buffer


def open_by_handle(mount, handle, flags=os.O_RDONLY):
    return system("open_by_handle_at", mount, handle, flags)


def forget_caches():
    """Drops what the kernel knows of names and inodes that nobody uses."""
    with open("/proc/sys/vm/drop_caches", "w") as file:
        file.write("2\n")


@check
def device_nodes_are_kept_but_do_not_work():
    os.mknod("null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    found = os.stat("null")
    equal((stat.S_ISCHR(found.st_mode), found.st_rdev), (True, os.makedev(1, 3)), "device")
    if os.statvfs(".").f_flag & 4:
        expect("EACCES", opened, "null", os.O_WRONLY)
    else:
        handle = os.open("null", os.O_WRONLY)
        os.write(handle, b"away")
        os.close(handle)
    os.mkfifo("p")
    child = in_child(lambda: make_fifo_line("p"))
    equal(slurp("p"), b"through the pipe", "a FIFO")
    ended_well(child)


def make_fifo_line(path):
    handle = os.open(path, os.O_WRONLY)
    os.write(handle, b"through the pipe")
    os.close(handle)


@check
def set_user_id_programs_follow_the_mount_option():
    shutil.copy("/usr/bin/id", "id")
    os.chown("id", BOB, BOB)
    os.chmod("id", 0o4755)
    found = as_user(ALICE, lambda: subprocess.run(["./id", "-u"], capture_output=True, text=True).stdout.strip())
    equal(found, str(ALICE if os.statvfs(".").f_flag & 2 else BOB), "who runs it")


@check
def a_listing_neither_loses_nor_repeats_names_while_others_come_and_go():
    os.mkdir("d")
    stay = {f"stay-{number:05}" for number in range(20_000)}
    for name in stay:
        os.mknod(f"d/{name}", stat.S_IFREG | 0o644)
    stop = threading.Event()

    def come_and_go():
        number = 0
        while not stop.is_set():
            os.mknod(f"d/come-{number}", stat.S_IFREG | 0o644)
            if number >= 50:
                os.unlink(f"d/come-{number - 50}")
            number += 1

    worker = threading.Thread(target=come_and_go)
    worker.start()
    try:
        for _ in range(3):
            with os.scandir("d") as entries:
                names = [entry.name for entry in entries]
            kept = [name for name in names if name.startswith("stay-")]
            equal((len(kept), len(set(names)) - len(names)), (20_000, 0), "names that stay; repeated names")
    finally:
        stop.set()
        worker.join()
    with os.scandir("d") as entries:
        for count, entry in enumerate(entries):
            if count % 2 == 0:
                os.unlink(entry.path)
    left = set(os.listdir("d"))
    equal(len(left & stay) > 9_000 and len(left) < 11_000, True, f"after removing every other name while listing: {len(left)}")


@check
def deep_and_wide_trees_are_removed():
    path = "t"
    for depth in range(300):
        path += f"/d{depth}"
    os.makedirs(path)
    for width in range(40):
        os.makedirs(f"t/w{width}/x/y")
        for number in range(25):
            make(f"t/w{width}/x/f{number}")
    equal(int(subprocess.run(["find", "t"], capture_output=True, text=True).stdout.count("\n")), 1 + 300 + 40 * 28, "find")
    subprocess.run(["du", "-s", "t"], check=True, capture_output=True)
    subprocess.run(["rm", "-rf", "t"], check=True)
    equal(os.path.lexists("t"), False, "removed")


@check
def tools_copy_as_they_do_elsewhere():
    with open("big", "wb") as file:
        file.write(os.urandom(3_000_000))
        file.truncate(50_000_000)
        file.seek(40_000_000)
        file.write(b"tail")
    for option in ("--reflink=auto", "--sparse=always", "--sparse=auto", "-a"):
        subprocess.run(["cp", option, "big", "copy"], check=True)
        subprocess.run(["cmp", "big", "copy"], check=True)
        true(os.stat("copy").st_blocks * 512 < 10_000_000, f"cp {option} keeps holes: {os.stat('copy').st_blocks}")
        os.unlink("copy")
    os.makedirs("from/sub")
    make("from/sub/f", b"x")
    os.link("from/sub/f", "from/g")
    os.setxattr("from/g", "user.x", b"1")
    subprocess.run(["rsync", "-aHAXS", "from/", "to/"], check=True)
    equal(subprocess.run(["rsync", "-aHAXnic", "--delete", "from/", "to/"], capture_output=True, text=True).stdout, "", "rsync")
    equal(os.stat("to/g").st_ino, os.stat("to/sub/f").st_ino, "hard links")


if __name__ == "__main__":
    main()
