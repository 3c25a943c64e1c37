import type { Actor } from "../../src/domain/actor.ts";
import type { BackupProgress, BackupStatus, RepositoryInfo } from "../../src/domain/admin-backup.ts";
import type { AppInfo, MountInfo, MountRequest, ShareInfo, SnapshotInfo } from "../../src/domain/admin-catalogue.ts";
import type { NodeInfo, NodeInvite } from "../../src/domain/admin-nodes.ts";
import type { PurgePlan, PurgeRequest, PurgeResult } from "../../src/domain/admin-purge.ts";
import type {
  DiffEntry,
  ExportItem,
  FileAttributes,
  FileStat,
  FileVersion,
  FoundName,
  ListEntry,
  LogRecord,
  LogRequest,
  ResolvedPath,
} from "../../src/domain/admin-reading.ts";
import type { BackupRepair } from "../../src/domain/admin-repair.ts";
import type { PlanItem, RestoreInfo, RestoreProgress, RestoreRequest } from "../../src/domain/admin-restore.ts";
import type { RetentionForecast, RetentionStatus } from "../../src/domain/admin-retention.ts";
import type { AppStatus, ServiceStatus } from "../../src/domain/admin-status.ts";
import type { AppId, MountId, ShareId } from "../../src/domain/ids.ts";
import { inodeId, lsn } from "../../src/domain/ids.ts";
import type { MomentRef, ResolvedMoment } from "../../src/domain/moment.ts";
import type { SharePath } from "../../src/domain/share-path.ts";

/** Values with every field at an awkward place: the largest, the negative, the absent, bytes that are no text. */

export const APP_ID = "00112233445566778899aabbccddeeff" as AppId;
export const SHARE_ID = "ffeeddccbbaa99887766554433221100" as ShareId;
const NAMED_SHARE = { id: SHARE_ID, name: "uploads" };
const NAMED_APP = { id: APP_ID, namespace: "prod", name: "shop" };
const BYTES = Buffer.from([0x61, 0x2f, 0xff, 0xfe, 0x0a]);
const LARGEST_LSN = lsn(Number.MAX_SAFE_INTEGER - 1);
const TIME = { sec: 1_795_000_000, nsec: 999_999_999 };
const BEFORE_1970 = { sec: -1, nsec: 1 };

export const PATH: SharePath = { app: { namespace: "prod", name: "shop" }, share: { name: "uploads" }, path: BYTES };
export const DELETED_PATH: SharePath = {
  app: { namespace: "default", name: "shop", id: APP_ID },
  share: { name: "uploads", id: "ffeedd" },
  path: Buffer.alloc(0),
};
export const APP_PATH: SharePath = { app: { namespace: "default", name: "shop" }, path: Buffer.alloc(0) };

export const MOMENTS: readonly MomentRef[] = [
  { kind: "now" },
  { kind: "time", time: BEFORE_1970 },
  { kind: "lsn", lsn: LARGEST_LSN },
  { kind: "lsn", lsn: lsn(0) },
  { kind: "snapshot", name: "before-upgrade" },
];

export const RESOLVED: ResolvedMoment = { lsn: LARGEST_LSN, time: TIME, ambiguous: true };
const RESOLVED_START: ResolvedMoment = { lsn: lsn(0), ambiguous: false };

export const ACTOR: Actor = { mountId: 4_294_967_295 as MountId, uid: 4_294_967_295, gid: 1, pid: 77, label: "größe" };

export const ATTRIBUTES: FileAttributes = {
  ino: inodeId(2 ** 40 - 1),
  mode: 0o107777,
  uid: 4_294_967_294,
  gid: 4_294_967_295,
  nlink: 65_000,
  rdev: 4_294_967_295,
  size: 2n ** 63n - 1n,
  allocatedBytes: 2n ** 53n + 1n,
  atime: BEFORE_1970,
  mtime: TIME,
  ctime: { sec: -(2 ** 50), nsec: 0 },
  btime: { sec: 2 ** 50, nsec: 5 },
};

const XATTRS = [
  { name: Buffer.from("user.empty"), value: Buffer.alloc(0) },
  { name: Buffer.from([0x75, 0xff]), value: Buffer.alloc(65_536, 7) },
];

export const APPS: readonly AppInfo[] = [
  { ...NAMED_APP, labels: { tier: "web", "": "" }, createdAt: TIME, shareCount: 3 },
  { ...NAMED_APP, labels: {}, createdAt: BEFORE_1970, deletedAt: TIME, shareCount: 0 },
];

export const SHARES: readonly ShareInfo[] = [
  { ...NAMED_SHARE, app: NAMED_APP, views: "root", createdAt: TIME },
  { ...NAMED_SHARE, app: NAMED_APP, views: "users", createdAt: TIME, deletedAt: BEFORE_1970 },
];

