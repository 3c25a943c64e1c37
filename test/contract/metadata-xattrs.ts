import { expect } from "vitest";
import { LIVE } from "../../src/domain/ids.ts";
import { XATTR_CREATE, XATTR_REPLACE } from "../../src/domain/metadata-api.ts";
import { ACL_ACCESS, ACL_DEFAULT, type AclEntry, encodeAcl } from "../model/model-acl.ts";
import { type Behaviour, bytes, changedTimes, type Share } from "./metadata-share.ts";

const NOBODY = 0xffffffff;
/** owner rwx, user 1000 r-x, group r-x, mask rwx, others --x. */
const EXTENDED: AclEntry[] = [
  { tag: 0x01, permissions: 7, id: NOBODY },
  { tag: 0x02, permissions: 5, id: 1000 },
  { tag: 0x04, permissions: 5, id: NOBODY },
  { tag: 0x10, permissions: 7, id: NOBODY },
  { tag: 0x20, permissions: 1, id: NOBODY },
];
/** owner rw-, group r--, others r--. */
const MINIMAL: AclEntry[] = [
  { tag: 0x01, permissions: 6, id: NOBODY },
  { tag: 0x04, permissions: 4, id: NOBODY },
  { tag: 0x20, permissions: 4, id: NOBODY },
];

/** Extended attributes and POSIX.1e access control lists. */
export function xattrBehaviours(behaviour: Behaviour): void {
  values(behaviour);
  namespaces(behaviour);
  accessLists(behaviour);
  wrongLists(behaviour);
  defaultLists(behaviour);
}

const setRefusal = (
  share: Share,
  ino: Awaited<ReturnType<Share["create"]>>["ino"],
  name: string,
  value: Buffer,
  flags = 0,
): Promise<string> => share.refusal({ op: "setxattr", ino, name: bytes(name), value, flags, killSgid: false });

function values(behaviour: Behaviour): void {
  behaviour("an xattr keeps its bytes, also none and all of them; setting it sets ctime only", async (share) => {
    const made = await share.create("a");
    const every = Buffer.from(Array.from({ length: 256 }, (_, index) => index));
    await share.setxattr(made.ino, "user.every", every);
    await share.setxattr(made.ino, "user.none", "");
    expect((await share.getxattr(made.ino, "user.every")).equals(every)).toBe(true);
    expect(await share.getxattr(made.ino, "user.none")).toHaveLength(0);
    expect(await share.xattrs(made.ino)).toEqual(["user.every", "user.none"]);
    expect(changedTimes(made, await share.stat(made.ino))).toBe("ctime");
  });

  behaviour(
    "a missing xattr is ENODATA to get, remove and replace; an existing one EEXIST to create",
    async (share) => {
      const { ino } = await share.create("a");
      expect(await share.refusal({ op: "getxattr", ino, name: bytes("user.a"), at: LIVE })).toBe("ENODATA");
      expect(await share.refusal({ op: "removexattr", ino, name: bytes("user.a") })).toBe("ENODATA");
      expect(await setRefusal(share, ino, "user.a", bytes("x"), XATTR_REPLACE)).toBe("ENODATA");
      await share.setxattr(ino, "user.a", "one", { flags: XATTR_CREATE });
      expect(await setRefusal(share, ino, "user.a", bytes("x"), XATTR_CREATE)).toBe("EEXIST");
      await share.setxattr(ino, "user.a", "two", { flags: XATTR_REPLACE });
      expect((await share.getxattr(ino, "user.a")).toString()).toBe("two");
    },
  );

  behaviour("a removed xattr is gone, and the ctime says when", async (share) => {
    const made = await share.create("a");
    await share.setxattr(made.ino, "user.a", "x");
    const before = await share.stat(made.ino);
    await share.removexattr(made.ino, "user.a");
    expect(await share.xattrs(made.ino)).toEqual([]);
    expect(changedTimes(before, await share.stat(made.ino))).toBe("ctime");
  });

  behaviour("a value may have 64 KiB and a name 255 bytes, not more", async (share) => {
    const { ino } = await share.create("a");
    const name = `user.${"n".repeat(250)}`;
    await share.setxattr(ino, name, Buffer.alloc(65_536, 7));
    await share.settle();
    await share.reopen();
    expect((await share.getxattr(ino, name)).equals(Buffer.alloc(65_536, 7))).toBe(true);
    expect(["E2BIG", "ENOSPC"]).toContain(await setRefusal(share, ino, "user.a", Buffer.alloc(65_537)));
    expect(["ERANGE", "ENAMETOOLONG"]).toContain(await setRefusal(share, ino, `${name}n`, bytes("x")));
  });

  behaviour("xattrs belong to the inode: every link shows them, and a name made anew does not", async (share) => {
    const { ino } = await share.create("a");
    await share.link(ino, "b");
    await share.setxattr(ino, "user.a", "x");
    expect(await share.xattrs((await share.lookup("b")).ino)).toEqual(["user.a"]);
    await share.unlink("a");
    expect(await share.xattrs((await share.create("a")).ino)).toEqual([]);
  });
}

