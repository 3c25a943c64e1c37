import { expect } from "vitest";
import { type InodeId, LIVE } from "../../src/domain/ids.ts";
import { S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG, S_IFSOCK } from "../../src/domain/inode.ts";
import { type Behaviour, bytes, changedTimes, GONE } from "./metadata-share.ts";

const ABSENT = 123_456_789 as InodeId;

/** Creating, linking, removing and finding names. */
export function namingBehaviours(behaviour: Behaviour): void {
  lookups(behaviour);
  creations(behaviour);
  creationRefusals(behaviour);
  specialFiles(behaviour);
  nameLimits(behaviour);
  links(behaviour);
  removals(behaviour);
  directories(behaviour);
}

function lookups(behaviour: Behaviour): void {
  behaviour("a share begins as an empty directory that is its own parent", async (share) => {
    const root = await share.stat(share.root);
    expect(root.mode & S_IFDIR).toBe(S_IFDIR);
    expect(root.nlink).toBe(2);
    expect(root.parent).toBe(share.root);
    expect(await share.names()).toEqual([]);
  });

  behaviour("lookup finds what was created, with the same number and attributes", async (share) => {
    const made = await share.create("a");
    expect((await share.lookup("a")).ino).toBe(made.ino);
    expect(changedTimes(made, await share.lookup("a"))).toBe("");
  });

  behaviour("lookup of a missing name is ENOENT", async (share) => {
    expect(await share.refusal({ op: "lookup", parent: share.root, name: bytes("a"), at: LIVE })).toBe("ENOENT");
  });

  behaviour("lookup in a file is ENOTDIR", async (share) => {
    const { ino } = await share.create("a");
    expect(await share.refusal({ op: "lookup", parent: ino, name: bytes("b"), at: LIVE })).toBe("ENOTDIR");
  });

  behaviour("an inode that never existed is ENOENT or ESTALE to every request", async (share) => {
    expect(GONE).toContain(await share.refusal({ op: "getattr", ino: ABSENT, at: LIVE }));
    expect(GONE).toContain(await share.refusal({ op: "lookup", parent: ABSENT, name: bytes("a"), at: LIVE }));
    expect(GONE).toContain(await share.refusal({ op: "read", ino: ABSENT, offset: 0n, length: 1, at: LIVE }));
    expect(GONE).toContain(await share.refusal({ op: "setattr", ino: ABSENT, set: { mode: 0 } }));
    expect(GONE).toContain(
      await share.refusal({ op: "mkdir", parent: ABSENT, name: bytes("a"), mode: 0o755, umask: 0 }),
    );
  });
}

function creations(behaviour: Behaviour): void {
  behaviour("create applies the umask, takes the caller as owner, and sets all four times to now", async (share) => {
    const made = await share.create("a", share.root, { mode: 0o666, umask: 0o027, uid: 1000, gid: 77 });
    expect(made.mode).toBe(S_IFREG | 0o640);
    expect([made.uid, made.gid, made.nlink, made.size, made.rdev]).toEqual([1000, 77, 1, 0n, 0]);
    for (const time of [made.atime, made.mtime, made.ctime, made.btime]) expect(time).toEqual(share.clock.now());
    expect(made.generation).toBeGreaterThan(0);
  });

  behaviour("create keeps set-user-id, set-group-id and sticky", async (share) => {
    expect((await share.create("a", share.root, { mode: 0o6711 })).mode).toBe(S_IFREG | 0o6711);
    expect((await share.mkdir("d", share.root, { mode: 0o1777 })).mode).toBe(S_IFDIR | 0o1777);
  });

  behaviour("exclusive create of an existing name is EEXIST", async (share) => {
    await share.create("a");
    const request = {
      op: "create",
      parent: share.root,
      name: bytes("a"),
      mode: 0o644,
      umask: 0,
      exclusive: true,
      truncate: false,
    } as const;
    expect(await share.refusal(request)).toBe("EEXIST");
  });

  behaviour("create of an existing file opens it and changes nothing", async (share) => {
    const made = await share.create("a");
    await share.write(made.ino, "content");
    const before = share.lsn;
    const request = {
      op: "create",
      parent: share.root,
      name: bytes("a"),
      mode: 0,
      umask: 0,
      exclusive: false,
      truncate: false,
    } as const;
    const opened = await share.do(request);
    expect([opened.ino, opened.size, opened.mode]).toEqual([made.ino, 7n, made.mode]);
    expect(share.lsn).toBe(before);
  });

  behaviour("create with truncate empties an existing file and sets mtime and ctime", async (share) => {
    const made = await share.create("a");
    await share.write(made.ino, "content");
    const request = {
      op: "create",
      parent: share.root,
      name: bytes("a"),
      mode: 0,
      umask: 0,
      exclusive: false,
      truncate: true,
    } as const;
    const opened = await share.do(request);
    expect([opened.ino, opened.size, opened.mode]).toEqual([made.ino, 0n, made.mode]);
    expect(changedTimes(made, opened)).toBe("mtime ctime");
    expect(await share.text(made.ino)).toBe("");
  });
}

