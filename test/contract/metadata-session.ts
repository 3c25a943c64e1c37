import { expect } from "vitest";
import { type InodeId, LIVE } from "../../src/domain/ids.ts";
import { S_IFREG } from "../../src/domain/inode.ts";
import { type Invalidation, RENAME_EXCHANGE, type Request } from "../../src/domain/metadata-api.ts";
import { type Behaviour, bytes, GONE, type Share } from "./metadata-share.ts";

/** What lasts beyond one request: open files without a name, requests sent twice, other caches. */
export function sessionBehaviours(behaviour: Behaviour): void {
  orphans(behaviour);
  forgetting(behaviour);
  temporaryFiles(behaviour);
  resent(behaviour);
  resentLater(behaviour);
  invalidations(behaviour);
  contentInvalidations(behaviour);
  records(behaviour);
}

const gone = async (share: Share, ino: InodeId): Promise<void> =>
  expect(GONE).toContain(await share.refusal({ op: "getattr", ino, at: LIVE }));

function orphans(behaviour: Behaviour): void {
  behaviour("an unlinked file is read, written and changed until it is forgotten", async (share) => {
    const { ino } = await share.create("a");
    await share.write(ino, "content");
    await share.unlink("a");
    await share.write(ino, "C");
    await share.set(ino, { mode: 0o600 });
    await share.setxattr(ino, "user.a", "x");
    expect(await share.text(ino)).toBe("Content");
    expect((await share.stat(ino)).nlink).toBe(0);
    const before = share.lsn;
    await share.forget(ino);
    expect(share.lsn).toBe(before + 1);
    await gone(share, ino);
  });

  behaviour("an orphan outlives a crash, and ends when it is forgotten then", async (share) => {
    const { ino } = await share.create("a");
    await share.write(ino, "content");
    await share.unlink("a");
    await share.reopen();
    expect(await share.text(ino)).toBe("content");
    await share.settle();
    await share.reopen();
    expect(await share.text(ino)).toBe("content");
    await share.forget(ino);
    await gone(share, ino);
  });

  behaviour("a file replaced by rename, and a removed directory, are orphans too", async (share) => {
    const [source, replaced, directory] = [await share.create("a"), await share.create("b"), await share.mkdir("d")];
    await share.write(replaced.ino, "still here");
    await share.rename("a", "b");
    await share.rmdir("d");
    expect(await share.text(replaced.ino)).toBe("still here");
    expect((await share.stat(directory.ino)).nlink).toBe(0);
    await share.forget(replaced.ino);
    await share.forget(directory.ino);
    await gone(share, replaced.ino);
    await gone(share, directory.ino);
    expect((await share.lookup("b")).ino).toBe(source.ino);
  });
}

function forgetting(behaviour: Behaviour): void {
  behaviour("forgetting a file that has a name, or that never was, does nothing", async (share) => {
    const { ino } = await share.create("a");
    const before = share.lsn;
    await share.forget(ino);
    await share.forget(999_999 as InodeId);
    expect([share.lsn, (await share.lookup("a")).ino]).toEqual([before, ino]);
  });

  behaviour("an orphan that two mounts hold ends when both forget it", async (share) => {
    const mountId = share.harness.attachMount();
    const { ino } = await share.create("a");
    await share.write(ino, "content");
    await share.do({ op: "lookup", parent: share.root, name: bytes("a"), at: LIVE }, { mountId });
    await share.unlink("a");
    await share.forget(ino);
    expect(await share.text(ino)).toBe("content");
    await share.forget(ino, { mountId });
    await gone(share, ino);
  });
}

function temporaryFiles(behaviour: Behaviour): void {
  const tmpfile = (share: Share, umask = 0) =>
    share.do({ op: "tmpfile", parent: share.root, mode: S_IFREG | 0o666, umask });

  behaviour(
    "tmpfile makes a file without a name, leaves the directory's times, and ends with forget",
    async (share) => {
      const root = await share.stat(share.root);
      const made = await tmpfile(share, 0o022);
      expect([made.nlink, made.mode, await share.names()]).toEqual([0, S_IFREG | 0o644, []]);
      expect((await share.stat(share.root)).mtime).toEqual(root.mtime);
      await share.write(made.ino, "content");
      await share.reopen();
      expect(await share.text(made.ino)).toBe("content");
      await share.forget(made.ino);
      await gone(share, made.ino);
    },
  );

  behaviour("a temporary file that is linked stays when it is forgotten", async (share) => {
    const { ino } = await tmpfile(share);
    await share.write(ino, "content");
    expect((await share.link(ino, "named")).nlink).toBe(1);
    await share.forget(ino);
    await share.reopen();
    expect(await share.text((await share.lookup("named")).ino)).toBe("content");
  });
}

/** Sends `request` and sends it again under the same number: one record, the same answer. */
async function twice(share: Share, request: Request): Promise<[unknown, unknown]> {
  const { unique } = share.context();
  const first = await share.do(request, { unique });
  const before = share.lsn;
  const second = await share.do(request, { unique, resent: true });
  expect(share.lsn).toBe(before);
  return [first, second];
}

