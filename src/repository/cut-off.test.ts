import { expect, test } from "vitest";
import { FaultyBlobs, type FaultyOperation } from "../blob/testing/faulty-blobs.ts";
import type { Lsn } from "../domain/ids.ts";
import { CHAIN_START } from "../journal/chain.ts";
import type { AppRepository } from "./app-repository.ts";
import { APP } from "./packs-fixture.ts";
import { Repository } from "./repository.ts";
import { mergeRows } from "./runs/merge.ts";
import { planMerge } from "./runs/plan-merge.ts";
import type { Row, RunRef } from "./runs/run-codec.ts";
import type { Seal } from "./seal-codec.ts";
import { checkpointOf, collect, memoryStore, pass, RecordSource, TestShipper } from "./seals-fixture.ts";

// A service that is cut off at any of its calls to the store, before or after the call has had its effect, and another one that goes on.

const GRACE_MS = 3_600_000;
const secret = { kind: "key-file", key: Buffer.alloc(32, 7) } as const;

/** What the rows of a seal are, for these tests: one for each record, and one that every seal changes. */
function rowsOf({ head }: Seal): Row[] {
  const rows: Row[] = [{ key: Buffer.from("R last"), value: Buffer.from(String(head.to)) }];
  for (let lsn: number = head.from; lsn <= head.to; lsn++) {
    rows.push({ key: Buffer.from(`R ${String(lsn).padStart(6, "0")}`), value: Buffer.from(String(lsn)) });
  }
  return rows;
}

/** The app's rows as they are after its newest seal: from the latest checkpoint and the seals behind it. */
async function rowsNow(app: AppRepository) {
  const latest = await app.latestCheckpoint();
  const rows = new Map<string, string>();
  const runs = (latest?.checkpoint.runs ?? []).map((ref) => app.openRun(ref).rows());
  for await (const batch of mergeRows(runs, { dropDeleted: true }))
    for (const { key, value } of batch) rows.set(key.toString(), String(value));
  const place =
    latest === null ? {} : { after: { epoch: latest.checkpoint.epoch, sequence: latest.checkpoint.sequence } };
  const chain = latest === null ? CHAIN_START : Buffer.from(latest.checkpoint.chain, "hex");
  const from = { lsn: latest?.checkpoint.to ?? (0 as Lsn), chain };
  const seals = await collect(app.seals({ ...place, verify: "chain", from }));
  for (const seal of seals) for (const { key, value } of rowsOf(seal)) rows.set(key.toString(), String(value));
  return { latest: latest?.checkpoint, seals, rows, to: seals.at(-1)?.head.to ?? latest?.checkpoint.to ?? 0 };
}

async function writeCheckpoint(app: AppRepository, source: RecordSource): Promise<void> {
  const { latest, seals } = await rowsNow(app);
  const last = seals.at(-1);
  if (last === undefined) return;
  const changed = new Map(seals.flatMap(rowsOf).map((row) => [row.key.toString(), row]));
  const sorted = [...changed.values()].sort((left, right) => Buffer.compare(left.key, right.key));
  let runs: RunRef[] = [await app.writeRun([sorted]), ...(latest?.runs ?? [])];
  for (let plan = planMerge(runs); plan !== null; plan = planMerge(runs))
    runs = [await app.mergeRuns(runs.slice(0, plan.count), plan), ...runs.slice(plan.count)];
  const { epoch, sequence, to } = last.head;
  await app.publishCheckpoint(checkpointOf(source, { epoch, sequence, to, runs }));
}

/** Names in tombs what the latest checkpoint stands for, and deletes what is due. */
async function prune(app: AppRepository, epoch: number): Promise<void> {
  const latest = await app.latestCheckpoint();
  if (latest === null) return;
  const needed = new Set(
    latest.checkpoint.runs.flatMap(({ parts }) => parts.map(({ id }) => `${app.prefix}runs/${id}`)),
  );
  needed.add(latest.name);
  const doomed: string[] = [];
  for (const folder of ["runs", "checkpoints"] as const)
    for await (const page of app.objects.list(folder))
      doomed.push(...page.map(({ name }) => name).filter((name) => !needed.has(name)));
  for await (const page of app.objects.list("seals"))
    doomed.push(...page.map(({ name }) => name).filter((name) => name < app.sealName(latest.checkpoint)));
  const tombed = new Set((await app.tombs()).flatMap(({ tomb }) => tomb.names));
  const fresh = doomed.filter((name) => !tombed.has(name));
  if (fresh.length > 0) await app.writeTombs(epoch, { names: fresh, reason: "retention" });
  await app.executeTombs({
    graceMs: GRACE_MS,
    stillNeeded: async (names) => new Set(names.filter((name) => needed.has(name))),
  });
}

/** One start of a service: it opens the repository, ships, writes checkpoints, prunes. Tells what it called protected. */
async function serve(store: FaultyBlobs, source: RecordSource, claim: (lsn: number) => void): Promise<void> {
  const repository = await Repository.open({ store, secret });
  const app = await repository.createApp(APP);
  const shipper = new TestShipper(app, source);
  await shipper.claim();
  await shipper.look();
  for (let count = 1; count <= 4; count++) {
    if (await shipper.ship(2)) claim(shipper.protectedLsn);
    if (count % 2 === 0) await writeCheckpoint(app, source);
  }
  await prune(app, shipper.epoch);
}

test.each(["put", "get", "stat", "list", "list-page", "delete", "timeMs"] satisfies FaultyOperation[])(
  "a service that is cut off at any %s loses nothing it called protected, and the next one goes on",
  { timeout: 120_000 },
  async (operation) => {
    let cutOffs = 0;
    for (const kind of ["fail", "lose-answer"] as const) {
      for (let nth = 1; nth <= 60; nth++) {
        const { store, clock } = memoryStore();
        await Repository.init({ store, secret, clock });
        const faulty = new FaultyBlobs(store);
        const source = new RecordSource(3, 1000);
        let claimed = 0;
        const claim = (lsn: number) => {
          claimed = Math.max(claimed, lsn);
        };
        // Something to prune is there from the beginning.
        await serve(faulty, source, claim);
        pass(clock, GRACE_MS + 1000);
        faulty.inject({ operation, nth, effect: { kind } });
        const isCutOff = await serve(faulty, source, claim).then(
          () => false,
          () => true,
        );
        faulty.heal();
        if (!isCutOff) break;
        cutOffs++;
        const app = await (await Repository.open({ store, secret })).openApp(APP);
        const between = await rowsNow(app);
        expect(between.to, `${kind} ${nth}`).toBeGreaterThanOrEqual(claimed);
        await serve(faulty, source, claim);
        const { rows, to } = await rowsNow(app);
        expect([to, rows.size, rows.get("R last")], `${kind} ${nth}`).toEqual([claimed, to + 1, String(to)]);
      }
    }
    expect(cutOffs).toBeGreaterThan(0);
  },
);
