import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { connect as connectHttp2 } from "node:http2";
import { connect } from "node:net";
import path from "node:path";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { closed, TestNetwork } from "./network-fixture.ts";

let network: TestNetwork;

beforeEach(async () => {
  network = await TestNetwork.start();
});

afterEach(async () => {
  await network.stop();
});

/** Why connections were refused, once there are so many. */
async function refusals(count: number): Promise<string[]> {
  await vi.waitFor(() => expect(network.log.at("warn").length).toBeGreaterThanOrEqual(count));
  return network.log.at("warn").map(({ fields }) => String(fields["reason"]));
}

/** A node with a good certificate is served: whatever came before has broken nothing. */
async function stillServes(): Promise<void> {
  expect((await network.who(network.channel(await network.node("healthy")))).node).toBe("healthy");
}

describe("a node with a certificate", () => {
  test("is known to a handler by its name, thumbprint, address and expiry", async () => {
    const peer = await network.who(network.channel(await network.node("web1")));
    expect(peer.node).toBe("web1");
    expect(peer.certificateThumbprint).toMatch(/^[A-Za-z0-9_-]{43}$/);
    expect(peer.address).toMatch(/^127\.0\.0\.1:\d+$/);
    expect(peer.certificateExpiresSec).toBeGreaterThan(0);
    expect(network.log.lines).toEqual([]);
  });

  test("reaches the service by a name and by an address of its certificate, and by no other", async () => {
    const web1 = await network.node("web1");
    expect((await network.who(network.channel(web1, { host: "localhost" }))).node).toBe("web1");
    const elsewhere = await network.server.listenTls({ host: "127.0.0.2", port: 0 }, network.material);
    const wrong = network.who(network.channel(web1, { host: "127.0.0.2", port: elsewhere.port }));
    await expect(wrong).rejects.toMatchObject({ code: "PERMISSION_DENIED" });
    await expect(wrong).rejects.toThrow("--listen-name");
  });

  test("does not talk to a service of another authority that has taken the address", async () => {
    const stranger = await network.stranger();
    const impostor = await network.server.listenTls(
      { host: "127.0.0.1", port: 0 },
      await stranger.service(["127.0.0.1"]),
    );
    const call = network.who(network.channel(await network.node("web1"), { port: impostor.port }));
    await expect(call).rejects.toMatchObject({ code: "PERMISSION_DENIED" });
    await expect(call).rejects.toThrow("is not the service that this machine knows");
  });

  test("does not take another node for the service", async () => {
    const node = await network.node("web1");
    const impostor = await network.server.listenTls({ host: "127.0.0.1", port: 0 }, node);
    const call = network.who(network.channel(await network.node("web2"), { port: impostor.port }));
    await expect(call).rejects.toMatchObject({ code: expect.stringMatching(/PERMISSION_DENIED|UNAVAILABLE/) });
  });

  test("that the gate refuses gets the reason, and its connection ends", async () => {
    network.admit = ({ node }) =>
      node === "gone" ? { kind: "refused", reason: "node gone was removed" } : { kind: "admitted" };
    const channel = network.channel(await network.node("gone"));
    await expect(network.who(channel)).rejects.toMatchObject({
      code: "PERMISSION_DENIED",
      message: "the service refuses this node: node gone was removed",
    });
    expect((await refusals(1))[0]).toBe("node gone: node gone was removed");
    await vi.waitFor(() => expect(network.server.connectionCount).toBe(0), { timeout: 10_000 });
    await stillServes();
  });

  test("that is refused from one moment on is refused at the next call of a connection that was good", async () => {
    const channel = network.channel(await network.node("web1"));
    await network.who(channel);
    network.admit = () => ({ kind: "refused", reason: "because" });
    await expect(network.who(channel)).rejects.toThrow("because");
  });

  test("loses its open streams when its connections are dropped; those of others go on", async () => {
    const one = network.stream(network.channel(await network.node("web1")));
    const other = network.stream(network.channel(await network.node("web2")));
    other.on("error", () => {});
    const ended = new Promise((resolve) => one.on("error", resolve));
    for (const stream of [one, other]) {
      stream.write(Buffer.from("a"));
      await once(stream, "data");
    }
    network.server.dropNode("web1", { afterMs: 0 });
    expect(await ended).toBeInstanceOf(Error);
    other.write(Buffer.from("b"));
    expect(String((await once(other, "data"))[0])).toBe("b");
    other.end();
  });

  test("that has only a ticket can join and nothing else", async () => {
    network.admit = () => ({ kind: "invited" });
    const channel = network.channel(await network.node("web1"));
    expect((await network.who(channel, "/tidemark.v1.NodeService/Join")).node).toBe("web1");
    await expect(network.who(channel)).rejects.toMatchObject({ code: "PERMISSION_DENIED" });
    const stream = network.stream(channel);
    const [error] = await once(stream, "error");
    expect(error).toMatchObject({ details: expect.stringContaining("has not joined") });
  });

  test("cannot say who acts: that header never reaches a handler", async () => {
    const { Metadata } = await import("@grpc/grpc-js");
    const seen: unknown[] = [];
    const second = await TestNetwork.start();
    const asIs = (bytes: Buffer): Buffer => bytes;
    second.server.add(
      {
        headers: {
          path: "/test/Headers",
          ...{ requestStream: false, responseStream: false, requestSerialize: asIs, requestDeserialize: asIs },
          ...{ responseSerialize: asIs, responseDeserialize: asIs },
        },
      },
      {
        headers: (call: { metadata: InstanceType<typeof Metadata> }, answer: (error: null, bytes: Buffer) => void) => {
          seen.push(call.metadata.getMap());
          answer(null, Buffer.alloc(1));
        },
      } as Parameters<TestNetwork["server"]["add"]>[1],
    );
    const channel = second.channel(await second.node("web1"));
    const metadata = new Metadata();
    metadata.set("tidemark-actor-bin", Buffer.from("root"));
    metadata.set("other", "stays");
    await new Promise((resolve, reject) =>
      channel.client.makeUnaryRequest("/test/Headers", asIs, asIs, Buffer.alloc(1), metadata, (error, answer) =>
        error === null ? resolve(answer) : reject(error),
      ),
    );
    expect(seen).toEqual([expect.objectContaining({ other: "stays" })]);
    expect(seen[0]).not.toHaveProperty("tidemark-actor-bin");
    await second.stop();
  });
});

