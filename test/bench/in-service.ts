/**
 * Measures inside the service, without a kernel: `node test/bench/in-service.ts [--dead N] [--changes N] [--rm N]`.
 *
 *   ls       `ls --at` of a directory with 10,000 names at any moment and N dead ones: before, among and after the deaths
 *   view     the same through readdir, in pages as the kernel asks, with the longest time that one page kept the loop
 *   history  of one file among N changes
 *   rm       unlinking 10,000 files, rounds of it, with the bytes that each leaves in the journal
 *
 * "first" is with the app opened again, so that nothing of it is in the engine's memory; "again" is the call after it.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { SystemClock } from "../../src/base/clock.ts";
import { silentLog } from "../../src/base/log.ts";
import type { AppId, InodeId, Lsn, ShareId } from "../../src/domain/ids.ts";
import type { Inode } from "../../src/domain/inode.ts";
import type { ReplyOf, Request } from "../../src/domain/metadata-api.ts";
import type { SharePath } from "../../src/domain/share-path.ts";
import { RocksKv } from "../../src/kv/rocks-kv.ts";
import { OpenApp, SERVICE_CONTEXT } from "../../src/meta/open-app.ts";
import { History } from "../../src/meta/reading/history.ts";
import { Reading } from "../../src/meta/reading/reading.ts";
import { SystemTurns } from "../../src/meta/reading/turns.ts";
import { createShare } from "../../src/meta/shares.ts";
import { median } from "./statistics.ts";

/** Names that are there at any moment: half of them for ever, the others for a while. */
const LIVE_NAMES = 10_000;

/** Changes between two waits for the applier. */
const CHANGES_PER_WAIT = 5000;

/** What readdirplus of the kernel asks for at a time with its 128 KiB buffers. */
const VIEW_PAGE_ENTRIES = 680;

const { values } = parseArgs({
  options: {
    dead: { type: "string", default: "1000000" },
    changes: { type: "string", default: "1000000" },
    rm: { type: "string", default: "7" },
  },
});

class Bench {
  readonly #folder = mkdtempSync(join(tmpdir(), "tidemark-in-service-"));
  readonly #clock = new SystemClock();
  #kv: RocksKv | undefined;
  #app: OpenApp | undefined;
  #root = 0 as InodeId;
  #changes = 0;

