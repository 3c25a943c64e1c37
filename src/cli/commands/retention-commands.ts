import type { Command } from "commander";
import type { RetentionForecast, RetentionStatus } from "../../domain/admin-retention.ts";
import { TidemarkError } from "../../domain/errors.ts";
import { formatUtcTime } from "../../domain/moment.ts";
import { RETENTION_COUNT_MAX, type RetentionPolicy } from "../../domain/retention.ts";
import { parseAppRef } from "../../domain/share-path.ts";
import { confirm } from "../confirm.ts";
import type { ExitName } from "../exit-codes.ts";
import { body, type CommandContext } from "../leaf.ts";
import { formatCount } from "../output/human.ts";
import type { Column } from "../output/output.ts";
import type { Session } from "../session.ts";
import { fullName } from "./app-commands.ts";
import { needed, parseCount } from "./arguments.ts";

/** What a policy is written with. */
export type PolicyOptions = {
  readonly continuous?: string;
  readonly hourly?: string;
  readonly daily?: string;
  readonly weekly?: string;
  readonly monthly?: string;
  readonly yearly?: string;
};

type SetOptions = PolicyOptions & { readonly dryRun?: boolean; readonly yes?: boolean };

/** tidemark retention ... */
export function addRetentionCommands(program: Command, context: CommandContext): void {
  const retention = program.command("retention").description("how long the past of an app is kept");
  body<SetOptions>(
    addPolicyOptions(retention.command("set <app>"))
      .description("keep every moment of the last time, and before that one for each turn of an hour, day, week, …")
      .option("--dry-run", "only show what would go")
      .option("--yes", "do not ask"),
    context,
    set,
    "admin",
  );
  body<{ readonly plan?: boolean }>(
    retention
      .command("show [app]")
      .description("the policies, and how far back history reaches")
      .option("--plan", "what the app's policy would drop now, and which moments it keeps"),
    context,
    show,
    "admin",
  );
  body(
    retention.command("clear <app>").description("keep everything from now on, as long as there is room"),
    context,
    async (session, [app]) => {
      const request = { app: parseAppRef(needed(app)) };
      const status = await (await session.api()).retention.clearRetention(request, session.callOptions);
      await session.output.done(status, `App ${fullName(status.app)} keeps everything from now on.`);
    },
    "admin",
  );
}

/** Adds the options that say how long things are kept. */
export function addPolicyOptions(command: Command): Command {
  return command
    .option("--continuous <span>", "every moment of so long, e.g. 12h, 7d, 4w")
    .option("--hourly <count>", "then the state at each of the last so many full hours")
    .option("--daily <count>", "… days (UTC)")
    .option("--weekly <count>", "… weeks, from Monday")
    .option("--monthly <count>", "… months")
    .option("--yearly <count>", "… years");
}

/** The policy that options say; undefined: they say none. Throws INVALID_ARGUMENT. */
export function policyOf(options: PolicyOptions): RetentionPolicy | undefined {
  const count = (name: keyof PolicyOptions): number => {
    const text = options[name];
    const value = text === undefined ? 0 : parseCount(`--${name}`, text, 0);
    if (value <= RETENTION_COUNT_MAX) return value;
    throw new TidemarkError("INVALID_ARGUMENT", `--${name} ${value}: at most ${RETENTION_COUNT_MAX}`);
  };
  const names = ["hourly", "daily", "weekly", "monthly", "yearly"] as const;
  if (options.continuous === undefined) {
    if (names.every((name) => options[name] === undefined)) return undefined;
    throw new TidemarkError("INVALID_ARGUMENT", "say how long every moment is kept, as --continuous 7d");
  }
  const continuousMs = parseDays(options.continuous);
  const [hourly, daily, weekly, monthly, yearly] = [
    count("hourly"),
    count("daily"),
    count("weekly"),
    count("monthly"),
    count("yearly"),
  ];
  return { continuousMs, hourly, daily, weekly, monthly, yearly };
}

const UNITS_MS = new Map([
  ["m", 60_000],
  ["min", 60_000],
  ["h", 3_600_000],
  ["d", 86_400_000],
  ["w", 7 * 86_400_000],
  ["y", 365 * 86_400_000],
]);

function parseDays(text: string): number {
  const match = /^(\d{1,6}(?:\.\d{1,3})?) ?(m|min|h|d|w|y)$/.exec(text);
  const unitMs = UNITS_MS.get(match?.[2] ?? "");
  if (match !== null && unitMs !== undefined) return Math.round(Number(match[1]) * unitMs);
  throw new TidemarkError("INVALID_ARGUMENT", `--continuous "${text}": expected a span, as 30m, 12h, 7d, 4w or 1y`);
}