describe("refused, with one line in the log, and nothing breaks:", () => {
  test("a client without TLS", async () => {
    await expect(network.who(network.channel("plaintext"))).rejects.toMatchObject({ code: "UNAVAILABLE" });
    expect(await refusals(1)).toEqual(["it does not speak TLS"]);
    await stillServes();
  });

  test("a web browser without TLS", async () => {
    const socket = connect(network.port, "127.0.0.1");
    socket.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    await closed(socket);
    expect(await refusals(1)).toEqual(["it speaks HTTP without TLS"]);
    await stillServes();
  });

  test("a client without a certificate", async () => {
    const socket = connectTls({
      host: "127.0.0.1",
      port: network.port,
      ca: network.authority.certificate,
      ALPNProtocols: ["h2"],
    });
    await closed(socket);
    expect(await refusals(1)).toEqual(["it has no certificate"]);
    await stillServes();
  });

  test("a certificate of another authority", async () => {
    const authority = await network.stranger();
    const call = network.who(network.channel(await network.node("web1", { authority })));
    await expect(call).rejects.toThrow("refuses this machine's certificate");
    expect(await refusals(1)).toEqual(["its certificate is not accepted: UNABLE_TO_VERIFY_LEAF_SIGNATURE"]);
    await stillServes();
  });

  test("a certificate that has expired", async () => {
    const call = network.who(network.channel(await network.node("web1", { until: network.inSeconds(-5) })));
    await expect(call).rejects.toThrow("refuses this machine's certificate");
    expect(await refusals(1)).toEqual(["its certificate is not accepted: CERT_HAS_EXPIRED"]);
    await stillServes();
  });

  test("the service's own certificate, shown by a client", async () => {
    const call = network.who(network.channel(network.material));
    await expect(call).rejects.toMatchObject({ code: "UNAVAILABLE" });
    expect(await refusals(1)).toEqual(["its certificate is not accepted: INVALID_PURPOSE"]);
    await stillServes();
  });

  test("TLS 1.2", async () => {
    const options = { ...network.tlsOptions(await network.node("web1")), maxVersion: "TLSv1.2" as const };
    await closed(connectTls(options));
    expect(await refusals(1)).toEqual(["it knows no TLS 1.3"]);
    await stillServes();
  });

  test("another protocol than HTTP/2 inside of TLS", async () => {
    const one = connectTls({ ...network.tlsOptions(await network.node("web1")), ALPNProtocols: ["http/1.1"] });
    await closed(one);
    const options = { host: "127.0.0.1", port: network.port };
    const { certificate, key, authority } = await network.node("web1");
    await closed(connectTls({ ...options, cert: certificate, key, ca: authority }));
    expect(await refusals(2)).toEqual(["it does not speak HTTP/2", "it does not speak HTTP/2 in TLS"]);
    await stillServes();
  });

  test("garbage, and ends of a hello", async () => {
    for (const bytes of [Buffer.alloc(1), Buffer.alloc(100_000, 0xff), Buffer.from("160301ffff0100", "hex")]) {
      const socket = connect(network.port, "127.0.0.1");
      socket.end(bytes);
      await closed(socket);
    }
    expect(await refusals(3)).toHaveLength(3);
    await stillServes();
  });

  test("a port scanner that only connects", async () => {
    const socket = connect(network.port, "127.0.0.1");
    await once(socket, "connect");
    socket.resetAndDestroy();
    expect(await refusals(1)).toEqual(["it went away during the handshake"]);
    await stillServes();
  });

  test("garbage behind a good handshake", async () => {
    for (const bytes of [
      Buffer.alloc(100_000, 0xff),
      Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff", "latin1"),
    ]) {
      const socket: TLSSocket = connectTls(network.tlsOptions(await network.node("web1")));
      await once(socket, "secureConnect");
      socket.end(bytes);
      await closed(socket);
    }
    await stillServes();
    await vi.waitFor(() => expect(network.server.connectionCount).toBe(1));
  });

  test("a TLS session of before: each connection shows its certificate again", async () => {
    const options = network.tlsOptions(await network.node("web1"));
    const first = connectTls(options);
    let session: Buffer | undefined;
    first.on("session", (ticket) => {
      session = ticket;
    });
    await once(first, "secureConnect");
    const http2 = connectHttp2("https://127.0.0.1", { createConnection: () => first });
    await new Promise((resolve) => http2.ping(() => resolve(undefined)));
    const kept = session ?? first.getSession();
    http2.destroy();
    const second = connectTls({ ...options, ...(kept === undefined ? {} : { session: kept }) });
    await once(second, "secureConnect");
    expect(second.isSessionReused()).toBe(false);
    second.destroy();
  });

  test("requests that are no gRPC, unknown methods, and messages beyond the bound", async () => {
    const material = await network.node("web1");
    const http2 = connectHttp2("https://127.0.0.1", {
      createConnection: () => connectTls(network.tlsOptions(material)),
    });
    const request = http2.request({ ":path": "/", ":method": "GET" });
    const [headers] = await once(request, "response");
    expect(headers).toMatchObject({ ":status": 415 });
    http2.destroy();
    const channel = network.channel(material);
    await expect(network.who(channel, "/test/Nothing")).rejects.toMatchObject({ code: "UNSUPPORTED" });
    const stream = network.stream(channel);
    stream.write(Buffer.alloc(9 * 1024 * 1024));
    expect((await once(stream, "error"))[0]).toMatchObject({ code: 8 });
    await stillServes();
  });
});

