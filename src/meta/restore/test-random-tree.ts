import type { Random } from "../../../test/model/random.ts";
import { present } from "../../base/assert.ts";
import { FsError } from "../../domain/errors.ts";
import { type InodeId, LIVE } from "../../domain/ids.ts";
import { isDirectory, isRegular } from "../../domain/inode.ts";
import { ACL_ACCESS, ACL_DEFAULT, encodeAcl } from "../acl.ts";
import * as keys from "../keys.ts";
import { xattrsAt } from "../reading/attributes.ts";
import type { TestApp } from "../reading/test-app.ts";
import { decodeDentry } from "../rows.ts";

type Entry = { readonly parent: InodeId; readonly name: Buffer; readonly ino: InodeId };

const WEIGHTS = {
  create: 10,
  write: 14,
  mkdir: 6,
  symlink: 2,
  node: 2,
  link: 5,
  unlink: 8,
  rmdir: 3,
  rename: 12,
  truncate: 4,
  punch: 2,
  attributes: 5,
  xattr: 4,
  acl: 2,
  copy: 2,
};

/** For tests: changes a small tree at random, in every way the engine knows. */
export class RandomTree {
  readonly #app: TestApp;
  readonly #random: Random;
  readonly #roots: readonly InodeId[];

  constructor(app: TestApp, random: Random, roots: readonly InodeId[]) {
    this.#app = app;
    this.#random = random;
    this.#roots = roots;
  }

  /** Makes `count` attempts at a change; some fail, as they may. */
  change(count: number): void {
    for (let index = 0; index < count; index++) {
      try {
        this.#one();
      } catch (error) {
        if (!(error instanceof FsError)) throw error;
      }
    }
  }

  /** A directory of the tree, at random. */
  directory(): InodeId {
    const directories = this.#entries().filter(({ ino }) => isDirectory(this.#app.app.core.inode(ino).mode));
    const all = [...directories.map(({ ino }) => ino), ...this.#roots];
    return this.#random.pick(all);
  }

  /** Paths of all names, and their share's number. */
  paths(): { readonly root: number; readonly path: Buffer }[] {
    const paths: { root: number; path: Buffer }[] = [];
    const walk = (root: number, directory: InodeId, path: Buffer): void => {
      for (const { name, ino } of this.#list(directory)) {
        const child = path.length === 0 ? name : Buffer.concat([path, Buffer.from("/"), name]);
        paths.push({ root, path: child });
        if (isDirectory(this.#app.app.core.inode(ino).mode)) walk(root, ino, child);
      }
    };
    this.#roots.forEach((ino, index) => {
      walk(index, ino, Buffer.alloc(0));
    });
    return paths;
  }

  #list(directory: InodeId): Entry[] {
    const prefix = keys.inoPrefix(keys.TABLE.DENTRY, directory);
    const rows = this.#app.app.store.range({ gte: prefix, lt: keys.prefixEnd(prefix), limit: 10_000 });
    return rows.map((row) => ({
      parent: directory,
      name: Buffer.from(row.key.subarray(14)),
      ino: decodeDentry(row.value).ino,
    }));
  }

  #entries(): Entry[] {
    const entries: Entry[] = [];
    const pending = [...this.#roots];
    for (let directory = pending.pop(); directory !== undefined; directory = pending.pop()) {
      for (const entry of this.#list(directory)) {
        entries.push(entry);
        if (isDirectory(this.#app.app.core.inode(entry.ino).mode)) pending.push(entry.ino);
      }
    }
    return entries;
  }

  #name(): Buffer {
    const random = this.#random;
    if (random.oneIn(8)) return Buffer.from([0xff, 0x80 + random.below(4), 0x0a]);
    if (random.oneIn(20)) return Buffer.alloc(255, 0x61 + random.below(3));
    return Buffer.from(`n${random.below(6)}`);
  }

  #entry(wanted: (ino: InodeId) => boolean = () => true): Entry {
    const entries = this.#entries().filter(({ ino }) => wanted(ino));
    if (entries.length === 0) throw FsError.of("ENOENT");
    return this.#random.pick(entries);
  }

