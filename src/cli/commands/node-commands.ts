import { existsSync, readdirSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { text } from "node:stream/consumers";
import type { Command } from "commander";
import { SystemTimers } from "../../base/timers.ts";
import { INVITE_MS_DEFAULT, INVITE_MS_MAX, INVITE_MS_MIN, type NodeInfo } from "../../domain/admin-nodes.ts";
import { TidemarkError } from "../../domain/errors.ts";
import { formatUtcTime } from "../../domain/moment.ts";
import { confirm } from "../confirm.ts";
import type { ExitName } from "../exit-codes.ts";
import { MountFiles } from "../gateway/mount-files.ts";
import { body, type CommandContext } from "../leaf.ts";
import { formatCount } from "../output/human.ts";
import type { Column, Style } from "../output/output.ts";
import type { Session } from "../session.ts";
import { needed, parseSpan } from "./arguments.ts";
import { noteReadable } from "./note-readable.ts";

/** tidemark node ... */
export function addNodeCommands(program: Command, context: CommandContext): void {
  const node = program.command("node").description("machines that may talk to this service over the network");
  body<{ expires?: string }>(
    node
      .command("invite <name>")
      .description("print a ticket with which one machine can join, once")
      .option("--expires <span>", "how long it can be used, e.g. 10m (default: 1h)"),
    context,
    invite,
  );
  body<{ ticket?: string }>(
    node
      .command("join <address-or-ticket-file>")
      .description("make this machine a node of the service that gave the ticket")
      .option("--ticket <file>", "the file with the ticket, - for standard input"),
    context,
    joinNode,
  );
  body(node.command("leave").description("on a node: forget the service that this machine has joined"), context, leave);
  body(node.command("list").description("list the nodes of this service"), context, list);
  body<{ yes?: boolean }>(
    node
      .command("remove <name>")
      .description("end a node's sessions, and refuse its certificate from now on")
      .option("--yes", "without asking"),
    context,
    remove,
  );
  body<{ oldCertificates?: boolean }>(
    node
      .command("allow <name>")
      .description("take a removal back, where another authority names nodes (serve --tls-ca)")
      .option("--old-certificates", "also the certificates that it had before"),
    context,
    allow,
  );
  body(node.command("renew").description("on a node: have this machine's certificate renewed now"), context, renew);
}

async function invite(
  session: Session,
  [name]: readonly string[],
  options: { readonly expires?: string },
): Promise<undefined> {
  const bounds = { leastMs: INVITE_MS_MIN, mostMs: INVITE_MS_MAX };
  const expiresMs = options.expires === undefined ? INVITE_MS_DEFAULT : parseSpan("--expires", options.expires, bounds);
  const { nodes } = await session.api();
  const made = await nodes.inviteNode({ name: needed(name), expiresMs }, session.callOptions);
  if (session.output.json) await session.output.value(made);
  else await session.output.line(made.ticket);
  const when = session.time(made.expiresAt).replace(/\.\d+$/, "");
  session.output.note(
    `A ticket for the node ${made.name}, good for one machine until ${when}. There: tidemark node join TICKETFILE`,
  );
  noteReadable(session);
  return undefined;
}

async function joinNode(
  session: Session,
  [where]: readonly string[],
  options: { readonly ticket?: string },
): Promise<undefined> {
  const { joinService } = await import("../../rpc/node-client.ts");
  const { NodeFolder } = await import("../../rpc/tls/node-folder.ts");
  const { parseTicket, TICKET_CHARS_MAX } = await import("../../rpc/tls/ticket.ts");
  const { formatNetworkAddress, parseNetworkAddress } = await import("../../rpc/tls/network-address.ts");
  const given = needed(where);
  const file = options.ticket ?? given;
  const ticket = parseTicket(file === "-" ? "standard input" : file, await readTicket(session, file, TICKET_CHARS_MAX));
  const addresses =
    options.ticket === undefined ? ticket.addresses : [formatNetworkAddress(parseNetworkAddress("the service", given))];
  const folder = new NodeFolder(new MountFiles(session.dataFolder).nodeFolder);
  const { clock, signal } = session.environment;
  const address = await joinService(folder, ticket, { addresses, clock, timers: new SystemTimers(), signal });
  await session.output.done(
    { name: ticket.name, address, folder: folder.path },
    `This machine is the node ${ticket.name} of the service at ${address}. The ticket is used up.`,
  );
  return undefined;
}

async function leave(session: Session): Promise<undefined> {
  const { NodeFolder } = await import("../../rpc/tls/node-folder.ts");
  const files = new MountFiles(session.dataFolder);
  const folder = new NodeFolder(files.nodeFolder);
  const address = await folder.address();
  const mounted = existsSync(files.folder) && readdirSync(files.folder).some((name) => name.endsWith(".json"));
  if (mounted)
    throw new TidemarkError(
      "FAILED_PRECONDITION",
      "this machine has mounts of the service: umount them first (tidemark mount lists them)",
    );
  await folder.leave();
  await session.output.done(
    { address },
    `This machine is no node of the service at ${address} any more. There: tidemark node remove NAME`,
  );
  return undefined;
}

async function readTicket(session: Session, file: string, charsMax: number): Promise<string> {
  if (file === "-") return text(session.environment.stdin);
  const path = session.machinePath(file);
  const found = await readFile(path).catch((cause: unknown) => {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === "ENOENT" && /^\S+:\d+$/.test(file)) {
      const message = `to join the service at ${file} it takes a ticket: tidemark node join ${file} --ticket FILE (on the service's machine: tidemark node invite NAME)`;
      throw new TidemarkError("INVALID_ARGUMENT", message, { cause });
    }
    const why =
      code === "ENOENT" ? "there is no such file" : code === "EISDIR" ? "it is a directory" : (code ?? String(cause));
    throw new TidemarkError("INVALID_ARGUMENT", `${file} can't be read as a ticket: ${why}`, { cause });
  });
  if (found.length > charsMax)
    throw new TidemarkError("INVALID_ARGUMENT", `${file} is no ticket: it has ${found.length} bytes`);
  return found.toString("utf8");
}

