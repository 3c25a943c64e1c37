"""A manifest: what a tree must be, as JSON; path -> kind, links, and what else can be seen of it. Paths of one inode have the same `inode`."""

import hashlib
import os
import stat

KINDS = {stat.S_IFREG: "file", stat.S_IFLNK: "link", stat.S_IFIFO: "fifo", stat.S_IFDIR: "folder"}


def describe(node):
    """The entry of a node of a workload's model."""
    entry = {"kind": node.kind, "links": node.links, "inode": id(node), "mode": node.mode & 0o777}
    if node.kind == "file":
        entry |= content(node.data, {name: value.hex() for name, value in node.xattrs.items()})
    if node.kind == "link":
        entry |= {"target": node.target}
    return entry


def content(data, xattrs):
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "xattrs": xattrs}


def observe(path):
    """The entry of what is at `path`."""
    found = os.lstat(path)
    kind = KINDS[stat.S_IFMT(found.st_mode)]
    entry = {"kind": kind, "links": found.st_nlink}
    if kind == "folder":
        return entry
    entry |= {"inode": found.st_ino, "mode": stat.S_IMODE(found.st_mode) & 0o777}
    if kind == "file":
        with open(path, "rb") as file:
            data = file.read()
        entry |= content(data, {name: os.getxattr(path, name).hex() for name in os.listxattr(path)})
    if kind == "link":
        entry |= {"target": os.readlink(path)}
    return entry
