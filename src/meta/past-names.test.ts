import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { Random } from "../../test/model/random.ts";
import type { InodeId, Lsn } from "../domain/ids.ts";
import type { DirectoryEntry, ReplyMap } from "../domain/metadata-api.ts";
import { type TestApp, TestApps } from "./reading/test-app.ts";

const SEED = Number(process.env["SEED"] ?? Math.floor(Math.random() * 2 ** 32));

/** A name and when the directory had it: [since, until). */
type Span = { readonly name: string; readonly ino: number; readonly since: number; until: number };

/** One directory and a plain list of what it ever had. */
class Directory {
  readonly app: TestApp;
  readonly ino: InodeId;
  readonly spans: Span[] = [];

  constructor(app: TestApp, root: InodeId) {
    this.app = app;
    this.ino = app.mkdir(root, "d").ino;
  }

  get here(): Lsn {
    return this.app.app.core.lastLsn;
  }

  get live(): Span[] {
    return this.spans.filter(({ until }) => until === Number.POSITIVE_INFINITY);
  }

  create(name: string): void {
    const request = { op: "create", mode: 0o644, umask: 0, exclusive: true, truncate: false } as const;
    const { ino } = this.app.run({ ...request, parent: this.ino, name: Buffer.from(name) }) as { ino: InodeId };
    this.#began(name, ino);
  }

  unlink(span: Span): void {
    this.app.run({ op: "unlink", parent: this.ino, name: Buffer.from(span.name) });
    span.until = this.here;
  }

  rename(from: Span, newName: string): void {
    const target = this.live.find(({ name }) => name === newName);
    if (target === from) return;
    const [name, to] = [Buffer.from(from.name), Buffer.from(newName)];
    this.app.run({ op: "rename", parent: this.ino, name, newParent: this.ino, newName: to, flags: 0 });
    if (target !== undefined) target.until = this.here;
    from.until = this.here;
    this.#began(newName, from.ino);
  }

  #began(name: string, ino: number): void {
    this.spans.push({ name, ino, since: this.here, until: Number.POSITIVE_INFINITY });
  }

  change(random: Random): void {
    const { live } = this;
    const name = `name-${random.below(60)}`;
    const isThere = live.some((span) => span.name === name);
    const kind = live.length === 0 ? 2 : random.below(3);
    if (kind === 0) this.unlink(random.pick(live));
    else if (kind === 1) this.rename(random.pick(live), name);
    else if (!isThere) this.create(name);
  }

  at(at: number): string[] {
    return this.spans
      .filter(({ since, until }) => since <= at && at < until)
      .map(({ name, ino }) => `${name} ${ino}`)
      .sort();
  }

  page(at: Lsn, cookie: bigint, entriesMax: number, plus = false): Promise<ReplyMap["readdir"]> | ReplyMap["readdir"] {
    const request = { op: "readdir", ino: this.ino, cookie, entriesMax, plus, at } as const;
    return this.app.app.engine.execute(request, this.app.context);
  }

  /** All entries, page by page; `between` runs after each. */
  async list(at: Lsn, entriesMax: () => number, between: () => unknown = () => {}): Promise<DirectoryEntry[]> {
    const found: DirectoryEntry[] = [];
    for (let cookie = 0n; ; ) {
      const { entries, end } = await this.page(at, cookie, entriesMax());
      found.push(...entries);
      if (end) return found;
      cookie = entries.at(-1)?.cookie ?? cookie;
      await between();
    }
  }
}

const shown = (entries: readonly DirectoryEntry[]): string[] =>
  entries.map(({ name, ino }) => `${name.toString()} ${ino}`).sort();

let apps: TestApps;
let app: TestApp;
let directory: Directory;

beforeEach(async () => {
  apps = await TestApps.open();
  app = await apps.app("shop");
  directory = new Directory(app, app.share("files").root);
});

afterEach(async () => {
  vi.restoreAllMocks();
  await apps.close();
});

