import { createHash, X509Certificate } from "node:crypto";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { Readable } from "node:stream";
import { connect } from "node:tls";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { type Clock, SystemClock } from "../../src/base/clock.ts";
import { memoryLog } from "../../src/base/log.ts";
import { ManualTimers } from "../../src/base/timers.ts";
import type { NodeInfo } from "../../src/domain/admin-nodes.ts";
import { nodeCertificate } from "../../src/rpc/node-client.ts";
import { keepRenewed } from "../../src/rpc/node-renewal.ts";
import { CertificateAuthority } from "../../src/rpc/tls/authority.ts";
import { clientCredentials, joinedAddress, openChannel } from "../../src/rpc/tls/credentials.ts";
import { NodeFolder } from "../../src/rpc/tls/node-folder.ts";
import { parseTicket } from "../../src/rpc/tls/ticket.ts";
import { issueCertificate } from "../../src/rpc/tls/x509.ts";
import { type CliResult, cli } from "./harness.ts";
import { NodeService } from "./node-service.ts";

let base: string;
let service: NodeService;

beforeEach(async () => {
  base = mkdtempSync(path.join(tmpdir(), "tidemark-nodes-"));
  service = await NodeService.open(path.join(base, "service"));
});

afterEach(async () => {
  await service.close();
  rmSync(base, { recursive: true });
});

const nodeData = (name: string): string => path.join(base, name);
const nodeFolder = (name: string): string => path.join(base, name, "node");

/** A command on the service's machine, or, with `on`, on that of a node; with this machine's clock, which certificates go by. */
function tidemark(
  args: readonly string[],
  { on, stdin, ...rest }: { on?: string; stdin?: string; terminal?: boolean; answer?: string } = {},
): Promise<CliResult> {
  const data = ["--data", on === undefined ? path.join(base, "service") : nodeData(on)];
  const given = stdin === undefined ? {} : { stdin: Readable.from([stdin]) };
  const environment = { clock: new SystemClock(), workingFolder: base, ...given };
  return cli([...args, ...data], { api: service.api, environment, ...rest });
}

async function invite(name: string): Promise<string> {
  const { code, stdout } = await tidemark(["node", "invite", name]);
  expect(code).toBe(0);
  const file = path.join(base, `${name}.ticket`);
  writeFileSync(file, stdout);
  return file;
}

async function joined(name: string): Promise<void> {
  const { code, stderr } = await tidemark(["node", "join", service.address, "--ticket", await invite(name)], {
    on: name,
  });
  expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
}

async function nodes(): Promise<NodeInfo[]> {
  const { stdout } = await tidemark(["node", "list", "--json"]);
  return stdout
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as NodeInfo);
}

