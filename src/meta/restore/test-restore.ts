import { crc32 } from "node:zlib";
import { expect } from "vitest";
import type { PlanAction, PlanSummary, RestoreRequest, RestoreResult } from "../../domain/admin-restore.ts";
import type { Lsn } from "../../domain/ids.ts";
import { isDirectory, isRegular } from "../../domain/inode.ts";
import type { OpenApp } from "../open-app.ts";
import { xattrsAt } from "../reading/attributes.ts";
import { contentPieces } from "../reading/content-stream.ts";
import { directoryNames } from "../reading/directory-names.ts";
import { joinPath } from "../reading/paths.ts";
import type { TestApps } from "../reading/test-app.ts";
import { Work } from "../reading/work.ts";
import type { InodeRow } from "../rows.ts";
import { sharesAt } from "../shares.ts";
import { Restores } from "./restores.ts";

/** For tests: restores with ids that count up. */
export function restoresOf(apps: TestApps): Restores {
  let count = 0;
  return new Restores({ ...apps.parts, newId: () => (++count).toString(16).padStart(32, "0") });
}

export async function planOf(
  restores: Restores,
  request: RestoreRequest,
): Promise<{ actions: PlanAction[]; summary: PlanSummary }> {
  const actions: PlanAction[] = [];
  for await (const item of restores.plan(request)) {
    if (item.kind === "summary") return { actions, summary: item.summary };
    actions.push(...item.actions);
  }
  throw new Error("a plan without a summary");
}

export async function executeAll(restores: Restores, request: RestoreRequest): Promise<RestoreResult> {
  for await (const progress of restores.execute(request)) if (progress.kind === "done") return progress.result;
  throw new Error("a restore without a result");
}

/** An action in a line: `change a/b (content times)`. */
export function line(action: PlanAction): string {
  const parts = action.parts.length === 0 ? "" : ` (${action.parts.join(" ")})`;
  const others =
    action.otherNames.length === 0 ? "" : ` + ${action.otherNames.map((name) => name.toString("latin1")).join(", ")}`;
  return `${action.kind} ${action.path.toString("latin1")}${parts}${others}`;
}

/** What a tree is, but for change times, and inode numbers (which hard links show as the first name of the file). */
export async function describeTree(
  apps: TestApps,
  app: OpenApp,
  place: { share: string; path?: string; at?: Lsn },
): Promise<Map<string, string>> {
  const { core } = app;
  const at = place.at ?? core.lastLsn;
  const share = sharesAt(core, at).find((row) => row.name === place.share);
  if (share === undefined) throw new Error(`no share ${place.share}`);
  let root = core.inodeAt(share.root, at);
  for (const name of (place.path ?? "").split("/").filter((part) => part !== "")) {
    const dentry = core.dentry(root.ino, Buffer.from(name, "latin1"), at);
    if (dentry === undefined) return new Map();
    root = core.inodeAt(dentry.ino, at);
  }
  const tree = new Map<string, string>();
  const firstNames = new Map<number, string>();
  const work = new Work(apps.parts);
  const walk = async (path: Buffer, row: InodeRow): Promise<void> => {
    const key = path.toString("latin1");
    const first = firstNames.get(row.ino) ?? key;
    firstNames.set(row.ino, first);
    tree.set(key, `${await describe(app, row, at, work)} = ${isDirectory(row.mode) ? "" : first}`);
    if (!isDirectory(row.mode)) return;
    const names: { name: Buffer; ino: number }[] = [];
    for await (const batch of directoryNames(core, row, at, work)) names.push(...batch);
    expect(BigInt(names.length), `size of ${key}`).toBe(row.size);
    names.sort((left, right) => Buffer.compare(left.name, right.name));
    let directories = 0;
    for (const { name, ino } of names) {
      const child = core.inodeAt(ino, at);
      if (isDirectory(child.mode)) {
        directories++;
        expect(child.parent).toBe(row.ino);
      }
      await walk(joinPath(path, name), child);
    }
    expect(row.nlink, `links of ${key}`).toBe(2 + directories);
  };
  await walk(Buffer.alloc(0), root);
  return tree;
}

/** Asserts that two trees are equal; the message has only what differs. */
export function expectSameTree(actual: Map<string, string>, expected: Map<string, string>): void {
  const paths = [...new Set([...actual.keys(), ...expected.keys()])].filter(
    (path) => actual.get(path) !== expected.get(path),
  );
  expect(paths.map((path) => `${path}: ${actual.get(path)}`)).toEqual(
    paths.map((path) => `${path}: ${expected.get(path)}`),
  );
}

async function describe(app: OpenApp, row: InodeRow, at: Lsn, work: Work): Promise<string> {
  const { mode, uid, gid, rdev, size, atime, mtime, btime, target, nlink, allocatedBytes } = row;
  const xattrs = xattrsAt(app.core, row, at).map(({ name, value }) => `${name}=${value.toString("hex")}`);
  const pieces: string[] = [];
  if (isRegular(mode)) {
    for await (const { offset, bytes } of contentPieces(app.core, row, at, { from: 0n, to: size, work }))
      pieces.push(`${offset}+${bytes.length}:${crc32(bytes).toString(16)}`);
  }
  const time = (value: { sec: number; nsec: number }): string => `${value.sec}.${value.nsec}`;
  const plain = [
    mode.toString(8),
    uid,
    gid,
    rdev,
    isDirectory(mode) ? 0 : nlink,
    isDirectory(mode) ? 0n : size,
    allocatedBytes,
  ];
  return [...plain, time(atime), time(mtime), time(btime), target.toString("hex"), ...xattrs, ...pieces].join(" ");
}
