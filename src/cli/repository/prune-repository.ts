import { randomBytes } from "node:crypto";
import { rm } from "node:fs/promises";
import path from "node:path";
import { type ObjectCount, PRUNE_GRACE_MS, type PrunePlan, type PruneReport, pruneApp } from "../../backup/prune.ts";
import { SystemTimers } from "../../base/timers.ts";
import { TidemarkError } from "../../domain/errors.ts";
import type { AppId } from "../../domain/ids.ts";
import type { RetentionPolicy } from "../../domain/retention.ts";
import { parseAppRef } from "../../domain/share-path.ts";
import { fullName } from "../commands/app-commands.ts";
import { parseSpan } from "../commands/arguments.ts";
import { type PolicyOptions, policyOf, policyText } from "../commands/retention-commands.ts";
import { confirm } from "../confirm.ts";
import type { ExitName } from "../exit-codes.ts";
import { formatBytes, formatCount } from "../output/human.ts";
import type { Session } from "../session.ts";
import { NoteLog } from "./note-log.ts";
import { cacheFolderOf, openRepository } from "./open-repository.ts";
import type { RepoOptions } from "./repo-options.ts";
import { type DescribedApp, RepositoryApps } from "./repository-apps.ts";

export type PruneCommandOptions = RepoOptions &
  PolicyOptions & { readonly app?: string; readonly dryRun?: boolean; readonly yes?: boolean; readonly grace?: string };

/** Shorter would let go of what a shipper is just about to name. */
const GRACE_MS_MIN = 3_600_000;
const GRACE_MS_MAX = 365 * 86_400_000;

/** `repo prune`: of each app what its policy of retention doesn't keep, and what nothing names. */
export async function pruneRepository(session: Session, options: PruneCommandOptions): Promise<ExitName | undefined> {
  const graceMs =
    options.grace === undefined
      ? PRUNE_GRACE_MS
      : parseSpan("--grace", options.grace, { leastMs: GRACE_MS_MIN, mostMs: GRACE_MS_MAX });
  const given = policyOf(options);
  const { repository, place } = await openRepository(session, options);
  const { clock, signal } = session.environment;
  const cacheFolder = cacheFolderOf(session, repository.id, place);
  const log = new NoteLog(session.output);
  const timers = new SystemTimers();
  const apps = new RepositoryApps({ repository, cacheFolder, clock, timers, log, signal });
  try {
    if (place.atVersionMs !== undefined)
      throw new TidemarkError("INVALID_ARGUMENT", "the past of a bucket can't be pruned: leave out --at-version");
    const wanted = options.app === undefined ? await apps.all() : [await apps.describe(parseAppRef(options.app))];
    const policies = given === undefined ? await policiesOfService(session) : new Map<AppId, RetentionPolicy>();
    let refused: ExitName | undefined;
    for (const described of wanted) {
      const scratchFolder = path.join(cacheFolder, `prune-${randomBytes(8).toString("hex")}`);
      try {
        const report = await pruneApp({
          app: await repository.openApp(described.id),
          scratchFolder,
          policy: given ?? policies.get(described.id),
          graceMs,
          dryRun: options.dryRun === true,
          clock,
          timers,
          log,
          signal,
          confirm: async (plan) => {
            if (isIdle(plan)) return true;
            if (!session.output.json) for (const line of planLines(session, plan)) session.output.note(line);
            const question = `Prune ${fullName(described)}? What goes can't be brought back`;
            const answer = await confirm(session, { question, yes: options.yes === true });
            refused ??= answer;
            return answer === undefined;
          },
        });
        await show(session, described, { report, dryRun: options.dryRun === true });
      } finally {
        await rm(scratchFolder, { recursive: true, force: true });
      }
    }
    return refused;
  } finally {
    await apps.close();
  }
}

/** What the service keeps its apps for, if there is one on this machine. */
async function policiesOfService(session: Session): Promise<Map<AppId, RetentionPolicy>> {
  const policies = new Map<AppId, RetentionPolicy>();
  try {
    for await (const page of (await session.api()).retention.listRetention({}, session.callOptions))
      for (const { app, policy } of page) if (policy !== undefined) policies.set(app.id, policy);
  } catch (error) {
    if (!(error instanceof TidemarkError) || error.code !== "UNAVAILABLE") throw error;
  }
  return policies;
}

function isIdle(plan: PrunePlan): boolean {
  const { seals, packs, runs, checkpoints } = plan.doomed;
  return !plan.writesBase && [seals, packs, runs, checkpoints, plan.due].every(({ count }) => count === 0);
}

async function show(
  session: Session,
  described: DescribedApp,
  { report, dryRun }: { readonly report: PruneReport; readonly dryRun: boolean },
): Promise<void> {
  const { output } = session;
  const { plan, executed } = report;
  if (output.json) return output.value({ app: described.id, plan, executed });
  if (dryRun) {
    for (const line of planLines(session, plan)) await output.line(line);
    return;
  }
  if (executed === undefined) return;
  const later = sumOf(Object.values(plan.doomed));
  await output.line(
    `${fullName(described)}: ${objects(plan.due)} are gone, ${objects(later)} go when the grace is over, by a later \`repo prune\`.`,
  );
}

function planLines(session: Session, plan: PrunePlan): string[] {
  const since = ({ floor, floorTime }: PrunePlan["before"]): string =>
    floorTime === undefined || floor === 0 ? "the beginning" : session.time(floorTime);
  const { seals, packs, runs, checkpoints } = plan.doomed;
  const oldest = plan.oldestMoment === undefined ? "" : `, the oldest of ${session.time(plan.oldestMoment)}`;
  return [
    `App ${plan.app.namespace}:${plan.app.name} keeps ${plan.policy === undefined ? "everything: it has no policy of retention" : policyText(plan.policy)}`,
    `  every moment since     ${since(plan.before)}, then since ${since(plan.after)}`,
    `  moments before that    ${formatCount(plan.momentCount)}${oldest}`,
    `  goes after the grace   ${objects(sumOf(Object.values(plan.doomed)))}: ${seals.count} seals, ${packs.count} packs, ${runs.count} runs, ${checkpoints.count} checkpoints`,
    `  is written anew        ${plan.writesBase ? "what the policy leaves" : "nothing"}${plan.repacked.count === 0 ? "" : `, and what lives of ${plan.repacked.count} packs: ${formatBytes(BigInt(plan.repacked.bytes))}`}`,
    ...(plan.erased.count === 0
      ? []
      : [`  erased by order        is in ${objects(plan.erased)}, which go when the grace and their locks are over`]),
    `  goes now               ${objects(plan.due)}, whose grace is over`,
    `  waits for its grace    ${objects(plan.waiting)}`,
    `  stays                  ${objects(plan.kept)}`,
  ];
}

function objects({ count, bytes }: ObjectCount): string {
  return `${formatCount(count)} ${count === 1 ? "object" : "objects"} (${formatBytes(BigInt(bytes))})`;
}

function sumOf(counts: readonly ObjectCount[]): ObjectCount {
  return counts.reduce((sum, { count, bytes }) => ({ count: sum.count + count, bytes: sum.bytes + bytes }), {
    count: 0,
    bytes: 0,
  });
}