  get app(): OpenApp {
    if (this.#app === undefined) throw new Error("not open");
    return this.#app;
  }

  get root(): InodeId {
    return this.#root;
  }

  get reading(): ConstructorParameters<typeof Reading>[0] {
    const apps = { find: () => this.app, nameOf: () => ({ namespace: "default", name: "bench" }) };
    return { apps, clock: this.#clock, log: silentLog, turns: new SystemTurns() };
  }

  async open(): Promise<void> {
    const missing = this.#kv === undefined && this.#root === 0 ? "create" : "fail";
    this.#kv = await RocksKv.open({ directory: join(this.#folder, "kv"), missing });
    this.#app = await OpenApp.open({
      appId: "0123456789abcdef0123456789abcdef" as AppId,
      slot: 1,
      folder: join(this.#folder, "journal"),
      kv: this.#kv,
      clock: this.#clock,
      log: silentLog,
      diskSpace: () => ({ totalBytes: 2n ** 40n, freeBytes: 2n ** 39n }),
    });
    if (this.#root !== 0) return;
    const id = "fedcba9876543210fedcba9876543210" as ShareId;
    this.#root = createShare(this.app.core, { id, name: "files", views: "root" }, SERVICE_CONTEXT).root;
  }

  async reopen(): Promise<void> {
    await this.#shut();
    await this.open();
  }

  async close(): Promise<void> {
    await this.#shut();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async #shut(): Promise<void> {
    await this.#app?.close();
    await this.#kv?.close();
    this.#app = undefined;
  }

  /** One request that does not wait. */
  run<R extends Request>(request: R): ReplyOf<R> {
    const answer = this.app.engine.execute(request, SERVICE_CONTEXT);
    if (answer instanceof Promise) throw new Error(`${request.op} had to wait`);
    return answer;
  }

  /** A change; now and then the applier gets its time. */
  async change<R extends Request>(request: R): Promise<ReplyOf<R>> {
    if (++this.#changes % CHANGES_PER_WAIT === 0) await this.settle();
    return this.run(request);
  }

  async settle(): Promise<void> {
    await this.app.journal.sync(this.app.core.lastLsn);
    await this.app.applier.reached(this.app.core.lastLsn);
  }

  async mkdir(name: string): Promise<InodeId> {
    const made = await this.change({ op: "mkdir", parent: this.#root, name: Buffer.from(name), mode: 0o755, umask: 0 });
    return made.ino;
  }

  create(parent: InodeId, name: string): Promise<Inode> {
    const request = { op: "create", mode: 0o644, umask: 0, exclusive: true, truncate: false } as const;
    return this.change({ ...request, parent, name: Buffer.from(name) });
  }

  unlink(parent: InodeId, name: string): Promise<undefined> {
    return this.change({ op: "unlink", parent, name: Buffer.from(name) });
  }
}

function pathOf(text: string): SharePath {
  return { app: { namespace: "default", name: "bench" }, share: { name: "files" }, path: Buffer.from(text) };
}

function print(...columns: readonly (string | number)[]): void {
  console.log(columns.map((column) => String(column).padEnd(36)).join(" "));
}

const inMs = (ms: number): string => `${ms.toFixed(1)} ms`;

/** Starts a stopwatch: the answer tells the time since, and how much of it this thread was at work. On a busy machine the second is what counts. */
function stopwatch(): () => string {
  const sinceMs = performance.now();
  const before = process.threadCpuUsage();
  return () => {
    const { user, system } = process.threadCpuUsage(before);
    return `${inMs(performance.now() - sinceMs)}, CPU ${inMs((user + system) / 1000)}`;
  };
}

/** Fills a directory; answers the moments to look at. */
async function makeDeaths(bench: Bench, dead: number): Promise<{ directory: InodeId; moments: [string, Lsn][] }> {
  const directory = await bench.mkdir("d");
  const here = (): Lsn => bench.app.core.lastLsn;
  for (let index = 0; index < LIVE_NAMES / 2; index++) await bench.create(directory, `stays-${index}`);
  for (let index = 0; index < LIVE_NAMES / 2; index++) await bench.create(directory, `spool-${index}`);
  const moments: [string, Lsn][] = [["before all deaths", here()]];
  // Half of the dead were there for a moment only, as temporary files are, the others for as long as thousands of others.
  for (let index = 0; index < dead / 2; index++) {
    await bench.create(directory, `temporary-${index}`);
    await bench.unlink(directory, `temporary-${index}`);
    if (index === Math.floor(dead / 4)) moments.push(["among those of temporary files", here()]);
  }
  for (let index = 0; index < dead / 2; index++) {
    await bench.create(directory, `spool-${index + LIVE_NAMES / 2}`);
    await bench.unlink(directory, `spool-${index}`);
    if (index === Math.floor(dead / 4)) moments.push(["among those of a spool", here()]);
  }
  moments.push(["after all deaths", here()]);
  await bench.settle();
  return { directory, moments };
}

async function timedList(bench: Bench, at: Lsn): Promise<string> {
  const elapsed = stopwatch();
  let count = 0;
  for await (const page of new Reading(bench.reading).list({ path: pathOf("d"), at: { kind: "lsn", lsn: at } }))
    count += page.length;
  return `${elapsed()} (${count})`;
}

/** Through readdir in pages, with `plus`: the whole time, and the longest that the loop was not free. */
async function timedView(bench: Bench, directory: InodeId, at: Lsn, plus: boolean): Promise<string> {
  const elapsed = stopwatch();
  let longestMs = 0;
  let turnMs = performance.now();
  const turn = (): void => {
    longestMs = Math.max(longestMs, performance.now() - turnMs);
    turnMs = performance.now();
    timer = setImmediate(turn);
  };
  let timer = setImmediate(turn);
  let count = 0;
  for (let cookie = 0n, end = false; !end; ) {
    const request = { op: "readdir", ino: directory, cookie, entriesMax: VIEW_PAGE_ENTRIES, plus, at } as const;
    const page = await bench.app.engine.execute(request, SERVICE_CONTEXT);
    count += page.entries.length;
    cookie = page.entries.at(-1)?.cookie ?? cookie;
    end = page.end;
    await new Promise((resolve) => setImmediate(resolve));
  }
  clearImmediate(timer);
  return `${elapsed()}, turn ${inMs(longestMs)} (${count})`;
}

async function measureListings(bench: Bench, dead: number): Promise<void> {
  const { directory, moments } = await makeDeaths(bench, dead);
  print(`ls --at, ${dead} dead names`, "first", "again");
  for (const [what, at] of moments) {
    await bench.reopen();
    print(`  ${what}`, await timedList(bench, at), await timedList(bench, at));
  }
  print("view: whole listing, longest turn", "first", "again", "plus");
  for (const [what, at] of moments) {
    await bench.reopen();
    print(
      `  ${what}`,
      await timedView(bench, directory, at, false),
      await timedView(bench, directory, at, false),
      await timedView(bench, directory, at, true),
    );
  }
}

async function measureHistory(bench: Bench, changes: number): Promise<void> {
  const directory = await bench.mkdir("h");
  const wanted = await bench.create(directory, "wanted");
  const others: Inode[] = [];
  for (let index = 0; index < changes; index++) {
    const isOther = index % Math.ceil(changes / 100) !== 0;
    if (isOther && others.length < 20_000) others.push(await bench.create(directory, `other-${index}`));
    else {
      const { ino } = isOther ? (others[index % others.length] ?? wanted) : wanted;
      const data = Buffer.from(`change ${index}`);
      await bench.change({ op: "write", ino, offset: BigInt(index % 1000), data, killPrivileges: false });
    }
  }
  await bench.settle();
  await bench.reopen();
  const times: string[] = [];
  for (let call = 0; call < 3; call++) {
    const elapsed = stopwatch();
    let count = 0;
    for await (const page of new History(bench.reading).history({ path: pathOf("h/wanted") })) count += page.length;
    times.push(`${elapsed()} (${count})`);
  }
  print(`history of one file, ${changes} changes`, ...times);
}

async function measureRemoval(bench: Bench, rounds: number): Promise<void> {
  const perFileUs: number[] = [];
  const appliedUs: number[] = [];
  let bytes = 0;
  for (let round = 0; round < rounds; round++) {
    const directory = await bench.mkdir(`rm-${round}`);
    for (let index = 0; index < 10_000; index++) {
      const { ino } = await bench.create(directory, `file-${index}.txt`);
      await bench.change({ op: "write", ino, offset: 0n, data: Buffer.alloc(64, index), killPrivileges: false });
    }
    await bench.settle();
    const bytesBefore = journalBytes(bench);
    const sinceMs = performance.now();
    const cpu = process.cpuUsage();
    for (let index = 0; index < 10_000; index++)
      bench.run({ op: "unlink", parent: directory, name: Buffer.from(`file-${index}.txt`) });
    perFileUs.push((performance.now() - sinceMs) / 10);
    await bench.settle();
    const used = process.cpuUsage(cpu);
    appliedUs.push((used.user + used.system) / 10_000);
    bytes = (journalBytes(bench) - bytesBefore) / 10_000;
  }
  print("unlink, each", `${median(perFileUs).toFixed(2)} us`, `${Math.min(...perFileUs).toFixed(2)} us best`);
  print("  with applying, CPU", `${median(appliedUs).toFixed(2)} us`, `${Math.min(...appliedUs).toFixed(2)} us best`);
  print("  in the journal", `${bytes.toFixed(0)} B`);
}

function journalBytes(bench: Bench): number {
  return bench.app.journal.segments().reduce((sum, segment) => sum + segment.bytes, 0);
}

const bench = new Bench();
try {
  await bench.open();
  if (Number(values.rm) > 0) await measureRemoval(bench, Number(values.rm));
  if (Number(values.dead) > 0) await measureListings(bench, Number(values.dead));
  if (Number(values.changes) > 0) await measureHistory(bench, Number(values.changes));
} finally {
  await bench.close();
}