function namespaces(behaviour: Behaviour): void {
  behaviour("user, trusted and security are kept, also of directories; names differ in every byte", async (share) => {
    const { ino } = await share.mkdir("d");
    const names = ["security.a", "trusted.a", "user.A", "user.a", "user.\xff"];
    for (const name of names) await share.setxattr(ino, name, name);
    expect(await share.xattrs(ino)).toEqual(names);
    for (const name of names) expect((await share.getxattr(ino, name)).toString("latin1")).toBe(name);
  });

  behaviour("trusted and security are kept of symbolic links and devices", async (share) => {
    const { ino } = await share.symlink("l", "t");
    await share.setxattr(ino, "security.selinux", "label");
    expect(await share.xattrs(ino)).toEqual(["security.selinux"]);
  });

  behaviour("any other namespace is EOPNOTSUPP", async (share) => {
    const { ino } = await share.create("a");
    expect(await setRefusal(share, ino, "bogus.a", bytes("x"))).toBe("EOPNOTSUPP");
    expect(await setRefusal(share, ino, "user", bytes("x"))).toBe("EOPNOTSUPP");
    expect(await share.refusal({ op: "getxattr", ino, name: bytes("bogus.a"), at: LIVE })).toBe("EOPNOTSUPP");
    expect(await share.refusal({ op: "removexattr", ino, name: bytes("bogus.a") })).toBe("EOPNOTSUPP");
  });
}

function accessLists(behaviour: Behaviour): void {
  behaviour("an access ACL sets the mode, its mask being the group's bits", async (share) => {
    const { ino } = await share.create("a", share.root, { mode: 0o640 });
    await share.setxattr(ino, ACL_ACCESS, encodeAcl(EXTENDED));
    expect((await share.stat(ino)).mode & 0o7777).toBe(0o771);
    expect((await share.getxattr(ino, ACL_ACCESS)).equals(encodeAcl(EXTENDED))).toBe(true);
    expect(await share.xattrs(ino)).toEqual([ACL_ACCESS]);
  });

  behaviour("an access ACL that says no more than the mode is kept in the mode only", async (share) => {
    const { ino } = await share.create("a", share.root, { mode: 0o6777 });
    await share.setxattr(ino, ACL_ACCESS, encodeAcl(EXTENDED));
    await share.setxattr(ino, ACL_ACCESS, encodeAcl(MINIMAL));
    expect((await share.stat(ino)).mode & 0o7777).toBe(0o6644);
    expect(await share.xattrs(ino)).toEqual([]);
    expect(await share.refusal({ op: "getxattr", ino, name: bytes(ACL_ACCESS), at: LIVE })).toBe("ENODATA");
  });

  behaviour("chmod changes owner, mask and others of an access ACL", async (share) => {
    const { ino } = await share.create("a");
    await share.setxattr(ino, ACL_ACCESS, encodeAcl(EXTENDED));
    await share.set(ino, { mode: 0o640 });
    const expected = EXTENDED.map((entry) => {
      const permissions = new Map([
        [0x01, 6],
        [0x10, 4],
        [0x20, 0],
      ]).get(entry.tag);
      return permissions === undefined ? entry : { ...entry, permissions };
    });
    expect((await share.getxattr(ino, ACL_ACCESS)).equals(encodeAcl(expected))).toBe(true);
  });

  behaviour("removing an access ACL, or setting an empty one, leaves the mode", async (share) => {
    const { ino } = await share.create("a");
    for (const remove of [
      () => share.removexattr(ino, ACL_ACCESS),
      () => share.setxattr(ino, ACL_ACCESS, encodeAcl([])),
    ]) {
      await share.setxattr(ino, ACL_ACCESS, encodeAcl(EXTENDED));
      await remove();
      expect([(await share.stat(ino)).mode & 0o7777, await share.xattrs(ino)]).toEqual([0o771, []]);
    }
  });

  behaviour("setting an access ACL takes set-group-id away when it is told to", async (share) => {
    const { ino } = await share.create("a", share.root, { mode: 0o2755 });
    await share.setxattr(ino, ACL_ACCESS, encodeAcl(EXTENDED));
    expect((await share.stat(ino)).mode & 0o7777).toBe(0o2771);
    await share.setxattr(ino, ACL_ACCESS, encodeAcl(EXTENDED), { killSgid: true });
    expect((await share.stat(ino)).mode & 0o7777).toBe(0o771);
  });

  behaviour("setting a default ACL leaves set-group-id, also when it is told to take it away", async (share) => {
    const { ino } = await share.mkdir("d", share.root, { mode: 0o2755 });
    await share.setxattr(ino, ACL_DEFAULT, encodeAcl(EXTENDED), { killSgid: true });
    expect((await share.stat(ino)).mode & 0o7777).toBe(0o2755);
  });
}

