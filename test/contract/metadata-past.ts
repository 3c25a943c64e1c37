import { expect } from "vitest";
import { type InodeId, LIVE, type Lsn } from "../../src/domain/ids.ts";
import { FALLOC_KEEP_SIZE, FALLOC_PUNCH_HOLE, RENAME_EXCHANGE } from "../../src/domain/metadata-api.ts";
import { Random } from "../model/random.ts";
import { type Behaviour, bytes, GONE, type Share } from "./metadata-share.ts";

/** Runs `look` now, after the rows are applied, and after a crash: the past must not care. */
async function everyWay(share: Share, look: () => Promise<void>): Promise<void> {
  await look();
  await share.settle();
  await look();
  await share.reopen();
  await look();
}

/** Every read operation at a moment. */
export function pastBehaviours(behaviour: Behaviour, manyChanges: number): void {
  behaviour("a file that was punched very often reads right at every moment", async (share) => {
    const { ino } = await share.create("a");
    await share.write(ino, Buffer.alloc(manyChanges, 1));
    const start = share.lsn;
    for (let at = 0; at < manyChanges; at += 2) {
      await share.fallocate(ino, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, BigInt(at), 1n);
    }
    const expected = (punches: number): Buffer =>
      Buffer.from(Array.from({ length: manyChanges }, (_, at) => (at % 2 === 0 && at < 2 * punches ? 0 : 1)));
    await share.settle();
    await share.reopen();
    for (const punches of [0, 1, Math.floor(manyChanges / 4), manyChanges / 2]) {
      expect((await share.read(ino, { at: (start + punches) as Lsn })).equals(expected(punches))).toBe(true);
    }
    expect((await share.read(ino)).equals(expected(manyChanges / 2))).toBe(true);
  });
  names(behaviour);
  removedTrees(behaviour);
  inodes(behaviour);
  xattrsAndMoments(behaviour);
  content(behaviour);
  holesAndRemoved(behaviour);
  copies(behaviour);
}

function names(behaviour: Behaviour): void {
  behaviour("lookup finds a name as long as it was there, and the inode it meant", async (share) => {
    const before = share.lsn;
    const first = await share.create("a");
    const there = share.lsn;
    await share.unlink("a");
    const gone = share.lsn;
    const second = await share.create("a");
    await everyWay(share, async () => {
      const at = (lsn: Lsn) => ({ op: "lookup", parent: share.root, name: bytes("a"), at: lsn }) as const;
      expect(await share.refusal(at(before))).toBe("ENOENT");
      expect((await share.do(at(there))).ino).toBe(first.ino);
      expect(await share.refusal(at(gone))).toBe("ENOENT");
      expect((await share.do(at(share.lsn))).ino).toBe(second.ino);
    });
  });

  behaviour("readdir lists what was there, in pages, with the types and attributes of then", async (share) => {
    const moments: { lsn: Lsn; names: string[] }[] = [];
    const random = new Random(4);
    const here = new Set<string>();
    for (let count = 0; count < 60; count++) {
      const name = `n${random.below(15)}`;
      if (here.delete(name)) await share.unlink(name);
      else {
        await share.create(name);
        here.add(name);
      }
      moments.push({ lsn: share.lsn, names: [...here].sort() });
    }
    await everyWay(share, async () => {
      for (const { lsn, names } of moments)
        expect(await share.names(share.root, { at: lsn, entriesMax: 4 })).toEqual(names);
    });
  });

  behaviour("readdir with plus gives the attributes of then", async (share) => {
    const { ino } = await share.create("a");
    await share.write(ino, "four");
    const then = share.lsn;
    await share.write(ino, "much longer");
    const page = await share.do({ op: "readdir", ino: share.root, cookie: 0n, entriesMax: 9, plus: true, at: then });
    expect(page.entries[0]?.inode?.size).toBe(4n);
  });

  behaviour("renamed, exchanged and replaced names are found in their old places", async (share) => {
    const [one, two] = [await share.create("one"), await share.create("two")];
    const directory = await share.mkdir("d");
    const start = share.lsn;
    await share.rename("one", "two", { flags: RENAME_EXCHANGE });
    const exchanged = share.lsn;
    await share.rename("two", "moved", { newParent: directory.ino });
    await share.rename("d", "e");
    await everyWay(share, async () => {
      expect((await share.lookup("one", share.root, start)).ino).toBe(one.ino);
      expect((await share.lookup("one", share.root, exchanged)).ino).toBe(two.ino);
      expect((await share.lookup("two", share.root, exchanged)).ino).toBe(one.ino);
      expect(await share.names(share.root, { at: exchanged })).toEqual(["d", "one", "two"]);
      expect(await share.names(directory.ino, { at: exchanged })).toEqual([]);
      expect((await share.lookup("moved", directory.ino)).ino).toBe(one.ino);
    });
  });
}

