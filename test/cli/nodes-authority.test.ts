import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { connect } from "node:tls";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { SystemClock } from "../../src/base/clock.ts";
import { ManualTimers } from "../../src/base/timers.ts";
import { CertificateAuthority } from "../../src/rpc/tls/authority.ts";
import { clientCredentials, openChannel } from "../../src/rpc/tls/credentials.ts";
import { issueCertificate } from "../../src/rpc/tls/x509.ts";
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

const { tidemark, nodes } = nodeCommands(() => ({ base, service }));

describe("serve", () => {
  const serve = async (args: readonly string[]): Promise<unknown> => {
    const { code, stderr, served } = await tidemark(["serve", ...args]);
    return code === 0 ? served[0]?.listen : stderr;
  };

  test("takes addresses, names and files, made absolute", async () => {
    expect(await serve([])).toBeUndefined();
    const tls = ["--tls-cert", "a.crt", "--tls-key", "/etc/a.key", "--tls-ca", "ca.crt"];
    const listen = ["--listen", "10.0.0.1:7400", "--listen", "[fd00::1]:7400", "--listen-name", "files.example.net"];
    expect(await serve([...listen, ...tls, "--listen-plaintext", "127.0.0.1:7401"])).toEqual({
      addresses: ["10.0.0.1:7400", "[fd00::1]:7400"],
      names: ["files.example.net"],
      plaintext: ["127.0.0.1:7401"],
      tls: { certFile: path.join(base, "a.crt"), keyFile: "/etc/a.key", caFile: path.join(base, "ca.crt") },
    });
    expect(await serve(["--listen-plaintext", "[::1]:0"])).toEqual({
      addresses: [],
      names: [],
      plaintext: ["[::1]:0"],
    });
  });

  test.each([
    [["--listen", "10.0.0.1"], '--listen "10.0.0.1" is no network address: expected HOST:PORT'],
    [["--listen-plaintext", "x"], "--listen-plaintext"],
    [["--listen", "10.0.0.1:1", "--listen-name", "a b"], '--listen-name "a b" is no host name or address'],
    [["--listen-name", "a"], "give --listen HOST:PORT too"],
    [["--listen", "10.0.0.1:1", "--tls-cert", "a"], "all three: --tls-cert FILE, --tls-key FILE and --tls-ca FILE"],
    [["--tls-cert", "a", "--tls-key", "b", "--tls-ca", "c"], "give --listen HOST:PORT too"],
  ])("refuses %j before anything is started", async (args, message) => {
    expect(await serve(args)).toContain(message);
  });

  test("refuses plaintext where others could reach it", async () => {
    const listen = { addresses: [], plaintext: ["0.0.0.0:0"] };
    await expect(NodeService.open(path.join(base, "plain"), { listen })).rejects.toThrow(
      "nothing is served there without TLS",
    );
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