test("a peer may have more under way than HTTP/2 begins with", async () => {
  const material = await network.node("web1");
  const http2 = connectHttp2("https://127.0.0.1", { createConnection: () => connectTls(network.tlsOptions(material)) });
  const request = http2.request({
    ":path": "/test/Who",
    ":method": "POST",
    "content-type": "application/grpc",
    te: "trailers",
  });
  request.end(Buffer.from([0, 0, 0, 0, 1, 0]));
  request.resume();
  // Kept through an upgrade of grpc-js: it has no option for that.
  await vi.waitFor(() => expect(http2.remoteSettings.initialWindowSize).toBe(4 * 1024 * 1024));
  await vi.waitFor(() => expect(http2.state.remoteWindowSize).toBeGreaterThan(4_000_000));
  http2.destroy();
});

describe("openssl s_client", () => {
  test.each([
    ["-tls1_2", "it knows no TLS 1.3"],
    ["-tls1_3", "it has no certificate"],
  ])("with %s: %s", async (option, reason) => {
    const ca = path.join(network.folder, "tls", "ca.crt");
    const args = ["s_client", "-connect", `127.0.0.1:${network.port}`, option, "-CAfile", ca, "-alpn", "h2"];
    const child = spawn("openssl", args, { stdio: ["ignore", "ignore", "ignore"] });
    await once(child, "exit");
    expect(await refusals(1)).toEqual([reason]);
  });

  test("with a node's certificate gets in", async () => {
    const { certificate, key } = await network.node("web1");
    const file = path.join(network.folder, "node.pem");
    writeFileSync(file, certificate + key, { mode: 0o600 });
    const ca = path.join(network.folder, "tls", "ca.crt");
    const args = [
      "s_client",
      "-connect",
      `127.0.0.1:${network.port}`,
      "-CAfile",
      ca,
      "-verify_return_error",
      "-alpn",
      "h2",
    ];
    const child = spawn("openssl", [...args, "-cert", file, "-brief"], { stdio: ["pipe", "ignore", "pipe"] });
    let said = "";
    child.stderr.on("data", (bytes: Buffer) => {
      said += bytes.toString();
    });
    await vi.waitFor(() => expect(said).toContain("Verification: OK"));
    child.kill();
    await once(child, "exit");
    expect(said).toContain("TLSv1.3");
  });
});

