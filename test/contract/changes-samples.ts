import type {
  ChangeRecord,
  ChangesPage,
  ChangesRequest,
  DeltaEntry,
  ShareDeltaPage,
  ShareDeltaRequest,
} from "../../src/domain/admin-changes.ts";
import { inodeId, lsn } from "../../src/domain/ids.ts";
import {
  ACTOR,
  APP_ID,
  APP_PATH,
  ATTRIBUTES,
  DELETED_PATH,
  MOMENTS,
  PATH,
  RESOLVED,
  SHARE_ID,
} from "./admin-samples.ts";

/** Values of the change feed and of deltas with every field at an awkward place. */

const BYTES = Buffer.from([0x61, 0x2f, 0xff, 0xfe, 0x0a]);
const TIME = { sec: 1_795_000_000, nsec: 999_999_999 };
const LARGEST_SIZE = 2n ** 63n - 1n;
const SHARE = { id: SHARE_ID, name: "uploads" };
const [NOW = { kind: "now" as const }, BEFORE_1970 = NOW, LARGEST = NOW] = MOMENTS;

export const CHANGES_REQUESTS: readonly ChangesRequest[] = [
  { path: APP_PATH, operations: [], follow: false },
  { path: DELETED_PATH, from: LARGEST, fromTime: TIME, to: NOW, operations: ["WRITE", "RENAME"], follow: false },
  { path: PATH, from: BEFORE_1970, operations: [], follow: true, heartbeatMs: 60_000 },
];

const BARE = { paths: [], others: [], set: [], contentReplaced: false, actor: ACTOR, details: [] };

export const CHANGE_RECORDS: readonly ChangeRecord[] = [
  {
    ...BARE,
    lsn: lsn(Number.MAX_SAFE_INTEGER - 1),
    time: TIME,
    op: "RENAME",
    share: SHARE,
    ino: inodeId(2 ** 40 - 1),
    paths: [BYTES, Buffer.alloc(0)],
    newPath: Buffer.alloc(0),
    crossing: "left",
    others: [
      { ino: inodeId(1), path: BYTES, change: "lost" },
      { ino: inodeId(2), path: BYTES, change: "gained" },
    ],
    attributes: ATTRIBUTES,
    target: BYTES,
  },
  {
    ...BARE,
    lsn: lsn(2),
    time: { sec: -1, nsec: 1 },
    op: "COPY_RANGE",
    ino: inodeId(7),
    range: { offset: LARGEST_SIZE, length: 0n },
    source: { ino: inodeId(8), offset: LARGEST_SIZE },
    sizeBefore: LARGEST_SIZE,
    contentReplaced: true,
    crossing: "entered",
  },
  { ...BARE, lsn: lsn(3), time: TIME, op: "FALLOCATE", ino: inodeId(7), allocation: "punch" },
  { ...BARE, lsn: lsn(4), time: TIME, op: "SETATTR", ino: inodeId(7), set: ["mode", "ctime"], xattr: BYTES },
  {
    ...BARE,
    lsn: lsn(5),
    time: TIME,
    op: "SNAPSHOT_CREATE",
    ino: 0,
    details: [
      { name: "name", value: "a" },
      { name: "large", value: LARGEST_SIZE },
      { name: "part", value: 0.5 },
      { name: "truth", value: false },
    ],
  },
];

export const CHANGES_PAGES: readonly ChangesPage[] = [
  { appId: APP_ID, records: CHANGE_RECORDS, cursor: { lsn: lsn(5), time: TIME }, durableLsn: lsn(9) },
  { appId: APP_ID, records: [], cursor: { lsn: lsn(0) }, durableLsn: lsn(0) },
];

export const DELTA_REQUESTS: readonly ShareDeltaRequest[] = [
  { path: PATH, from: LARGEST, to: NOW, byPath: true },
  { path: DELETED_PATH, from: BEFORE_1970, to: LARGEST, byPath: false },
];

export const DELTA_ENTRIES: readonly DeltaEntry[] = [
  {
    ino: inodeId(2 ** 40 - 1),
    kind: "changed",
    continues: true,
    names: [
      { state: "kept", parent: 0, path: Buffer.alloc(0) },
      { state: "kept", parent: inodeId(5), path: BYTES, pathBefore: Buffer.alloc(0) },
      { state: "added", parent: inodeId(5), path: BYTES },
      { state: "removed", parent: inodeId(5), path: BYTES, now: "nothing" },
      { state: "removed", parent: inodeId(5), path: BYTES, now: "other" },
      { state: "removed", parent: inodeId(5), path: BYTES, now: "no-directory" },
    ],
    changes: ["content", "size", "mode", "owner", "times", "xattrs", "target", "device", "links", "ctime"],
    before: ATTRIBUTES,
    after: { ...ATTRIBUTES, size: 0n },
    target: BYTES,
    extents: [
      { kind: "data", offset: 0n, length: 1n },
      { kind: "hole", offset: LARGEST_SIZE - 1n, length: 1n },
    ],
  },
  { ino: inodeId(1), kind: "created", continues: false, names: [], changes: [], target: Buffer.alloc(0), extents: [] },
  {
    ino: inodeId(9),
    kind: "deleted",
    continues: false,
    names: [],
    changes: [],
    before: ATTRIBUTES,
    target: Buffer.alloc(0),
    extents: [],
  },
];

export const DELTA_PAGES: readonly ShareDeltaPage[] = [
  { appId: APP_ID, from: RESOLVED, to: RESOLVED, foundIn: "journal", entries: DELTA_ENTRIES },
  { appId: APP_ID, from: RESOLVED, to: RESOLVED, foundIn: "rows", entries: [] },
];
