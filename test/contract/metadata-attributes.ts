import { expect } from "vitest";
import { LIVE } from "../../src/domain/ids.ts";
import { S_IFDIR, S_IFREG } from "../../src/domain/inode.ts";
import { type Behaviour, changedTimes, SECOND } from "./metadata-share.ts";

/** getattr, setattr, times, privileges, statfs. */
export function attributeBehaviours(behaviour: Behaviour): void {
  owners(behaviour);
  times(behaviour);
  privileges(behaviour);
  others(behaviour);
}

function owners(behaviour: Behaviour): void {
  behaviour("chmod sets the permission bits, keeps the type, and sets ctime only", async (share) => {
    const made = await share.create("a");
    const changed = await share.set(made.ino, { mode: S_IFREG | 0o6751 });
    expect(changed.mode).toBe(S_IFREG | 0o6751);
    expect(changedTimes(made, changed)).toBe("ctime");
    const directory = await share.mkdir("d");
    expect((await share.set(directory.ino, { mode: 0o1700 })).mode).toBe(S_IFDIR | 0o1700);
  });

  behaviour("chmod to the same mode sets ctime", async (share) => {
    const made = await share.create("a");
    expect(changedTimes(made, await share.set(made.ino, { mode: made.mode }))).toBe("ctime");
  });

  behaviour("chown sets owner and group, each alone too, up to the largest id", async (share) => {
    const { ino } = await share.create("a");
    await share.set(ino, { uid: 0xfffffffe });
    const changed = await share.set(ino, { gid: 77 });
    expect([changed.uid, changed.gid]).toEqual([0xfffffffe, 77]);
  });

  behaviour("an empty setattr answers the attributes and changes nothing", async (share) => {
    const made = await share.create("a");
    const before = share.lsn;
    expect(changedTimes(made, await share.set(made.ino, {}))).toBe("");
    expect(share.lsn).toBe(before);
  });

  behaviour("a setattr that is refused half-way changes nothing", async (share) => {
    const directory = await share.mkdir("d");
    const before = share.lsn;
    expect(["EISDIR", "EINVAL"]).toContain(
      await share.refusal({ op: "setattr", ino: directory.ino, set: { mode: 0, size: 5n } }),
    );
    expect([share.lsn, (await share.stat(directory.ino)).mode]).toEqual([before, directory.mode]);
  });
}

function times(behaviour: Behaviour): void {
  behaviour("utimens sets times to the nanosecond, before 1970 and after 2106 too, and ctime to now", async (share) => {
    const { ino } = await share.create("a");
    const [atime, mtime] = [
      { sec: -1, nsec: 999_999_999 },
      { sec: 2 ** 37, nsec: 1 },
    ];
    const changed = await share.set(ino, { atime, mtime });
    expect([changed.atime, changed.mtime, changed.ctime]).toEqual([atime, mtime, share.clock.now()]);
    await share.settle();
    await share.reopen();
    const kept = await share.stat(ino);
    expect([kept.atime, kept.mtime]).toEqual([atime, mtime]);
  });

  behaviour("utimens to now takes the engine's clock, and atime alone sets ctime too", async (share) => {
    const made = await share.create("a");
    const changed = await share.set(made.ino, { atime: "now" });
    expect(changed.atime).toEqual(share.clock.now());
    expect(changedTimes(made, changed)).toBe("atime ctime");
  });

  behaviour("a ctime that is given is taken", async (share) => {
    const { ino } = await share.create("a");
    const ctime = { sec: 12, nsec: 34 };
    expect((await share.set(ino, { mode: 0o600, ctime })).ctime).toEqual(ctime);
  });

  behaviour("reading changes no access time", async (share) => {
    const made = await share.create("a");
    await share.write(made.ino, "content");
    await share.text(made.ino);
    expect((await share.stat(made.ino)).atime).toEqual(made.atime);
  });

  behaviour("times follow a clock that steps back, and the journal goes on", async (share) => {
    const first = await share.create("a");
    share.clock.step(-3600 * SECOND);
    const second = await share.create("b");
    expect(second.ctime.sec).toBe(first.ctime.sec - 3599);
    await share.reopen();
    expect((await share.lookup("b")).ctime).toEqual(second.ctime);
  });
}