describe("join", () => {
  test("makes a machine a node: its key never leaves it, and what it has is its owner's alone", async () => {
    const ticket = await invite("web1");
    expect((await nodes()).map(({ name, state }) => [name, state])).toEqual([["web1", "invited"]]);
    const { stdout } = await tidemark(["node", "join", service.address, "--ticket", ticket], { on: "web1" });
    expect(stdout).toBe(`This machine is the node web1 of the service at ${service.address}. The ticket is used up.\n`);
    const folder = nodeFolder("web1");
    expect(readdirSync(folder).sort()).toEqual(["ca.crt", "node.crt", "node.key", "service.json"]);
    for (const name of readdirSync(folder)) expect(statSync(path.join(folder, name)).mode & 0o777).toBe(0o600);
    expect(statSync(folder).mode & 0o777).toBe(0o700);
    expect(await joinedAddress(folder)).toBe(service.address);
    const { key } = parseTicket("t", readFileSync(ticket, "utf8"));
    expect(readFileSync(path.join(folder, "node.key"), "utf8")).not.toBe(key);
    expect(await nodes()).toMatchObject([{ name: "web1", state: "joined", sessionCount: 2 }]);
    expect(service.acts).toMatchObject([{ kind: "joined", node: "web1" }]);
    expect(JSON.stringify(service.log.lines)).not.toContain("PRIVATE");
  });

  test("takes the ticket from standard input, and the address from the ticket", async () => {
    // The service's port was not known when it was started with 0, but is when it makes a ticket.
    const { stdout: ticket } = await tidemark(["node", "invite", "web1", "--json"]);
    const { ticket: line, name } = JSON.parse(ticket) as { ticket: string; name: string };
    expect([name, parseTicket("t", line).addresses]).toEqual(["web1", [service.address]]);
    const { code, stdout } = await tidemark(["node", "join", "-", "--json"], { on: "web1", stdin: line });
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toEqual({ name: "web1", address: service.address, folder: nodeFolder("web1") });
  });

  test("works once: a second machine with the same ticket is refused, and that is remembered", async () => {
    await joined("web1");
    const ticket = path.join(base, "web1.ticket");
    const second = await tidemark(["node", "join", service.address, "--ticket", ticket], { on: "thief" });
    expect(second.code).toBe(6);
    expect(second.stderr).toContain("the ticket is refused: it was used already");
    expect(existsSync(path.join(nodeFolder("thief"), "node.crt"))).toBe(false);
    expect(service.acts.at(-1)).toMatchObject({ kind: "refused", node: "web1", peer: { node: "web1" } });
    expect(await nodes()).toHaveLength(1);
  });

  test("of two machines that use one ticket at once, one gets in", async () => {
    const ticket = await invite("web1");
    const both = await Promise.all(
      ["one", "two"].map((on) => tidemark(["node", "join", service.address, "--ticket", ticket], { on })),
    );
    expect(both.map(({ code }) => code).sort()).toEqual([0, 6]);
  });

  test("goes on when the answer was lost: the same machine asks again with the same key", async () => {
    await joined("web1");
    rmSync(path.join(nodeFolder("web1"), "node.crt"));
    const again = await tidemark(["node", "join", service.address, "--ticket", path.join(base, "web1.ticket")], {
      on: "web1",
    });
    expect(again.code).toBe(0);
    const channel = await clientCredentials({ nodeFolder: nodeFolder("web1") }, { now: new SystemClock().now() });
    openChannel({ address: service.address, credentials: channel }).close();
  });

  test("a machine that has joined is not joined again by accident", async () => {
    await joined("web1");
    const again = await tidemark(["node", "join", await invite("web2")], { on: "web1" });
    expect(again.code).toBe(5);
    expect(again.stderr).toContain(
      `this machine has joined the service at ${service.address}: remove ${nodeFolder("web1")}`,
    );
  });

  test("says what is wrong with a ticket, an address, or a service", async () => {
    const ticket = await invite("web1");
    const text = readFileSync(ticket, "utf8");
    writeFileSync(path.join(base, "cut"), text.slice(0, 500));
    const cases: readonly (readonly [readonly string[], string])[] = [
      [
        ["10.0.0.1:7400"],
        "to join the service at 10.0.0.1:7400 it takes a ticket: tidemark node join 10.0.0.1:7400 --ticket FILE",
      ],
      [["cut"], "the ticket in cut can't be used: it is no ticket"],
      [["nowhere", "--ticket", ticket], '"nowhere" is no network address'],
      [["127.0.0.1:1", "--ticket", ticket], "the service at 127.0.0.1:1 is not reachable: nothing listens there"],
      [
        ["absent.invalid:1", "--ticket", ticket],
        "the service at absent.invalid:1 is not reachable: its name can't be resolved",
      ],
    ];
    for (const [args, message] of cases) {
      const { code, stderr } = await tidemark(["node", "join", ...args], { on: "web1" });
      expect(stderr).toContain(message);
      expect(code).not.toBe(0);
    }
    expect((await nodes()).map(({ state }) => state)).toEqual(["invited"]);
  });

  test("a ticket of another service is not shown this one's trust", async () => {
    const other = await NodeService.open(path.join(base, "other"));
    try {
      const { ticket } = await other.api.nodes.inviteNode({ name: "web1", expiresMs: 60_000 });
      const { code, stderr } = await tidemark(["node", "join", service.address, "--ticket", "-"], {
        on: "web1",
        stdin: ticket,
      });
      expect(code).toBe(6);
      expect(stderr).toContain("is not the service that this machine knows");
    } finally {
      await other.close();
    }
  });

  test("an invitation needs a good name and span", async () => {
    for (const [args, message] of [
      [["we b1"], "is not a valid name of a node"],
      [["web1", "--expires", "1s"], "--expires"],
      [["x".repeat(65)], "at most 64 characters"],
    ] as const) {
      const { code, stderr } = await tidemark(["node", "invite", ...args]);
      expect([code, stderr]).toEqual([2, expect.stringContaining(message)]);
    }
    await joined("web1");
    expect((await tidemark(["node", "invite", "web1"])).stderr).toContain('there is a node "web1" already');
  });
});