function resent(behaviour: Behaviour): void {
  behaviour("a mutation sent again is answered as before and runs once", async (share) => {
    const at = (name: string) => ({ parent: share.root, name: bytes(name) });
    const { ino } = await share.create("file");
    await share.setxattr(ino, "user.gone", "x");
    const requests: Request[] = [
      { op: "create", ...at("c"), mode: S_IFREG | 0o644, umask: 0, exclusive: true, truncate: false },
      { op: "mknod", ...at("n"), mode: S_IFREG | 0o644, umask: 0, rdev: 0 },
      { op: "mkdir", ...at("d"), mode: 0o755, umask: 0 },
      { op: "symlink", ...at("s"), target: bytes("t") },
      { op: "link", ino, ...at("l") },
      { op: "tmpfile", parent: share.root, mode: S_IFREG | 0o600, umask: 0 },
      { op: "write", ino, offset: 0n, data: bytes("content"), killPrivileges: false },
      { op: "setattr", ino, set: { mode: 0o600 } },
      { op: "fallocate", ino, mode: 3, offset: 1n, length: 2n },
      { op: "copyRange", source: ino, sourceOffset: 0n, target: ino, targetOffset: 100n, length: 7n, sourceAt: LIVE },
      { op: "setxattr", ino, name: bytes("user.a"), value: bytes("x"), flags: 1, killSgid: false },
      { op: "removexattr", ino, name: bytes("user.gone") },
      { op: "rename", ...at("c"), newParent: share.root, newName: bytes("r"), flags: 0 },
      { op: "unlink", ...at("r") },
      { op: "rmdir", ...at("d") },
    ];
    for (const request of requests) {
      const [first, second] = await twice(share, request);
      const identity = (reply: unknown) =>
        typeof reply === "object" && reply !== null && "ino" in reply ? reply.ino : reply;
      expect([request.op, identity(second)]).toEqual([request.op, identity(first)]);
    }
    expect(await share.names()).toEqual(["file", "l", "n", "s"]);
  });

  behaviour("a mutation sent again after a crash runs once, with the rows applied or not", async (share) => {
    for (const settled of [false, true]) {
      const { unique } = share.context();
      const name = bytes(settled ? "settled" : "fresh");
      const request = { op: "mkdir", parent: share.root, name, mode: 0o755, umask: 0 } as const;
      const made = await share.do(request, { unique });
      if (settled) await share.settle();
      await share.reopen();
      expect((await share.do(request, { unique, resent: true })).ino).toBe(made.ino);
      await share.reopen();
      expect((await share.do(request, { unique, resent: true })).ino).toBe(made.ino);
    }
    expect(await share.names()).toEqual(["fresh", "settled"]);
  });
}

function resentLater(behaviour: Behaviour): void {
  behaviour("the last hundred mutations may be sent again, in any order, though others undid them", async (share) => {
    const sent: { request: Request; unique: number }[] = [];
    for (let count = 0; count < 50; count++) {
      for (const request of [
        { op: "mkdir", parent: share.root, name: bytes(`d${count}`), mode: 0o755, umask: 0 },
        { op: "rmdir", parent: share.root, name: bytes(`d${count}`) },
      ] as const) {
        const { unique } = share.context();
        await share.do(request, { unique });
        sent.push({ request, unique });
      }
    }
    await share.reopen();
    const before = share.lsn;
    for (const { request, unique } of sent.reverse()) await share.do(request, { unique, resent: true });
    expect([share.lsn, await share.names()]).toEqual([before, []]);
  });

  behaviour("a request marked re-sent that never ran is run", async (share) => {
    const request = { op: "mkdir", parent: share.root, name: bytes("d"), mode: 0o755, umask: 0 } as const;
    await share.do(request, { unique: 987_654, resent: true });
    expect(await share.names()).toEqual(["d"]);
  });

  behaviour("the same number on another mount is another request", async (share) => {
    const mountId = share.harness.attachMount();
    const { unique } = share.context();
    await share.do({ op: "mkdir", parent: share.root, name: bytes("one"), mode: 0o755, umask: 0 }, { unique });
    await share.do(
      { op: "mkdir", parent: share.root, name: bytes("two"), mode: 0o755, umask: 0 },
      { unique, mountId, resent: true },
    );
    expect(await share.names()).toEqual(["one", "two"]);
  });

  behaviour("a request that failed may be sent again and fails again", async (share) => {
    const request = { op: "rmdir", parent: share.root, name: bytes("d") } as const;
    const { unique } = share.context();
    expect(await share.refusal(request, { unique })).toBe("ENOENT");
    expect(await share.refusal(request, { unique, resent: true })).toBe("ENOENT");
  });
}

