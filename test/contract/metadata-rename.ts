import { expect } from "vitest";
import { type InodeId, LIVE } from "../../src/domain/ids.ts";
import { S_IFCHR } from "../../src/domain/inode.ts";
import { RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT } from "../../src/domain/metadata-api.ts";
import { type Behaviour, bytes, changedTimes, type Share } from "./metadata-share.ts";

type Ends = { readonly parent?: InodeId; readonly newParent?: InodeId; readonly flags?: number };

/** The code with which a rename is refused. */
function refusal(share: Share, name: string, newName: string, ends: Ends = {}): Promise<string> {
  const { parent = share.root, newParent = share.root, flags = 0 } = ends;
  return share.refusal({ op: "rename", parent, name: bytes(name), newParent, newName: bytes(newName), flags });
}

/** rename(2) and its flags. */
export function renameBehaviours(behaviour: Behaviour): void {
  plain(behaviour);
  replacing(behaviour);
  refusals(behaviour);
  flagged(behaviour);
}

function plain(behaviour: Behaviour): void {
  behaviour("moves a name; sets the inode's ctime and both directories' times", async (share) => {
    const made = await share.create("a");
    const directory = await share.mkdir("d");
    const root = await share.stat(share.root);
    await share.rename("a", "b", { newParent: directory.ino });
    expect([await share.names(), await share.names(directory.ino)]).toEqual([["d"], ["b"]]);
    expect(changedTimes(made, await share.lookup("b", directory.ino))).toBe("ctime");
    expect(changedTimes(directory, await share.stat(directory.ino))).toBe("mtime ctime");
    expect(changedTimes(root, await share.stat(share.root))).toBe("mtime ctime");
  });

  behaviour("of a directory changes its parent and the link counts of both directories", async (share) => {
    const [from, to] = [await share.mkdir("from"), await share.mkdir("to")];
    const moved = await share.mkdir("m", from.ino);
    await share.rename("m", "n", { parent: from.ino, newParent: to.ino });
    expect((await share.stat(moved.ino)).parent).toBe(to.ino);
    expect([(await share.stat(from.ino)).nlink, (await share.stat(to.ino)).nlink]).toEqual([2, 3]);
  });

  behaviour("to its own name changes nothing", async (share) => {
    const made = await share.create("a");
    await share.rename("a", "a");
    expect(changedTimes(made, await share.lookup("a"))).toBe("");
  });

  behaviour("onto another link of the same file changes nothing, and both names stay", async (share) => {
    const made = await share.create("a");
    await share.link(made.ino, "b");
    const before = await share.stat(made.ino);
    await share.rename("a", "b");
    await share.rename("a", "b", { flags: RENAME_EXCHANGE });
    await share.rename("a", "b", { flags: RENAME_WHITEOUT });
    expect(await share.names()).toEqual(["a", "b"]);
    const after = await share.stat(made.ino);
    expect([after.nlink, changedTimes(before, after)]).toEqual([2, ""]);
  });
}

function replacing(behaviour: Behaviour): void {
  behaviour("replaces a file, which loses a link and gets a new ctime", async (share) => {
    const made = await share.create("a");
    const replaced = await share.create("b");
    await share.rename("a", "b");
    expect((await share.lookup("b")).ino).toBe(made.ino);
    const orphan = await share.stat(replaced.ino);
    expect([orphan.nlink, changedTimes(replaced, orphan)]).toEqual([0, "ctime"]);
  });

  behaviour("of a file replaces a symbolic link itself, not its target", async (share) => {
    const target = await share.create("target");
    await share.symlink("l", "target");
    const made = await share.create("a");
    await share.rename("a", "l");
    expect((await share.lookup("l")).ino).toBe(made.ino);
    expect((await share.stat(target.ino)).nlink).toBe(1);
  });

  behaviour("replaces an empty directory by a directory and corrects the link count", async (share) => {
    const made = await share.mkdir("a");
    const replaced = await share.mkdir("b");
    await share.rename("a", "b");
    expect((await share.lookup("b")).ino).toBe(made.ino);
    expect([(await share.stat(share.root)).nlink, (await share.stat(replaced.ino)).nlink]).toEqual([3, 0]);
  });
}