/** From here on every look at the clock says that the turn is over. */
function hurry(): void {
  let ms = 0;
  vi.spyOn(app.clock, "monotonicMs").mockImplementation(() => {
    ms += 1000;
    return ms;
  });
}

describe("a directory as of a moment", () => {
  test.each([
    ["with the dead in memory", 10_000],
    ["with more dead than are held in memory", 10],
  ])("is what a plain list says, page by page, %s", async (_, namesMax) => {
    console.log(`SEED=${SEED}`);
    const random = new Random(SEED);
    app.app.core.deadLists.namesMax = namesMax;
    for (let step = 0; step < 1500; step++) {
      directory.change(random);
      if (random.oneIn(100)) await app.settle();
    }
    for (let look = 0; look < 150; look++) {
      const at = random.below(directory.here + 1) as Lsn;
      if (app.app.core.findInodeAt(directory.ino, at) === undefined) continue;
      expect(shown(await directory.list(at, () => random.pick([1, 2, 7, 60, 4096])))).toEqual(directory.at(at));
    }
  });

  test.each([
    ["with the dead in memory", 10_000],
    ["with dead that become too many on the way", 1300],
  ])("stays the same while it changes between pages and turns, %s", async (_, namesMax) => {
    console.log(`SEED=${SEED}`);
    const random = new Random(SEED);
    app.app.core.deadLists.namesMax = namesMax;
    for (let index = 0; index < 2000; index++) directory.create(`file-${index}`);
    for (let index = 0; index < 35; index++) directory.unlink(random.pick(directory.live));
    const then = directory.here;
    for (let index = 0; index < 1200; index++) directory.unlink(random.pick(directory.live));
    const wanted = directory.at(then);
    hurry();
    const changes = async (): Promise<void> => {
      directory.change(random);
      if (directory.live.length > 0) directory.unlink(random.pick(directory.live));
      if (random.oneIn(50)) await app.settle();
    };
    const pages = directory.list(then, () => random.pick([3, 50, 300]), changes);
    let isDone = false;
    void pages.finally(() => {
      isDone = true;
    });
    for (; !isDone; await new Promise((resolve) => setImmediate(resolve))) await changes();
    expect(shown(await pages)).toEqual(wanted);
  });

  test("is answered in later turns where much is to be read, and else at once", async () => {
    for (let index = 0; index < 100; index++) directory.create(`file-${index}`);
    const then = directory.here;
    for (const span of directory.live) directory.unlink(span);
    expect(directory.page(then, 0n, 4096)).not.toBeInstanceOf(Promise);
    hurry();
    const page = directory.page(then, 0n, 4096, true);
    expect(page).toBeInstanceOf(Promise);
    const { entries } = await page;
    expect(shown(entries)).toEqual(directory.at(then));
    expect(entries.every(({ ino, inode }) => inode?.ino === ino)).toBe(true);
  });

  test("is answered right to several who ask at once", async () => {
    for (let index = 0; index < 300; index++) directory.create(`file-${index}`);
    const moments: Lsn[] = [];
    for (const span of directory.live) {
      moments.push(directory.here);
      directory.unlink(span);
    }
    hurry();
    const asked = [0, 0, 50, 100, 150, 200, 250, 0].map((index) => moments[index] as Lsn);
    const answers = await Promise.all(asked.map((at) => directory.list(at, () => 40)));
    for (const [index, at] of asked.entries()) expect(shown(answers[index] ?? [])).toEqual(directory.at(at));
  });

  test("fails without harm when the app is closed on the way", async () => {
    for (let index = 0; index < 300; index++) directory.create(`file-${index}`);
    const then = directory.here;
    for (const span of directory.live) directory.unlink(span);
    hurry();
    const page = Promise.resolve(directory.page(then, 0n, 4096));
    const settled = page.then(
      ({ entries }) => entries.length,
      () => "failed",
    );
    await app.app.close();
    await apps.kv.close();
    expect([300, "failed"]).toContain(await settled);
  });
});
