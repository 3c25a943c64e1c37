/**
 * A process that changes an app and ships it at the same time, until it is killed: `shipper-child.ts <data folder> <repository> <key file>`. Says what is protected: "started", then "protected <LSN>".
 */
import { readFileSync } from "node:fs";
import path from "node:path";
import { openShipIndex, shippedMark } from "../../src/backup/ship-index.ts";
import { ShipWorkerPool } from "../../src/backup/ship-worker-pool.ts";
import { Shipper } from "../../src/backup/shipper.ts";
import { SystemClock } from "../../src/base/clock.ts";
import { silentLog } from "../../src/base/log.ts";
import { SystemTimers } from "../../src/base/timers.ts";
import { type InodeId, LIVE, type MountId, type ShareId } from "../../src/domain/ids.ts";
import { RocksKv } from "../../src/kv/rocks-kv.ts";
import { ApplyWorkerPool } from "../../src/meta/apply-worker-pool.ts";
import { OpenApp, SERVICE_CONTEXT } from "../../src/meta/open-app.ts";
import { createShare, sharesAt } from "../../src/meta/shares.ts";
import { appKeysOf, SHIPPED_APP, SHIPPED_SLOT } from "./shipper-keys.ts";

const [folder = "", repository = "", keyFile = "", seedText = "1"] = process.argv.slice(2);
const clock = new SystemClock();
const journal = path.join(folder, "journal");
const kv = await RocksKv.open({ directory: path.join(folder, "kv"), missing: "create" });
const appliers = new ApplyWorkerPool(kv);
const app = await OpenApp.open({
  appId: SHIPPED_APP,
  slot: SHIPPED_SLOT,
  folder: journal,
  kv,
  clock,
  log: silentLog,
  diskSpace: () => ({ totalBytes: 2n ** 40n, freeBytes: 2n ** 39n }),
  backend: () => appliers.backend({ appId: SHIPPED_APP, slot: SHIPPED_SLOT, folder: journal }),
  journalLimits: { segmentBytesMax: 2_000_000, backgroundSyncDelayMs: 5 },
});
const shareId = "cd".repeat(16) as ShareId;
const share = sharesAt(app.core, LIVE).find(({ id }) => id === shareId);
const root: InodeId =
  share?.root ?? createShare(app.core, { id: shareId, name: "files", views: "root" }, SERVICE_CONTEXT).root;
const index = await openShipIndex(folder, silentLog);
const keys = appKeysOf(readFileSync(keyFile, "utf8"));
const pool = new ShipWorkerPool({ kv, index, log: silentLog, random: () => 0.5 });
const backend = pool.backend({
  appId: SHIPPED_APP,
  slot: SHIPPED_SLOT,
  folder: journal,
  store: { address: repository, environment: {} },
  keys: keys.material(),
  lockDays: undefined,
  writer: { host: "test", service: String(process.pid) },
  limits: { journalBytesMax: 500_000, recordsMax: 100, plainBytesMax: 100_000 },
});
const shipper = new Shipper({
  app,
  backend,
  everyMs: 5,
  onBacklog: "serve",
  describe: () => ({ namespace: "default", name: "shop", labels: {}, created: { sec: 1, nsec: 0 }, deleted: null }),
  shippedMark: shippedMark(index, keys.tag),
  clock,
  timers: new SystemTimers(),
  log: silentLog,
  random: () => 0.5,
});
shipper.start();
process.stdout.write("started\n");

let state = Number(seedText) | 1;
const random = (below: number): number => {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % below;
};
const context = { ...SERVICE_CONTEXT, actor: { ...SERVICE_CONTEXT.actor, mountId: 1 as MountId } };
let told = 0;
for (let change = 0; ; change++) {
  const name = Buffer.from(`file-${random(200)}`);
  const made = {
    op: "create",
    parent: root,
    name,
    mode: 0o644,
    umask: 0,
    exclusive: false,
    truncate: random(3) === 0,
  } as const;
  const { ino } = await app.engine.execute(made, context);
  const data = Buffer.alloc(1 + random(60_000), random(50));
  for (let at = 0; at + 4 <= data.length; at += 64) data.writeUInt32BE(random(2 ** 32), at);
  await app.engine.execute(
    { op: "write", ino, offset: BigInt(random(4) * 50_000), data, killPrivileges: false },
    context,
  );
  if (change % 20 === 0) await app.journal.sync(app.core.lastLsn);
  if (change % 300 === 299) await shipper.checkpointNow().catch(() => {});
  const { state: phase, message, protected: moment } = shipper.status();
  if (phase === "failed" || phase === "fenced") process.stdout.write(`failed ${message ?? phase}\n`);
  if (moment === undefined || moment.lsn === told) continue;
  told = moment.lsn;
  process.stdout.write(`protected ${told}\n`);
}