function refusals(behaviour: Behaviour): void {
  behaviour("of a missing name is ENOENT", async (share) => {
    expect(await refusal(share, "a", "b")).toBe("ENOENT");
  });

  behaviour("of a directory over a file is ENOTDIR, of a file over a directory EISDIR", async (share) => {
    await share.mkdir("d");
    await share.create("a");
    expect(await refusal(share, "d", "a")).toBe("ENOTDIR");
    expect(await refusal(share, "a", "d")).toBe("EISDIR");
  });

  behaviour("over a directory with entries is ENOTEMPTY, and nothing has changed then", async (share) => {
    const full = await share.mkdir("full");
    await share.create("x", full.ino);
    const made = await share.mkdir("d");
    const before = share.lsn;
    expect(await refusal(share, "d", "full")).toBe("ENOTEMPTY");
    expect([share.lsn, await share.names()]).toEqual([before, ["d", "full"]]);
    expect(changedTimes(made, await share.stat(made.ino))).toBe("");
  });

  behaviour("of a directory into itself or below is EINVAL", async (share) => {
    const top = await share.mkdir("top");
    const middle = await share.mkdir("middle", top.ino);
    const bottom = await share.mkdir("bottom", middle.ino);
    for (const newParent of [top.ino, middle.ino, bottom.ino]) {
      expect(await refusal(share, "top", "x", { newParent })).toBe("EINVAL");
    }
    expect(await refusal(share, "top", "bottom", { newParent: middle.ino, flags: RENAME_EXCHANGE })).toBe("EINVAL");
  });

  behaviour("of a directory over one above it is ENOTEMPTY, an exchange of the two EINVAL", async (share) => {
    const top = await share.mkdir("top");
    await share.mkdir("sub", top.ino);
    expect(await refusal(share, "sub", "top", { parent: top.ino })).toBe("ENOTEMPTY");
    expect(await refusal(share, "sub", "top", { parent: top.ino, flags: RENAME_EXCHANGE })).toBe("EINVAL");
  });

  behaviour("of a file with a directory above it cannot be exchanged", async (share) => {
    const top = await share.mkdir("top");
    await share.create("file", top.ino);
    expect(await refusal(share, "file", "top", { parent: top.ino, flags: RENAME_EXCHANGE })).toBe("EINVAL");
  });

  behaviour("with unknown flags, or flags that exclude each other, is EINVAL", async (share) => {
    await share.create("a");
    await share.create("b");
    expect(await refusal(share, "a", "b", { flags: 8 })).toBe("EINVAL");
    expect(await refusal(share, "a", "b", { flags: RENAME_EXCHANGE | RENAME_NOREPLACE })).toBe("EINVAL");
    expect(await refusal(share, "a", "b", { flags: RENAME_EXCHANGE | RENAME_WHITEOUT })).toBe("EINVAL");
  });

  behaviour("to a name of 256 bytes is ENAMETOOLONG, to one with a slash EINVAL", async (share) => {
    await share.create("a");
    expect(await refusal(share, "a", "n".repeat(256))).toBe("ENAMETOOLONG");
    expect(await refusal(share, "a", "x/y")).toBe("EINVAL");
    expect(await share.names()).toEqual(["a"]);
  });
}

function flagged(behaviour: Behaviour): void {
  behaviour("NOREPLACE onto an existing name is EEXIST, also onto itself; else it is a rename", async (share) => {
    await share.create("a");
    await share.create("b");
    expect(await refusal(share, "a", "b", { flags: RENAME_NOREPLACE })).toBe("EEXIST");
    expect(await refusal(share, "a", "a", { flags: RENAME_NOREPLACE })).toBe("EEXIST");
    await share.rename("a", "c", { flags: RENAME_NOREPLACE });
    expect(await share.names()).toEqual(["b", "c"]);
  });

  behaviour(
    "EXCHANGE swaps a file and a directory across directories, with parents, link counts and ctimes",
    async (share) => {
      const [left, right] = [await share.mkdir("left"), await share.mkdir("right")];
      const file = await share.create("f", left.ino);
      const directory = await share.mkdir("d", right.ino);
      await share.rename("f", "d", { parent: left.ino, newParent: right.ino, flags: RENAME_EXCHANGE });
      expect((await share.lookup("f", left.ino)).ino).toBe(directory.ino);
      expect((await share.lookup("d", right.ino)).ino).toBe(file.ino);
      expect((await share.stat(directory.ino)).parent).toBe(left.ino);
      expect([(await share.stat(left.ino)).nlink, (await share.stat(right.ino)).nlink]).toEqual([3, 2]);
      expect(changedTimes(file, await share.stat(file.ino))).toBe("ctime");
      expect(changedTimes(directory, await share.stat(directory.ino))).toBe("ctime");
    },
  );

  behaviour("EXCHANGE shows each name with its new type in readdir", async (share) => {
    await share.create("f");
    await share.mkdir("d");
    await share.rename("f", "d", { flags: RENAME_EXCHANGE });
    const page = await share.do({ op: "readdir", ino: share.root, cookie: 0n, entriesMax: 10, plus: false, at: LIVE });
    const types = new Map(page.entries.map((entry) => [entry.name.toString(), entry.type]));
    expect([types.get("f"), types.get("d")]).toEqual([4, 8]);
  });

  behaviour("EXCHANGE with a missing name is ENOENT", async (share) => {
    await share.create("a");
    expect(await refusal(share, "a", "b", { flags: RENAME_EXCHANGE })).toBe("ENOENT");
  });

  behaviour("WHITEOUT leaves a character device 0:0 without permissions in the old place", async (share) => {
    const made = await share.create("a");
    const before = share.lsn;
    await share.rename("a", "b", { flags: RENAME_WHITEOUT });
    const left = await share.lookup("a");
    expect([left.mode, left.rdev, left.nlink]).toEqual([S_IFCHR, 0, 1]);
    expect((await share.lookup("b")).ino).toBe(made.ino);
    expect(share.lsn).toBe(before + 1);
  });

  behaviour("is one record, whatever it replaces", async (share) => {
    await share.create("a");
    await share.create("b");
    const before = share.lsn;
    await share.rename("a", "b");
    expect(share.lsn).toBe(before + 1);
  });
}