describe("remove", () => {
  test("refuses the node from then on, with the reason, also on a connection that it has", async () => {
    await joined("web1");
    await joined("web2");
    const { code, stderr } = await tidemark(["node", "remove", "web1"]);
    expect([code, stderr]).toEqual([9, expect.stringContaining("--yes")]);
    const removed = await tidemark(["node", "remove", "web1", "--yes"]);
    expect(removed.stdout).toBe("Node web1 is removed: its sessions have ended, its certificate is refused.\n");
    const renewed = await tidemark(["node", "renew"], { on: "web1" });
    expect(renewed.code).toBe(6);
    expect(renewed.stderr).toContain('the service refuses this node: node "web1" was removed from the service on ');
    expect((await tidemark(["node", "renew"], { on: "web2" })).stderr).toContain("less than a minute ago");
    expect((await nodes()).map(({ name, state }) => [name, state])).toEqual([
      ["web1", "removed"],
      ["web2", "joined"],
    ]);
  });

  test("holds over a restart of the service, and a new ticket lets the name in again", async () => {
    await joined("web1");
    await tidemark(["node", "remove", "web1", "--yes"]);
    await service.close();
    service = await NodeService.open(path.join(base, "service"));
    writeFileSync(path.join(nodeFolder("web1"), "service.json"), JSON.stringify({ address: service.address }));
    expect((await tidemark(["node", "renew"], { on: "web1" })).code).toBe(6);
    rmSync(nodeData("web1"), { recursive: true });
    await joined("web1");
    expect(await nodes()).toMatchObject([{ name: "web1", state: "joined" }]);
  });

  test("of what is not there is said", async () => {
    expect((await tidemark(["node", "remove", "web9", "--yes"])).code).toBe(3);
    expect((await tidemark(["node", "allow", "web9"])).stderr).toContain("tidemark node invite web9");
  });
});

describe("renew", () => {
  const ahead = (seconds: number): Clock => {
    const system = new SystemClock();
    return { now: () => ({ sec: system.now().sec + seconds, nsec: 0 }), monotonicMs: () => system.monotonicMs() };
  };

  test("a node has its certificate renewed by itself when a third of its time is left, for the key it has", async () => {
    await joined("web1");
    const folder = new NodeFolder(nodeFolder("web1"));
    const before = await nodeCertificate(folder, new SystemClock());
    const key = readFileSync(folder.files.keyFile, "utf8");
    expect(before.isDue).toBe(false);
    await service.close();
    service = await NodeService.open(path.join(base, "service"), { listen: {}, clock: ahead(120) });
    writeFileSync(path.join(folder.path, "service.json"), JSON.stringify({ address: service.address }));
    const clock = ahead(250 * 86_400);
    expect((await nodeCertificate(folder, clock)).isDue).toBe(true);
    const timers = new ManualTimers();
    const log = memoryLog();
    const stop = keepRenewed(folder, { clock, timers, log, randomFraction: () => 0.5 });
    timers.advance(300_000);
    await vi.waitFor(() =>
      expect(log.lines.map(({ message }) => message)).toEqual(["the certificate of this node was renewed"]),
    );
    stop();
    const after = await nodeCertificate(folder, new SystemClock());
    expect(after.until.sec).toBeGreaterThan(before.until.sec + 60);
    expect(readFileSync(folder.files.keyFile, "utf8")).toBe(key);
    await clientCredentials({ nodeFolder: folder.path }, { now: new SystemClock().now() });
  });

  test("that it can't be renewed is an alarm, once a day, and is tried every hour", async () => {
    await joined("web1");
    const folder = new NodeFolder(nodeFolder("web1"));
    const clock = ahead(250 * 86_400);
    const timers = new ManualTimers();
    const log = memoryLog();
    // The service gives none within a minute of the last one.
    const stop = keepRenewed(folder, { clock, timers, log, randomFraction: () => 0 });
    for (let hours = 0; hours < 3; hours += 1) {
      timers.advance(3_600_000);
      await vi.waitFor(() => expect(timers.pendingCount).toBe(1));
    }
    expect(log.lines).toHaveLength(1);
    expect(String(log.at("alarm")[0]?.fields["error"])).toContain("less than a minute ago");
    stop();
    expect(timers.pendingCount).toBe(0);
  });

  test("says that this machine has joined nothing, or that its files were changed", async () => {
    const nothing = await tidemark(["node", "renew"], { on: "web1" });
    expect([nothing.code, nothing.stderr]).toEqual([5, expect.stringContaining("this machine has joined no service")]);
    await joined("web1");
    writeFileSync(path.join(nodeFolder("web1"), "service.json"), "{}");
    expect((await tidemark(["node", "renew"], { on: "web1" })).stderr).toContain("service.json is damaged");
  });
});

