import { expect } from "vitest";
import { type InodeId, LIVE } from "../../src/domain/ids.ts";
import type { DirectoryEntry } from "../../src/domain/metadata-api.ts";
import type { Behaviour, Share } from "./metadata-share.ts";

/** Reads a directory in pages of `entriesMax`; `between` runs after each page. */
async function paged(
  share: Share,
  ino: InodeId,
  how: { readonly entriesMax: number; between?(page: number): Promise<void> },
): Promise<DirectoryEntry[]> {
  const found: DirectoryEntry[] = [];
  for (let cookie = 0n, page = 0; ; page++) {
    const { entries, end } = await share.do({
      op: "readdir",
      ino,
      cookie,
      entriesMax: how.entriesMax,
      plus: false,
      at: LIVE,
    });
    found.push(...entries);
    if (end) return found;
    cookie = entries.at(-1)?.cookie ?? cookie;
    await how.between?.(page);
  }
}

const nameOf = (entry: DirectoryEntry): string => entry.name.toString("latin1");

async function fill(share: Share, count: number): Promise<string[]> {
  const names = Array.from({ length: count }, (_, index) => `file-${index}`);
  for (const name of names) await share.create(name);
  return names.sort();
}

/** Directory listings. */
export function readdirBehaviours(behaviour: Behaviour, manyNames: number): void {
  behaviour("lists many names that have died since a moment, and the few that live", async (share) => {
    const names = await fill(share, manyNames);
    const then = share.lsn;
    for (const name of names.slice(1)) await share.unlink(name);
    for (const entriesMax of [500, manyNames]) {
      expect(await share.names(share.root, { entriesMax })).toEqual(names.slice(0, 1));
      expect(await share.names(share.root, { entriesMax, at: then })).toEqual(names);
    }
    await share.reopen();
    expect(await share.names(share.root, { entriesMax: 3000, at: then })).toEqual(names);
  });

  behaviour("lists every name once, without dot and dot-dot, whatever the page size", async (share) => {
    const names = await fill(share, 57);
    for (const entriesMax of [1, 2, 7, 56, 57, 58, 1000])
      expect(await share.names(share.root, { entriesMax })).toEqual(names);
  });

  behaviour("of an empty directory ends at once", async (share) => {
    const page = await share.do({ op: "readdir", ino: share.root, cookie: 0n, entriesMax: 10, plus: false, at: LIVE });
    expect(page).toEqual({ entries: [], end: true });
  });

  behaviour("of a file is ENOTDIR", async (share) => {
    const { ino } = await share.create("a");
    expect(await share.refusal({ op: "readdir", ino, cookie: 0n, entriesMax: 10, plus: false, at: LIVE })).toBe(
      "ENOTDIR",
    );
  });

  behaviour("of a removed directory is empty, or ENOENT", async (share) => {
    const { ino } = await share.mkdir("d");
    await share.rmdir("d");
    const request = { op: "readdir", ino, cookie: 0n, entriesMax: 10, plus: false, at: LIVE } as const;
    const answer = await share.do(request).then(
      (page) => page.entries.length,
      (error: unknown) => (error as { code?: string }).code,
    );
    expect([0, "ENOENT"]).toContain(answer);
  });

  behaviour("gives number and type of each entry", async (share) => {
    const [file, directory, link] = [await share.create("f"), await share.mkdir("d"), await share.symlink("l", "t")];
    const entries = await paged(share, share.root, { entriesMax: 10 });
    const found = entries.map((entry) => [nameOf(entry), entry.ino, entry.type]).sort();
    expect(found).toEqual([
      ["d", directory.ino, 4],
      ["f", file.ino, 8],
      ["l", link.ino, 10],
    ]);
  });

  behaviour("with plus also gives the attributes that getattr gives", async (share) => {
    const { ino } = await share.create("a");
    await share.write(ino, "content");
    const page = await share.do({ op: "readdir", ino: share.root, cookie: 0n, entriesMax: 10, plus: true, at: LIVE });
    const { size, mode, ctime } = await share.stat(ino);
    expect(page.entries[0]?.inode).toMatchObject({ ino, size, mode, ctime });
  });
  stability(behaviour);
}

function stability(behaviour: Behaviour): void {
  behaviour("goes on after a cookie although the entry it came with is gone", async (share) => {
    const names = await fill(share, 20);
    const seen: string[] = [];
    let cookie = 0n;
    for (let end = false; !end; ) {
      const page = await share.do({ op: "readdir", ino: share.root, cookie, entriesMax: 1, plus: false, at: LIVE });
      for (const entry of page.entries) {
        seen.push(nameOf(entry));
        cookie = entry.cookie;
        await share.unlink(nameOf(entry));
      }
      end = page.end;
    }
    expect([seen.sort(), await share.names()]).toEqual([names, []]);
  });

  behaviour("lists what stays exactly once while other names come and go", async (share) => {
    const names = await fill(share, 40);
    const leaving = names.filter((_, index) => index % 3 === 0);
    const staying = names.filter((_, index) => index % 3 !== 0);
    const between = async (page: number): Promise<void> => {
      const name = leaving[page];
      if (name !== undefined) await share.unlink(name);
      await share.create(`new-${page}`);
    };
    const seen = (await paged(share, share.root, { entriesMax: 3, between })).map(nameOf);
    expect(seen.filter((name) => staying.includes(name)).sort()).toEqual(staying);
    expect(new Set(seen).size).toBe(seen.length);
  });

  behaviour("cookies stay good over a crash", async (share) => {
    const names = await fill(share, 30);
    const between = async (page: number): Promise<void> => {
      if (page === 1) await share.reopen();
      if (page === 2) await share.settle();
    };
    expect((await paged(share, share.root, { entriesMax: 7, between })).map(nameOf).sort()).toEqual(names);
  });

  behaviour("changes no access time and makes no record", async (share) => {
    await fill(share, 3);
    const before = [share.lsn, (await share.stat(share.root)).atime];
    await share.names();
    expect([share.lsn, (await share.stat(share.root)).atime]).toEqual(before);
  });
}