/** Runs `act` and answers what other caches were told to forget, as text. */
async function told(share: Share, act: () => Promise<unknown>): Promise<string[]> {
  const events: Invalidation[] = [];
  const stop = share.harness.api.subscribe((event) => events.push(event));
  await act();
  stop();
  expect(events.every((event) => event.excluding === share.context().actor.mountId)).toBe(true);
  return events.map((event) => {
    if (event.kind === "entry") return `entry ${event.parent} ${event.name.toString("latin1")}`;
    if (event.kind === "snapshot") return `snapshot ${event.name.toString("latin1")}`;
    return `inode ${event.ino}${event.data ? " data" : ""}`;
  });
}

function invalidations(behaviour: Behaviour): void {
  behaviour("creating a name tells of the name and of the directory", async (share) => {
    const events = await told(share, () => share.create("a"));
    expect(events).toContain(`entry ${share.root} a`);
    expect(events.some((event) => event.startsWith(`inode ${share.root}`))).toBe(true);
  });

  behaviour("removing and linking a name tells of the name, the directory and the inode", async (share) => {
    const { ino } = await share.create("a");
    for (const act of [() => share.link(ino, "b"), () => share.unlink("b")]) {
      const events = await told(share, act);
      expect(events).toContain(`entry ${share.root} b`);
      expect(events.some((event) => event.startsWith(`inode ${share.root}`))).toBe(true);
      expect(events.some((event) => event.startsWith(`inode ${ino}`))).toBe(true);
    }
  });

  behaviour("rename tells of both names, both directories, the moved and the replaced inode", async (share) => {
    const [moved, replaced] = [await share.create("a"), await share.create("b")];
    await share.link(replaced.ino, "c");
    const directory = await share.mkdir("d");
    const over = await told(share, () => share.rename("a", "b"));
    for (const event of [`entry ${share.root} a`, `entry ${share.root} b`]) expect(over).toContain(event);
    for (const ino of [moved.ino, replaced.ino])
      expect(over.some((event) => event.startsWith(`inode ${ino}`))).toBe(true);
    const away = await told(share, () => share.rename("b", "x", { newParent: directory.ino }));
    for (const event of [`entry ${share.root} b`, `entry ${directory.ino} x`]) expect(away).toContain(event);
    for (const ino of [share.root, directory.ino])
      expect(away.some((event) => event.startsWith(`inode ${ino}`))).toBe(true);
    await share.create("y");
    const exchanged = await told(share, () => share.rename("y", "c", { flags: RENAME_EXCHANGE }));
    for (const event of [`entry ${share.root} y`, `entry ${share.root} c`]) expect(exchanged).toContain(event);
  });
}

function contentInvalidations(behaviour: Behaviour): void {
  behaviour("changing content tells of the data, changing attributes of the inode", async (share) => {
    const { ino } = await share.create("a");
    const other = await share.create("b");
    expect(await told(share, () => share.write(ino, "content"))).toContain(`inode ${ino} data`);
    expect(await told(share, () => share.set(ino, { size: 3n }))).toContain(`inode ${ino} data`);
    expect(await told(share, () => share.fallocate(ino, 3, 0n, 2n))).toContain(`inode ${ino} data`);
    const copy = {
      op: "copyRange",
      source: ino,
      sourceOffset: 0n,
      target: other.ino,
      targetOffset: 0n,
      length: 3n,
      sourceAt: LIVE,
    } as const;
    expect(await told(share, () => share.do(copy))).toContain(`inode ${other.ino} data`);
    for (const act of [
      () => share.set(ino, { mode: 0 }),
      () => share.setxattr(ino, "user.a", "x"),
      () => share.removexattr(ino, "user.a"),
    ]) {
      expect((await told(share, act)).some((event) => event.startsWith(`inode ${ino}`))).toBe(true);
    }
  });

  behaviour(
    "reading and failing tell nothing, and neither does anything after the subscription ended",
    async (share) => {
      const { ino } = await share.create("a");
      const events = await told(share, async () => {
        await share.text(ino);
        await share.names();
        await share.refusal({ op: "rmdir", parent: share.root, name: bytes("a") });
      });
      expect(events).toEqual([]);
      const late: Invalidation[] = [];
      share.harness.api.subscribe((event) => late.push(event))();
      await share.write(ino, "x");
      expect(late).toEqual([]);
    },
  );
}

function records(behaviour: Behaviour): void {
  behaviour("everything acknowledged is there after a crash, and the LSN goes on from there", async (share) => {
    const { ino } = await share.create("a");
    for (let count = 0; count < 20; count++) await share.write(ino, `${count};`, BigInt(count * 3));
    const [before, text] = [share.lsn, await share.text(ino)];
    await share.reopen();
    expect([share.lsn, await share.text(ino)]).toEqual([before, text]);
    await share.create("b");
    expect(share.lsn).toBe(before + 1);
  });

  behaviour("a request that fails leaves no record and no trace", async (share) => {
    await share.mkdir("d");
    const [before, root] = [share.lsn, await share.stat(share.root)];
    await share.refusal({ op: "mkdir", parent: share.root, name: bytes("d"), mode: 0o755, umask: 0 });
    await share.refusal({ op: "unlink", parent: share.root, name: bytes("d") });
    expect([share.lsn, await share.stat(share.root)]).toEqual([before, root]);
  });
}
