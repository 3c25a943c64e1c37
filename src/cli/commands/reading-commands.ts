import type { Command } from "commander";
import type { ListEntry } from "../../domain/admin-reading.ts";
import { textFromBytes } from "../../domain/byte-text.ts";
import { isSymlink } from "../../domain/inode.ts";
import { formatUtcTime } from "../../domain/moment.ts";
import { parseSharePath } from "../../domain/share-path.ts";
import { body, type CommandContext } from "../leaf.ts";
import { formatBytes, formatMode } from "../output/human.ts";
import type { Column } from "../output/output.ts";
import type { Session } from "../session.ts";
import { needed, parsePlace } from "./arguments.ts";

/** tidemark ls and cat. */
export function addReadingCommands(program: Command, context: CommandContext): void {
  body<{ at?: string }>(
    program
      .command("ls <path>")
      .description("list a directory, a file, or the shares of an app")
      .option("--at <moment>", "as it was then"),
    context,
    list,
    "list,history",
  );
  body<{ at?: string }>(
    program
      .command("cat <path>")
      .description("write the content of a file; with --json as base64 pieces")
      .option("--at <moment>", "as it was then"),
    context,
    cat,
    "read,history",
  );
}

async function list(session: Session, [path]: readonly string[], options: { at?: string }): Promise<undefined> {
  const request = { path: parseSharePath(needed(path)), at: session.moment(options.at) };
  const pages = (await session.api()).reading.list(request, session.callOptions);
  const columns: Column<ListEntry>[] = [
    { title: "MODE", human: (entry) => formatMode(entry.attributes.mode) },
    { title: "LINKS", align: "right", human: (entry) => String(entry.attributes.nlink) },
    { title: "UID", align: "right", human: (entry) => String(entry.attributes.uid) },
    { title: "GID", align: "right", human: (entry) => String(entry.attributes.gid) },
    {
      title: "SIZE",
      align: "right",
      human: (entry) => formatBytes(entry.attributes.size),
      plain: (entry) => String(entry.attributes.size),
    },
    {
      title: "MODIFIED",
      human: (entry) => session.time(entry.attributes.mtime),
      plain: (entry) => formatUtcTime(entry.attributes.mtime),
    },
    { title: "NAME", human: entryName },
  ];
  await session.output.list(columns, pages, { empty: "It is empty." });
  return undefined;
}

function entryName({ name, target, attributes }: ListEntry): string {
  const text = textFromBytes(name);
  return isSymlink(attributes.mode) ? `${text} -> ${textFromBytes(target)}` : text;
}

async function cat(session: Session, [path]: readonly string[], options: { at?: string }): Promise<undefined> {
  const request = { path: parsePlace(needed(path)), at: session.moment(options.at), offset: 0n };
  let offset = 0n;
  for await (const piece of (await session.api()).reading.read(request, session.callOptions)) {
    if (session.output.json) await session.output.value({ offset, base64: piece.toString("base64") });
    else await session.output.write(piece);
    offset += BigInt(piece.length);
  }
  return undefined;
}
