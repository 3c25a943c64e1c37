import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { ManualClock } from "../../../test/model/manual-clock.ts";
import { silentLog } from "../../base/log.ts";
import type { AppId, InodeId, MountId, ShareId } from "../../domain/ids.ts";
import { LIVE } from "../../domain/ids.ts";
import type { Inode } from "../../domain/inode.ts";
import type { RequestContext, WriteRequest } from "../../domain/metadata-api.ts";
import type { SharePath } from "../../domain/share-path.ts";
import type { JournalLimits } from "../../journal/limits.ts";
import { MemoryKv } from "../../kv/memory-kv.ts";
import { OpenApp, SERVICE_CONTEXT } from "../open-app.ts";
import { createShare, type ShareRow } from "../shares.ts";
import type { Apps, ReadingParts } from "./apps.ts";
import { SystemTurns } from "./turns.ts";

/** For tests: one or more apps over a memory KV and real journals in a folder of their own, with a clock that stands still until it is stepped. */
export class TestApps implements Apps {
  readonly clock = new ManualClock();
  readonly kv = new MemoryKv();
  readonly folder: string;
  readonly #apps = new Map<string, TestApp>();
  readonly #limits: Partial<JournalLimits>;

  private constructor(folder: string, limits: Partial<JournalLimits>) {
    this.folder = folder;
    this.#limits = limits;
  }

  static async open(limits: Partial<JournalLimits> = {}): Promise<TestApps> {
    return new TestApps(await mkdtemp(path.join(tmpdir(), "tidemark-reading-")), limits);
  }

  get parts(): ReadingParts {
    return { apps: this, clock: this.clock, log: silentLog, turns: new SystemTurns() };
  }

  /** Opens an app, or opens it again as after a crash. */
  async app(name: string): Promise<TestApp> {
    const slot = [...name].reduce((sum, char) => sum * 31 + char.charCodeAt(0), 7) % 65_536;
    const appId = slot.toString(16).padStart(32, "1") as AppId;
    const app = await OpenApp.open({
      appId,
      slot,
      folder: path.join(this.folder, name),
      kv: this.kv,
      clock: this.clock,
      log: silentLog,
      diskSpace: () => ({ totalBytes: 2n ** 40n, freeBytes: 2n ** 39n }),
      journalLimits: this.#limits,
    });
    const opened = new TestApp(name, app, this.clock);
    this.#apps.set(name, opened);
    return opened;
  }

  find(ref: { name: string }): OpenApp {
    const found = this.#apps.get(ref.name);
    if (found === undefined) throw new Error(`no test app ${ref.name}`);
    return found.app;
  }

  nameOf(id: AppId): { namespace: string; name: string } {
    for (const { name, app } of this.#apps.values()) if (app.id === id) return { namespace: "default", name };
    throw new Error(`no test app ${id}`);
  }

  async close(): Promise<void> {
    for (const { app } of this.#apps.values()) await app.close();
    await this.kv.close();
    await rm(this.folder, { recursive: true, force: true });
  }
}

const UMASK = 0;

/** One app, driven by paths. */
export class TestApp {
  readonly name: string;
  readonly app: OpenApp;
  readonly clock: ManualClock;
  /** Who the next changes are by. */
  context: RequestContext = {
    ...SERVICE_CONTEXT,
    actor: { ...SERVICE_CONTEXT.actor, mountId: 1 as MountId, pid: 100, label: "" },
  };

  constructor(name: string, app: OpenApp, clock: ManualClock) {
    this.name = name;
    this.app = app;
    this.clock = clock;
  }

  share(name: string): ShareRow {
    const id = Buffer.from(name.padEnd(16, "_")).subarray(0, 16).toString("hex") as ShareId;
    return createShare(this.app.core, { id, name, views: "root" }, SERVICE_CONTEXT);
  }

  /** `share/path` of this app. */
  path(text: string): SharePath {
    const [share, ...rest] = text.split("/");
    const app = { namespace: "default", name: this.name };
    if (share === undefined || share === "") return { app, path: Buffer.alloc(0) };
    return { app, share: { name: share }, path: Buffer.from(rest.join("/"), "latin1") };
  }

  /** Runs a mutation that must not wait, a millisecond after the one before. */
  run<R extends WriteRequest>(request: R): ReturnType<OpenApp["engine"]["execute"]> {
    this.clock.step(1_000_000);
    return this.app.engine.execute(request, this.context);
  }

  /** Everything durable and applied: mutations are answered at once again. */
  async settle(): Promise<void> {
    await this.app.journal.sync(this.app.core.lastLsn);
    await this.app.applier.reached(this.app.core.lastLsn);
  }

  at(root: InodeId, file: string): Inode {
    let inode = this.app.core.inode(root) as Inode;
    for (const name of file.split("/").filter((part) => part !== "")) {
      const request = { op: "lookup", parent: inode.ino, name: Buffer.from(name, "latin1"), at: LIVE } as const;
      inode = this.app.engine.execute(request, this.context) as Inode;
    }
    return inode;
  }

  #place(root: InodeId, file: string): { parent: InodeId; name: Buffer } {
    const slash = file.lastIndexOf("/");
    return {
      parent: this.at(root, file.slice(0, Math.max(0, slash))).ino,
      name: Buffer.from(file.slice(slash + 1), "latin1"),
    };
  }

  mkdir(root: InodeId, file: string): Inode {
    return this.run({ op: "mkdir", ...this.#place(root, file), mode: 0o755, umask: UMASK }) as unknown as Inode;
  }

  create(root: InodeId, file: string): Inode {
    return this.run({
      op: "create",
      ...this.#place(root, file),
      mode: 0o644,
      umask: UMASK,
      exclusive: false,
      truncate: false,
    }) as unknown as Inode;
  }

  write(root: InodeId, file: string, text: string | Buffer, offset = 0n): void {
    this.run({ op: "write", ino: this.at(root, file).ino, offset, data: Buffer.from(text), killPrivileges: false });
  }

  /** Makes or changes a file as a shell's `>` does. */
  put(root: InodeId, file: string, text: string | Buffer): Inode {
    const made = this.run({
      op: "create",
      ...this.#place(root, file),
      mode: 0o644,
      umask: UMASK,
      exclusive: false,
      truncate: true,
    }) as unknown as Inode;
    this.write(root, file, text);
    return made;
  }

  rename(root: InodeId, from: string, to: string, flags = 0): void {
    const source = this.#place(root, from);
    const target = this.#place(root, to);
    this.run({ op: "rename", ...source, newParent: target.parent, newName: target.name, flags });
  }

  link(root: InodeId, from: string, to: string): void {
    this.run({ op: "link", ino: this.at(root, from).ino, ...this.#place(root, to) });
  }

  unlink(root: InodeId, file: string): void {
    this.run({ op: "unlink", ...this.#place(root, file) });
  }

  rmdir(root: InodeId, file: string): void {
    this.run({ op: "rmdir", ...this.#place(root, file) });
  }

  setattr(root: InodeId, file: string, set: (WriteRequest & { op: "setattr" })["set"]): void {
    this.run({ op: "setattr", ino: this.at(root, file).ino, set });
  }
}

/** All items of a paged result. */
export async function all<T>(pages: AsyncIterable<readonly T[]>): Promise<T[]> {
  const items: T[] = [];
  for await (const page of pages) items.push(...page);
  return items;
}