export const SNAPSHOTS: readonly SnapshotInfo[] = [{ name: "a", lsn: LARGEST_LSN, time: TIME, automatic: true }];

export const MOUNTS: readonly MountInfo[] = [
  {
    id: 7 as MountId,
    share: { ...NAMED_SHARE, app: NAMED_APP },
    target: "/srv/ü",
    at: RESOLVED,
    readOnly: true,
    persist: false,
    locks: "kernel",
    state: "down",
    message: "the folder is gone",
    since: TIME,
  },
  {
    id: 8 as MountId,
    share: { ...NAMED_SHARE, app: NAMED_APP },
    target: "/srv/b",
    readOnly: false,
    persist: true,
    locks: "shared",
    tokenId: "ab".repeat(16),
    state: "active",
    since: TIME,
  },
];

export const MOUNT_REQUEST: MountRequest = {
  app: PATH.app,
  share: { name: "uploads" },
  target: "/srv/uploads",
  at: { kind: "snapshot", name: "a" },
  readOnly: true,
  persist: true,
  allowSuid: true,
  allowDevices: false,
  locks: "shared",
};

export const RESOLVED_PATH: ResolvedPath = { appId: APP_ID, shareId: SHARE_ID, ino: inodeId(1), at: RESOLVED_START };
export const STAT: FileStat = { at: RESOLVED, attributes: ATTRIBUTES, target: BYTES, xattrs: XATTRS };
export const ENTRY: ListEntry = { name: BYTES, attributes: ATTRIBUTES, target: Buffer.alloc(0) };

export const EXPORT_PAGES: readonly (readonly ExportItem[])[] = [
  [
    {
      kind: "entry",
      path: Buffer.alloc(0),
      attributes: ATTRIBUTES,
      target: Buffer.alloc(0),
      xattrs: XATTRS,
      contentFollows: true,
    },
    { kind: "ranges", ranges: [{ offset: 0n, length: 1n }] },
    { kind: "ranges", ranges: [{ offset: 2n ** 63n - 2n, length: 1n }] },
    { kind: "data", offset: 2n ** 63n - 2n, bytes: Buffer.from([0]) },
    { kind: "end", complete: false, message: "damaged" },
  ],
  [
    {
      kind: "entry",
      path: BYTES,
      attributes: ATTRIBUTES,
      target: BYTES,
      xattrs: [],
      contentFollows: false,
      linkedTo: Buffer.alloc(0),
    },
    { kind: "end", complete: true },
  ],
];

export const LOG_REQUESTS: readonly LogRequest[] = [
  { path: PATH, order: "oldest-first", follow: true },
  {
    path: APP_PATH,
    from: { kind: "time", time: TIME },
    to: { kind: "now" },
    order: "newest-first",
    countMax: 10,
    follow: false,
  },
];

export const LOG_RECORDS: readonly LogRecord[] = [
  {
    lsn: lsn(1),
    time: TIME,
    op: "RENAME",
    share: NAMED_SHARE,
    path: BYTES,
    newPath: Buffer.alloc(0),
    ino: ATTRIBUTES.ino,
    actor: ACTOR,
    details: [
      { name: "offset", value: 2n ** 62n },
      { name: "flags", value: 1 },
      { name: "ratio", value: 0.5 },
      { name: "name", value: "x" },
      { name: "excl", value: false },
    ],
  },
  { lsn: LARGEST_LSN, time: BEFORE_1970, op: "SPACE", path: Buffer.alloc(0), ino: 0, actor: ACTOR, details: [] },
];

export const VERSIONS: readonly FileVersion[] = [
  {
    since: { lsn: lsn(5), time: TIME },
    op: "WRITE",
    recordCount: 12,
    ino: ATTRIBUTES.ino,
    path: BYTES,
    attributes: ATTRIBUTES,
    actor: ACTOR,
    absent: false,
  },
  {
    since: { lsn: lsn(3), time: TIME },
    until: { lsn: lsn(5), time: TIME },
    op: "UNLINK",
    recordCount: 1,
    ino: ATTRIBUTES.ino,
    path: BYTES,
    attributes: ATTRIBUTES,
    actor: ACTOR,
    absent: true,
  },
];

export const FOUND_NAMES: readonly FoundName[] = [
  { share: NAMED_SHARE, path: BYTES, attributes: ATTRIBUTES, since: { lsn: LARGEST_LSN, time: TIME } },
  {
    share: NAMED_SHARE,
    path: Buffer.from(".env"),
    attributes: ATTRIBUTES,
    since: { lsn: lsn(1), time: BEFORE_1970 },
    until: { lsn: LARGEST_LSN, time: TIME },
  },
];