describe("list", () => {
  test("is a table for people: who, since when, last seen, until when, and how many sessions", async () => {
    await joined("web1");
    await tidemark(["node", "renew"], { on: "web1" });
    await invite("web2");
    const { stdout } = await tidemark(["node", "list"], { terminal: true });
    const [head, one, two] = stdout.split("\n");
    expect(head).toMatch(/^NODE +STATE +SINCE +LAST SEEN +FROM +EXPIRES +SESSIONS$/);
    expect(one).toMatch(/^web1 +joined +\S+ \S+ +\S+ \S+ +127\.0\.0\.1:\d+ +\S+ \S+ +2$/);
    expect(two).toMatch(/^web2 +invited +\S+ \S+ +\S+ \S+ +0$/);
  });
});

describe("a service", () => {
  test("that does not listen lists its nodes, and says how to invite", async () => {
    await joined("web1");
    await service.close();
    service = await NodeService.open(path.join(base, "service"), { listen: undefined });
    expect(await nodes()).toMatchObject([{ name: "web1" }]);
    const { code, stderr } = await tidemark(["node", "invite", "web2"]);
    expect([code, stderr]).toEqual([5, expect.stringContaining("start it with --listen HOST:PORT")]);
    expect((await tidemark(["node", "remove", "web1", "--yes"])).code).toBe(0);
  });

  test("has the same authority after a restart, so its nodes are nodes", async () => {
    await joined("web1");
    const port = service.address.split(":")[1];
    await service.close();
    service = await NodeService.open(path.join(base, "service"), { listen: { addresses: [`127.0.0.1:${port}`] } });
    expect((await tidemark(["node", "renew"], { on: "web1" })).stderr).toContain("less than a minute ago");
  });

  test("says at the first start that its address is taken, and tries again when it takes over from one that died", async () => {
    const second = path.join(base, "second");
    const listen = { addresses: [service.address] };
    await expect(NodeService.open(second, { listen })).rejects.toThrow(
      `cannot listen on ${service.address}: another program`,
    );
    const timers = new ManualTimers();
    const after = await NodeService.open(path.join(base, "third"), { listen, restarted: true, timers });
    expect(after.log.at("alarm")).toMatchObject([{ message: expect.stringContaining("it is tried again") }]);
    await service.close();
    timers.advance(2_000);
    await vi.waitFor(() => expect(after.log.at("info").at(-1)?.message).toBe("listening for nodes"));
    service = after;
  });

  test("tells its names in tickets and in its certificate", async () => {
    await service.close();
    service = await NodeService.open(path.join(base, "service"), {
      listen: { addresses: ["0.0.0.0:0"], names: ["files.example.net"] },
    });
    const port = service.address.split(":")[1];
    const { ticket } = await service.api.nodes.inviteNode({ name: "web1", expiresMs: 60_000 });
    expect(parseTicket("t", ticket).addresses).toEqual([
      `files.example.net:${port}`,
      `192.0.2.7:${port}`,
      `machine.example:${port}`,
    ]);
    const certificate = new X509Certificate(readFileSync(path.join(base, "service", "tls", "service.crt")));
    for (const name of ["files.example.net", "machine.example", "localhost"])
      expect(certificate.checkHost(name)).toBe(name);
    for (const address of ["192.0.2.7", "127.0.0.1", "::1"]) expect(certificate.checkIP(address)).toBe(address);
  });
});