describe("plaintext", () => {
  test("is served on loopback, to a peer without a name", async () => {
    const { port } = await network.server.listenPlaintext({ host: "127.0.0.1", port: 0 });
    const peer = await network.who(network.channel("plaintext", { port }));
    expect(peer).toMatchObject({ node: "", certificateThumbprint: "" });
  });

  test.each(["0.0.0.0", "10.0.0.1", "::", "files.example.net"])("is refused at %s, from both ends", async (host) => {
    await expect(network.server.listenPlaintext({ host, port: 0 })).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
    const shown = host.includes(":") ? `[${host}]` : host;
    expect(() => network.channel("plaintext", { host: shown, port: 1 })).toThrow("without TLS");
  });
});

test("an address that can't be had is refused with its reason", async () => {
  const busy = network.server.listenTls({ host: "127.0.0.1", port: network.port }, network.material);
  await expect(busy).rejects.toThrow(`cannot listen on 127.0.0.1:${network.port}: another program listens there`);
  const absent = network.server.listenTls({ host: "192.0.2.1", port: 0 }, network.material);
  await expect(absent).rejects.toThrow("cannot listen on 192.0.2.1:0: this machine has no such address");
});

test("a new certificate is shown to new connections; the old ones go on", async () => {
  const web1 = await network.node("web1");
  const held = network.channel(web1);
  await network.who(held);
  const renewed = await network.authority.service(["127.0.0.1", "renewed.example"]);
  network.server.setMaterial(renewed);
  const socket = connectTls(network.tlsOptions(web1));
  await once(socket, "secureConnect");
  expect(socket.getPeerCertificate().subjectaltname).toContain("renewed.example");
  socket.destroy();
  await closed(connectTls({ host: "127.0.0.1", port: network.port, ca: web1.authority }));
  expect((await network.who(held)).node).toBe("web1");
});