async function set(session: Session, [name]: readonly string[], options: SetOptions): Promise<ExitName | undefined> {
  const policy = policyOf(options);
  if (policy === undefined)
    throw new TidemarkError("INVALID_ARGUMENT", "say how long every moment is kept, as --continuous 7d");
  const app = parseAppRef(needed(name));
  const { retention } = await session.api();
  const forecast = await retention.planRetention({ app, policy }, session.callOptions);
  if (options.dryRun === true) {
    await showForecast(session, forecast);
    return undefined;
  }
  if (forecast.after.floor > forecast.before.floor || forecast.removedCount > 0) {
    for (const [label, text] of forecastLines(session, forecast)) session.output.note(`${label}: ${text}`);
    const question = "What is older than the policy says is dropped for good. Go on?";
    const refused = await confirm(session, { question, yes: options.yes === true });
    if (refused !== undefined) return refused;
  }
  const status = await retention.setRetention({ app, policy }, session.callOptions);
  await session.output.done(status, `App ${fullName(status.app)} keeps ${policyText(policy)}.`);
  return undefined;
}

async function show(session: Session, [name]: readonly string[], options: { plan?: boolean }): Promise<undefined> {
  const { retention } = await session.api();
  if (options.plan === true) {
    if (name === undefined) throw new TidemarkError("INVALID_ARGUMENT", "--plan: of which app?");
    const forecast = await retention.planRetention({ app: parseAppRef(name) }, session.callOptions);
    await showForecast(session, forecast);
    if (session.output.json) return undefined;
    for (const { turn, lsn } of forecast.moments)
      await session.output.line(`${session.time(turn)}  LSN ${formatCount(lsn)}`);
    return undefined;
  }
  const request = name === undefined ? {} : { app: parseAppRef(name) };
  const pages = retention.listRetention(request, session.callOptions);
  await session.output.list(columns(session), pages, { empty: "There are no apps." });
  return undefined;
}

async function showForecast(session: Session, forecast: RetentionForecast): Promise<void> {
  if (session.output.json) return session.output.value(forecast);
  for (const [label, text] of forecastLines(session, forecast)) await session.output.line(`${label}: ${text}`);
}

function columns(session: Session): Column<RetentionStatus>[] {
  return [
    { title: "APP", human: ({ app }) => fullName(app), style: () => "bold" },
    {
      title: "KEEPS",
      human: ({ policy }) => (policy === undefined ? "everything, while there is room" : policyText(policy)),
    },
    {
      title: "EVERY MOMENT SINCE",
      human: ({ floorTime }) => (floorTime === undefined ? "the beginning" : session.time(floorTime)),
      plain: ({ floorTime }) => (floorTime === undefined ? "" : formatUtcTime(floorTime)),
    },
    {
      title: "MOMENTS BEFORE",
      align: "right",
      human: ({ momentCount }) => formatCount(momentCount),
      plain: ({ momentCount }) => String(momentCount),
    },
  ];
}

function forecastLines(session: Session, forecast: RetentionForecast): [string, string][] {
  const since = ({ floor, floorTime }: RetentionForecast["before"]): string =>
    floorTime === undefined ? "the beginning" : `${session.time(floorTime)} (LSN ${formatCount(floor)})`;
  const oldest = forecast.moments.at(-1);
  return [
    ["App", fullName(forecast.app)],
    ["Keeps", policyText(forecast.policy)],
    ["Every moment now since", since(forecast.before)],
    ["Every moment then since", since(forecast.after)],
    ["Moments kept before that", formatCount(forecast.momentCount)],
    ["Moments that go", formatCount(forecast.removedCount)],
    ...(oldest === undefined ? [] : [["Oldest moment", session.time(oldest.turn)] satisfies [string, string]]),
  ];
}

/** A policy for people. */
export function policyText(policy: RetentionPolicy): string {
  if (policy.continuousMs === undefined) return "everything";
  const { hourly, daily, weekly, monthly, yearly } = policy;
  const counts = Object.entries({ hourly, daily, weekly, monthly, yearly }).filter(([, count]) => count > 0);
  const grid = counts.map(([name, count]) => `${count} ${name}`).join(", ");
  return `every moment of ${spanText(policy.continuousMs)}${grid === "" ? "" : `, then ${grid}`}`;
}

function spanText(ms: number): string {
  const [value, unit] =
    ms % 86_400_000 === 0
      ? [ms / 86_400_000, "d"]
      : ms % 3_600_000 === 0
        ? [ms / 3_600_000, "h"]
        : [ms / 60_000, "min"];
  return `${value} ${unit}`;
}
