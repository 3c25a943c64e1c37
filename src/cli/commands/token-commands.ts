import { X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import type { Command } from "commander";
import type { TokenInfo, TokenSelection } from "../../domain/admin-token.ts";
import { bytesFromText, textFromBytes } from "../../domain/byte-text.ts";
import { TidemarkError } from "../../domain/errors.ts";
import { joinNames, pathNames } from "../../domain/names.ts";
import { parseAppRef, parseSharePath } from "../../domain/share-path.ts";
import {
  type IdPair,
  TOKEN_LIFETIME_MS_DEFAULT,
  TOKEN_LIFETIME_MS_MAX,
  TOKEN_LIFETIME_MS_MIN,
  TOKEN_OP_NAMES,
  TOKEN_OPS,
  type TokenIdentity,
  type TokenOp,
  WALKING_OPS,
} from "../../domain/token.ts";
import { body, type CommandContext } from "../leaf.ts";
import { formatDuration, plural } from "../output/human.ts";
import type { Column, Style } from "../output/output.ts";
import type { Session } from "../session.ts";
import { readTokenFile } from "../token-file.ts";
import { fullName } from "./app-commands.ts";
import { needed } from "./arguments.ts";
import { noteReadable } from "./note-readable.ts";

type CreateOptions = {
  readonly ops?: string;
  readonly path?: string;
  readonly expires?: string;
  readonly node?: string;
  readonly bindCert?: string;
  readonly mapTo?: string;
  readonly mapUsers?: string;
  readonly mapGroups?: string;
  readonly rootSquash?: boolean;
};

/** tidemark token ... */
export function addTokenCommands(program: Command, context: CommandContext): void {
  const token = program.command("token").description("what may be done with a share, by whom, and until when");
  const ops = TOKEN_OP_NAMES.map((op) => `  ${op.padEnd(9)} ${TOKEN_OPS[op]}`).join("\n");
  body<CreateOptions>(
    token
      .command("create <app/share>")
      .description("make a token and print it, and nothing else, on standard output")
      .requiredOption("--ops <list>", "what it allows, separated by commas (below)")
      .option("--path <directory>", "only there and below; it stays that directory, wherever it is moved")
      .option("--expires <span>", "how long it is good, e.g. 15m, 12h, 30d (default: 1h)")
      .option("--node <name>", "only for this node")
      .option("--bind-cert <file>", "only with this certificate (PEM, or its SHA-256 in base64url)")
      .option("--map-to <uid:gid>", "whoever acts there is this user")
      .option(
        "--map-users <there:here,...>",
        "these users are those, all others nobody; owners are shown the other way round",
      )
      .option("--map-groups <there:here,...>", "the same for groups")
      .option("--root-squash", "root there is nobody (65534)")
      .addHelpText("after", `\nWhat a token may allow:\n${ops}`),
    context,
    create,
    "admin",
  );
  body<{ readonly all?: boolean }>(
    token
      .command("list [app]")
      .description("the tokens that are good")
      .option("--all", "also those that expired or were revoked in the last week"),
    context,
    async (session, [app], options) => {
      const request = { all: options.all === true, ...(app === undefined ? {} : { app: parseAppRef(app) }) };
      const pages = (await session.api()).tokens.listTokens(request, session.callOptions);
      await session.output.list(columns(session), pages, {
        empty: "There are no tokens. Make one: tidemark token create APP/SHARE --ops read,list",
        json: forJson,
      });
    },
    "admin",
  );
  body(
    token
      .command("inspect <file>")
      .description('verify the token in a file ("-": standard input) and show what it allows'),
    context,
    async (session, [file]) => {
      const request = { token: await readTokenFile(session, needed(file)) };
      const info = await (await session.api()).tokens.inspectToken(request, session.callOptions);
      if (session.output.json) await session.output.value(forJson(info));
      else for (const [label, text] of lines(session, info)) await session.output.line(`${label}: ${text}`);
      return info.state === "valid" ? undefined : "NOT_PERMITTED";
    },
  );
  addTakingBack(token, context);
}

/** token revoke and rotate-keys. */
function addTakingBack(token: Command, context: CommandContext): void {
  body<{ readonly app?: string; readonly all?: boolean }>(
    token
      .command("revoke [id]")
      .description("take tokens back, with effect on what they opened")
      .option("--app <app>", "all of an app")
      .option("--all", "all there are"),
    context,
    async (session, [id], options) => {
      const result = await (await session.api()).tokens.revokeTokens(selection(id, options), session.callOptions);
      await session.output.done(result, `${takenBack(result)}.`);
    },
    "admin",
  );
  body<{ readonly revokeOld?: boolean }>(
    token
      .command("rotate-keys")
      .description("sign with a new key from now on; what was signed stays good until it expires")
      .option("--revoke-old", "what was signed until now is good no more"),
    context,
    async (session, _, options) => {
      const request = { revokeOld: options.revokeOld === true };
      const result = await (await session.api()).tokens.rotateTokenKeys(request, session.callOptions);
      const old = request.revokeOld ? `: ${takenBack(result).toLowerCase()}` : "";
      await session.output.done(result, `A new key signs from now on${old}.`);
    },
  );
}

function takenBack({ revoked, ended }: { readonly revoked: number; readonly ended: number }): string {
  const sessions = ended === 0 ? "" : `; ${plural(ended, "open mount")} ended`;
  return `Revoked ${plural(revoked, "token")}${sessions}`;
}

async function create(session: Session, [place]: readonly string[], options: CreateOptions): Promise<undefined> {
  const { app, share, path: inPlace } = parseSharePath(needed(place));
  const below = options.path === undefined ? [] : pathNames(bytesFromText(options.path.replace(/^\/+/, "")));
  const ops = parseOps(needed(options.ops));
  const request = {
    app,
    ...(share === undefined ? {} : { share }),
    path: joinNames([...pathNames(inPlace), ...below]),
    ops,
    lifetimeMs: parseLifetime(options.expires),
    identity: parseIdentity(options),
    ...(options.node === undefined ? {} : { node: options.node }),
    ...(options.bindCert === undefined ? {} : { certificateThumbprint: await thumbprintOf(session, options.bindCert) }),
  };
  const { token, info } = await (await session.api()).tokens.createToken(request, session.callOptions);
  if (session.output.json) await session.output.value({ token, ...(forJson(info) as object) });
  else await session.output.line(token);
  session.output.note(
    `Token ${info.id.slice(0, 8)} for ${placeOf(info)}: ${info.ops.join(", ")}; until ${session.time(info.expiresAt)}.`,
  );
  if (!ops.some((op) => WALKING_OPS.includes(op)))
    session.output.note(`note: nothing can be seen on a mount with it: that takes one of ${WALKING_OPS.join(", ")}`);
  noteReadable(session);
  return undefined;
}

function parseOps(text: string): TokenOp[] {
  return text.split(",").map((word) => {
    const op = TOKEN_OP_NAMES.find((name) => name === word.trim());
    if (op !== undefined) return op;
    throw new TidemarkError("INVALID_ARGUMENT", `--ops "${word}": expected some of ${TOKEN_OP_NAMES.join(",")}`);
  });
}

const UNITS_MS = new Map([
  ["s", 1_000],
  ["m", 60_000],
  ["min", 60_000],
  ["h", 3_600_000],
  ["d", 86_400_000],
  ["w", 7 * 86_400_000],
]);

function parseLifetime(text: string | undefined): number {
  if (text === undefined) return TOKEN_LIFETIME_MS_DEFAULT;
  const match = /^(\d{1,7}) ?([a-z]+)$/.exec(text);
  const ms = Number(match?.[1]) * (UNITS_MS.get(match?.[2] ?? "") ?? Number.NaN);
  if (ms >= TOKEN_LIFETIME_MS_MIN && ms <= TOKEN_LIFETIME_MS_MAX) return ms;
  throw new TidemarkError("INVALID_ARGUMENT", `--expires "${text}": expected a span up to 366d, as 90s, 15m, 12h, 30d`);
}

function parseIdentity({ mapTo, mapUsers, mapGroups, rootSquash = false }: CreateOptions): TokenIdentity {
  const lists = mapUsers !== undefined || mapGroups !== undefined;
  if ([mapTo !== undefined, lists, rootSquash].filter(Boolean).length > 1) {
    const message =
      "--map-to, --map-users with --map-groups, and --root-squash exclude each other: the first two leave nobody else, root included";
    throw new TidemarkError("INVALID_ARGUMENT", message);
  }
  if (mapTo !== undefined) {
    const { there: uid, here: gid } = parsePair("--map-to", mapTo);
    return { kind: "all", uid, gid };
  }
  if (!lists) return { kind: "claimed", squashRoot: rootSquash };
  return { kind: "list", uids: parsePairs("--map-users", mapUsers), gids: parsePairs("--map-groups", mapGroups) };
}

function parsePairs(option: string, text: string | undefined): IdPair[] {
  return text === undefined ? [] : text.split(",").map((pair) => parsePair(option, pair));
}

function parsePair(option: string, text: string): IdPair {
  const match = /^(\d{1,10}):(\d{1,10})$/.exec(text.trim());
  if (match !== null) return { there: Number(match[1]), here: Number(match[2]) };
  throw new TidemarkError("INVALID_ARGUMENT", `${option} "${text}": expected two numbers, as 1000:1000`);
}

/** RFC 8705: SHA-256 of the certificate in DER. */
async function thumbprintOf(session: Session, text: string): Promise<string> {
  if (/^[A-Za-z0-9_-]{43}$/.test(text)) return text;
  const path = session.machinePath(text);
  const pem = await readFile(path).catch((cause: unknown) => {
    throw new TidemarkError("NOT_FOUND", `--bind-cert: ${path} can't be read, and is no SHA-256 in base64url either`, {
      cause,
    });
  });
  try {
    return Buffer.from(new X509Certificate(pem).fingerprint256.replaceAll(":", ""), "hex").toString("base64url");
  } catch (cause) {
    throw new TidemarkError("INVALID_ARGUMENT", `--bind-cert: ${path} is no certificate`, { cause });
  }
}

/** What a token is for, as it is written. */
function placeOf({ app, share, path, isGone }: TokenInfo): string {
  const names = [fullName(app), share?.name ?? ""].filter((name) => name !== "").join("/");
  if (isGone === true) return `${names}, a directory that is gone`;
  return path === undefined ? names : `${names}/${textFromBytes(path)}`;
}

/** Who its users are, in words. */
function identityText(identity: TokenIdentity): string {
  const pairs = (list: readonly IdPair[]): string => list.map(({ there, here }) => `${there}→${here}`).join(" ");
  switch (identity.kind) {
    case "claimed":
      return identity.squashRoot ? "as the node says, root is nobody" : "as the node says";
    case "all":
      return `all are ${identity.uid}:${identity.gid}`;
    case "list":
      return [`users ${pairs(identity.uids)}`, `groups ${pairs(identity.gids)}`, "others nobody"]
        .filter((part) => !part.endsWith(" "))
        .join(", ");
  }
}

function bindingText({ node, certificateThumbprint }: TokenInfo): string {
  const parts = [
    node === undefined ? "" : `node ${node}`,
    certificateThumbprint === undefined ? "" : `certificate ${certificateThumbprint}`,
  ];
  return parts.filter((part) => part !== "").join(", ");
}

function columns(session: Session): Column<TokenInfo>[] {
  return [
    { title: "TOKEN", human: ({ id }) => id.slice(0, 8), plain: ({ id }) => id, style: () => "bold" },
    { title: "FOR", human: placeOf },
    { title: "ALLOWS", human: ({ ops }) => ops.join(",") },
    { title: "STATE", human: ({ state }) => state, style: stateStyle },
    { title: "UNTIL", human: ({ expiresAt }) => session.time(expiresAt) },
    { title: "OPEN", align: "right", human: ({ sessionCount }) => String(sessionCount) },
    { title: "USERS", human: ({ identity }) => identityText(identity) },
    { title: "", human: bindingText },
  ];
}

function stateStyle({ state }: TokenInfo): Style {
  return state === "valid" ? "green" : "red";
}

function lines(session: Session, info: TokenInfo): [string, string][] {
  const { issuedAt, expiresAt, state } = info;
  const left = expiresAt.sec - session.environment.clock.now().sec;
  const until = left > 0 ? `${session.time(expiresAt)} (${formatDuration(left)} from now)` : session.time(expiresAt);
  const binding = bindingText(info);
  return [
    ["Token", info.id],
    ["For", placeOf(info)],
    ["Allows", info.ops.join(", ")],
    ["Users", identityText(info.identity)],
    ...(binding === "" ? [] : [["Only for", binding] satisfies [string, string]]),
    ["Made", session.time(issuedAt)],
    ["Good until", until],
    ["State", state],
    ["Open mounts", String(info.sessionCount)],
  ];
}

function forJson(info: TokenInfo): unknown {
  return { ...info, ...(info.path === undefined ? {} : { path: textFromBytes(info.path) }) };
}

function selection(id: string | undefined, { app, all }: { app?: string; all?: boolean }): TokenSelection {
  if ([id, app, all].filter((given) => given !== undefined).length !== 1)
    throw new TidemarkError("INVALID_ARGUMENT", "which? expected: tidemark token revoke ID, or --app APP, or --all");
  if (id !== undefined) return { kind: "id", id };
  return app === undefined ? { kind: "all" } : { kind: "app", app: parseAppRef(app) };
}