function privileges(behaviour: Behaviour): void {
  behaviour("chown takes set-user-id, set-group-id and file capabilities away", async (share) => {
    const { ino } = await share.create("a", share.root, { mode: 0o6755 });
    await share.setxattr(ino, "security.capability", "caps");
    expect((await share.set(ino, { uid: 5 })).mode).toBe(S_IFREG | 0o755);
    expect(await share.xattrs(ino)).toEqual([]);
  });

  behaviour("chown that is also told to take privileges away keeps the other xattrs", async (share) => {
    const { ino } = await share.create("a", share.root, { mode: 0o4755 });
    await share.setxattr(ino, "security.capability", "caps");
    await share.setxattr(ino, "user.a", "x");
    await share.set(ino, { uid: 5, gid: 5, killPrivileges: true });
    expect([await share.xattrs(ino), (await share.getxattr(ino, "user.a")).toString()]).toEqual([["user.a"], "x"]);
  });

  behaviour("chown of a directory keeps its set-group-id bit", async (share) => {
    const { ino } = await share.mkdir("d");
    await share.set(ino, { mode: 0o2755 });
    expect((await share.set(ino, { gid: 5 })).mode).toBe(S_IFDIR | 0o2755);
  });

  behaviour(
    "a write takes set-user-id and set-group-id away where it is told to, and file capabilities always",
    async (share) => {
      const { ino } = await share.create("a", share.root, { mode: 0o6755 });
      await share.setxattr(ino, "security.capability", "caps");
      await share.write(ino, "by root");
      expect((await share.stat(ino)).mode).toBe(S_IFREG | 0o6755);
      expect(await share.xattrs(ino)).toEqual([]);
      await share.do({ op: "write", ino, offset: 0n, data: Buffer.from("x"), killPrivileges: true });
      expect((await share.stat(ino)).mode).toBe(S_IFREG | 0o755);
    },
  );

  behaviour("set-group-id without group execute stays on write: it means something else", async (share) => {
    const { ino } = await share.create("a", share.root, { mode: 0o2644 });
    await share.do({ op: "write", ino, offset: 0n, data: Buffer.from("x"), killPrivileges: true });
    expect((await share.stat(ino)).mode).toBe(S_IFREG | 0o2644);
  });

  behaviour("truncate takes set-user-id away where it is told to, and file capabilities always", async (share) => {
    const { ino } = await share.create("a", share.root, { mode: 0o4755 });
    await share.setxattr(ino, "security.capability", "caps");
    expect((await share.set(ino, { size: 10n })).mode).toBe(S_IFREG | 0o4755);
    expect(await share.xattrs(ino)).toEqual([]);
    expect((await share.set(ino, { size: 0n, killPrivileges: true })).mode).toBe(S_IFREG | 0o755);
  });
}

function others(behaviour: Behaviour): void {
  behaviour("a generation is above zero and never changes", async (share) => {
    const made = await share.create("a");
    await share.write(made.ino, "content");
    await share.rename("a", "b");
    await share.reopen();
    expect((await share.stat(made.ino)).generation).toBe(made.generation);
    expect(made.generation).toBeGreaterThan(0);
  });

  behaviour("since names the record that gave the attributes", async (share) => {
    const made = await share.create("a");
    expect(made.since).toBe(share.lsn);
    const changed = await share.set(made.ino, { mode: 0o600 });
    expect([changed.since, share.lsn]).toEqual([share.lsn, made.since + 1]);
    await share.create("b");
    expect((await share.stat(made.ino)).since).toBe(changed.since);
  });

  behaviour("statfs answers sizes that fit together", async (share) => {
    const { ino } = await share.create("a");
    await share.write(ino, Buffer.alloc(100_000, 1));
    const sizes = await share.do({ op: "statfs" });
    expect(sizes.blockBytes).toBeGreaterThan(0);
    expect(sizes.blocksFree <= sizes.blocksTotal).toBe(true);
    expect(sizes.inodesFree <= sizes.inodesTotal).toBe(true);
  });

  behaviour("fsync of an unchanged, a changed and an unlinked file succeeds and makes no record", async (share) => {
    const { ino } = await share.create("a");
    await share.do({ op: "fsync", ino });
    await share.write(ino, "content");
    await share.unlink("a");
    const before = share.lsn;
    await share.do({ op: "fsync", ino });
    await share.do({ op: "fsync", ino: share.root });
    expect([share.lsn, await share.text(ino, LIVE)]).toEqual([before, "content"]);
  });
}