export const DIFF_ENTRIES: readonly DiffEntry[] = [
  { kind: "added", share: NAMED_SHARE, path: BYTES, after: ATTRIBUTES, changes: [] },
  { kind: "removed", share: NAMED_SHARE, path: BYTES, before: ATTRIBUTES, changes: [] },
  {
    kind: "moved",
    share: NAMED_SHARE,
    path: BYTES,
    pathBefore: Buffer.from("old"),
    before: ATTRIBUTES,
    after: ATTRIBUTES,
    changes: ["type", "content", "mode", "owner", "times", "xattrs", "target", "device", "links"],
  },
];

export const TASKS: readonly RestoreRequest[] = [
  { kind: "restore", source: PATH, at: { kind: "snapshot", name: "a" }, mode: "mirror" },
  { kind: "restore", source: PATH, at: { kind: "now" }, target: DELETED_PATH, mode: "overlay" },
  { kind: "undo", app: PATH.app },
  { kind: "undo", app: PATH.app, restoreId: "r1" },
];

const SUMMARY = {
  at: RESOLVED,
  plannedAt: LARGEST_LSN,
  counts: { create: 1, link: 2, change: 3, delete: 4, replace: 5, share: Number.MAX_SAFE_INTEGER },
  restoredBytes: 2n ** 63n,
  deletedBytes: 0n,
  limitations: ["ctime is now"],
};

export const PLAN: readonly PlanItem[] = [
  {
    kind: "actions",
    actions: [
      {
        kind: "change",
        share: NAMED_SHARE,
        path: BYTES,
        attributes: ATTRIBUTES,
        inoThen: ATTRIBUTES.ino,
        parts: ["content", "mode", "owner", "times", "xattrs", "target"],
        otherNames: [BYTES, Buffer.from("b")],
      },
      {
        kind: "delete",
        share: NAMED_SHARE,
        path: BYTES,
        attributes: ATTRIBUTES,
        inoThen: 0,
        parts: [],
        otherNames: [],
      },
    ],
  },
  { kind: "summary", summary: SUMMARY },
];

export const PROGRESS: readonly RestoreProgress[] = [
  { kind: "progress", actionsDone: 0, path: BYTES },
  { kind: "progress", actionsDone: 1, actionsTotal: 2, path: BYTES },
  {
    kind: "done",
    result: { restoreId: "r1", snapshot: "auto-1", firstLsn: lsn(1), lastLsn: LARGEST_LSN, summary: SUMMARY },
  },
];

export const RESTORES: readonly RestoreInfo[] = [
  {
    id: "r1",
    kind: "undo",
    state: "interrupted",
    path: PATH,
    at: RESOLVED,
    startedAt: TIME,
    firstLsn: lsn(1),
    lastLsn: lsn(0),
    actor: ACTOR,
  },
];

export const SERVICE_STATUS: ServiceStatus = {
  version: "0.1.0",
  pid: 4_194_304,
  dataFolder: "/var/lib/tidemark",
  startedAt: TIME,
  supervisor: { state: "lost", pid: 3, restartCount: 2, kernelResends: true },
  canMount: false,
  mountsMessage: "/dev/fuse is absent",
  disk: { totalBytes: 2n ** 60n, freeBytes: 1n, reserveBytes: 0n },
  historyBytesMax: 2n ** 59n,
  memoryBytes: 5n,
  listening: ["10.0.0.1:7400", "[::1]:7401"],
  alarms: [{ time: TIME, code: "DATA_DAMAGED", app: "", message: "segment 1" }],
};

const ARCHIVE = {
  description: "s3://bucket/prefix",
  lastLsn: LARGEST_LSN,
  isHydrated: true,
  bytesDone: 2n ** 60n,
  damagedBytes: 1n,
} as const;

const appStatus = {
  lastLsn: LARGEST_LSN,
  durableLsn: lsn(2),
  appliedLsn: lsn(1),
  journalBytes: 2n ** 60n,
  segmentCount: 12,
  liveBytes: 1n,
  historyBytes: 2n,
  reclaimableBytes: 3n,
  inodeCount: 1_000_000,
  snapshotCount: 4,
  stallCount: 5,
  stallMs: 6,
  journalState: "failed",
} as const;

export const APP_STATUS: readonly AppStatus[] = APPS.map((app, index) =>
  index === 0
    ? { ...appStatus, app, oldest: { lsn: lsn(1), time: TIME }, archive: ARCHIVE }
    : { ...appStatus, app, archive: { ...ARCHIVE, waitsFor: "the store" } },
);

export const REPOSITORIES: readonly RepositoryInfo[] = [
  {
    name: "main",
    id: APP_ID,
    location: { url: "s3://bucket/prefix", endpoint: "http://127.0.0.1:1", region: "eu-1" },
    addedAt: TIME,
    appCount: 4_294_967_295,
  },
  { name: "b", id: SHARE_ID, location: { url: "/bäckup" }, addedAt: BEFORE_1970, appCount: 0 },
];