describe("with certificates of another authority", () => {
  const put = (name: string, text: string): string => {
    const file = path.join(base, name);
    writeFileSync(file, text, { mode: 0o600 });
    return file;
  };

  async function certified(
    name: string,
    purpose: "service" | "node",
  ): Promise<{ certFile: string; keyFile: string; caFile: string }> {
    const clock = new SystemClock();
    const authority = await CertificateAuthority.open(path.join(base, "corporate"), { clock });
    const { sec } = clock.now();
    const made = await issueCertificate(
      { certificate: authority.certificate, key: readFileSync(path.join(base, "corporate", "ca.key"), "utf8") },
      {
        ...{ name, purpose, alternativeNames: ["127.0.0.1"] },
        validity: { from: { sec: sec - 60, nsec: 0 }, until: { sec: sec + 3600, nsec: 0 } },
      },
    );
    const id = createHash("sha256").update(made.certificate).digest("hex").slice(0, 8);
    return {
      certFile: put(`${name}-${id}.crt`, made.certificate),
      keyFile: put(`${name}-${id}.key`, made.key),
      caFile: path.join(base, "corporate", "ca.crt"),
    };
  }

  async function renew(files: { certFile: string; keyFile: string; caFile: string }): Promise<string> {
    const { GrpcCaller } = await import("../../src/rpc/grpc-caller.ts");
    const { NodeService: descriptor } = await import("../../src/rpc/gen/tidemark/v1/node_pb.ts");
    const clock = new SystemClock();
    const credentials = await clientCredentials(files, { now: clock.now() });
    const caller = new GrpcCaller({ channel: openChannel({ address: service.address, credentials }), clock });
    try {
      await caller.unary(descriptor.method.renew, { certificateRequest: Buffer.from("x") }, undefined);
      return "renewed";
    } catch (error) {
      return (error as Error).message;
    } finally {
      caller.close();
    }
  }

  const timers = new ManualTimers();
  let tls: Awaited<ReturnType<typeof certified>>;

  beforeEach(async () => {
    await service.close();
    tls = await certified("service", "service");
    service = await NodeService.open(path.join(base, "external"), { listen: { tls }, timers });
  });

  test("whom that one has named is a node, without a ticket, and is listed", async () => {
    expect(await renew(await certified("web1", "node"))).toContain("have that one issue or renew yours");
    expect(await nodes()).toMatchObject([{ name: "web1", state: "joined", address: expect.stringMatching(/^127/) }]);
    const { code, stderr } = await tidemark(["node", "invite", "web2"]);
    expect([code, stderr]).toEqual([5, expect.stringContaining("needs one from there, and no ticket")]);
    expect(existsSync(path.join(base, "external", "tls"))).toBe(false);
  });

  test("a removed node is refused whatever certificate it has, until it is allowed with another one", async () => {
    const first = await certified("web1", "node");
    const second = await certified("web1", "node");
    await renew(first);
    await tidemark(["node", "remove", "web1", "--yes"]);
    expect(await renew(first)).toContain("was removed");
    expect(await renew(second)).toContain("was removed");
    expect((await tidemark(["node", "allow", "web1"])).stdout).toContain(
      "is accepted again, with a certificate that it did not have before",
    );
    expect(await renew(first)).toContain("this certificate of node");
    expect(await renew(second)).toContain("have that one issue");
  });

  test("its files are read again when they were replaced; a bad replacement is an alarm, and the one before goes on", async () => {
    const shown = (): Promise<string> =>
      new Promise((resolve, reject) => {
        const socket = connect(
          Number(service.address.split(":")[1]),
          "127.0.0.1",
          { rejectUnauthorized: false },
          () => {
            resolve(socket.getPeerX509Certificate()?.serialNumber ?? "");
            socket.destroy();
          },
        );
        socket.on("error", reject);
      });
    const before = await shown();
    const other = await certified("service", "service");
    writeFileSync(tls.certFile, readFileSync(other.certFile));
    timers.advance(60_000);
    await vi.waitFor(() => expect(service.log.at("alarm")).toHaveLength(1));
    expect(service.log.at("alarm")[0]?.message).toContain(`the key ${tls.keyFile} is not that of the certificate`);
    expect(await shown()).toBe(before);
    writeFileSync(tls.keyFile, readFileSync(other.keyFile));
    await vi.waitFor(() => expect(timers.pendingCount).toBeGreaterThan(0));
    timers.advance(60_000);
    await vi.waitFor(async () => expect(await shown()).not.toBe(before));
  });
});