  #file(): InodeId {
    return this.#entry((ino) => isRegular(this.#app.app.core.inode(ino).mode)).ino;
  }

  #offset(): bigint {
    const random = this.#random;
    if (random.oneIn(6)) return BigInt(random.below(4)) * 64n * 1024n * 1024n;
    return BigInt(random.below(20_000));
  }

  #one(): void {
    const random = this.#random;
    const app = this.#app;
    if (random.oneIn(5)) app.clock.step(random.below(2_000_000_000));
    const place = (): { parent: InodeId; name: Buffer } => ({ parent: this.directory(), name: this.#name() });
    const kind = random.weighted(WEIGHTS);
    switch (kind) {
      case "create":
        app.run({
          op: "create",
          ...place(),
          mode: 0o600 + random.below(0o100),
          umask: 0o022,
          exclusive: false,
          truncate: random.oneIn(4),
        });
        return;
      case "write":
        app.run({
          op: "write",
          ino: this.#file(),
          offset: this.#offset(),
          data: random.bytes(1 + random.below(3000)),
          killPrivileges: false,
        });
        return;
      case "mkdir":
        app.run({ op: "mkdir", ...place(), mode: 0o700 + random.below(0o100), umask: 0 });
        return;
      case "symlink":
        app.run({ op: "symlink", ...place(), target: Buffer.from(`to/${random.below(100)}`) });
        return;
      case "node":
        app.run({
          op: "mknod",
          ...place(),
          mode: random.pick([0o010644, 0o020600, 0o060600, 0o140644]),
          umask: 0,
          rdev: random.below(1000),
        });
        return;
      case "link": {
        const { ino, parent } = this.#entry((entry) => !isDirectory(app.app.core.inode(entry).mode));
        const to = place();
        // Links, as renames, stay in their share, as mounts have it.
        if (this.#rootOf(parent) === this.#rootOf(to.parent)) app.run({ op: "link", ino, ...to });
        return;
      }
      case "unlink": {
        const { parent, name } = this.#entry();
        app.run({ op: "unlink", parent, name });
        return;
      }
      case "rmdir": {
        const { parent, name } = this.#entry((ino) => isDirectory(app.app.core.inode(ino).mode));
        app.run({ op: "rmdir", parent, name });
        return;
      }
      case "rename":
        this.#rename();
        return;
      default:
        this.#changeInode(kind);
    }
  }

  #rename(): void {
    const random = this.#random;
    const { parent, name } = this.#entry();
    const onto = random.oneIn(3) ? this.#entry() : { parent: this.directory(), name: this.#name() };
    if (this.#rootOf(parent) !== this.#rootOf(onto.parent)) return;
    this.#app.run({
      op: "rename",
      parent,
      name,
      newParent: onto.parent,
      newName: onto.name,
      flags: random.oneIn(4) ? 2 : 0,
    });
  }

  #rootOf(ino: InodeId): InodeId {
    const { parent } = this.#app.app.core.inode(ino);
    return parent === ino || parent === 0 ? ino : this.#rootOf(parent);
  }

  #changeInode(kind: "truncate" | "punch" | "attributes" | "xattr" | "acl" | "copy"): void {
    const random = this.#random;
    const app = this.#app;
    switch (kind) {
      case "truncate":
        app.run({ op: "setattr", ino: this.#file(), set: { size: random.oneIn(3) ? 0n : this.#offset() } });
        return;
      case "punch":
        app.run({
          op: "fallocate",
          ino: this.#file(),
          mode: 3,
          offset: this.#offset(),
          length: BigInt(1 + random.below(5000)),
        });
        return;
      case "attributes":
        this.#setAttributes();
        return;
      case "xattr":
        this.#setXattr();
        return;
      case "acl":
        this.#setAcl();
        return;
      case "copy":
        app.run({
          op: "copyRange",
          source: this.#file(),
          sourceOffset: 0n,
          target: this.#file(),
          targetOffset: this.#offset(),
          length: BigInt(random.below(9000)),
          sourceAt: LIVE,
        });
    }
  }

  #setAttributes(): void {
    const random = this.#random;
    const { ino } = this.#entry();
    const time = { sec: random.below(2_000_000_000) - 1000, nsec: random.below(1_000_000_000) };
    const set = random.pick([
      { mode: random.below(0o10000) },
      { uid: random.below(3), gid: random.below(3) },
      { atime: time, mtime: time },
      { mtime: time },
    ]);
    this.#app.run({ op: "setattr", ino, set });
  }

  #setXattr(): void {
    const random = this.#random;
    const { ino } = this.#entry();
    const row = this.#app.app.core.inode(ino);
    const existing = xattrsAt(this.#app.app.core, row, this.#app.app.core.lastLsn);
    if (existing.length > 0 && random.oneIn(3)) {
      this.#app.run({ op: "removexattr", ino, name: present(random.pick(existing), "xattr").name });
      return;
    }
    const name = Buffer.from(`${random.pick(["user", "trusted", "security"])}.${random.below(4)}`);
    this.#app.run({ op: "setxattr", ino, name, value: random.bytes(random.below(40)), flags: 0, killSgid: false });
  }

  #setAcl(): void {
    const random = this.#random;
    const { ino } = this.#entry();
    const bits = (): number => random.below(8);
    const value = encodeAcl([
      { tag: 1, permissions: bits(), id: 0xffff_ffff },
      { tag: 2, permissions: bits(), id: random.below(3) },
      { tag: 4, permissions: bits(), id: 0xffff_ffff },
      { tag: 16, permissions: bits(), id: 0xffff_ffff },
      { tag: 32, permissions: bits(), id: 0xffff_ffff },
    ]);
    const name = random.oneIn(3) ? ACL_DEFAULT : ACL_ACCESS;
    this.#app.run({ op: "setxattr", ino, name, value, flags: 0, killSgid: false });
  }
}