export const BACKUPS: readonly BackupStatus[] = [
  {
    app: NAMED_APP,
    repository: "main",
    everyMs: 5000,
    onBacklog: "serve",
    state: "retrying",
    message: "no answer",
    protected: { lsn: LARGEST_LSN, time: TIME },
    lastLsn: LARGEST_LSN,
    lagMs: Number.MAX_SAFE_INTEGER,
    unprotectedBytes: 2n ** 63n,
    sentBytes: 1n,
    waitingOrder: lsn(77),
  },
  {
    app: NAMED_APP,
    repository: "b",
    everyMs: 200,
    onBacklog: "stop",
    state: "fenced",
    lastLsn: lsn(0),
    lagMs: 0,
    unprotectedBytes: 0n,
    sentBytes: 0n,
  },
];

export const BACKUP_PROGRESS: readonly BackupProgress[] = [
  { kind: "progress", protectedLsn: lsn(0), targetLsn: LARGEST_LSN, unprotectedBytes: 2n ** 63n },
  ...BACKUPS.map((status) => ({ kind: "done", status }) as const),
];

export const REPAIR: BackupRepair = {
  app: NAMED_APP,
  findings: [
    { severity: "damage", object: "apps/a/packs/00/b", message: "it is missing" },
    { severity: "warning", object: "apps/a/seals/c", message: "ü" },
    { severity: "note", object: "", message: "" },
  ],
  rows: "checkpoint",
  lostPackCount: 2,
  lostBytes: 2n ** 63n,
  restoredBytes: 1n,
  files: [
    { path: Buffer.from([0x66, 0xff]), since: { lsn: lsn(1), time: TIME }, until: { lsn: LARGEST_LSN, time: TIME } },
    { path: Buffer.from("a/b"), since: { lsn: lsn(2) } },
  ],
};

const POLICY = { continuousMs: 7 * 86_400_000, hourly: 48, daily: 30, weekly: 12, monthly: 24, yearly: 5 };

export const RETENTIONS: readonly RetentionStatus[] = [
  { app: NAMED_APP, policy: POLICY, floor: LARGEST_LSN, floorTime: { sec: 1_700_000_000, nsec: 5 }, momentCount: 3 },
  { app: NAMED_APP, policy: { ...POLICY, continuousMs: undefined }, floor: lsn(0), momentCount: 0 },
  { app: NAMED_APP, floor: lsn(0), momentCount: 0 },
];

export const NODES: readonly NodeInfo[] = [
  {
    name: "web1",
    state: "joined",
    since: { sec: 1_790_000_000, nsec: 5 },
    expiresAt: { sec: 1_800_000_000, nsec: 0 },
    lastSeen: { sec: 1_790_000_100, nsec: 999_999_999 },
    address: "10.0.0.2:40312",
    sessionCount: 3,
  },
  { name: "web2", state: "invited", since: { sec: 1, nsec: 0 }, sessionCount: 0 },
  { name: "web3", state: "removed", since: { sec: 1, nsec: 0 }, sessionCount: 0 },
];

export const INVITE: NodeInvite = {
  name: "web1",
  ticket: "tidemark-join-1.e30.00000000",
  expiresAt: { sec: 7, nsec: 0 },
};

export const PURGE_ORDER: PurgeRequest = {
  path: { app: { namespace: "default", name: "shop" }, share: { name: "uploads" }, path: Buffer.from("a/secret.pdf") },
  shared: true,
  liveToo: false,
};

const PURGE_FILE = { ino: inodeId(77), path: Buffer.from("uploads/a/secret\xff.pdf", "latin1") };

export const PURGE_PLAN: PurgePlan = {
  app: NAMED_APP,
  fileCount: 3,
  files: [PURGE_FILE],
  versionCount: 12,
  recordCount: 40,
  bytes: 2n ** 60n,
  liveCount: 1,
  live: [PURGE_FILE],
  sharedCount: 1,
  shared: [{ ...PURGE_FILE, bytes: 4096n }],
  snapshotCount: 2,
  snapshots: ["before", "after"],
  repository: { name: "main", hasIt: true },
};

export const PURGED: PurgeResult = { plan: PURGE_PLAN, lsn: lsn(9), time: { sec: 5, nsec: 6 }, openCount: 2 };

export const FORECAST: RetentionForecast = {
  app: NAMED_APP,
  policy: POLICY,
  before: { floor: lsn(0) },
  after: { floor: lsn(9), floorTime: { sec: 1_700_000_000, nsec: 0 } },
  removedCount: 2,
  momentCount: 1,
  moments: [{ turn: { sec: 1_699_999_000, nsec: 0 }, lsn: lsn(8) }],
};