function removedTrees(behaviour: Behaviour): void {
  behaviour("a removed tree is there at the moment before", async (share) => {
    const directory = await share.mkdir("d");
    const file = await share.create("f", directory.ino);
    await share.write(file.ino, "content");
    await share.symlink("l", "target", directory.ino);
    const then = share.lsn;
    for (const name of ["f", "l"]) await share.unlink(name, directory.ino);
    await share.rmdir("d");
    await share.forget(file.ino);
    await share.forget(directory.ino);
    await everyWay(share, async () => {
      const found = await share.lookup("d", share.root, then);
      expect(await share.names(found.ino, { at: then })).toEqual(["f", "l"]);
      expect(await share.text((await share.lookup("f", found.ino, then)).ino, then)).toBe("content");
      const link = await share.lookup("l", found.ino, then);
      expect((await share.do({ op: "readlink", ino: link.ino, at: then })).toString()).toBe("target");
    });
  });
}

function inodes(behaviour: Behaviour): void {
  behaviour("getattr gives the attributes of then, to the nanosecond", async (share) => {
    const made = await share.create("a");
    const created = share.lsn;
    await share.set(made.ino, { mode: 0o600, uid: 5, mtime: { sec: 1, nsec: 2 } });
    await share.link(made.ino, "b");
    await everyWay(share, async () => {
      const then = await share.stat(made.ino, created);
      expect(then).toMatchObject({
        mode: made.mode,
        uid: 0,
        nlink: 1,
        mtime: made.mtime,
        ctime: made.ctime,
        since: created,
      });
    });
  });

  behaviour("an inode is not there before it was made, nor after it ended", async (share) => {
    const before = share.lsn;
    const { ino } = await share.create("a");
    await share.unlink("a");
    const orphaned = share.lsn;
    await share.forget(ino);
    await everyWay(share, async () => {
      expect(GONE).toContain(await share.refusal({ op: "getattr", ino, at: before }));
      expect((await share.stat(ino, orphaned)).nlink).toBe(0);
      expect(GONE).toContain(await share.refusal({ op: "getattr", ino, at: LIVE }));
      expect(GONE).toContain(await share.refusal({ op: "read", ino, offset: 0n, length: 1, at: before }));
    });
  });
}

function xattrsAndMoments(behaviour: Behaviour): void {
  behaviour("getxattr and listxattr give the xattrs of then", async (share) => {
    const { ino } = await share.create("a");
    const none = share.lsn;
    await share.setxattr(ino, "user.a", "one");
    const one = share.lsn;
    await share.setxattr(ino, "user.a", "two");
    await share.setxattr(ino, "user.b", "other");
    await share.removexattr(ino, "user.a");
    await everyWay(share, async () => {
      expect(await share.xattrs(ino, none)).toEqual([]);
      expect([await share.xattrs(ino, one), (await share.getxattr(ino, "user.a", one)).toString()]).toEqual([
        ["user.a"],
        "one",
      ]);
      expect(await share.xattrs(ino)).toEqual(["user.b"]);
      expect(await share.refusal({ op: "getxattr", ino, name: bytes("user.a"), at: none })).toBe("ENODATA");
    });
  });

  behaviour("a moment is its LSN, also where the clock stepped back", async (share) => {
    const { ino } = await share.create("a");
    await share.write(ino, "one");
    const one = share.lsn;
    share.clock.step(-86_400_000_000_000);
    await share.write(ino, "two");
    expect([await share.text(ino, one), await share.text(ino)]).toEqual(["one", "two"]);
  });

  behaviour("reading at a moment makes no record", async (share) => {
    const { ino } = await share.create("a");
    const then = share.lsn;
    await share.write(ino, "x");
    const before = share.lsn;
    await share.stat(ino, then);
    await share.names(share.root, { at: then });
    await share.text(ino, then);
    expect(share.lsn).toBe(before);
  });
}

