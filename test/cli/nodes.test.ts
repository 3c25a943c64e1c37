import { X509Certificate } from "node:crypto";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { type Clock, SystemClock } from "../../src/base/clock.ts";
import { memoryLog } from "../../src/base/log.ts";
import { ManualTimers } from "../../src/base/timers.ts";
import { nodeCertificate } from "../../src/rpc/node-client.ts";
import { keepRenewed } from "../../src/rpc/node-renewal.ts";
import { clientCredentials, joinedAddress, openChannel } from "../../src/rpc/tls/credentials.ts";
import { NodeFolder } from "../../src/rpc/tls/node-folder.ts";
import { parseTicket } from "../../src/rpc/tls/ticket.ts";
import { NodeService, nodeCommands } from "./node-service.ts";

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

const nodeFolder = (name: string): string => path.join(base, name, "node");

const { tidemark, nodes } = nodeCommands(() => ({ base, service }));

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
    expect(service.audited).toEqual([expect.stringMatching(/^act: node web1 \(certificate \S{43}\), node\.join, $/)]);
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
    expect(service.audited.at(-1)).toMatch(
      /^refused: node web1 .*, node\.join, the ticket is refused: it was used already/,
    );
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
      `this machine has joined the service at ${service.address}: if it is to leave that one: tidemark node leave`,
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
    expect(service.audited.at(-1)).toMatch(/^refused: node web1 .*, node\.connect, node "web1" was removed/);
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
    const left = await tidemark(["node", "leave"], { on: "web1" });
    expect(left.stdout).toContain(`This machine is no node of the service at ${service.address} any more.`);
    expect(readdirSync(nodeFolder("web1"))).toEqual([]);
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
    let looks = 0;
    const timers = new (class extends ManualTimers {
      override after(delayMs: number, callback: () => void): () => void {
        if (delayMs === 3_600_000) looks += 1;
        return super.after(delayMs, callback);
      }
    })();
    const log = memoryLog();
    // The service gives none within a minute of the last one.
    const stop = keepRenewed(folder, { clock, timers, log, randomFraction: () => 0 });
    timers.advance(0);
    for (let hours = 1; hours < 4; hours += 1) {
      await vi.waitFor(() => expect(looks).toBe(hours));
      timers.advance(3_600_000);
    }
    await vi.waitFor(() => expect(looks).toBe(4));
    expect(log.lines).toHaveLength(1);
    expect(String(log.at("alarm")[0]?.fields["error"])).toContain("less than a minute ago");
    stop();
    expect(timers.pendingCount).toBe(0);
  });

  test("a machine whose certificate has expired is told to join again; one with mounts does not leave", async () => {
    await joined("web1");
    const now = { sec: new SystemClock().now().sec + 366 * 86_400, nsec: 0 };
    await expect(clientCredentials({ nodeFolder: nodeFolder("web1") }, { now })).rejects.toThrow(
      /node\.crt has expired on \S+, so it can't be renewed: this machine has to join again/,
    );
    mkdirSync(path.join(nodeFolder("web1"), "mounts"));
    writeFileSync(path.join(nodeFolder("web1"), "mounts", "a.json"), "{}");
    const { code, stderr } = await tidemark(["node", "leave"], { on: "web1" });
    expect([code, stderr]).toEqual([5, expect.stringContaining("umount them first")]);
    expect((await tidemark(["node", "leave"], { on: "web2" })).stderr).toContain("this machine has joined no service");
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

  test("warns when its authority ends within a year", async () => {
    await service.close();
    const system = new SystemClock();
    const clock = { now: () => ({ sec: system.now().sec + 3300 * 86_400, nsec: 0 }), monotonicMs: () => 0 };
    service = await NodeService.open(path.join(base, "service"), { listen: {}, clock });
    expect(service.log.at("alarm")).toMatchObject([
      { message: expect.stringContaining("authority of this service expires") },
    ]);
  });

  test("whose certificates can't be read says so at the first start, and serves this machine when it takes over", async () => {
    const dataFolder = path.join(base, "service");
    await service.close();
    chmodSync(path.join(dataFolder, "tls", "ca.key"), 0o644);
    await expect(NodeService.open(dataFolder, { listen: {} })).rejects.toThrow("is open to others");
    service = await NodeService.open(dataFolder, { listen: {}, restarted: true });
    expect(service.log.at("alarm")).toMatchObject([
      { message: expect.stringContaining("no node reaches the service") },
    ]);
    expect([service.address, await nodes()]).toEqual(["", []]);
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