function creationRefusals(behaviour: Behaviour): void {
  behaviour("create over a directory is EISDIR", async (share) => {
    await share.mkdir("d");
    const request = {
      op: "create",
      parent: share.root,
      name: bytes("d"),
      mode: 0,
      umask: 0,
      exclusive: false,
      truncate: false,
    } as const;
    expect(await share.refusal(request)).toBe("EISDIR");
  });

  behaviour("creating in a file is ENOTDIR", async (share) => {
    const { ino } = await share.create("a");
    expect(await share.refusal({ op: "mkdir", parent: ino, name: bytes("d"), mode: 0o755, umask: 0 })).toBe("ENOTDIR");
    expect(await share.refusal({ op: "symlink", parent: ino, name: bytes("d"), target: bytes("t") })).toBe("ENOTDIR");
  });

  behaviour("creating an existing name by mkdir, mknod or symlink is EEXIST", async (share) => {
    await share.create("a");
    const at = { parent: share.root, name: bytes("a") };
    expect(await share.refusal({ op: "mkdir", ...at, mode: 0o755, umask: 0 })).toBe("EEXIST");
    expect(await share.refusal({ op: "mknod", ...at, mode: S_IFIFO, umask: 0, rdev: 0 })).toBe("EEXIST");
    expect(await share.refusal({ op: "symlink", ...at, target: bytes("t") })).toBe("EEXIST");
  });

  behaviour("inode numbers go up and are not given again, also after a crash", async (share) => {
    const first = await share.create("a");
    await share.unlink("a");
    await share.forget(first.ino);
    await share.reopen();
    expect((await share.create("a")).ino).toBeGreaterThan(first.ino);
  });
}

function specialFiles(behaviour: Behaviour): void {
  behaviour("mknod makes devices with their number, FIFOs and sockets without, and regular files", async (share) => {
    const make = (name: string, mode: number) =>
      share.do({ op: "mknod", parent: share.root, name: bytes(name), mode, umask: 0o022, rdev: 0x0123_4567 });
    const kinds = [S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK, S_IFREG];
    const made = await Promise.all(kinds.map((kind, index) => make(`n${index}`, kind | 0o666)));
    expect(made.map((node) => node.mode)).toEqual(kinds.map((kind) => kind | 0o644));
    expect(made.map((node) => node.rdev)).toEqual([0x0123_4567, 0x0123_4567, 0, 0, 0]);
  });

  behaviour("mknod of a directory or symbolic link is EPERM or EINVAL", async (share) => {
    for (const kind of [S_IFDIR, S_IFLNK]) {
      const request = {
        op: "mknod",
        parent: share.root,
        name: bytes("a"),
        mode: kind | 0o644,
        umask: 0,
        rdev: 0,
      } as const;
      expect(["EPERM", "EINVAL"]).toContain(await share.refusal(request));
    }
  });

  behaviour(
    "a symbolic link keeps its target byte for byte, its length is its size, its mode is 0777",
    async (share) => {
      const made = await share.symlink("l", "../\xff\x01 target");
      expect((await share.do({ op: "readlink", ino: made.ino, at: LIVE })).toString("latin1")).toBe(
        "../\xff\x01 target",
      );
      expect([made.mode, made.size]).toEqual([S_IFLNK | 0o777, 12n]);
    },
  );

  behaviour("a symbolic link's target may have 4095 bytes", async (share) => {
    const { ino } = await share.symlink("l", "t".repeat(4095));
    expect(await share.do({ op: "readlink", ino, at: LIVE })).toHaveLength(4095);
  });

  behaviour("readlink of anything else is EINVAL", async (share) => {
    const { ino } = await share.create("a");
    expect(await share.refusal({ op: "readlink", ino, at: LIVE })).toBe("EINVAL");
    expect(await share.refusal({ op: "readlink", ino: share.root, at: LIVE })).toBe("EINVAL");
  });

  behaviour(
    "the group of a set-group-id directory goes to what is made in it, the bit to its subdirectories",
    async (share) => {
      const parent = await share.mkdir("d", share.root, { gid: 77 });
      await share.set(parent.ino, { mode: 0o2755 });
      const directory = await share.mkdir("sub", parent.ino, { gid: 5 });
      const file = await share.create("file", parent.ino, { gid: 5 });
      expect([directory.gid, directory.mode & 0o7777]).toEqual([77, 0o2755]);
      expect([file.gid, file.mode & 0o7777]).toEqual([77, 0o644]);
      expect((await share.symlink("l", "t", parent.ino)).gid).toBe(77);
    },
  );
}