/** Each version of a file with the LSN after which it held. */
async function versions(
  share: Share,
  ino: InodeId,
  changes: readonly (() => Promise<unknown>)[],
): Promise<{ lsn: Lsn; bytes: Buffer }[]> {
  const kept: { lsn: Lsn; bytes: Buffer }[] = [];
  for (const change of changes) {
    await change();
    kept.push({ lsn: share.lsn, bytes: Buffer.from(await share.read(ino)) });
  }
  return kept;
}

function content(behaviour: Behaviour): void {
  behaviour(
    "read gives every version: overwritten, appended, truncated, punched, emptied, written again",
    async (share) => {
      const { ino } = await share.create("a");
      const kept = await versions(share, ino, [
        () => share.write(ino, "0123456789"),
        () => share.write(ino, "abc", 4n),
        () => share.write(ino, "tail", 10n),
        () => share.set(ino, { size: 6n }),
        () => share.set(ino, { size: 12n }),
        () => share.fallocate(ino, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, 1n, 2n),
        () => share.set(ino, { size: 0n }),
        () => share.write(ino, "new", 2n),
      ]);
      expect(new Set(kept.map((version) => version.bytes.toString("latin1"))).size).toBe(kept.length);
      await everyWay(share, async () => {
        for (const { lsn, bytes: expected } of kept)
          expect((await share.read(ino, { at: lsn })).equals(expected)).toBe(true);
      });
    },
  );

  behaviour("read gives every one of hundreds of versions of one place", async (share) => {
    const { ino } = await share.create("a");
    const random = new Random(5);
    const change = () =>
      random.oneIn(20)
        ? share.set(ino, { size: BigInt(random.below(2000)) })
        : share.write(ino, random.bytes(1 + random.below(50)), BigInt(random.below(2000)));
    const kept = await versions(
      share,
      ino,
      Array.from({ length: 250 }, () => change),
    );
    await everyWay(share, async () => {
      for (const { lsn, bytes: expected } of kept)
        expect((await share.read(ino, { at: lsn })).equals(expected)).toBe(true);
    });
  });
}

function holesAndRemoved(behaviour: Behaviour): void {
  behaviour("lseek finds the holes of then", async (share) => {
    const { ino } = await share.create("a");
    await share.write(ino, Buffer.alloc(65_536, 1), 1_048_576n);
    const then = share.lsn;
    await share.write(ino, Buffer.alloc(1_048_576, 2));
    await everyWay(share, async () => {
      expect(await share.seek(ino, "data", 0n, then)).toBe(1_048_576n);
      expect(await share.seek(ino, "hole", 0n)).toBe(1_114_112n);
    });
  });

  behaviour("the content of a removed file is there at the moment before", async (share) => {
    const { ino } = await share.create("a");
    await share.write(ino, "precious");
    const then = share.lsn;
    await share.set(ino, { size: 0n });
    await share.unlink("a");
    await share.forget(ino);
    await everyWay(share, async () => expect(await share.text(ino, then)).toBe("precious"));
  });
}

function copies(behaviour: Behaviour): void {
  const copy = (source: InodeId, target: InodeId, sourceAt: Lsn) =>
    ({ op: "copyRange", source, sourceOffset: 0n, target, targetOffset: 0n, length: 1000n, sourceAt }) as const;

  behaviour("copyRange takes the bytes of then, from the same file too", async (share) => {
    const { ino } = await share.create("a");
    await share.write(ino, "old content");
    const then = share.lsn;
    await share.write(ino, "NEW");
    expect(await share.do(copy(ino, ino, then))).toBe(11n);
    expect(await share.text(ino)).toBe("old content");
  });

  behaviour("copyRange takes the bytes of a file that is gone", async (share) => {
    const { ino } = await share.create("a");
    await share.write(ino, "precious");
    const then = share.lsn;
    await share.unlink("a");
    await share.forget(ino);
    await share.settle();
    const target = await share.create("b");
    expect(await share.do(copy(ino, target.ino, then))).toBe(8n);
    expect(await share.text(target.ino)).toBe("precious");
  });

  behaviour("copyRange into a target keeps the target's own past", async (share) => {
    const [source, target] = [await share.create("a"), await share.create("b")];
    await share.write(source.ino, "source");
    await share.write(target.ino, "target");
    const then = share.lsn;
    await share.do(copy(source.ino, target.ino, LIVE));
    await everyWay(share, async () => {
      expect([await share.text(target.ino, then), await share.text(target.ino)]).toEqual(["target", "source"]);
    });
  });
}
