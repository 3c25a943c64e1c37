import type { Command } from "commander";
import type { AuditEntry } from "../../domain/admin-token.ts";
import { TidemarkError } from "../../domain/errors.ts";
import { formatUtcTime } from "../../domain/moment.ts";
import { parseAppRef } from "../../domain/share-path.ts";
import { body, type CommandContext } from "../leaf.ts";
import { formatCount } from "../output/human.ts";
import type { Column } from "../output/output.ts";
import type { Session } from "../session.ts";

type AuditOptions = { readonly since?: string; readonly app?: string; readonly refused?: boolean };

/** As lists of tokens show them. */
const TOKEN_ID = /\btoken ([0-9a-f]{8})[0-9a-f]{24}\b/;

/** A bare span means so long ago. */
const SPAN = /^(\d+(\.\d+)? ?[a-z]+ ?)+$/;

/** tidemark audit. */
export function addAuditCommand(program: Command, context: CommandContext): void {
  body<AuditOptions>(
    program
      .command("audit")
      .description("who was refused what, and what administrators did")
      .option("--since <moment>", "from then on, e.g. 1h, 'yesterday 14:00' (default: from the beginning)")
      .option("--app <app>", "only what concerns this app")
      .option("--refused", "only what was refused"),
    context,
    async (session, _, options) => {
      const since = sinceOf(session, options.since);
      const request = {
        ...(since === undefined ? {} : { since }),
        ...(options.app === undefined ? {} : { app: parseAppRef(options.app) }),
        refusedOnly: options.refused === true,
      };
      const pages = (await session.api()).audit.listAudit(request, session.callOptions);
      await session.output.list(columns(session), pages, { empty: "There is nothing in the audit log for that." });
    },
  );
}

function sinceOf(session: Session, text: string | undefined): AuditEntry["time"] | undefined {
  if (text === undefined) return undefined;
  const moment = session.moment(SPAN.test(text) ? `${text} ago` : text);
  if (moment.kind === "now") return session.environment.clock.now();
  if (moment.kind === "time") return moment.time;
  throw new TidemarkError(
    "INVALID_ARGUMENT",
    `--since "${text}": expected a time, since the log is of the whole service`,
  );
}

function columns(session: Session): Column<AuditEntry>[] {
  return [
    { title: "TIME", human: ({ time }) => session.time(time), plain: ({ time }) => formatUtcTime(time) },
    {
      title: "",
      human: ({ kind }) => (kind === "refused" ? "refused" : "did"),
      style: ({ kind }) => (kind === "refused" ? "yellow" : undefined),
    },
    { title: "WHO", human: ({ who }) => who.replace(TOKEN_ID, "token $1"), plain: ({ who }) => who },
    { title: "WHAT", human: ({ what }) => what },
    { title: "ON", human: ({ on }) => on },
    { title: "COUNT", align: "right", human: ({ count }) => formatCount(count), plain: ({ count }) => String(count) },
    { title: "WHY", human: ({ why, kind }) => (kind === "act" && why !== "" ? `failed: ${why}` : why) },
  ];
}