function nameLimits(behaviour: Behaviour): void {
  behaviour("a name may have 255 bytes, not 256", async (share) => {
    await share.create("n".repeat(255));
    expect(await share.names()).toEqual(["n".repeat(255)]);
    const name = bytes("n".repeat(256));
    expect(await share.refusal({ op: "mkdir", parent: share.root, name, mode: 0o755, umask: 0 })).toBe("ENAMETOOLONG");
    expect(await share.refusal({ op: "lookup", parent: share.root, name, at: LIVE })).toBe("ENAMETOOLONG");
  });

  behaviour("a name may be any bytes, and names that differ in one byte are two", async (share) => {
    const names = ["\xff\xfe", "\xff\xff", " ", "a\nb", "\x01", "...", "-rf", "\xc3\xa9", "e\xcc\x81", "A", "a"];
    for (const name of names) await share.create(name);
    expect(await share.names()).toEqual([...names].sort());
  });

  behaviour(
    "a slash or a NUL in a name is EINVAL, an empty name EINVAL or ENOENT, and nothing is made",
    async (share) => {
      const before = share.lsn;
      for (const name of ["a/b", "a\0"]) {
        expect(await share.refusal({ op: "mkdir", parent: share.root, name: bytes(name), mode: 0o755, umask: 0 })).toBe(
          "EINVAL",
        );
      }
      const nameless = { op: "mkdir", parent: share.root, name: bytes(""), mode: 0o755, umask: 0 } as const;
      expect(["EINVAL", "ENOENT"]).toContain(await share.refusal(nameless));
      expect([await share.names(), share.lsn]).toEqual([[], before]);
    },
  );

  behaviour("dot and dot-dot cannot be created, removed or renamed", async (share) => {
    for (const dots of [".", ".."]) {
      const at = { parent: share.root, name: bytes(dots) };
      expect(["EINVAL", "EEXIST"]).toContain(await share.refusal({ op: "mkdir", ...at, mode: 0o755, umask: 0 }));
      expect(["EINVAL", "ENOENT", "EISDIR", "EBUSY"]).toContain(await share.refusal({ op: "unlink", ...at }));
      expect(["EINVAL", "ENOENT", "ENOTEMPTY", "EBUSY"]).toContain(await share.refusal({ op: "rmdir", ...at }));
    }
    expect(await share.names()).toEqual([]);
  });
}

function links(behaviour: Behaviour): void {
  behaviour("link adds a name to the inode: link count, ctime, and the directory's times", async (share) => {
    const made = await share.create("a");
    const directory = await share.mkdir("d");
    const linked = await share.link(made.ino, "b", directory.ino);
    expect([linked.ino, linked.nlink]).toEqual([made.ino, 2]);
    expect(changedTimes(made, linked)).toBe("ctime");
    expect(changedTimes(directory, await share.stat(directory.ino))).toBe("mtime ctime");
    await share.write(made.ino, "shared");
    expect((await share.lookup("b", directory.ino)).size).toBe(6n);
  });

  behaviour("link over an existing name is EEXIST, link of a directory is EPERM", async (share) => {
    const file = await share.create("a");
    const directory = await share.mkdir("d");
    expect(await share.refusal({ op: "link", ino: file.ino, parent: share.root, name: bytes("d") })).toBe("EEXIST");
    expect(await share.refusal({ op: "link", ino: directory.ino, parent: share.root, name: bytes("e") })).toBe("EPERM");
  });

  behaviour("links of special files and symbolic links are links like others", async (share) => {
    const link = await share.symlink("l", "t");
    expect((await share.link(link.ino, "m")).nlink).toBe(2);
    await share.unlink("l");
    expect((await share.lookup("m")).nlink).toBe(1);
  });
}