function wrongLists(behaviour: Behaviour): void {
  behaviour(
    "an ACL that is malformed is EINVAL, of an unknown version EOPNOTSUPP, and nothing has changed",
    async (share) => {
      const made = await share.create("a");
      const good = encodeAcl(EXTENDED);
      const entry = (tag: number, permissions = 7): AclEntry => ({ tag, permissions, id: NOBODY });
      const wrong = [
        good.subarray(0, 3),
        Buffer.concat([good, Buffer.alloc(1)]),
        encodeAcl(EXTENDED.filter(({ tag }) => tag !== 0x10)),
        encodeAcl(EXTENDED.filter(({ tag }) => tag !== 0x20)),
        encodeAcl([...EXTENDED].reverse()),
        encodeAcl([entry(0x01, 8), entry(0x04), entry(0x20)]),
        encodeAcl([entry(0x01), entry(0x03), entry(0x04), entry(0x20)]),
        encodeAcl([entry(0x01), entry(0x01), entry(0x04), entry(0x20)]),
      ];
      const before = share.lsn;
      for (const [index, value] of wrong.entries()) {
        expect([index, await setRefusal(share, made.ino, ACL_ACCESS, value)]).toEqual([index, "EINVAL"]);
      }
      const version = Buffer.from(good);
      version.writeUInt32LE(3, 0);
      expect(await setRefusal(share, made.ino, ACL_ACCESS, version)).toBe("EOPNOTSUPP");
      expect([share.lsn, (await share.stat(made.ino)).mode]).toEqual([before, made.mode]);
    },
  );

  behaviour("a default ACL of anything but a directory is EACCES", async (share) => {
    const { ino } = await share.create("a");
    expect(await setRefusal(share, ino, ACL_DEFAULT, encodeAcl(EXTENDED))).toBe("EACCES");
  });
}

function defaultLists(behaviour: Behaviour): void {
  behaviour("a default ACL leaves the directory's mode", async (share) => {
    const { ino } = await share.mkdir("d");
    await share.setxattr(ino, ACL_DEFAULT, encodeAcl(EXTENDED));
    expect((await share.stat(ino)).mode & 0o7777).toBe(0o755);
  });

  behaviour("a file takes the default ACL cut to its mode, and no umask", async (share) => {
    const { ino } = await share.mkdir("d");
    await share.setxattr(ino, ACL_DEFAULT, encodeAcl(EXTENDED));
    const file = await share.create("f", ino, { mode: 0o666, umask: 0o077 });
    // ext4: owner rw-, mask rw-, others --- (of --x), and the mode shows them.
    const cut = new Map([
      [0x01, 6],
      [0x10, 6],
      [0x20, 0],
    ]);
    const expected = EXTENDED.map((entry) => ({ ...entry, permissions: cut.get(entry.tag) ?? entry.permissions }));
    expect(file.mode & 0o7777).toBe(0o660);
    expect((await share.getxattr(file.ino, ACL_ACCESS)).equals(encodeAcl(expected))).toBe(true);
    expect(await share.xattrs(file.ino)).toEqual([ACL_ACCESS]);
  });

  behaviour("a directory inherits the default ACL as its own, a symbolic link nothing", async (share) => {
    const { ino } = await share.mkdir("d");
    await share.setxattr(ino, ACL_DEFAULT, encodeAcl(EXTENDED));
    const directory = await share.mkdir("sub", ino, { mode: 0o777, umask: 0o077 });
    expect(directory.mode & 0o7777).toBe(0o771);
    expect(await share.xattrs(directory.ino)).toEqual([ACL_ACCESS, ACL_DEFAULT]);
    expect((await share.getxattr(directory.ino, ACL_DEFAULT)).equals(encodeAcl(EXTENDED))).toBe(true);
    const link = await share.symlink("l", "t", ino);
    expect([link.mode & 0o777, await share.xattrs(link.ino)]).toEqual([0o777, []]);
  });

  behaviour("a minimal default ACL gives a mode and no access ACL", async (share) => {
    const { ino } = await share.mkdir("d");
    await share.setxattr(ino, ACL_DEFAULT, encodeAcl(MINIMAL));
    const file = await share.create("f", ino, { mode: 0o666, umask: 0o077 });
    expect([file.mode & 0o777, await share.xattrs(file.ino)]).toEqual([0o644, []]);
  });

  behaviour("without its default ACL a directory goes by the umask again", async (share) => {
    const { ino } = await share.mkdir("d");
    await share.setxattr(ino, ACL_DEFAULT, encodeAcl(EXTENDED));
    await share.removexattr(ino, ACL_DEFAULT);
    const file = await share.create("f", ino, { mode: 0o666, umask: 0o077 });
    expect([file.mode & 0o777, await share.xattrs(file.ino)]).toEqual([0o600, []]);
  });
}
