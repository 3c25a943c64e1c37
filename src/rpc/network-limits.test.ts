import { once } from "node:events";
import { connect as connectHttp2 } from "node:http2";
import { connect, createServer, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import type { ServiceError } from "@grpc/grpc-js";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { closed, TestNetwork } from "./network-fixture.ts";

let network: TestNetwork;

beforeEach(async () => {
  network = await TestNetwork.start();
});

afterEach(async () => {
  await network.stop();
});

describe("limits", () => {
  test("connections of one address, and a handshake that is not finished", async () => {
    const bounded = await TestNetwork.start({ limits: { connectionsPerAddressMax: 2, handshakeMs: 200 } });
    try {
      const sockets = [1, 2, 3].map(() => connect(bounded.port, "127.0.0.1"));
      await Promise.all(sockets.map(closed));
      const reasons = bounded.log.at("warn").map(({ fields }) => fields["reason"]);
      expect(reasons.sort()).toEqual([
        "it did not finish the handshake in time",
        "it did not finish the handshake in time",
        "it has 2 connections already",
      ]);
      const [, fields] = [0, bounded.log.at("warn")[0]?.fields];
      expect(fields?.["address"]).toMatch(/^127\.0\.0\.1:\d+$/);
      expect((await bounded.who(bounded.channel(await bounded.node("web1")))).node).toBe("web1");
    } finally {
      await bounded.stop();
    }
  });

  test("handshakes of one address; connections that have proven themselves do not count for it", async () => {
    const bounded = await TestNetwork.start({ limits: { handshakesPerAddressMax: 1, handshakeMs: 200 } });
    try {
      for (const name of ["web1", "web2"]) await bounded.who(bounded.channel(await bounded.node(name)));
      const sockets = [1, 2].map(() => connect(bounded.port, "127.0.0.1"));
      await Promise.all(sockets.map(closed));
      expect(bounded.log.at("warn").map(({ fields }) => fields["reason"])).toEqual([
        "it has 1 handshakes under way already",
        "it did not finish the handshake in time",
      ]);
      expect(bounded.server.connectionCount).toBe(2);
    } finally {
      await bounded.stop();
    }
  });

  test("all connections together", async () => {
    const bounded = await TestNetwork.start({ limits: { connectionsMax: 1 } });
    try {
      const held = bounded.channel(await bounded.node("web1"));
      await bounded.who(held);
      await closed(connect(bounded.port, "127.0.0.1"));
      expect(bounded.log.at("warn").map(({ fields }) => fields["reason"])).toEqual(["there are 1 connections already"]);
      expect((await bounded.who(held)).node).toBe("web1");
    } finally {
      await bounded.stop();
    }
  });

  test("lines of the log: a flood is counted, not written down", async () => {
    for (let round = 0; round < 30; round += 1) {
      const socket = connect(network.port, "127.0.0.1");
      socket.end("x");
      await closed(socket);
    }
    expect((await network.who(network.channel(await network.node("another")))).node).toBe("another");
    expect(network.log.at("warn")).toHaveLength(20);
  });
});

describe("a connection without a sign of life", () => {
  /** A way to a port that can be cut without either end hearing of it. */
  async function breakable(port: number): Promise<{ port: number; cut: () => void; close: () => void }> {
    const sockets: Socket[] = [];
    const proxy = createServer((incoming) => {
      const outgoing = connect(port, "127.0.0.1");
      for (const socket of [incoming, outgoing]) socket.on("error", () => {});
      incoming.pipe(outgoing).pipe(incoming);
      sockets.push(incoming, outgoing);
    });
    await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
    const address = proxy.address();
    const cut = (): void => {
      for (const socket of sockets) socket.unpipe().pause();
    };
    const close = (): void => {
      proxy.close();
      for (const socket of sockets) socket.destroy();
    };
    return { port: typeof address === "object" && address !== null ? address.port : 0, cut, close };
  }

  test("is ended by the service, and by the client", async () => {
    const lively = await TestNetwork.start({ keepaliveMs: 100 });
    const way = await breakable(lively.port);
    try {
      const channelOptions = { "grpc.keepalive_time_ms": 100, "grpc.keepalive_timeout_ms": 100 };
      const channel = lively.channel(await lively.node("web1"), { port: way.port, channelOptions });
      const stream = lively.stream(channel);
      stream.write(Buffer.from("a"));
      await once(stream, "data");
      const ended = new Promise<ServiceError>((resolve) => stream.on("error", resolve));
      way.cut();
      expect(channel.failure(await ended)).toMatchObject({ code: "UNAVAILABLE" });
      await vi.waitFor(() => expect(lively.server.connectionCount).toBe(0));
    } finally {
      way.close();
      await lively.stop();
    }
  });

  test("is ended when it says nothing behind its handshake", async () => {
    const lively = await TestNetwork.start({ keepaliveMs: 100 });
    try {
      const { certificate, key, authority } = await lively.node("web1");
      const tls = { cert: certificate, key, ca: authority, ALPNProtocols: ["h2"] };
      await closed(connectTls({ host: "127.0.0.1", port: lively.port, ...tls }));
      expect((await lively.who(lively.channel(await lively.node("web1")))).node).toBe("web1");
    } finally {
      await lively.stop();
    }
  });
});

test("whatever frames a node sends, the service goes on serving others", async () => {
  const seed = Number(process.env["SEED"] ?? Math.floor(Math.random() * 2 ** 31));
  console.log(`SEED=${seed}`);
  let state = seed;
  const random = (below: number): number => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fff_ffff;
    return Math.floor((state / 2 ** 31) * below);
  };
  const material = await network.node("fuzz");
  const held = network.channel(await network.node("healthy"));
  for (let round = 0; round < 60; round += 1) {
    const socket = connectTls(network.tlsOptions(material));
    await once(socket, "secureConnect");
    socket.write("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    if (random(4) > 0) socket.write(Buffer.from("000000040000000000", "hex"));
    for (let frames = random(20); frames > 0; frames -= 1) {
      // RFC 9113, 4.1: length, type, flags, stream; the length is sometimes a lie.
      const payload = Buffer.from(Array.from({ length: random(random(8) === 0 ? 4_000 : 40) }, () => random(256)));
      const head = Buffer.alloc(9);
      head.writeUIntBE(random(10) === 0 ? random(2 ** 24) : payload.length, 0, 3);
      head.writeUInt8(random(12), 3);
      head.writeUInt8(random(256), 4);
      head.writeUInt32BE(random(4), 5);
      socket.write(Buffer.concat([head, payload]));
    }
    socket.end();
    await closed(socket);
    if (round % 20 === 0) expect((await network.who(held)).node).toBe("healthy");
  }
  expect((await network.who(network.channel(await network.node("another")))).node).toBe("another");
  await vi.waitFor(() => expect(network.server.connectionCount).toBe(2));
});

test("nodes that vanish, or are dropped, in the middle of calls take nothing with them", async () => {
  const material = await network.node("web1");
  const head = { ":path": "/test/Who", ":method": "POST", "content-type": "application/grpc", te: "trailers" };
  for (let round = 0; round < 100; round += 1) {
    const socket = connectTls(network.tlsOptions(material));
    const http2 = connectHttp2("https://127.0.0.1", { createConnection: () => socket });
    http2.on("error", () => {});
    for (let count = 0; count < 5; count += 1) {
      const request = http2.request(head);
      request.on("error", () => {});
      request.end(Buffer.from([0, 0, 0, 0, 1, 0]));
    }
    await new Promise((resolve) => socket.once("secureConnect", resolve));
    const turn = (): Promise<unknown> => new Promise((resolve) => setImmediate(resolve));
    // A node's end is done with the handshake before the service is.
    if (round % 2 === 1) while (network.server.connectionCount === 0) await turn();
    // Moments around the one in which the service takes the calls.
    for (let turns = round % 8; turns > 0; turns -= 1) await turn();
    if (round % 2 === 0) socket.destroy();
    else network.server.dropNode("web1", { afterMs: 0 });
    await closed(socket);
    while (network.server.connectionCount > 0) await turn();
  }
  expect((await network.who(network.channel(await network.node("another")))).node).toBe("another");
  await vi.waitFor(() => expect(network.server.connectionCount).toBe(1));
});