async function list(session: Session): Promise<undefined> {
  const { nodes } = await session.api();
  const columns: Column<NodeInfo>[] = [
    { title: "NODE", human: ({ name }) => name, style: () => "bold" },
    { title: "STATE", human: ({ state }) => state, style: ({ state }) => STATE_STYLES[state] },
    { title: "SINCE", ...timeColumn(session, ({ since }) => since) },
    { title: "LAST SEEN", ...timeColumn(session, ({ lastSeen }) => lastSeen) },
    { title: "FROM", human: ({ address }) => address ?? "" },
    { title: "EXPIRES", ...timeColumn(session, ({ expiresAt }) => expiresAt) },
    { title: "SESSIONS", align: "right", human: ({ sessionCount }) => formatCount(sessionCount) },
  ];
  const empty = "No nodes yet. Make a ticket for one: tidemark node invite NAME";
  await session.output.list(columns, nodes.listNodes(session.callOptions), { empty });
  return undefined;
}

const STATE_STYLES: Readonly<Record<NodeInfo["state"], Style | undefined>> = {
  invited: "yellow",
  joined: undefined,
  removed: "dim",
};

function timeColumn(
  session: Session,
  of: (node: NodeInfo) => NodeInfo["lastSeen"],
): Pick<Column<NodeInfo>, "human" | "plain"> {
  return {
    human: (node) => {
      const time = of(node);
      return time === undefined ? "" : session.time(time).replace(/\.\d+$/, "");
    },
    plain: (node) => {
      const time = of(node);
      return time === undefined ? "" : formatUtcTime(time);
    },
  };
}

async function remove(
  session: Session,
  [name]: readonly string[],
  { yes = false }: { readonly yes?: boolean },
): Promise<ExitName | undefined> {
  const { nodes } = await session.api();
  const wanted = needed(name);
  const question = `Remove the node ${wanted}? Its mounts end, and it can't come back with the certificate it has.`;
  const ended = await confirm(session, { question, yes });
  if (ended !== undefined) return ended;
  const gone = await nodes.removeNode({ name: wanted }, session.callOptions);
  await session.output.done(gone, `Node ${gone.name} is removed: its sessions have ended, its certificate is refused.`);
  return undefined;
}

async function allow(
  session: Session,
  [name]: readonly string[],
  { oldCertificates = false }: { readonly oldCertificates?: boolean },
): Promise<undefined> {
  const { nodes } = await session.api();
  const node = await nodes.allowNode({ name: needed(name), oldCertificates }, session.callOptions);
  const which = oldCertificates ? "" : ", with a certificate that it did not have before";
  await session.output.done(node, `Node ${node.name} is accepted again${which}.`);
  return undefined;
}

async function renew(session: Session): Promise<undefined> {
  const { renewCertificate } = await import("../../rpc/node-client.ts");
  const { NodeFolder } = await import("../../rpc/tls/node-folder.ts");
  const { clock, signal } = session.environment;
  const folder = new NodeFolder(new MountFiles(session.dataFolder).nodeFolder);
  const until = await renewCertificate(folder, { clock, timers: new SystemTimers(), signal });
  await session.output.done(
    { expiresAt: until },
    `The certificate of this machine holds until ${session.time(until)}.`,
  );
  return undefined;
}