function removals(behaviour: Behaviour): void {
  behaviour("unlink takes the name, one link, and sets ctime and the directory's times", async (share) => {
    const made = await share.create("a");
    await share.link(made.ino, "b");
    const before = await share.stat(made.ino);
    const root = await share.stat(share.root);
    await share.unlink("a");
    const after = await share.stat(made.ino);
    expect(after.nlink).toBe(1);
    expect(changedTimes(before, after)).toBe("ctime");
    expect(changedTimes(root, await share.stat(share.root))).toBe("mtime ctime");
    expect(await share.names()).toEqual(["b"]);
  });

  behaviour("unlink of a missing name is ENOENT, of a directory EISDIR", async (share) => {
    await share.mkdir("d");
    expect(await share.refusal({ op: "unlink", parent: share.root, name: bytes("a") })).toBe("ENOENT");
    expect(await share.refusal({ op: "unlink", parent: share.root, name: bytes("d") })).toBe("EISDIR");
  });

  behaviour(
    "rmdir of a missing name is ENOENT, of a file ENOTDIR, of a directory with entries ENOTEMPTY",
    async (share) => {
      const directory = await share.mkdir("d");
      await share.create("a", directory.ino);
      expect(await share.refusal({ op: "rmdir", parent: share.root, name: bytes("x") })).toBe("ENOENT");
      expect(await share.refusal({ op: "rmdir", parent: directory.ino, name: bytes("a") })).toBe("ENOTDIR");
      expect(await share.refusal({ op: "rmdir", parent: share.root, name: bytes("d") })).toBe("ENOTEMPTY");
    },
  );

  behaviour("a name can be used again for another kind of file", async (share) => {
    await share.create("a");
    await share.unlink("a");
    await share.mkdir("a");
    await share.rmdir("a");
    const { ino } = await share.symlink("a", "t");
    expect((await share.lookup("a")).ino).toBe(ino);
  });
}

function directories(behaviour: Behaviour): void {
  behaviour(
    "a directory's link count is two and its subdirectories, and mkdir and rmdir set the parent's times",
    async (share) => {
      const parent = await share.mkdir("d");
      expect(parent.nlink).toBe(2);
      await share.mkdir("one", parent.ino);
      await share.mkdir("two", parent.ino);
      await share.create("file", parent.ino);
      const full = await share.stat(parent.ino);
      expect(full.nlink).toBe(4);
      expect(changedTimes(parent, full)).toBe("mtime ctime");
      await share.rmdir("one", parent.ino);
      expect((await share.stat(parent.ino)).nlink).toBe(3);
    },
  );

  behaviour("a removed directory has no links, is empty, and takes no new names", async (share) => {
    const directory = await share.mkdir("d");
    await share.rmdir("d");
    expect((await share.stat(directory.ino)).nlink).toBe(0);
    expect(await share.refusal({ op: "mkdir", parent: directory.ino, name: bytes("x"), mode: 0o755, umask: 0 })).toBe(
      "ENOENT",
    );
    expect(await share.refusal({ op: "symlink", parent: directory.ino, name: bytes("x"), target: bytes("t") })).toBe(
      "ENOENT",
    );
    const other = await share.create("a");
    expect(await share.refusal({ op: "link", ino: other.ino, parent: directory.ino, name: bytes("x") })).toBe("ENOENT");
    const into = {
      op: "rename",
      parent: share.root,
      name: bytes("a"),
      newParent: directory.ino,
      newName: bytes("x"),
      flags: 0,
    } as const;
    expect(await share.refusal(into)).toBe("ENOENT");
    expect(await share.refusal({ op: "lookup", parent: directory.ino, name: bytes("x"), at: LIVE })).toBe("ENOENT");
  });

  behaviour("the parent of a directory is right, and 0 for what is no directory", async (share) => {
    const parent = await share.mkdir("d");
    expect((await share.mkdir("sub", parent.ino)).parent).toBe(parent.ino);
    expect((await share.create("a", parent.ino)).parent).toBe(0);
  });
}
